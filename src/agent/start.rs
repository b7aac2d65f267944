//! The start of an agent: what earlier runs left is read, everything is opened, the threads begin.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::machines::Roster;
#[cfg(feature = "web")]
use super::page::AgentPage;
use super::publisher::{Publisher, Records};
use super::scoring_thread::{ScoringThread, ScoringWork};
use super::{Agent, AgentError};
use crate::audio::capture::{self, Capture};
use crate::audio::meters::Meters;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::state_archive::imported;
use crate::control::state_archive::take::{self, TakeError};
use crate::control::store::StateStore;
use crate::control::{self, Controller};
use crate::monitor::alarm_store::{AlarmStore, SavedAlarms};
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::clips::{self, ClipKeeper, Clips, Pictured};
use crate::monitor::history::History;
use crate::monitor::journal::Journal;
use crate::monitor::last_window::LastWindows;
use crate::monitor::model::{ActiveBundle, LoadError};
use crate::monitor::state_writer::{self, StateWriter};
use crate::monitor::trend::Trend;
use crate::monitor::trend::writer::TrendWriter;
use crate::monitor::{AlarmChange, Monitor};
use crate::mqtt::payload::EventKind;
use crate::mqtt::topics;
use crate::mqtt::{IncomingReceiver, Mqtt, MqttOptions};
use crate::notify::Notifier;
use crate::numbers::counted;
use crate::state_files::{Lost, StateFiles};
use crate::systemd;

impl Agent {
    /// Reads what earlier runs left, opens everything and starts the threads.
    pub(super) fn start(mut config: Config) -> Result<Agent, AgentError> {
        let clock = Clock::of_system();
        let now = clock.now().utc();
        // First of all: what was imported may bring a broker.
        let left = Left::read(&config, now)?;
        if let Err(problem) = config.use_chosen_broker() {
            tracing::error!("{problem}: the broker that was chosen on the page is forgotten");
        }
        let Left { mut store, imported, bundle, baselines, alarms, journal, clips, saved, problem } = left;
        let roster = Roster::read(&config, &store);
        roster.keep_back(&mut store, now);
        let loaded = load(&config, bundle.as_deref(), &roster, &baselines)?;
        let (inputs, waiting) = roster.inputs(loaded.as_ref());
        let machines = roster.restore(&config, &store, loaded.as_ref(), saved, &baselines, now)?;
        let capture = Arc::new(capture::start_with(inputs, waiting)?);
        if let Some(warning) = topics::awkward(&config.mqtt.root, &config.agent.id)
            && !config.mqtt.url.all().is_empty()
        {
            tracing::warn!("{warning}");
        }
        let options = MqttOptions { least_seqs: imported::least_seqs(&config.agent.state_dir), ..options_of(&config) };
        let (mqtt, incoming) =
            Mqtt::start(options, clock).map_err(AgentError::system("cannot start the MQTT client"))?;
        let notifier = Notifier::new(&config.agent.id, config.web.url.as_deref(), &config.notify);
        let shared = Arc::new(control::Shared {
            monitor: Arc::new(Monitor::new(loaded, machines)),
            meters: meters(&capture),
            capture,
            history: Arc::new(History::default()),
            trend: Arc::new(Trend::new(&config.agent.state_dir)),
            alarms: Arc::new(alarms),
            journal: Arc::new(journal),
            baselines: Arc::new(baselines),
            evidence: Arc::new(LastWindows::new(config.privacy.allow_audio)),
            clips: Arc::new(clips),
            notify: Arc::new(notifier.clone()),
            clock: mqtt.clock().clone(),
            boot: mqtt.boot().to_owned(),
            started: Instant::now(),
            store_problem: problem,
            broker: mqtt.broker(),
            bundles: OnceLock::new(),
            config,
        });
        // What an interrupted install left behind goes; a bundle in a plain directory has no store, which is no fault.
        if let Err(error) = shared.bundles(bundle) {
            tracing::debug!(%error, "bundles cannot be installed remotely");
        }
        let controller = Controller::new(shared.clone(), store, now);
        Opened { shared, controller, mqtt, incoming, notifier, imported }.begin(&roster, now)
    }
}

/// What earlier runs left in the state directory.
struct Left {
    store: StateStore,
    /// What has just taken the place of what was there, where something was imported.
    imported: Option<String>,
    /// The bundle that was chosen remotely.
    bundle: Option<PathBuf>,
    baselines: BaselineStore,
    alarms: AlarmStore,
    journal: Journal,
    clips: Clips,
    saved: SavedAlarms,
    /// What was lost.
    problem: Option<String>,
}

