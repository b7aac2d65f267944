//! What was told and what waits, on disk: `notify.json` in the state directory, replaced in one step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::PlanState;
use crate::fs;

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The agent runs, or has ended without being stopped.
    pub running: bool,
    /// By the targets' names.
    pub targets: BTreeMap<String, PlanState>,
}

/// The file.
pub struct SavedFile {
    path: PathBuf,
    /// So that a failing disk is logged once.
    failing: bool,
}

impl SavedFile {
    /// Reads what an earlier run left. A file that cannot be read is set aside; what stands is then told again.
    pub fn open(state_dir: &Path) -> (SavedFile, Saved) {
        let path = state_dir.join("notify.json");
        let saved = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                let moved = std::fs::rename(&path, path.with_extension("json.broken"));
                tracing::error!(file = %path.display(), %error, ?moved, "what was told is lost: it is told again");
                Saved::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "what was told cannot be read: it is told again");
                Saved::default()
            }
        };
        (SavedFile { path, failing: false }, saved)
    }

    pub fn is_failing(&self) -> bool {
        self.failing
    }

    pub fn save(&mut self, saved: &Saved) {
        let written =
            serde_json::to_vec(saved).map_err(io::Error::from).and_then(|text| fs::replace(&self.path, &text));
        if let Err(error) = &written
            && !self.failing
        {
            tracing::error!(file = %self.path.display(), %error, "what was told cannot be kept: it goes on in memory");
        }
        self.failing = written.is_err();
    }
}
