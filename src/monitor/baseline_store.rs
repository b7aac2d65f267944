//! Baselines on disk: what is in use, what is proposed and what is being learned, in `baselines/<machine>/` of the state
//! directory. Each file is replaced in one step.
//!
//! A baseline in use is kept by the encoder that made it: another bundle finds none, and the old one finds its own again.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::fs;
use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;

const PROPOSAL: &str = "proposal.json";
const LEARNING: &str = "learning.json";

/// The directory of all machines' baselines.
#[derive(Debug, Clone)]
pub struct BaselineStore {
    dir: PathBuf,
}

impl BaselineStore {
    pub fn new(state_dir: &Path) -> BaselineStore {
        BaselineStore { dir: state_dir.join("baselines") }
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

    /// # Errors
    /// As the disk has it; then the file is as it was.
    pub fn keep_learner(&self, machine: &str, learner: &Learner) -> io::Result<()> {
        let text = serde_json::to_vec(learner).expect("learned numbers are finite, keys are text");
        fs::replace(&self.file(machine, LEARNING), &text)
    }

    /// Keeps what was made of the windows heard, in place of them.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn keep_proposal(&self, machine: &str, proposal: &Baseline) -> io::Result<()> {
        fs::replace(&self.file(machine, PROPOSAL), proposal.to_json().as_bytes())?;
        fs::remove(&self.file(machine, LEARNING))
    }

    /// The proposal is in use from the next start on.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn keep_in_use(&self, machine: &str, baseline: &Baseline) -> io::Result<()> {
        fs::replace(&self.in_use_file(machine, &baseline.origin.encoder_sha256), baseline.to_json().as_bytes())?;
        fs::remove(&self.file(machine, PROPOSAL))
    }

    /// The baseline in use is a proposal again.
    ///
    /// # Errors
    /// As the disk has it.
    pub fn put_back(&self, machine: &str, baseline: &Baseline) -> io::Result<()> {
        fs::replace(&self.file(machine, PROPOSAL), baseline.to_json().as_bytes())?;
        fs::remove(&self.in_use_file(machine, &baseline.origin.encoder_sha256))
    }

    /// # Errors
    /// As the disk has it.
    pub fn drop_learner(&self, machine: &str) -> io::Result<()> {
        fs::remove(&self.file(machine, LEARNING))
    }

    /// # Errors
    /// As the disk has it.
    pub fn drop_proposal(&self, machine: &str) -> io::Result<()> {
        fs::remove(&self.file(machine, PROPOSAL))
    }

    /// # Errors
    /// As the disk has it.
    pub fn drop_in_use(&self, machine: &str, encoder_sha256: &str) -> io::Result<()> {
        fs::remove(&self.in_use_file(machine, encoder_sha256))
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
