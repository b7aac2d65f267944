//! Alarms on disk: `alarms.json` in the state directory, replaced in one step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::{Monitor, MonitorState};
use crate::fs;
use crate::scoring::alarm::{Alarm, AlarmConfig, Change, State};

/// The file. The judging thread and control both write it, one after the other.
pub struct AlarmStore {
    file: PathBuf,
    /// Whether the last attempt to write failed: said once, not at every window. Locked before the monitor, so that an
    /// older state never replaces a newer one on disk.
    failing: Mutex<bool>,
}

/// What an earlier run has kept.
pub struct SavedAlarms(BTreeMap<String, State>);

impl SavedAlarms {
    /// The alarm of a machine as it was left, under the settings of today.
    pub fn restore(&mut self, machine: &str, config: AlarmConfig, now: DateTime<Utc>) -> Alarm {
        match self.0.remove(machine) {
            Some(state) => Alarm::restore(config, state),
            None => Alarm::new(config, now),
        }
    }
}

impl AlarmStore {
    /// Reads what an earlier run has kept. A file that cannot be read is set aside, loudly: alarms then
    /// begin anew, and the last of the three says why.
    pub fn open(state_dir: &Path) -> (AlarmStore, SavedAlarms, Option<String>) {
        let file = state_dir.join("alarms.json");
        let mut lost = None;
        let states = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                lost = Some(format!("alarms: {}: {error}", file.display()));
                let aside = file.with_extension("json.broken");
                let moved = std::fs::rename(&file, &aside);
                tracing::error!(file = %file.display(), %error, ?moved, "alarms are lost: the file is set aside");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                lost = Some(format!("alarms: {}: {error}", file.display()));
                tracing::error!(file = %file.display(), %error, "alarms of the last run cannot be read");
                BTreeMap::new()
            }
        };
        (AlarmStore { file, failing: Mutex::new(false) }, SavedAlarms(states), lost)
    }

    /// Writes every machine's alarm; on disk when it returns, unless the disk fails, which is said once.
    pub fn keep(&self, monitor: &Monitor) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = states(&monitor.lock(), |_| None);
        match fs::replace(&self.file, &text) {
            Ok(()) => *failing = false,
            Err(error) => {
                if !*failing {
                    tracing::error!(file = %self.file.display(), %error, "alarms cannot be kept; they go on in memory");
                }
                *failing = true;
            }
        }
    }

    /// What somebody does about the alarms of the machines `numbers`: `act` on each, on disk before it counts. No
    /// window is judged meanwhile.
    ///
    /// # Errors
    /// Where nothing was changed: what `act` says where it fails on all of them, or the disk.
    pub fn change<E: From<io::Error>>(
        &self,
        monitor: &Monitor,
        numbers: &[usize],
        act: impl Fn(&mut Alarm) -> Result<Option<Change>, E>,
    ) -> Result<Vec<(usize, Option<Change>)>, E> {
        let _writing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = monitor.lock();
        let (mut changed, mut refused) = (BTreeMap::new(), None);
        for &number in numbers {
            let mut alarm = state.machines[number].alarm.clone();
            match act(&mut alarm) {
                Ok(change) => drop(changed.insert(number, (alarm, change))),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let (true, Some(error)) = (changed.is_empty(), refused) {
            return Err(error);
        }
        fs::replace(&self.file, &states(&state, |number| changed.get(&number).map(|(alarm, _)| alarm)))?;
        let done = changed.into_iter().map(|(number, (alarm, change))| {
            state.machines[number].alarm = alarm;
            (number, change)
        });
        Ok(done.collect())
    }
}

/// The file's content, with some alarms in place of those that stand.
fn states<'a>(state: &'a MonitorState, instead: impl Fn(usize) -> Option<&'a Alarm>) -> Vec<u8> {
    let machines = state.machines.iter().enumerate();
    let states: BTreeMap<_, _> = machines
        .map(|(number, machine)| (&machine.config.id, instead(number).unwrap_or(&machine.alarm).state()))
        .collect();
    serde_json::to_vec(&states).expect("states have string keys and no failing fields")
}
