//! What was told and what waits, on disk: `notify.json` in the state directory, replaced in one step.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::PlanState;
use crate::state_files::{Lost, StateFiles};

const FILE: &str = "notify.json";

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
    files: StateFiles,
    /// So that a failing disk is logged once.
    failing: bool,
}

impl SavedFile {
    /// Reads what an earlier run left. Where the file is lost, what stands is told again.
    pub fn open(state_dir: &Path) -> (SavedFile, Saved) {
        let files = StateFiles::new(state_dir);
        let saved = files.read_json(FILE).unwrap_or_else(|Lost(problem)| {
            tracing::error!(problem, "the record of what was notified is lost: alarms are notified again");
            None
        });
        let saved = saved.unwrap_or_default();
        (SavedFile { files, failing: false }, saved)
    }

    pub fn is_failing(&self) -> bool {
        self.failing
    }

    pub fn save(&mut self, saved: &Saved) {
        let written = serde_json::to_string(saved).map_err(io::Error::from);
        let written = written.and_then(|text| self.files.write(FILE, &text));
        if let Err(error) = &written
            && !self.failing
        {
            let file = self.files.path(FILE);
            tracing::error!(file = %file.display(), %error, "the record of what was notified cannot be saved: it is kept in memory");
        }
        self.failing = written.is_err();
    }
}