impl Left {
    /// # Errors
    /// A part of what was imported is in place.
    fn read(config: &Config, now: DateTime<Utc>) -> Result<Left, AgentError> {
        let state_dir = &config.agent.state_dir;
        let inventory_lost = StateFiles::new(state_dir).check_inventory().err();
        let (mut store, store_lost) = StateStore::open(state_dir, now);
        let baselines = BaselineStore::new(state_dir);
        let switch_lost = baselines.settle(|machine, token| store.was_decided(machine, token));
        let (imported, import_lost) = match take::take(config, &mut store, now) {
            Ok(imported) => (imported, None),
            Err(error @ TakeError::Halfway(_)) => return Err(error.into()),
            Err(error) => (None, Some(Lost(error.to_string()))),
        };
        if let Some(imported) = &imported {
            tracing::info!("a state was imported {imported}");
        }
        let bundle = store.chosen_bundle().unwrap_or_else(|error| {
            tracing::error!(%error, "the bundle that was chosen remotely cannot be read");
            None
        });
        let (alarms, saved, alarms_lost) = AlarmStore::open(state_dir);
        let (journal, journal_lost) = Journal::open(state_dir, now);
        let (clips, clips_lost) = Clips::open(state_dir, config.evidence.keep_mb);
        let lost = [inventory_lost, store_lost, switch_lost, import_lost, alarms_lost, journal_lost, clips_lost];
        let lost = lost.into_iter().flatten();
        let lost: Vec<String> = lost.map(|Lost(problem)| problem).collect();
        lost.iter().for_each(|problem| tracing::error!("lost of the last run: {problem}"));
        Ok(Left {
            store,
            imported,
            bundle: bundle.map(PathBuf::from),
            baselines,
            alarms,
            journal,
            clips,
            saved,
            problem: (!lost.is_empty()).then(|| lost.join("; ")),
        })
    }
}

/// Everything that is open before anything is published.
struct Opened {
    shared: Arc<control::Shared>,
    controller: Controller,
    mqtt: Mqtt,
    incoming: IncomingReceiver,
    notifier: Notifier,
    imported: Option<String>,
}

impl Opened {
    /// Says who is there, and starts the threads.
    fn begin(mut self, roster: &Roster, now: DateTime<Utc>) -> Result<Agent, AgentError> {
        let thread = AgentError::system("cannot start a thread");
        let Opened { shared, controller, mqtt, notifier, imported, .. } = &mut self;
        let config = Arc::new(shared.config.clone());
        let (monitor, capture) = (shared.monitor.clone(), shared.capture.clone());
        let (handle, jobs) = state_writer::channel();
        let publisher = Publisher::new(
            config.clone(),
            monitor.clone(),
            mqtt.clone(),
            capture.clone(),
            handle.clone(),
            notifier.clone(),
            Records {
                trend: shared.trend.clone(),
                journal: shared.journal.clone(),
                clips: shared.clips.clone(),
                alarms: shared.alarms.clone(),
            },
        );
        // Before anything is published, so that the page misses nothing.
        #[cfg(feature = "web")]
        let page = AgentPage::open(&config, mqtt, monitor.clone(), capture.clone());
        roster.removed.iter().for_each(|id| mqtt.retire_machine(id));
        publisher.birth();
        if let Some(imported) = imported.take() {
            mqtt.agent_event(EventKind::StateImported, Some(imported));
        }
        let notify = notifier.start(&config.agent.state_dir).map_err(thread)?;
        publisher.announce();
        publisher.send(controller.start(&roster.ignored, now));
        let publish = {
            let publisher = publisher.clone();
            move |change: &AlarmChange| publisher.alarm(change)
        };
        let (alarms, baselines) = (shared.alarms.clone(), shared.baselines.clone());
        let (writer, journal) = ((handle.clone(), jobs), shared.journal.clone());
        let (keeper, jobs) = clips_channel(shared);
        let began = {
            let keeper = keeper.clone();
            move |entry| keeper.begin(entry)
        };
        let pictures = config.homeassistant.shows_pictures().then(|| -> Pictured {
            let mqtt = mqtt.clone();
            Box::new(move |machine, picture| mqtt.picture(machine, picture))
        });
        let clips = ClipKeeper::start((keeper, jobs), pictures);
        let writer = StateWriter::start(writer, monitor.clone(), alarms, journal, baselines, began, publish);
        roster.removed.iter().for_each(|id| shared.trend.forget(id));
        let trend = {
            let publisher = publisher.clone();
            let files = StateFiles::new(&config.agent.state_dir);
            TrendWriter::start(shared.trend.clone(), files, move |news| publisher.trend(news))
        };
        let work = ScoringWork {
            capture: capture.clone(),
            monitor,
            publisher: publisher.clone(),
            history: shared.history.clone(),
            trend: shared.trend.clone(),
            evidence: shared.evidence.clone(),
            writer: handle,
            threads: config.agent.scoring_threads,
        };
        let agent = Agent {
            writer: writer.map_err(thread)?,
            trend: trend.map_err(thread)?,
            clips: clips.map_err(thread)?,
            scoring: ScoringThread::start(work).map_err(thread)?,
            config,
            capture,
            mqtt: self.mqtt,
            incoming: self.incoming,
            controller: self.controller,
            publisher,
            notifier: self.notifier,
            notify,
            #[cfg(feature = "web")]
            page,
        };
        agent.say_what_it_does(roster.machines.len());
        Ok(agent)
    }
}

