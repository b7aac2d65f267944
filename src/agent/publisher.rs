//! Publishes verdicts, alarms, events, health and the birth message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{log_lines, process_stats};
use crate::audio::capture::{Capture, CaptureState};
use crate::clock::Timestamp;
use crate::config::{Config, MachineConfig};
use crate::control::Output;
use crate::control::commands::Command;
use crate::monitor::alarm_stats;
use crate::monitor::alarm_store::AlarmStore;
use crate::monitor::clips::{ClipKey, Clips};
use crate::monitor::journal::Journal;
use crate::monitor::machine::{Machine, WindowCounts};
use crate::monitor::model::ActiveBundle;
use crate::monitor::state_writer::WriterHandle;
use crate::monitor::trend::Trend;
use crate::monitor::trend::writer::News;
use crate::monitor::{AlarmChange, Assessed, Monitor};
use crate::mqtt::Mqtt;
use crate::mqtt::discovery::{self, Described};
use crate::mqtt::payload::{AlarmMsg, EventKind, EventMsg, Health, Info, MachineHealth, SchemaVersion, VerdictMsg};
use crate::notify::{self, Notifier};
use crate::scoring::Reason;
use crate::scoring::alarm::AlarmStatus;
use crate::scoring::baseline::LearnProgress;
use crate::scoring::gate::SignalHealth;
use crate::scoring::gate::debounce::SignalChange;

/// What is kept of the machines for years.
#[derive(Clone)]
pub struct Records {
    pub trend: Arc<Trend>,
    pub journal: Arc<Journal>,
    pub clips: Arc<Clips>,
    pub alarms: Arc<AlarmStore>,
}

/// Makes messages and hands them to the client. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    config: Arc<Config>,
    monitor: Arc<Monitor>,
    mqtt: Mqtt,
    capture: Arc<Capture>,
    writer: WriterHandle,
    notifier: Notifier,
    records: Records,
    started: Instant,
    /// Counts in the last health message, by the machine's number.
    reported: Arc<Mutex<HashMap<usize, WindowCounts>>>,
}

impl Publisher {
    pub fn new(
        config: Arc<Config>,
        monitor: Arc<Monitor>,
        mqtt: Mqtt,
        capture: Arc<Capture>,
        writer: WriterHandle,
        notifier: Notifier,
        records: Records,
    ) -> Publisher {
        Publisher {
            config,
            monitor,
            mqtt,
            capture,
            writer,
            notifier,
            records,
            started: Instant::now(),
            reported: Arc::default(),
        }
    }

    /// The retained state that a new agent begins with, and an event for the record.
    pub fn birth(&self) {
        self.info();
        self.mqtt.agent_event(EventKind::Started, Some(format!("auscult {}", env!("CARGO_PKG_VERSION"))));
        let numbers = self.monitor.lock().machines.numbers();
        for number in numbers {
            self.alarm_state(number);
        }
    }

    /// The state of a machine's alarm, which has not changed.
    fn alarm_state(&self, number: usize) {
        let status = self.monitor.lock().machines.get(number).map(|machine| machine.alarm.status());
        if let Some(status) = status {
            self.mqtt.alarm_state(&self.alarm_msg(number, &status));
            self.notify(number, &status);
        }
    }

    /// Describes agent and machines to Home Assistant, and takes back what was said of machines that are gone.
    pub fn announce(&self) {
        let machines: Vec<_> = {
            let state = self.monitor.lock();
            let machines = state.machines.values().map(|machine| &machine.config);
            machines.map(|config| (config.id.clone(), config.name.clone(), config.model().to_owned())).collect()
        };
        let described: Vec<_> =
            machines.iter().map(|(id, name, model)| Described { id, name: name.as_deref(), model }).collect();
        let Config { homeassistant, agent, .. } = &*self.config;
        discovery::announce(homeassistant, &described, &agent.state_dir, &self.mqtt);
    }

