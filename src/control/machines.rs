//! What changes the machines while the agent runs: one is added, changed, removed. The others go on without losing a
//! window.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::error::CommandError;
use super::messages::{event, settings_msg};
use super::output::Output;
use super::shared::Shared;
use super::store::{Commit, MachineRow};
use super::transaction::Transaction;
use crate::audio::capture::Prepared;
use crate::config::MachineConfig;
use crate::monitor::MonitorState;
use crate::monitor::baseline_switch::{Switch, Switches, warn};
use crate::monitor::machine::Machine;
use crate::monitor::model::MachineSetup;
use crate::monitor::settings::MachineSettings;
use crate::mqtt::payload::EventKind;
use crate::scoring::alarm::{Alarm, AlarmConfig};

/// Adds a machine.
pub struct AddMachine {
    pub shared: Arc<Shared>,
    /// Its number will be the next one.
    pub machine: Option<Box<Machine>>,
    pub setup: Option<MachineSetup>,
    pub prepared: Option<Prepared>,
    pub row: Row,
    /// What was set of a machine of this id before.
    pub settings: MachineSettings,
    /// What was learned of a machine of this id that was removed may still be there.
    pub leftovers: bool,
    /// Who and why, for the event.
    pub why: String,
}

/// A machine as it is kept.
pub struct Row {
    pub id: String,
    /// As JSON.
    pub config: String,
}

impl Transaction for AddMachine {
    fn waits_for_jobs(&self) -> bool {
        true
    }

    fn persist(&mut self) -> Result<(), CommandError> {
        match self.leftovers {
            true => Ok(self.shared.baselines.remove_machine(&self.row.id, 0)?),
            false => Ok(()),
        }
    }

    fn rows(&self) -> Commit<'_> {
        let Row { id, config } = &self.row;
        let settings = vec![(id.as_str(), &self.settings)];
        Commit { settings, machines: vec![MachineRow::Put { id, config }], ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let Some(mut machine) = self.machine.take() else { return Vec::new() };
        let setup = self.setup.take();
        let baseline = setup.as_ref().and_then(MachineSetup::baseline);
        machine.alarm.calibrate(baseline.and_then(|baseline| baseline.slow()));
        let number = self.shared.monitor.add(state, *machine, setup);
        vec![
            Output::MachineAdded(number),
            Output::Info,
            Output::Settings(settings_msg(&self.shared, state, number, &self.settings, now)),
            event(&self.shared, number, EventKind::MachineAdded, self.why.clone(), None, now),
        ]
    }

    fn finish(mut self: Box<Self>) {
        if let Some(prepared) = self.prepared.take() {
            self.shared.capture.add(prepared);
        }
        tracing::info!("{}: the machine was added", self.row.id);
    }
}

/// Changes a machine that a command added.
pub struct ChangeMachine {
    pub shared: Arc<Shared>,
    pub number: usize,
    pub config: MachineConfig,
    pub alarm: AlarmConfig,
    pub setup: Option<MachineSetup>,
    /// It is heard in another way: it gets another number, and the old one goes.
    pub prepared: Option<Prepared>,
    /// The learner of this generation ends, because it would mix what it heard with something else.
    pub ends_learner: Option<u64>,
    pub switches: Switches,
    pub row: Row,
    /// What changed, who and why, for the event.
    pub detail: String,
}

impl Transaction for ChangeMachine {
    fn waits_for_jobs(&self) -> bool {
        true
    }

    fn persist(&mut self) -> Result<(), CommandError> {
        if self.ends_learner.is_some() {
            let id = self.shared.monitor.id(self.number);
            self.switches.begin(&self.shared.baselines, &id, Switch::default().learner(None))?;
        }
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        let Row { id, config } = &self.row;
        let machines = vec![MachineRow::Put { id, config }];
        Commit { machines, switches: self.switches.rows(), ..Commit::default() }
    }

    fn revert(&mut self) {
        self.switches.revert(&self.shared.baselines);
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let monitor = &self.shared.monitor;
        let number = match self.prepared.is_some() {
            true => monitor.renumber(state, self.number),
            false => self.number,
        };
        let setup = self.setup.take();
        let slow = setup.as_ref().and_then(MachineSetup::baseline).and_then(|baseline| baseline.slow());
        monitor.judge_by(state, number, setup);
        let machine = &mut state.machines[number];
        machine.config = self.config.clone();
        machine.alarm = Alarm::restore(self.alarm.clone(), machine.alarm.state().clone());
        machine.alarm.calibrate(slow);
        if self.ends_learner.is_some() {
            machine.learning.learner = None;
        }
        if self.prepared.is_some() {
            machine.forget_sound();
        }
        let settings = state.machines[number].settings.clone();
        vec![
            Output::MachineAdded(number),
            Output::Info,
            Output::Settings(settings_msg(&self.shared, state, number, &settings, now)),
            event(&self.shared, number, EventKind::MachineChanged, self.detail.clone(), None, now),
        ]
    }

    fn finish(mut self: Box<Self>) {
        self.switches.finish(&self.shared.baselines);
        if let Some(generation) = self.ends_learner {
            // What was noted of it meanwhile goes too.
            warn(&self.row.id, self.shared.baselines.end_learner(&self.row.id, generation));
        }
        if let Some(prepared) = self.prepared.take() {
            // The new one first: on the same device neither closes it.
            self.shared.capture.add(prepared);
            self.shared.capture.remove(self.number);
        }
        tracing::info!("{}: the machine was changed", self.row.id);
    }
}

/// Removes a machine that a command added, with all that was set and learned of it.
pub struct RemoveMachine {
    pub shared: Arc<Shared>,
    pub number: usize,
    pub id: Arc<str>,
    /// Of its learner, running or not.
    pub generation: u64,
    /// Who and why, for the event.
    pub why: String,
}

impl Transaction for RemoveMachine {
    fn waits_for_jobs(&self) -> bool {
        true
    }

    fn rows(&self) -> Commit<'_> {
        Commit { machines: vec![MachineRow::Remove { id: &self.id }], ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let event = event(&self.shared, self.number, EventKind::MachineRemoved, self.why.clone(), None, now);
        self.shared.monitor.remove(state, self.number);
        vec![event, Output::MachineRemoved(self.id.clone()), Output::Info, Output::Alarms]
    }

    fn finish(self: Box<Self>) {
        self.shared.capture.remove(self.number);
        self.shared.history.forget(&self.id);
        self.shared.trend.forget(&self.id);
        self.shared.evidence.forget(self.number);
        self.shared.clips.remove_machine(&self.id);
        // Where that fails, or a power cut comes first, the next start does it: the machine is known as removed.
        warn(&self.id, self.shared.baselines.remove_machine(&self.id, self.generation));
        tracing::info!("{}: the machine was removed", self.id);
    }
}
