//! What a command sees of the agent while it works out what is to be done.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::envelope::Envelope;
use super::error::{Code, CommandError};
use super::messages::{self, describe_limit, provisional_msg, settings_msg};
use super::outcome::Outcome;
use super::settings_change::{NewSettings, SettingsChange};
use super::shared::Shared;
use super::store::StateStore;
use super::values::Target;
use crate::clock::Timestamp;
use crate::monitor::MonitorState;
use crate::monitor::history::Entry;
use crate::monitor::journal::JournalEntry;
use crate::monitor::model::ActiveBundle;
use crate::monitor::settings::{Changed, Effective, MachineSettings};
use crate::monitor::trend::Counted;
use crate::mqtt::Origin;
use crate::mqtt::payload::{EventKind, SettingsMsg};
use crate::scoring::alarm::AlarmConfig;

/// One command's view of the agent.
pub struct CommandContext<'a> {
    pub shared: &'a Arc<Shared>,
    pub store: &'a StateStore,
    pub envelope: &'a Envelope,
    pub origin: Origin,
    pub now: DateTime<Utc>,
}

impl CommandContext<'_> {
    /// Numbers of the machines that are meant. Not with the monitor locked.
    ///
    /// # Errors
    /// A machine that the agent does not have.
    pub fn targets(&self, target: &Target) -> Result<Vec<usize>, CommandError> {
        let state = self.shared.monitor.lock();
        match target {
            Target::All => Ok(state.machines.numbers()),
            Target::One(id) => match state.find(id) {
                Some(number) => Ok(vec![number]),
                None => Err(unknown_machine(&state, " or \"*\"", id)),
            },
        }
    }

    /// Number of the one machine that is meant. Not with the monitor locked.
    ///
    /// # Errors
    /// A machine that the agent does not have; `"*"`.
    pub fn target(&self, target: &Target) -> Result<usize, CommandError> {
        match target {
            Target::All => Err(CommandError::argument("machine", "one machine's id", "\"*\"")),
            Target::One(id) => {
                let state = self.shared.monitor.lock();
                state.find(id).ok_or_else(|| unknown_machine(&state, "", id))
            }
        }
    }

    /// A time that something ends at.
    ///
    /// # Errors
    /// Where it has passed.
    pub fn to_come(&self, until: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, CommandError> {
        match until {
            Some(until) if until.utc() <= self.now => {
                let expected = format!("a time after now, which is {}", Timestamp::from(self.now));
                Err(CommandError::argument("until", &expected, until))
            }
            until => Ok(until.map(Timestamp::utc)),
        }
    }

    /// Refuses a command that did not come from the agent's own page.
    ///
    /// # Errors
    /// Where it came from the broker.
    pub fn only_from_page(&self, what: &str) -> Result<(), CommandError> {
        match self.origin {
            Origin::Page => Ok(()),
            Origin::Broker => {
                let message =
                    format!("{what} can be set on the agent's own page or by `auscult setup`, not over the broker");
                Err(CommandError::new(Code::NotAllowed, message))
            }
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

    /// That where nothing stands before it: `by ana: after overhaul`.
    pub fn why_alone(&self) -> String {
        self.why().trim_start_matches([' ', ':']).to_owned()
    }

    /// That, as it is noted with a changed threshold.
    pub fn changed(&self) -> Changed {
        let (by, reason) = self.who();
        Changed { by, reason, at: self.now }
    }

    /// Changes the settings of the machines that are meant.
    ///
    /// # Errors
    /// As [`CommandContext::targets`].
    pub fn change(
        &self,
        target: &Target,
        kind: EventKind,
        apply: impl Fn(&mut MachineSettings),
    ) -> Result<Outcome, CommandError> {
        let numbers = self.targets(target)?;
        let state = self.shared.monitor.lock();
        let why = self.why();
        let machines = numbers.into_iter().map(|number| {
            let mut settings = state.machines[number].settings.clone();
            let before = describe_limit(&state, number, &settings, self.now);
            settings.expire(self.now);
            apply(&mut settings);
            let after = describe_limit(&state, number, &settings, self.now);
            let detail = match kind {
                EventKind::ThresholdChanged => format!("{before} -> {after}{why}"),
                _ => self.why_alone(),
            };
            let message = settings_msg(self.shared, &state, number, &settings, self.now);
            NewSettings { number, id: self.machine_id(number), settings, detail, message }
        });
        let machines: Vec<_> = machines.collect();
        let messages: Vec<_> = machines.iter().map(|new| &new.message).collect();
        let data = json!({ "machines": messages });
        Ok(Outcome::change(data, SettingsChange { shared: self.shared.clone(), kind, machines }))
    }

    /// The alarm of a number in the journal.
    ///
    /// # Errors
    /// There is none, or the journal cannot be read.
    pub fn alarm(&self, number: i64) -> Result<JournalEntry, CommandError> {
        let found = self.shared.journal.get(number).map_err(CommandError::journal)?;
        found.ok_or_else(|| CommandError::argument("alarm", "the number of an alarm in the journal", number))
    }

    pub fn machine_id(&self, number: usize) -> Arc<str> {
        self.shared.monitor.id(number)
    }

    /// What the `settings` topic says of a machine now.
    pub fn settings(&self, number: usize) -> SettingsMsg {
        let state = self.shared.monitor.lock();
        settings_msg(self.shared, &state, number, &state.machines[number].settings, self.now)
    }

    /// The threshold that a machine is judged with now.
    pub fn threshold(&self, number: usize) -> Option<Effective> {
        let state = self.shared.monitor.lock();
        state.threshold_with(number, &state.machines[number].settings, self.now)
    }

    /// Somebody has set the false alarm rate of its lanes.
    pub fn has_own_rate(&self, number: usize) -> bool {
        self.shared.monitor.lock().machines[number].settings.false_alarm_rate.is_some()
    }

    /// Label of the running bundle.
    pub fn bundle_label(&self) -> Option<String> {
        self.shared.monitor.lock().loaded.as_ref().map(ActiveBundle::label)
    }

    /// The machine's own alarm parameters.
    pub fn alarm_config(&self, number: usize) -> AlarmConfig {
        self.shared.monitor.lock().machines[number].alarm.config().clone()
    }

    /// A machine's windows of the last 24 hours, oldest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn last_day(&self, number: usize) -> Result<Vec<Entry>, CommandError> {
        let from = self.now - TimeDelta::hours(24);
        let id = self.machine_id(number);
        let stored =
            self.store.distances(&id, from).map_err(|error| CommandError::new(Code::Failed, error.to_string()))?;
        let waiting = self.shared.history.waiting(&id);
        let all = stored.into_iter().flat_map(|chunk| chunk.entries).chain(waiting);
        let day = from.timestamp_millis()..=self.now.timestamp_millis();
        Ok(all.filter(|entry| day.contains(&entry.at_ms)).collect())
    }

    /// The bundle that was reloaded by its path, where one was.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn chosen_bundle(&self) -> Result<Option<PathBuf>, CommandError> {
        let chosen = self.store.chosen_bundle().map_err(|error| CommandError::new(Code::Failed, error.to_string()))?;
        Ok(chosen.map(PathBuf::from))
    }

    /// How long a machine ran, stood still and could not be heard, and since when that is counted.
    fn hours(&self, machine: &str) -> Option<Value> {
        let Counted { hours, since_s } = self.shared.trend.counted(machine)?;
        let in_hours = |seconds: f64| (seconds / 3.6).round() / 1000.0;
        let since = since_s.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).map(Timestamp::from);
        Some(json!({
            "running": in_hours(hours.running_s), "standing": in_hours(hours.standing_s),
            "unheard": in_hours(hours.unheard_s), "since": since,
        }))
    }

    /// Everything that `state.get` answers.
    pub fn state(&self) -> Value {
        let state = self.shared.monitor.lock();
        let bundle = state.loaded.as_ref().map(|loaded| {
            let bundle = &loaded.bundle;
            // The demo's machines are nobody's.
            let known: &[_] = if self.shared.config.bundle.is_demo(&bundle.dir) { &[] } else { &bundle.machines[..] };
            json!({
                "label": loaded.label(), "name": bundle.name, "version": bundle.version, "digest": bundle.digest,
                "dir": bundle.dir, "engine": loaded.engine(),
                "machines": known.iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(),
            })
        });
        let machines = state.machines.iter().map(|(number, machine)| {
            let last = machine.last.as_ref();
            let alarm = machine.alarm.status();
            json!({
                "machine": machine.config.id,
                "model": machine.config.model(),
                "settings": settings_msg(self.shared, &state, number, &machine.settings, self.now),
                "verdict": last.map(|last| last.verdict),
                "reason": last.and_then(|last| last.reason),
                "distance": last.and_then(|last| last.distance),
                "level_dbfs": last.map(|last| last.level_dbfs),
                "alarm": {
                    "state": alarm.state, "kind": alarm.kind, "since": Timestamp::from(alarm.since), "count": alarm.count,
                    "text": alarm.sentence(last.and_then(|last| last.reason)),
                },
                "baseline": {
                    "in_use": state.loaded.as_ref().and_then(|loaded| loaded.baseline(number))
                        .map(|(baseline, _)| messages::baseline_facts(&machine.config.id, baseline)),
                    "proposal": machine.learning.proposal.as_ref().map(|it| messages::baseline_facts(&machine.config.id, it)),
                    "provisional": state.loaded.as_ref().and_then(|loaded| loaded.provisional(number)).map(provisional_msg),
                    "learning": machine.learning.learner.as_ref().map(|it| messages::describe_progress(&it.progress()).1),
                    "problem": state.loaded.as_ref().and_then(|loaded| loaded.baseline_problem(number))
                        .or(machine.learning.failed.as_deref()),
                },
                "hours": self.hours(&machine.config.id),
                "windows": machine.counts.windows,
                "assessed": machine.counts.assessed,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "boot": self.shared.boot,
            "uptime_s": self.shared.started.elapsed().as_secs(),
            "tags": self.shared.config.agent.tags,
            "bundle": bundle,
            "store_problem": self.shared.store_problem,
            "notify": self.shared.notify.status(),
            "machines": machines.collect::<Vec<_>>(),
        })
    }
}

/// Names the machines that there are; `or` says what else could have been given.
fn unknown_machine(state: &MonitorState, or: &str, found: &str) -> CommandError {
    let known: Vec<_> = state.machines.values().take(20).map(|machine| machine.config.id.as_str()).collect();
    let more = if state.machines.len() > known.len() { ", ..." } else { "" };
    let message = match known.is_empty() {
        true => format!("machine: this agent has none yet, found {found:?}"),
        false => format!("machine: expected one of {}{more}{or}, found {found:?}", known.join(", ")),
    };
    CommandError::new(Code::UnknownMachine, message)
}