impl Agent {
    fn say_what_it_does(&self, machines: usize) {
        #[cfg(feature = "web")]
        let page = self.page.as_ref().map(AgentPage::url);
        #[cfg(not(feature = "web"))]
        let page = None;
        if page.is_some() {
            self.publisher.health();
        }
        match machines {
            0 => waits_for_setup(page),
            machines => {
                let agent = &self.config.agent.id;
                tracing::info!("agent {agent} is listening to {}", counted(machines, "machine"));
            }
        }
    }
}

/// Says where an agent without machines is set up.
fn waits_for_setup(page: Option<&str>) {
    let line = match page {
        Some(url) => format!("waiting for set-up: open {url} in a browser, or run `auscult setup`"),
        None => "waiting for set-up: no machine is configured, and there is no page to add one".to_owned(),
    };
    tracing::warn!("{line}");
    systemd::status(&line);
}

/// Where alarms' clips are asked for; the last minute of sound is kept from now on, where any are made.
fn clips_channel(shared: &control::Shared) -> (clips::KeeperHandle, clips::Jobs) {
    if shared.clips.are_kept() {
        shared.capture.keep_recent();
    }
    let capture = shared.capture.clone();
    let sound = Arc::new(move |number| capture.recent(number));
    clips::channel(shared.monitor.clone(), shared.clips.clone(), shared.journal.clone(), sound)
}

/// The microphones, for whoever chooses one; those that machines listen to are left to the capture.
fn meters(capture: &Arc<Capture>) -> Meters {
    let capture = Arc::downgrade(capture);
    Meters::new("/sys", Box::new(move || capture.upgrade().map_or_else(Vec::new, |capture| capture.devices())))
}

/// How the MQTT client is set up.
fn options_of(config: &Config) -> MqttOptions {
    let Config { agent, mqtt, outbox, compat, homeassistant, .. } = config;
    MqttOptions::from_config(&agent.id, &agent.state_dir, mqtt, outbox, compat, homeassistant)
}

/// The bundle that was chosen remotely, else the configured one, else the demo's where nobody has configured any; `None`,
/// and an error in the log, where its files are not fit for use.
fn load(
    config: &Config,
    chosen: Option<&Path>,
    roster: &Roster,
    baselines: &BaselineStore,
) -> Result<Option<ActiveBundle>, AgentError> {
    let open = |dir: &Path| ActiveBundle::open_for(dir, config, roster.wanted(), baselines);
    if let Some(chosen) = chosen {
        match open(chosen) {
            Ok(loaded) => {
                tracing::info!("bundle {} in use, as chosen remotely, engine {}", loaded.label(), loaded.engine());
                return Ok(Some(loaded));
            }
            Err(error) => {
                tracing::error!(%error, "the bundle that was chosen remotely cannot be used: the configured one is")
            }
        }
    }
    if let Some(demo) = config.bundle.demo() {
        return Ok(match open(&demo) {
            Ok(loaded) => {
                tracing::warn!(
                    bundle = loaded.label(),
                    "no bundle is configured: the demo's is in use, which knows simulated machines only; its encoder is good \
                     for learning a machine's normal, its machines are not yours"
                );
                Some(loaded)
            }
            Err(error) => {
                tracing::error!(%error, "no bundle: every verdict is unknown until a good one is loaded");
                None
            }
        });
    }
    match open(&config.bundle.path) {
        Ok(loaded) => {
            tracing::info!("bundle {} in use, engine {}", loaded.label(), loaded.engine());
            Ok(Some(loaded))
        }
        Err(error @ LoadError::Machine { .. }) => Err(AgentError::Config(error.to_string())),
        Err(LoadError::Bundle(error)) => {
            tracing::error!(%error, "no bundle: every verdict is unknown until a good one is loaded");
            Ok(None)
        }
    }
}