    /// Who this agent is; again when its bundle changes.
    pub fn info(&self) {
        let (bundle, demo_bundle, machines, names) = {
            let state = self.monitor.lock();
            let configs = || state.machines.values().map(|machine| &machine.config);
            let name = |config: &MachineConfig| Some((config.id.clone(), config.name.clone()?));
            let loaded = state.loaded.as_ref();
            let is_demo = loaded.is_some_and(|loaded| self.config.bundle.is_demo(&loaded.bundle.dir));
            let ids = configs().map(|config| config.id.clone()).collect();
            (loaded.map(ActiveBundle::label), is_demo, ids, configs().filter_map(name).collect())
        };
        self.mqtt.info(&Info {
            schema: SchemaVersion,
            ts: self.mqtt.clock().now(),
            agent: self.config.agent.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.mqtt.boot().to_owned(),
            bundle,
            demo_bundle,
            machines,
            names,
            tags: self.config.agent.tags.clone(),
            commands: Command::NAMES.iter().map(|name| (*name).to_owned()).collect(),
            clock: self.mqtt.clock().mark(),
        });
    }

    pub fn verdict(&self, machine: usize, end: DateTime<Utc>, assessed: &Assessed) {
        let id = self.monitor.id(machine);
        let mut message = VerdictMsg::new(
            &self.config.agent.id,
            &id,
            Timestamp::from(end),
            &assessed.assessment,
            assessed.bundle.as_deref(),
            self.mqtt.clock().mark(),
        );
        message.alarm = Some(assessed.alarm.state);
        message.alarm_windows = assessed.alarm.kind.map(|_| assessed.alarm.count);
        message.text = assessed.sentence();
        message.learning_share = assessed.learning.as_ref().map(LearnProgress::share);
        let verdict = message.verdict;
        let (reason, distance, threshold) = (message.reason, message.distance, message.threshold);
        let seq = self.mqtt.verdict(message);
        tracing::debug!(machine = &*id, seq, ?verdict, ?reason, distance, threshold);
    }

    /// An alarm that has changed and is on disk.
    pub fn alarm(&self, AlarmChange { machine, change }: &AlarmChange) {
        let status = &change.to;
        let id = self.monitor.id(*machine);
        log_lines::alarm(&id, status);
        self.mqtt.alarm(&self.alarm_msg(*machine, status));
        self.notify(*machine, status);
    }

    /// Those who tell people know how many windows an alarm has by now.
    fn recount_alarms(&self) {
        let alarms: Vec<_> = {
            let state = self.monitor.lock();
            state.machines.iter().map(|(number, machine)| (number, machine.alarm.status())).collect()
        };
        for (number, status) in alarms.iter().filter(|(_, status)| status.kind.is_some()) {
            self.notify(*number, status);
        }
    }

    /// Hands a machine's alarm to those who tell people.
    fn notify(&self, machine: usize, status: &AlarmStatus) {
        let (id, name, reason) = {
            let state = self.monitor.lock();
            let Some(machine) = state.machines.get(machine) else { return };
            let config = &machine.config;
            let name = config.name.as_ref().unwrap_or(&config.id).to_string();
            (config.id.clone(), name, machine.last.as_ref().and_then(|last| last.reason))
        };
        let detail = reason.map(|reason| reason.in_words().to_owned());
        self.notifier.machine(&id, &name, notify::Now::of_alarm(status, detail));
    }

    fn alarm_msg(&self, machine: usize, status: &AlarmStatus) -> AlarmMsg {
        let why = status.why.as_ref();
        let reason = {
            let state = self.monitor.lock();
            let last = state.machines.get(machine).and_then(|machine| machine.last.as_ref());
            last.and_then(|last| last.reason)
        };
        let id = self.monitor.id(machine);
        let like = status.kind.zip(status.raised).and_then(|(kind, began)| {
            let like = self.records.clips.liked(&ClipKey::new(&id, kind, began))?;
            Some(like.to_string())
        });
        let text = status.sentence(reason).map(|text| match &like {
            Some(like) => format!("{text}; {like}"),
            None => text,
        });
        AlarmMsg {
            schema: SchemaVersion,
            ts: self.mqtt.clock().now(),
            agent: self.config.agent.id.clone(),
            machine: id.to_string(),
            state: status.state,
            kind: status.kind,
            since: status.since.into(),
            count: status.count,
            ratio: why.and_then(|why| why.ratio),
            percentile: why.and_then(|why| why.percentile),
            lane: why.and_then(|why| why.lane),
            bands: why.map_or_else(Vec::new, |why| why.bands.clone()),
            text,
            like,
            journal: status.kind.zip(status.raised).and_then(|(kind, began)| self.records.journal.id(&id, kind, began)),
            provisional: why.is_some_and(|why| why.provisional),
            by: status.note.by.clone(),
            comment: status.note.comment.clone(),
            until: status.note.until.map(Timestamp::from),
            raised: status.raised.map(Timestamp::from),
            at: status.note.at.map(Timestamp::from),
            clock: self.mqtt.clock().mark(),
            late: false,
        }
    }

