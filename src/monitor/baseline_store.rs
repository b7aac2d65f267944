//! Baselines on disk: what is in use, what is proposed and what is being learned, in `baselines/<machine>/` of the state
//! directory. Each file is replaced in one step.
//!
//! A baseline in use is kept by the encoder that made it: another bundle finds none, and the old one finds its own again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::fs;
use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;

const PROPOSAL: &str = "proposal.json";
const LEARNING: &str = "learning.json";

/// The directory of all machines' baselines. One object for the whole agent.
///
/// Learners are written by another thread while commands end them. Each learner of this run has a generation, a
/// number that grows; what arrives for one that has ended is dropped, so that a discarded learner cannot come back.
#[derive(Debug)]
pub struct BaselineStore {
    dir: PathBuf,
    next_generation: AtomicU64,
    /// Up to which generation each machine's learners have ended. Held while a learner is written or removed.
    ended: Mutex<HashMap<String, u64>>,
}

impl BaselineStore {
    pub fn new(state_dir: &Path) -> BaselineStore {
        BaselineStore { dir: state_dir.join("baselines"), next_generation: AtomicU64::new(1), ended: Mutex::default() }
    }

    /// The generation of a learner that begins or goes on now.
    pub fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    fn file(&self, machine: &str, name: &str) -> PathBuf {
        self.dir.join(machine).join(name)
    }

    fn in_use_file(&self, machine: &str, encoder_sha256: &str) -> PathBuf {
        let short: String = encoder_sha256.chars().take(12).collect();
        self.file(machine, &format!("in-use-{short}.json"))
    }

    /// The machine's baseline that was taken into use under this encoder.
    pub fn in_use(&self, machine: &str, encoder_sha256: &str) -> Option<Baseline> {
        read(&self.in_use_file(machine, encoder_sha256), |text| Baseline::from_json(text).map_err(|e| e.to_string()))
    }

    /// Whether one is in use under any other encoder.
    pub fn has_foreign(&self, machine: &str) -> bool {
        let Ok(entries) = std::fs::read_dir(self.dir.join(machine)) else { return false };
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("in-use-"))
    }

    pub fn proposal(&self, machine: &str) -> Option<Baseline> {
        read(&self.file(machine, PROPOSAL), |text| Baseline::from_json(text).map_err(|e| e.to_string()))
    }

    pub fn learner(&self, machine: &str) -> Option<Learner> {
        read(&self.file(machine, LEARNING), json)
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
        let text = serde_json::to_vec(learner).expect("learned numbers are finite, keys are text");
        fs::replace(&self.file(machine, LEARNING), &text)
    }

    /// Removes the learner of this generation; it is not written again.
    ///
    /// # Errors
    /// Any I/O error; the learner may then be there again after a restart.
    pub fn end_learner(&self, machine: &str, generation: u64) -> io::Result<()> {
        let mut ended = self.ended.lock();
        ended.insert(machine.to_owned(), generation);
        fs::remove(&self.file(machine, LEARNING))
    }

    /// The learner of this generation has not ended after all.
    pub fn reopen_learner(&self, machine: &str, generation: u64) {
        self.ended.lock().insert(machine.to_owned(), generation - 1);
    }

    /// # Errors
    /// Any I/O error; the file is then unchanged.
    pub fn save_proposal(&self, machine: &str, proposal: &Baseline) -> io::Result<()> {
        fs::replace(&self.file(machine, PROPOSAL), proposal.to_json().as_bytes())
    }

    /// # Errors
    /// Any I/O error.
    pub fn remove_proposal(&self, machine: &str) -> io::Result<()> {
        fs::remove(&self.file(machine, PROPOSAL))
    }

    /// Takes a baseline into use, from the next start on.
    ///
    /// # Errors
    /// Any I/O error; the file is then unchanged.
    pub fn save_in_use(&self, machine: &str, baseline: &Baseline) -> io::Result<()> {
        fs::replace(&self.in_use_file(machine, &baseline.origin.encoder_sha256), baseline.to_json().as_bytes())
    }

    /// # Errors
    /// Any I/O error.
    pub fn remove_in_use(&self, machine: &str, baseline: &Baseline) -> io::Result<()> {
        fs::remove(&self.in_use_file(machine, &baseline.origin.encoder_sha256))
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Reads a file; one that is damaged is set aside, loudly.
fn read<T>(file: &Path, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        other => other.map_err(|error| error.to_string()),
    };
    match text.and_then(|text| parse(&text)) {
        Ok(found) => Some(found),
        Err(error) => {
            let moved = std::fs::rename(file, file.with_extension("json.broken"));
            tracing::error!(file = %file.display(), error, ?moved, "a baseline is lost: the file is set aside");
            None
        }
    }
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
        assert!(store.learner("fan-1").is_some());

        store.end_learner("fan-1", first).expect("removed");
        store.save_learner("fan-1", first, &learner).expect("dropped");
        assert!(store.learner("fan-1").is_none(), "a late snapshot of a learner that has ended");
        store.save_learner("fan-1", second, &learner).expect("written");
        assert!(store.learner("fan-1").is_some(), "the next one is another");

        store.end_learner("fan-1", second).expect("removed");
        store.reopen_learner("fan-1", second);
        store.save_learner("fan-1", first, &learner).expect("dropped");
        assert!(store.learner("fan-1").is_none());
        store.save_learner("fan-1", second, &learner).expect("written");
        assert!(store.learner("fan-1").is_some());
    }
}
