//! What a command sees of the agent while it works out what is to be done, and what it may answer with.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::command::Envelope;
use super::fault::{Code, Fault};
use super::history::Entry;
use super::learning;
use super::settings::{Changed, Effective, MachineSettings, ThresholdSource};
use super::store::Store;
use super::values::Target;
use super::work::Work;
use super::{Output, Shared};
use crate::agent::station::{Inner, Loaded};
use crate::clock::Timestamp;
use crate::mqtt::payload::{EventKind, EvidenceMsg, SchemaVersion, SettingsMsg};
use crate::scoring::alarm::AlarmConfig;

/// What a command comes to.
pub enum Outcome {
    /// Nothing changes; this is the answer.
    Answer(Value),
    /// Nothing changes; the agent's health is published, then this is the answer.
    Health(Value),
    /// These settings change, now and together with the reply.
    Change(Change),
    /// The answer, and what goes to the machine's `evidence` topic.
    Evidence(Value, Vec<EvidenceMsg>),
    /// Something else changes.
    Act(Act),
    /// Another bundle is taken into use.
    Switch(Box<Switch>),
    /// It takes long and is done beside the other commands, one at a time; what it comes to follows.
    Work(Work),
}

/// Puts a change on the disk.
pub type Keep = Box<dyn FnOnce() -> Result<(), Fault> + Send>;
/// Takes a change into use, while nothing is judged.
pub type Apply = Box<dyn FnOnce(&mut Inner) -> Vec<Output> + Send>;

/// A change that is more than settings, in the order in which it is made: [`Act::keep`], the reply on the disk,
/// [`Act::apply`]. A power cut in between finds the command unanswered: done again, it must come to the same.
pub struct Act {
    /// What the reply tells.
    pub data: Value,
    /// Numbers of machines and their new settings: written with the reply, in use before [`Act::apply`].
    pub settings: Vec<(usize, MachineSettings)>,
    /// Makes it last: on the disk when it returns. Where it fails, nothing has changed.
    pub keep: Keep,
    /// Takes it into use, between two windows, and says what to tell of it.
    pub apply: Apply,
}

/// A bundle that is ready to be switched to.
pub struct Switch {
    pub loaded: Loaded,
    /// Makes it last: the link to it. On the disk when it returns.
    pub keep: Keep,
    /// The bundle to load at the next start; `None`: the configured one.
    pub choice: Option<PathBuf>,
    /// What the reply tells.
    pub data: Value,
    /// Tidies up, when the reply is on the disk.
    pub after: Box<dyn FnOnce() + Send>,
}

/// New settings of some machines.
pub struct Change {
    /// Number of the machine, its new settings, what to tell of it.
    pub machines: Vec<(usize, MachineSettings, String)>,
    pub kind: EventKind,
}

/// One command's view of the agent.
pub struct Desk<'a> {
    pub shared: &'a Arc<Shared>,
    pub store: &'a Store,
    pub envelope: &'a Envelope,
    pub now: DateTime<Utc>,
}

