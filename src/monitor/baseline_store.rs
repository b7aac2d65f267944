//! Baselines on disk: what is in use, what is proposed and what is being learned, in `baselines/<machine>/` of the state
//! directory. Each file is replaced in one step; [`Switch`](super::baseline_switch::Switch) changes several in one.
//!
//! A baseline in use is kept by the encoder that made it: another bundle finds none, and the old one finds its own again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;
use crate::state_files::{Lost, StateFiles};

pub(super) const PROPOSAL: &str = "proposal.json";
pub(super) const LEARNING: &str = "learning.json";
/// And before the encoder's first digits: the one that is in use, and the one before it.
pub(super) const IN_USE: &str = "in-use-";
pub(super) const PREVIOUS: &str = "previous-";
const ENCODER_DIGITS: usize = 12;

/// The directory of all machines' baselines. One object for the whole agent.
///
/// Learners are written by another thread while commands end them. Each learner of this run has a generation, a
/// number that grows; what arrives for one that has ended is dropped, so that a discarded learner cannot come back.
#[derive(Debug)]
pub struct BaselineStore {
    pub(super) files: StateFiles,
    /// Machines whose last switch was decided, and could not be carried out yet.
    pub(super) unfinished: Mutex<HashSet<String>>,
    next_generation: AtomicU64,
    /// Up to which generation each machine's learners have ended. Held while a learner is written or removed.
    ended: Mutex<HashMap<String, u64>>,
}

impl BaselineStore {
    pub fn new(state_dir: &Path) -> BaselineStore {
        BaselineStore::of(StateFiles::new(state_dir))
    }

    /// For who only looks: damaged files stay where they are.
    pub fn read_only(state_dir: &Path) -> BaselineStore {
        BaselineStore::of(StateFiles::read_only(state_dir))
    }

    fn of(files: StateFiles) -> BaselineStore {
        BaselineStore {
            files,
            unfinished: Mutex::default(),
            next_generation: AtomicU64::new(1),
            ended: Mutex::default(),
        }
    }

    /// The generation of a learner that begins or goes on now.
    pub fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    /// The machine's baseline that was taken into use under this encoder.
    ///
    /// # Errors
    /// It is lost.
    pub fn in_use(&self, machine: &str, encoder_sha256: &str) -> Result<Option<Baseline>, Lost> {
        self.read(&in_use_name(machine, encoder_sha256), |text| Baseline::from_json(text).map_err(|e| e.to_string()))
    }

    /// Whether one is in use under any other encoder.
    pub fn has_foreign(&self, machine: &str) -> bool {
        let Ok(entries) = std::fs::read_dir(self.files.path(&format!("baselines/{machine}"))) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(IN_USE) && !name.contains(".corrupt-") && entry.path().is_file()
        })
    }

    /// # Errors
    /// It is lost.
    pub fn proposal(&self, machine: &str) -> Result<Option<Baseline>, Lost> {
        self.read(&name(machine, PROPOSAL), |text| Baseline::from_json(text).map_err(|e| e.to_string()))
    }

    /// # Errors
    /// It is lost.
    pub fn learner(&self, machine: &str) -> Result<Option<Learner>, Lost> {
        self.read(&name(machine, LEARNING), |text| {
            let learner: Learner = json(text)?;
            learner.check().map_err(|error| error.to_string()).map(|()| learner)
        })
    }

    /// The machines of which something is kept, and the names of their files.
    pub fn names(&self) -> Vec<(String, String)> {
        self.list(is_file_name)
    }

    /// The same of the baselines that were in use before the present ones.
    pub fn previous_names(&self) -> Vec<(String, String)> {
        self.list(|file| file.starts_with(PREVIOUS) && !file.contains(".corrupt-"))
    }

    fn list(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().collect::<Vec<_>>();
        let mut names = Vec::new();
        for machine in entries(&self.files.path("baselines")) {
            for file in entries(&machine.path()) {
                let file = file.file_name().to_string_lossy().into_owned();
                if is_meant(&file) {
                    names.push((machine.file_name().to_string_lossy().into_owned(), file));
                }
            }
        }
        names.sort();
        names
    }

    /// What is in one of [`BaselineStore::names`], if it is still there.
    ///
    /// # Errors
    /// It is damaged.
    pub fn text(&self, machine: &str, file: &str) -> Result<Option<String>, Lost> {
        self.files.read(&name(machine, file))
    }

    /// What may be put under such a name: checked, and as it is written here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked_text(file: &str, text: &str) -> Result<String, String> {
        match file {
            LEARNING => {
                let learner: Learner = json(text)?;
                learner.check().map_err(|error| error.to_string())?;
                serde_json::to_string(&learner).map_err(|error| error.to_string())
            }
            _ => Baseline::from_json(text).map(|baseline| baseline.to_json()).map_err(|error| error.to_string()),
        }
    }

    /// Puts a [`BaselineStore::checked_text`] in its place.
    ///
    /// # Errors
    /// Any I/O error; the file is then unchanged.
    pub fn put_text(&self, machine: &str, file: &str, text: &str) -> io::Result<()> {
        self.files.write(&name(machine, file), text)
    }

    fn read<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Lost> {
        let Some(text) = self.files.read(name)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|problem| self.files.give_up(name, &problem))
    }

    /// Writes a learner, unless it has ended.
    ///
    /// # Errors
    /// Any I/O error; the file is then unchanged.
    pub fn save_learner(&self, machine: &str, generation: u64, learner: &Learner) -> io::Result<()> {
        let ended = self.ended.lock();
        if ended.get(machine).is_some_and(|ended| generation <= *ended) {
            return Ok(());
        }
        let text = serde_json::to_string(learner).expect("learned numbers are finite, keys are text");
        self.files.write(&name(machine, LEARNING), &text)
    }

    /// Removes the learner of this generation; it is not written again.
    ///
    /// # Errors
    /// Any I/O error; the learner may then be there again after a restart.
    pub fn end_learner(&self, machine: &str, generation: u64) -> io::Result<()> {
        let mut ended = self.ended.lock();
        ended.insert(machine.to_owned(), generation);
        self.files.remove(&name(machine, LEARNING))
    }

    /// Removes the file of one of [`BaselineStore::names`].
    ///
    /// # Errors
    /// Any I/O error.
    pub fn remove_text(&self, machine: &str, file: &str) -> io::Result<()> {
        self.files.remove(&name(machine, file))
    }

    /// Removes everything of a machine; learners up to this generation are not written again.
    ///
    /// # Errors
    /// Any I/O error; some of it may then still be there.
    pub fn remove_machine(&self, machine: &str, generation: u64) -> io::Result<()> {
        let mut ended = self.ended.lock();
        ended.insert(machine.to_owned(), generation);
        let dir = self.files.path(&format!("baselines/{machine}"));
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            self.files.remove(&name(machine, &entry?.file_name().to_string_lossy()))?;
        }
        std::fs::remove_dir(dir)
    }

    /// The baseline that was in use before the present one under this encoder.
    ///
    /// # Errors
    /// It is lost.
    pub fn previous(&self, machine: &str, encoder_sha256: &str) -> Result<Option<Baseline>, Lost> {
        let name = encoder_name(PREVIOUS, machine, encoder_sha256);
        self.read(&name, |text| Baseline::from_json(text).map_err(|error| error.to_string()))
    }
}

