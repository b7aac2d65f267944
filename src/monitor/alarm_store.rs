//! Alarms on disk: `alarms.json` in the state directory, replaced in one step.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{AlarmChange, Monitor, MonitorState};
use crate::scoring::alarm::{Alarm, AlarmConfig, SavedAlarm, StatusChange};
use crate::state_files::{Lost, StateFiles};

/// Name of the file in the state directory.
pub const FILE: &str = "alarms.json";

/// The file. The writer's thread and control both write it, one after the other, and never with the monitor locked.
pub struct AlarmStore {
    files: StateFiles,
    /// Locked before the monitor and held until the file is written, so that an older state never replaces a newer one on
    /// disk.
    writing: Mutex<()>,
    /// Why the last attempt to write failed. Held for a moment only.
    problem: Mutex<Option<String>>,
    /// Alarms as [`AlarmStore::persist`] wrote them, by the machine's number, until the monitor has them too: whoever
    /// writes the file meanwhile must not undo them. Locked after the monitor, never while a file is written.
    pending: Mutex<BTreeMap<usize, SavedAlarm>>,
}

/// The alarms of an earlier run.
pub struct SavedAlarms(BTreeMap<String, SavedAlarm>);

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
    /// Reads the alarms of an earlier run. Where the file is lost they begin anew, and the last of the
    /// three says why.
    pub fn open(state_dir: &Path) -> (AlarmStore, SavedAlarms, Option<Lost>) {
        let files = StateFiles::new(state_dir);
        let (states, lost) = match files.read_json::<BTreeMap<_, _>>(FILE) {
            Ok(states) => (states.unwrap_or_default(), None),
            Err(Lost(problem)) => (BTreeMap::new(), Some(Lost(format!("alarms are lost: {problem}")))),
        };
        let store =
            AlarmStore { files, writing: Mutex::default(), problem: Mutex::default(), pending: Mutex::default() };
        (store, SavedAlarms(states), lost)
    }

    /// Writes every machine's alarm. Returns the changes that came since the last call, oldest first: they are on disk
    /// now, unless the disk fails, which is logged once.
    pub fn save(&self, monitor: &Monitor) -> Vec<AlarmChange> {
        let _writing = self.writing.lock();
        let (states, changes) = {
            let mut state = monitor.lock();
            (self.snapshot(&state), std::mem::take(&mut state.changes))
        };
        let was_failing = self.problem().is_some();
        if let Err(error) = self.write(&states)
            && !was_failing
        {
            let file = self.files.path(FILE);
            tracing::error!(file = %file.display(), %error, "alarms cannot be saved; they go on in memory");
        }
        changes
    }

    /// What somebody does about the alarms of the machines `numbers`: `act` on a copy of each, written before it counts.
    /// [`AlarmStore::apply`] or [`AlarmStore::revert`] must follow.
    ///
    /// # Errors
    /// Where nothing was changed: the error of `act` where it fails on all of them, or the disk's.
    pub fn persist<E: From<io::Error>>(
        &self,
        monitor: &Monitor,
        numbers: &[usize],
        act: impl Fn(&mut Alarm) -> Result<Option<StatusChange>, E>,
    ) -> Result<(), E> {
        let _writing = self.writing.lock();
        let states = {
            let state = monitor.lock();
            let (mut changed, mut refused) = (BTreeMap::new(), None);
            for &number in numbers {
                let mut alarm = state.machines[number].alarm.clone();
                match act(&mut alarm) {
                    Ok(_) => drop(changed.insert(number, alarm.state().clone())),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            if let (true, Some(error)) = (changed.is_empty(), refused) {
                return Err(error);
            }
            self.pending.lock().extend(changed);
            self.snapshot(&state)
        };
        Ok(self.write(&states)?)
    }

    /// Does to the alarms in the monitor what [`AlarmStore::persist`] wrote; windows that were scored in between count.
    /// Returns whether any changed.
    pub fn apply<E>(
        &self,
        state: &mut MonitorState,
        numbers: &[usize],
        act: impl Fn(&mut Alarm) -> Result<Option<StatusChange>, E>,
    ) -> bool {
        let mut pending = self.pending.lock();
        let mut changed = false;
        for &number in numbers.iter().filter(|number| pending.remove(number).is_some()) {
            // Refused where the alarm has cleared by itself meanwhile.
            if let Ok(change) = act(&mut state.machines[number].alarm) {
                changed |= state.note_alarm(number, change);
            }
        }
        changed
    }

    /// Writes the alarms as they are, without what [`AlarmStore::persist`] was to change.
    pub fn revert(&self, monitor: &Monitor, numbers: &[usize]) {
        let _writing = self.writing.lock();
        self.pending.lock().retain(|number, _| !numbers.contains(number));
        let states = self.snapshot(&monitor.lock());
        if let Err(error) = self.write(&states) {
            tracing::warn!(file = %self.files.path(FILE).display(), %error, "alarms on disk are not as they should be");
        }
    }

    /// The file's content, by the machine's id.
    fn snapshot(&self, state: &MonitorState) -> BTreeMap<String, SavedAlarm> {
        let pending = self.pending.lock();
        let machines = state.machines.iter();
        let state = |(number, machine): (usize, &super::machine::Machine)| {
            let state = pending.get(&number).unwrap_or_else(|| machine.alarm.state());
            (machine.config.id.clone(), state.clone())
        };
        machines.map(state).collect()
    }

    fn write(&self, states: &BTreeMap<String, SavedAlarm>) -> io::Result<()> {
        let text = serde_json::to_string(states).expect("states have string keys and no failing fields");
        let result = self.files.write(FILE, &text);
        *self.problem.lock() = result.as_ref().err().map(ToString::to_string);
        result
    }

    /// Why the alarms on disk are not those in memory, where the last attempt to write them failed.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::machine::{LearningState, Machine, Origin};
    use crate::monitor::settings::MachineSettings;
    use crate::scoring::alarm::AlarmState;
    use chrono::TimeDelta;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time")
    }

    fn monitor() -> Monitor {
        let machine = json!({ "id": "fan-1", "source": { "synth": "fan" } });
        let machine = Machine::new(
            serde_json::from_value(machine).expect("a machine"),
            Origin::File,
            MachineSettings::default(),
            Alarm::new(AlarmConfig::default(), now()),
            LearningState::default(),
            now(),
        );
        Monitor::new(None, vec![machine])
    }

    #[test]
    fn a_disk_that_fails_is_told_until_it_does_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, ..) = AlarmStore::open(dir.path());
        assert_eq!(store.problem(), None);
        std::fs::create_dir(dir.path().join(FILE)).expect("a directory in the file's place");
        store.save(&monitor());
        assert!(store.problem().is_some());
        std::fs::remove_dir(dir.path().join(FILE)).expect("an empty directory");
        store.save(&monitor());
        assert_eq!(store.problem(), None);
    }

    #[test]
    fn a_save_before_an_answer_counts_does_not_undo_it() {
        let (now, monitor) = (now(), monitor());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, ..) = AlarmStore::open(dir.path());
        let on_disk = || {
            let mut saved = AlarmStore::open(dir.path()).1;
            saved.restore("fan-1", AlarmConfig::default(), now).status().state
        };
        let shelve = |alarm: &mut Alarm| {
            let until = now + TimeDelta::hours(1);
            alarm.shelve("ana", None, until, now).map_err(io::Error::other)
        };
        store.persist(&monitor, &[0], shelve).expect("written");
        assert!(store.save(&monitor).is_empty(), "it does not count yet");
        assert_eq!(on_disk(), AlarmState::Shelved);
        assert!(store.apply(&mut monitor.lock(), &[0], shelve));
        assert_eq!(store.save(&monitor).len(), 1);
        assert_eq!(on_disk(), AlarmState::Shelved);

        let unshelve = |alarm: &mut Alarm| alarm.unshelve(now).map_err(io::Error::other);
        store.persist(&monitor, &[0], unshelve).expect("written");
        assert_eq!(on_disk(), AlarmState::Normal);
        store.revert(&monitor, &[0]);
        assert_eq!(on_disk(), AlarmState::Shelved, "the answer was not given after all");
        assert!(store.persist(&monitor, &[0], |_| Err(io::Error::other("refused"))).is_err());
        assert!(!store.apply(&mut monitor.lock(), &[0], unshelve), "nothing was persisted");
    }
}