    /// What people should know of the machines' past on disk.
    pub fn trend(&self, news: News) {
        let (event, detail) = match news {
            News::Lost(detail) => (EventKind::TrendLost, Some(detail)),
            News::Failed(detail) => (EventKind::TrendFailed, Some(detail)),
            News::Back => (EventKind::TrendBack, None),
        };
        match &detail {
            Some(detail) => tracing::error!("{detail}"),
            None => tracing::info!("the machines' past can be written again"),
        }
        self.mqtt.agent_event(event, detail);
    }

    pub fn event(&self, machine: usize, event: EventKind, detail: Option<String>) {
        self.event_with(machine, event, detail, serde_json::Value::Null);
    }

    /// As [`Publisher::event`], with numbers: `facts` is an object.
    pub fn event_with(&self, machine: usize, event: EventKind, detail: Option<String>, facts: serde_json::Value) {
        let id = self.monitor.id(machine);
        let message = EventMsg {
            schema: SchemaVersion,
            ts: self.mqtt.clock().now(),
            agent: self.config.agent.id.clone(),
            machine: Some(id.to_string()),
            event,
            detail,
            facts: match facts {
                serde_json::Value::Object(facts) => facts,
                _ => serde_json::Map::new(),
            },
            clock: self.mqtt.clock().mark(),
            late: false,
        };
        self.send_event(&message);
    }

    fn send_event(&self, message: &EventMsg) {
        log_lines::event(message);
        self.mqtt.event(message);
    }

    /// Faults of a machine's signal that began to last, or ended. A fault that follows another names it.
    pub fn signal(&self, machine: usize, changes: &[SignalChange]) {
        let ended =
            changes.iter().find_map(|change| if let SignalChange::Ended(was) = change { Some(was) } else { None });
        let was = ended.map(|was| format!("{was} is over"));
        let began = changes.iter().find_map(|change| match change {
            SignalChange::Began(reason) => Some((reason, event_of(*reason)?)),
            SignalChange::Ended(_) => None,
        });
        match began {
            Some((reason, event)) => {
                let signal =
                    self.monitor.lock().machines.get(machine).and_then(|machine| machine.signal.signal.clone());
                let figure = signal.and_then(|signal| figure(*reason, &signal));
                let detail = [figure, was].into_iter().flatten().collect::<Vec<_>>().join("; ");
                self.event(machine, event, Some(detail).filter(|detail| !detail.is_empty()));
            }
            None if was.is_some() => self.event(machine, EventKind::SignalBack, was),
            None => {}
        }
    }

