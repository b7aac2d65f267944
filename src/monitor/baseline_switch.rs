//! A change of a machine's baselines in one step, whatever moment the power fails in.
//!
//! What the files shall hold is written to `switch.json` first; then the change is decided, in `state.db`, together with the
//! reply; then the files are replaced and `switch.json` goes. The next start finds one that is left over, and carries it
//! out where it was decided and drops it where it was not: no file is changed before the reply is on disk, and every file is
//! once it is.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::baseline_store::{BaselineStore, IN_USE, LEARNING, PREVIOUS, PROPOSAL, encoder_file, name};
use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;
use crate::sha256::check_sum;
use crate::state_files::Lost;

const FILE: &str = "switch.json";
/// It holds three files of a machine at most.
const MOST_BYTES: u64 = 256 << 20;

/// What a machine's files shall hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// It needs nobody's word.
    decided: bool,
    /// Names and contents, in this order; without content the file goes.
    files: Vec<(String, Option<String>)>,
}

impl Switch {
    /// One that counts from the moment on at which it is written.
    pub fn decided() -> Switch {
        Switch { decided: true, ..Switch::default() }
    }

    #[must_use]
    pub fn use_baseline(self, baseline: &Baseline) -> Switch {
        self.with(encoder_file(IN_USE, &baseline.origin.encoder_sha256), Some(baseline.to_json()))
    }

    /// The baseline that is in use under its encoder goes.
    #[must_use]
    pub fn out_of_use(self, baseline: &Baseline) -> Switch {
        self.with(encoder_file(IN_USE, &baseline.origin.encoder_sha256), None)
    }

    /// To go back to.
    #[must_use]
    pub fn previous(self, baseline: &Baseline) -> Switch {
        self.with(encoder_file(PREVIOUS, &baseline.origin.encoder_sha256), Some(baseline.to_json()))
    }

    #[must_use]
    pub fn proposal(self, baseline: Option<&Baseline>) -> Switch {
        self.with(PROPOSAL.into(), baseline.map(Baseline::to_json))
    }

    #[must_use]
    pub fn learner(self, learner: Option<&Learner>) -> Switch {
        let json = |learner| serde_json::to_string(learner).expect("learned numbers are finite, keys are text");
        self.with(LEARNING.into(), learner.map(json))
    }

    fn with(mut self, file: String, content: Option<String>) -> Switch {
        self.files.push((file, content));
        self
    }

    /// The first name that no file of a machine's baselines has.
    fn stranger(&self) -> Option<&str> {
        let is_own = |file: &str| {
            let of_encoder = |kind| file.strip_prefix(kind).and_then(|rest| rest.strip_suffix(".json"));
            let encoder = of_encoder(IN_USE).or_else(|| of_encoder(PREVIOUS));
            [PROPOSAL, LEARNING].contains(&file)
                || encoder.is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_alphanumeric()))
        };
        self.files.iter().map(|(file, _)| &**file).find(|file| !is_own(file))
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it is all text")
    }

    /// What the decision about it is known by.
    pub fn token(&self) -> String {
        check_sum(self.to_json())
    }
}

impl BaselineStore {
    /// Writes down what a machine's files shall hold; answers what the decision about it is known by. One that was decided
    /// and that the disk refused comes first.
    ///
    /// # Errors
    /// Any I/O error; nothing is changed then.
    fn begin_switch(&self, machine: &str, switch: &Switch) -> io::Result<String> {
        if self.unfinished.lock().contains(machine)
            && let Some(before) = self.left_over(machine).unwrap_or_else(|lost| {
                tracing::error!(machine, "{lost}");
                None
            })
        {
            self.finish_switch(machine, &before)?;
        }
        let json = switch.to_json();
        self.files.write(&name(machine, FILE), &json)?;
        Ok(check_sum(json))
    }

    /// It was not decided.
    fn drop_switch(&self, machine: &str) -> io::Result<()> {
        self.files.remove(&name(machine, FILE))
    }

    /// It was decided.
    fn finish_switch(&self, machine: &str, switch: &Switch) -> io::Result<()> {
        let done = self.carry_out(machine, switch).and_then(|()| self.drop_switch(machine));
        let mut unfinished = self.unfinished.lock();
        match &done {
            Ok(()) => drop(unfinished.remove(machine)),
            Err(_) => drop(unfinished.insert(machine.to_owned())),
        }
        done
    }

