//! The machines that the agent begins with: the configuration's, and those that commands added in earlier runs.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::AgentError;
use crate::audio::MachineInput;
use crate::config::{Config, MachineConfig};
use crate::control::store::{Commit, MachineRow, StateStore};
use crate::monitor::alarm_store::SavedAlarms;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::machine::{LearningState, Machine, Origin};
use crate::monitor::model::{ActiveBundle, Misfit, standard_window};
use crate::scoring::adaptation::Adaptation;

/// Who is to be heard, by number; those of the configuration's file come first.
pub struct Roster {
    pub machines: Vec<(MachineConfig, Origin)>,
    /// Added machines that are not there, and why.
    pub ignored: BTreeMap<String, String>,
    /// Machines that commands removed and that nobody added again.
    pub removed: BTreeSet<String>,
    /// Those that commands removed and that the configuration's file has.
    back: BTreeSet<String>,
}

impl Roster {
    /// The configuration's machines and the stored ones; where both have an id, the file's.
    pub fn read(config: &Config, store: &StateStore) -> Roster {
        let mut machines: Vec<_> = config.machine.iter().map(|machine| (machine.clone(), Origin::File)).collect();
        let stored = store.machines().unwrap_or_else(|error| {
            tracing::error!(%error, "the machines that were added remotely cannot be read");
            Default::default()
        });
        let mut ignored = BTreeMap::new();
        for (id, text) in stored.added {
            if config.machine.iter().any(|machine| machine.id == id) {
                ignored.insert(id, "the configuration's file has a machine of this id, which counts".to_owned());
                continue;
            }
            let machine = serde_json::from_str(&text).map_err(|error| error.to_string());
            let machine = machine.and_then(|machine: MachineConfig| {
                machine.check("machine", &config.gate, &config.alarm).map(|()| machine)
            });
            match machine {
                Ok(machine) => machines.push((machine, Origin::Command)),
                Err(problem) => drop(ignored.insert(id, problem)),
            }
        }
        for (machine, why) in &ignored {
            tracing::warn!(machine, "a machine that was added remotely is not there: {why}");
        }
        let there: BTreeSet<_> = machines.iter().map(|(machine, _)| machine.id.as_str()).collect();
        let (back, removed) = stored.removed.into_iter().partition(|id| there.contains(id.as_str()));
        Roster { machines, ignored, removed, back }
    }

    /// Keeps that machines are there again: else what is learned of them from now on would go with the first start on a file
    /// without them.
    pub fn keep_back(&self, store: &mut StateStore, now: DateTime<Utc>) {
        let machines: Vec<MachineRow> = self.back.iter().map(|id| MachineRow::Back { id }).collect();
        if !machines.is_empty()
            && let Err(error) = store.commit(&Commit { machines, ..Commit::default() }, now)
        {
            tracing::warn!(%error, "that machines are there again cannot be kept");
        }
    }

    /// What a bundle is opened for. A machine that was added remotely keeps no agent from starting.
    pub fn wanted(&self) -> impl Iterator<Item = (usize, &MachineConfig, Misfit)> {
        self.machines.iter().enumerate().map(|(number, (machine, origin))| {
            let misfit = match origin {
                Origin::File => Misfit::Refused,
                Origin::Command => Misfit::Unlearned,
            };
            (number, machine, misfit)
        })
    }

    /// What capture needs to know: of the file's machines, and of the others.
    pub fn inputs(&self, loaded: Option<&ActiveBundle>) -> (Vec<MachineInput>, Vec<MachineInput>) {
        let (mut strict, mut waiting) = (Vec::new(), Vec::new());
        for (number, (machine, origin)) in self.machines.iter().enumerate() {
            let input = machine.input(number, window_of(loaded, number));
            match origin {
                Origin::File => strict.push(input),
                Origin::Command => waiting.push(input),
            }
        }
        (strict, waiting)
    }

    /// The machines, each as the last run left it.
    ///
    /// # Errors
    /// Alarm settings that are none.
    pub fn restore(
        &self,
        config: &Config,
        store: &StateStore,
        loaded: Option<&ActiveBundle>,
        mut saved: SavedAlarms,
        baselines: &BaselineStore,
        now: DateTime<Utc>,
    ) -> Result<Vec<Machine>, AgentError> {
        let mut settings = store.settings().unwrap_or_else(|error| {
            tracing::error!(%error, "what was set remotely cannot be read");
            BTreeMap::new()
        });
        // Also what a removal left behind that a power cut interrupted.
        for id in &self.removed {
            if let Err(error) = baselines.remove_machine(id, 0) {
                tracing::warn!(machine = id, %error, "what was learned of a machine that was removed is still there");
            }
        }
        let mut adaptations = store.adaptations().unwrap_or_else(|error| {
            tracing::error!(%error, "what recurs daily cannot be read: it is found anew");
            BTreeMap::new()
        });
        let machines = self.machines.iter().enumerate().map(|(number, (machine, origin))| {
            let alarm = machine.alarm(&config.alarm).map_err(AgentError::Config)?;
            let settings = settings.remove(&machine.id).unwrap_or_default();
            let mut alarm = saved.restore(&machine.id, alarm, now);
            let baseline = loaded.and_then(|loaded| loaded.baseline(number));
            alarm.calibrate(baseline.and_then(|(baseline, _)| baseline.slow()));
            let learning = LearningState::restore(baselines, &machine.id);
            let adaptation = adaptations.remove(&machine.id).map(|text| Adaptation::from_json(&text)).transpose();
            let adaptation = adaptation.unwrap_or_else(|problem| {
                tracing::error!(machine = machine.id, problem, "what recurs daily cannot be read: it is found anew");
                None
            });
            let mut restored = Machine::new(machine.clone(), *origin, settings, alarm, learning, now);
            restored.adaptation = adaptation.unwrap_or_default();
            Ok(restored)
        });
        machines.collect()
    }
}

/// What capture needs to know of the configuration's machines.
pub fn inputs(config: &Config, loaded: Option<&ActiveBundle>) -> Vec<MachineInput> {
    let machines = config.machine.iter().enumerate();
    machines.map(|(number, machine)| machine.input(number, window_of(loaded, number))).collect()
}

/// Rate in Hz and samples of a machine's window; the standard front-end's where there is no bundle.
fn window_of(loaded: Option<&ActiveBundle>, number: usize) -> (u32, usize) {
    match loaded {
        Some(loaded) => loaded.window_of(number),
        None => standard_window(),
    }
}