impl Desk<'_> {
    /// Numbers of the machines that are meant.
    ///
    /// # Errors
    /// A machine that the agent does not have.
    pub fn targets(&self, target: &Target) -> Result<Vec<usize>, Fault> {
        let machines = &self.shared.config.machine;
        let id = match target {
            Target::All => return Ok((0..machines.len()).collect()),
            Target::One(id) => id,
        };
        if let Some(number) = machines.iter().position(|machine| machine.id == *id) {
            return Ok(vec![number]);
        }
        let known: Vec<_> = machines.iter().take(20).map(|machine| machine.id.as_str()).collect();
        let more = if machines.len() > known.len() { ", ..." } else { "" };
        let message = format!("machine: expected one of {}{more} or \"*\", found {id:?}", known.join(", "));
        Err(Fault::new(Code::UnknownMachine, message))
    }

    /// A time that something ends at.
    ///
    /// # Errors
    /// Where it has passed.
    pub fn to_come(&self, until: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, Fault> {
        match until {
            Some(until) if until.utc() <= self.now => {
                let expected = format!("a time after now, which is {}", Timestamp::from(self.now));
                Err(Fault::argument("until", &expected, until))
            }
            until => Ok(until.map(Timestamp::utc)),
        }
    }

    /// Who sent the command, and why.
    pub fn who(&self) -> (Option<String>, Option<String>) {
        let Envelope { by, reason, .. } = self.envelope;
        (by.clone().map(String::from), reason.clone().map(String::from))
    }

    /// That in words: ` by ana: after overhaul`.
    pub fn why(&self) -> String {
        let (by, reason) = self.who();
        let why = [by.map(|by| format!(" by {by}")), reason.map(|reason| format!(": {reason}"))];
        why.into_iter().flatten().collect()
    }

    /// That, as it is noted with a changed threshold.
    pub fn changed(&self) -> Changed {
        let (by, reason) = self.who();
        Changed { by, reason, at: self.now }
    }

    /// Changes the settings of the machines that are meant.
    ///
    /// # Errors
    /// As [`Desk::targets`].
    pub fn change(
        &self,
        target: &Target,
        kind: EventKind,
        apply: impl Fn(&mut MachineSettings),
    ) -> Result<Outcome, Fault> {
        let numbers = self.targets(target)?;
        let inner = self.shared.station.lock();
        let why = self.why();
        let machines = numbers.into_iter().map(|number| {
            let mut settings = inner.machines[number].settings.clone();
            let before = told(threshold_with(&inner, number, &settings, self.now));
            settings.expire(self.now);
            apply(&mut settings);
            let after = told(threshold_with(&inner, number, &settings, self.now));
            let what = match kind {
                EventKind::ThresholdChanged => format!("{before} -> {after}{why}"),
                _ => why.trim_start_matches([' ', ':']).to_owned(),
            };
            (number, settings, what)
        });
        Ok(Outcome::Change(Change { machines: machines.collect(), kind }))
    }

    pub fn machine_id(&self, number: usize) -> &str {
        &self.shared.config.machine[number].id
    }

    /// What `settings` tells of a machine now.
    pub fn settings(&self, number: usize) -> SettingsMsg {
        let inner = self.shared.station.lock();
        settings_msg(self.shared, &inner, number, &inner.machines[number].settings, self.now)
    }

    /// The threshold that a machine is judged with now.
    pub fn threshold(&self, number: usize) -> Option<Effective> {
        let inner = self.shared.station.lock();
        threshold_with(&inner, number, &inner.machines[number].settings, self.now)
    }

    /// Label of the running bundle.
    pub fn bundle_label(&self) -> Option<String> {
        self.shared.station.lock().loaded.as_ref().map(Loaded::label)
    }

    /// The machine's own alarm parameters.
    pub fn alarm_config(&self, number: usize) -> AlarmConfig {
        self.shared.station.lock().machines[number].alarm.config().clone()
    }

    /// A machine's windows of the last 24 hours, oldest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn last_day(&self, number: usize) -> Result<Vec<Entry>, Fault> {
        let from = self.now - TimeDelta::hours(24);
        let id = self.machine_id(number);
        let stored = self.store.distances(id, from).map_err(|error| Fault::new(Code::Failed, error.to_string()))?;
        let waiting = self.shared.history.waiting(id);
        let all = stored.into_iter().flat_map(|chunk| chunk.entries).chain(waiting);
        let day = from.timestamp_millis()..=self.now.timestamp_millis();
        Ok(all.filter(|entry| day.contains(&entry.at_ms)).collect())
    }

    /// The bundle that was reloaded by its path, where one was.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn chosen_bundle(&self) -> Result<Option<PathBuf>, Fault> {
        let chosen = self.store.chosen_bundle().map_err(|error| Fault::new(Code::Failed, error.to_string()))?;
        Ok(chosen.map(PathBuf::from))
    }

    /// Everything that `state.get` tells.
    pub fn state(&self) -> Value {
        let inner = self.shared.station.lock();
        let bundle = inner.loaded.as_ref().map(|loaded| {
            let bundle = &loaded.bundle;
            json!({
                "label": loaded.label(), "name": bundle.name, "version": bundle.version, "digest": bundle.digest,
                "dir": bundle.dir, "engine": loaded.engine(),
            })
        });
        let machines = inner.machines.iter().enumerate().map(|(number, machine)| {
            let last = machine.last.as_ref();
            let alarm = machine.alarm.status();
            json!({
                "machine": machine.config.id,
                "model": machine.config.model(),
                "settings": settings_msg(self.shared, &inner, number, &machine.settings, self.now),
                "verdict": last.map(|last| last.verdict),
                "reason": last.and_then(|last| last.reason),
                "distance": last.and_then(|last| last.distance),
                "level_dbfs": last.map(|last| last.level_dbfs),
                "alarm": { "state": alarm.state, "since": Timestamp::from(alarm.since), "count": alarm.count },
                "baseline": {
                    "in_use": inner.loaded.as_ref().and_then(|loaded| loaded.baseline(number))
                        .map(|(baseline, _)| learning::facts(&machine.config.id, baseline)),
                    "proposal": machine.site.proposal.as_ref().map(|it| learning::facts(&machine.config.id, it)),
                    "learning": machine.site.learner.as_ref().map(|it| learning::progress_told(&it.progress()).1),
                    "problem": inner.loaded.as_ref().and_then(|loaded| loaded.baseline_problem(number))
                        .or(machine.site.failed.as_deref()),
                },
                "windows": machine.tally.windows,
                "assessed": machine.tally.assessed,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "boot": self.shared.boot,
            "uptime_s": self.shared.started.elapsed().as_secs(),
            "tags": self.shared.config.agent.tags,
            "bundle": bundle,
            "store_problem": self.shared.store_problem,
            "machines": machines.collect::<Vec<_>>(),
        })
    }
}

/// The threshold of machine number `number` with these settings.
pub fn threshold_with(
    inner: &Inner,
    number: usize,
    settings: &MachineSettings,
    now: DateTime<Utc>,
) -> Option<Effective> {
    inner.threshold_with(number, settings, now)
}

/// A threshold in words.
pub fn told(effective: Option<Effective>) -> String {
    match effective {
        None => "none".into(),
        Some(Effective { threshold, source }) => {
            let source = json!(source);
            format!("{threshold} ({})", source.as_str().unwrap_or_default())
        }
    }
}

/// What the `settings` topic tells of a machine with these settings.
pub fn settings_msg(
    shared: &Shared,
    inner: &Inner,
    number: usize,
    settings: &MachineSettings,
    now: DateTime<Utc>,
) -> SettingsMsg {
    let effective = threshold_with(inner, number, settings, now);
    let label = inner.loaded.as_ref().map(Loaded::label);
    let made_for = settings.made_for_another(label.as_deref()).map(str::to_owned);
    let maintenance = settings.maintenance(now);
    let changed = settings.changed.as_ref();
    SettingsMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        machine: inner.machines[number].config.id.clone(),
        threshold: effective.map(|found| found.threshold),
        source: effective.map_or(ThresholdSource::Bundle, |found| found.source),
        judge: inner.judge_with(number, settings, now),
        baseline: inner.loaded.as_ref().and_then(|l| l.baseline(number)).map(|(baseline, _)| baseline.learned.clone()),
        revision: settings.revision.into(),
        by: changed.and_then(|changed| changed.by.clone()),
        reason: changed.and_then(|changed| changed.reason.clone()),
        until: settings.threshold.as_ref().and_then(|over| over.until).map(Timestamp::from),
        bundle: label,
        made_for,
        maintenance: maintenance.is_some(),
        maintenance_until: maintenance.and_then(|maintenance| maintenance.until).map(Timestamp::from),
        clock: shared.clock.mark(),
    }
}