    fn carry_out(&self, machine: &str, switch: &Switch) -> io::Result<()> {
        switch.files.iter().try_for_each(|(file, content)| match content {
            Some(content) => self.files.write(&name(machine, file), content),
            None => self.files.remove(&name(machine, file)),
        })
    }

    fn left_over(&self, machine: &str) -> Result<Option<Switch>, Lost> {
        let name = name(machine, FILE);
        let lost = |Lost(problem)| Lost(format!("a change of the baselines of {machine} is lost: {problem}"));
        let Some(json) = self.files.read_own(&name, MOST_BYTES).map_err(lost)? else { return Ok(None) };
        let switch: Switch = self.files.parse(&name, &json).map_err(lost)?;
        match switch.stranger() {
            None => Ok(Some(switch)),
            Some(file) => {
                Err(lost(self.files.give_up(&name, &format!("expected files of its baselines, found {file:?}"))))
            }
        }
    }

    /// At the start: carries out what was decided before the power failed, and drops what was not. `was_decided` is asked with
    /// the machine and the token. Says what is lost.
    pub fn settle(&self, was_decided: impl Fn(&str, &str) -> bool) -> Option<Lost> {
        let mut all_lost = Vec::new();
        let dirs = std::fs::read_dir(self.files.path("baselines")).into_iter().flatten().flatten();
        for dir in dirs.filter(|dir| dir.path().join(FILE).exists()) {
            let machine = dir.file_name().to_string_lossy().into_owned();
            let switch = match self.left_over(&machine) {
                Ok(Some(switch)) => switch,
                Ok(None) => continue,
                Err(Lost(problem)) => {
                    all_lost.push(problem);
                    continue;
                }
            };
            let decided = switch.decided || was_decided(&machine, &switch.token());
            tracing::info!(machine, decided, "a change of its baselines was interrupted");
            warn(&machine, if decided { self.finish_switch(&machine, &switch) } else { self.drop_switch(&machine) });
        }
        (!all_lost.is_empty()).then(|| Lost(all_lost.join("; ")))
    }
}

/// The switches of one transaction, of some machines.
#[derive(Default)]
pub struct Switches(Vec<(Arc<str>, Switch, String)>);

impl Switches {
    /// Writes down what a machine's files shall hold.
    ///
    /// # Errors
    /// Any I/O error; nothing is changed.
    pub fn begin(&mut self, store: &BaselineStore, machine: &Arc<str>, switch: Switch) -> io::Result<()> {
        let token = store.begin_switch(machine, &switch)?;
        self.0.push((machine.clone(), switch, token));
        Ok(())
    }

    /// Machines and what the decision about each is known by.
    pub fn rows(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(machine, _, token)| (&**machine, &**token)).collect()
    }

    /// They were not decided.
    pub fn revert(&mut self, store: &BaselineStore) {
        for (machine, ..) in self.0.drain(..) {
            warn(&machine, store.drop_switch(&machine));
        }
    }

    /// They were decided: the files follow.
    pub fn finish(&mut self, store: &BaselineStore) {
        for (machine, switch, _) in self.0.drain(..) {
            warn(&machine, store.finish_switch(&machine, &switch));
        }
    }
}