    /// Sends what control puts out.
    pub fn send(&self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply(encoded) => self.mqtt.reply(encoded),
                Output::Settings(message) => self.mqtt.settings(&message),
                Output::Event(message) => self.send_event(&message),
                Output::Alarms => self.writer.save_alarms(),
                Output::Evidence(message) => self.mqtt.evidence(&message),
                Output::Info => self.info(),
                Output::MachineAdded(number) => {
                    self.mqtt.admit_machine(&self.monitor.id(number));
                    self.alarm_state(number);
                    self.announce();
                }
                Output::MachineRemoved(id) => {
                    self.mqtt.retire_machine(&id);
                    self.notifier.remove_machine(&id);
                    self.announce();
                }
                Output::Health => self.health(),
                // The supervisor's business.
                Output::Announce(_) | Output::Restart => {}
            }
        }
    }

    pub fn source_ended(&self, machine: usize) {
        tracing::info!("{}: the source has ended, no more windows come", self.monitor.id(machine));
    }

    /// How the agent is doing.
    pub fn health(&self) {
        self.recount_alarms();
        let known: HashMap<_, _> = {
            let state = self.monitor.lock();
            let of = |machine: &Machine| (machine.counts, machine.signal.signal.clone(), machine.signal.watch.fault());
            state.machines.iter().map(|(number, machine)| (number, of(machine))).collect()
        };
        let mut reported = self.reported.lock();
        let machines = self.capture.stats().into_iter().filter_map(|stats| {
            let (now, signal, lasting) = known.get(&stats.machine)?;
            let before = reported.get(&stats.machine).copied().unwrap_or_default();
            let windows = now.windows - before.windows;
            let assessed = (windows > 0).then(|| (now.assessed - before.assessed) as f64 / windows as f64);
            let capture = match stats.state {
                CaptureState::Starting => "starting",
                CaptureState::Live => "running",
                CaptureState::Lost => "lost",
                CaptureState::Ended => "ended",
            };
            let rounded = |value: f64, places: i32| (value * 10f64.powi(places)).round() / 10f64.powi(places);
            let counted = self.records.trend.counted(&stats.id).map(|counted| counted.hours);
            let hours = |seconds: f64| rounded(seconds / 3600.0, 3);
            Some(MachineHealth {
                running_h: counted.map(|counted| hours(counted.running_s)),
                standing_h: counted.map(|counted| hours(counted.standing_s)),
                unheard_h: counted.map(|counted| hours(counted.unheard_s)),
                machine: stats.id,
                capture: capture.to_owned(),
                capture_problem: stats.why,
                xruns: stats.gaps,
                lost_s: rounded(stats.lost_s, 3),
                losses: stats.losses,
                overload: stats.overload,
                dropped: stats.forgotten,
                last_frame_age_s: stats.last_frame.map(|at| rounded(at.elapsed().as_secs_f64(), 2)),
                assessed,
                signal: *lasting,
                level_dbfs: stats.level_dbfs.map(|level| rounded(level, 1)),
                clipped_share: signal.as_ref().map(|signal| rounded(signal.clipped_share, 5)),
                dc: signal.as_ref().map(|signal| rounded(signal.dc, 5)),
            })
        });
        let machines = machines.collect();
        *reported = known.into_iter().map(|(number, (counts, ..))| (number, counts)).collect();
        drop(reported);
        let stats = {
            let ids: Vec<String> =
                self.monitor.lock().machines.values().map(|machine| machine.config.id.clone()).collect();
            alarm_stats::read(&self.records.journal, &self.records.trend, &ids, Utc::now()).ok()
        };
        self.mqtt.health(&Health {
            schema: SchemaVersion,
            ts: self.mqtt.clock().now(),
            agent: self.config.agent.id.clone(),
            boot: self.mqtt.boot().to_owned(),
            uptime_s: self.started.elapsed().as_secs_f64().round(),
            memory_mb: process_stats::memory_mb(),
            cpu_temp_c: process_stats::cpu_temperature_c(),
            disk_free_mb: process_stats::disk_free_mb(&self.config.agent.state_dir),
            mqtt: self.mqtt.stats(),
            trend_error: self.records.trend.problem(),
            journal_error: self.records.journal.problem(),
            alarms_error: self.records.alarms.problem(),
            evidence_error: self.records.clips.problem(),
            alarms: stats.as_ref().map(|stats| stats.alarms as u64),
            alarms_per_day: stats.as_ref().and_then(|stats| stats.per_day),
            acknowledge_median_s: stats.as_ref().and_then(|stats| stats.acknowledge_median_s),
            alarm_fault_share: stats.as_ref().and_then(|stats| stats.fault_share),
            machines,
            clock: self.mqtt.clock().mark(),
        });
    }
}

/// The event of a signal's fault.
fn event_of(reason: Reason) -> Option<EventKind> {
    Some(match reason {
        Reason::Silent => EventKind::Silent,
        Reason::Flat => EventKind::Flat,
        Reason::Clipped => EventKind::Clipped,
        Reason::DcOffset => EventKind::DcOffset,
        Reason::Noise => EventKind::Noise,
        Reason::NotFinite => EventKind::NotFinite,
        _ => return None,
    })
}

/// The figure that shows a fault.
fn figure(reason: Reason, signal: &SignalHealth) -> Option<String> {
    Some(match reason {
        Reason::Silent => format!("level {:.1} dBFS", signal.level_dbfs),
        Reason::Flat => format!("one value for {:.1} % of the window", 100.0 * signal.held_share),
        Reason::Clipped => format!("{:.2} % of the samples are cut off", 100.0 * signal.clipped_share),
        Reason::DcOffset => format!("the samples' mean is {:+.3}", signal.dc),
        Reason::Noise => format!("flatness of the spectrum {:.2}, white noise has 1", signal.flatness?),
        _ => return None,
    })
}