/// A file's name below the state directory.
pub(super) fn name(machine: &str, file: &str) -> String {
    format!("baselines/{machine}/{file}")
}

/// Whether a baseline or learner may have this name in its machine's directory.
pub fn is_file_name(file: &str) -> bool {
    let hex = |text: &str| text.len() == ENCODER_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let in_use = file.strip_prefix(IN_USE).and_then(|rest| rest.strip_suffix(".json"));
    matches!(file, PROPOSAL | LEARNING) || in_use.is_some_and(hex)
}

fn in_use_name(machine: &str, encoder_sha256: &str) -> String {
    encoder_name(IN_USE, machine, encoder_sha256)
}

fn encoder_name(kind: &str, machine: &str, encoder_sha256: &str) -> String {
    name(machine, &encoder_file(kind, encoder_sha256))
}

/// The name of a file that belongs to an encoder.
pub(super) fn encoder_file(kind: &str, encoder_sha256: &str) -> String {
    let short: String = encoder_sha256.chars().take(ENCODER_DIGITS).collect();
    format!("{kind}{short}.json")
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FrontEnd;
    use crate::scoring::baseline::{LearnSettings, Origin};

    #[test]
    fn an_ended_learner_is_not_written_again() {
        let origin =
            Origin { bundle: "b@1".into(), encoder_sha256: "00".into(), index: 0, front_end: FrontEnd::default() };
        let settings = LearnSettings {
            machine: "fan-1".into(),
            origin,
            hop_s: 1.0,
            wanted_s: 60.0,
            false_alarm_rate: 0.01,
            previous_threshold: None,
        };
        let learner = Learner::new(settings, chrono::DateTime::UNIX_EPOCH).expect("a learner");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = BaselineStore::new(dir.path());
        let (first, second) = (store.new_generation(), store.new_generation());
        store.save_learner("fan-1", first, &learner).expect("written");
        assert!(store.learner("fan-1").expect("whole").is_some());

        let of_fan = |file: &str| vec![("fan-1".to_owned(), file.to_owned())];
        std::fs::write(dir.path().join("baselines/fan-1/previous-0123456789ab.json"), "{}").expect("a file");
        assert_eq!(store.names(), of_fan(LEARNING));
        assert_eq!(store.previous_names(), of_fan("previous-0123456789ab.json"), "it is not exported");

        store.end_learner("fan-1", first).expect("removed");
        store.save_learner("fan-1", first, &learner).expect("dropped");
        assert!(store.learner("fan-1").expect("whole").is_none(), "a late snapshot of a learner that has ended");
        store.save_learner("fan-1", second, &learner).expect("written");
        assert!(store.learner("fan-1").expect("whole").is_some(), "the next one is another");
    }
}