/// A file that is not as it should be after a change was undone or done.
pub fn warn(id: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(machine = id, %error, "a baseline's files are not as they should be");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAN: &str = "fan-1";

    fn switch() -> Switch {
        Switch::default()
            .with("previous-00.json".into(), Some(r#"{"learned":"a"}"#.into()))
            .with("in-use-00.json".into(), Some(r#"{"learned":"b"}"#.into()))
            .with(PROPOSAL.into(), None)
    }

    /// A machine with a baseline in use and one that waits.
    fn laid() -> (tempfile::TempDir, BaselineStore) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = BaselineStore::new(dir.path());
        store.put_text(FAN, "in-use-00.json", r#"{"learned":"a"}"#).expect("written");
        store.put_text(FAN, PROPOSAL, r#"{"learned":"b"}"#).expect("written");
        (dir, store)
    }

    fn read(store: &BaselineStore) -> [Option<String>; 4] {
        ["previous-00.json", "in-use-00.json", PROPOSAL, "switch.json"]
            .map(|file| store.text(FAN, file).expect("whole").map(|text| text.replace(r#"{"learned":"#, "")))
    }

    fn after() -> [Option<String>; 4] {
        [Some("\"a\"}".into()), Some("\"b\"}".into()), None, None]
    }

    fn before() -> [Option<String>; 4] {
        [None, Some("\"a\"}".into()), Some("\"b\"}".into()), None]
    }

    #[test]
    fn what_was_decided_is_carried_out_whatever_was_done_of_it_and_what_was_not_is_dropped() {
        for done in 0..=3 {
            let (dir, store) = laid();
            store.begin_switch(FAN, &switch()).expect("written");
            let part = Switch { files: switch().files[..done].to_vec(), ..switch() };
            store.carry_out(FAN, &part).expect("written");
            // The next run.
            let store = BaselineStore::new(dir.path());
            assert_eq!(store.settle(|machine, token| machine == FAN && token == switch().token()), None);
            assert_eq!(read(&store), after(), "{done} of three files were replaced");
            assert_eq!(store.settle(|_, _| true), None);
            assert_eq!(read(&store), after(), "there is nothing left to do");
        }
        let (dir, store) = laid();
        store.begin_switch(FAN, &switch()).expect("written");
        let store = BaselineStore::new(dir.path());
        assert_eq!(store.settle(|_, token| token == Switch::decided().token()), None);
        assert_eq!(read(&store), before());
        store.begin_switch(FAN, &Switch { decided: true, ..switch() }).expect("written");
        assert_eq!(store.settle(|_, _| false), None);
        assert_eq!(read(&store), after(), "it needs nobody's word");
    }

    #[test]
    fn in_one_run_a_switch_is_finished_or_dropped() {
        let (_dir, store) = laid();
        let mut switches = Switches::default();
        switches.begin(&store, &FAN.into(), switch()).expect("written");
        assert_eq!(switches.rows(), [(FAN, switch().token().as_str())]);
        switches.revert(&store);
        assert_eq!(read(&store), before());
        switches.begin(&store, &FAN.into(), switch()).expect("written");
        switches.finish(&store);
        assert_eq!((read(&store), switches.rows()), (after(), vec![]));
    }

    #[test]
    fn one_that_the_disk_refused_to_finish_comes_before_the_next() {
        let (dir, store) = laid();
        store.begin_switch(FAN, &switch()).expect("written");
        let blocked = dir.path().join("baselines/fan-1/previous-00.json");
        std::fs::create_dir(&blocked).expect("a directory");
        assert!(store.finish_switch(FAN, &switch()).is_err());
        let next = Switch::default().with(LEARNING.into(), None);
        assert!(store.begin_switch(FAN, &next).is_err(), "nothing is put on top of it");
        std::fs::remove_dir(&blocked).expect("removed");
        store.begin_switch(FAN, &next).expect("written");
        store.finish_switch(FAN, &next).expect("written");
        assert_eq!(read(&store), after());
    }

    #[test]
    fn a_damaged_one_is_said_and_one_of_other_files_is_not_carried_out() {
        for content in [
            "garbage".to_owned(),
            // As version 0.1 wrote files, which wrote none of these.
            r#"{"decided":true,"files":[["in-use-00.json",null]]}"#.to_owned(),
            crate::state_files::seal(
                "baselines/fan-1/switch.json",
                r#"{"decided":true,"files":[["../../../victim.json",null]]}"#,
            ),
            crate::state_files::seal(
                "baselines/fan-1/switch.json",
                r#"{"decided":true,"files":[["agent.lock",null]]}"#,
            ),
        ] {
            let (dir, store) = laid();
            std::fs::write(dir.path().join("baselines/fan-1/switch.json"), &content).expect("written");
            let lost = store.settle(|_, _| true).unwrap_or_else(|| panic!("{content} is taken"));
            assert!(lost.to_string().contains("a change of the baselines of fan-1 is lost"), "{lost}");
            assert_eq!(read(&store), before());
            assert_eq!(store.settle(|_, _| true), None, "it is said once");
        }
    }
}
