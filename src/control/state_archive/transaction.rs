//! The command that imports: the archive is in its place before the reply is, and the agent starts anew.

use chrono::{DateTime, Utc};

use super::import::Staged;
use crate::control::error::CommandError;
use crate::control::output::Output;
use crate::control::pieces::Pieces;
use crate::control::transaction::Transaction;
use crate::monitor::MonitorState;

/// Puts an archive that was checked where the next start takes it.
pub struct ImportState {
    pub staged: Staged,
    /// Of the archive, no longer needed then.
    pub pieces: Pieces,
}

impl Transaction for ImportState {
    fn persist(&mut self) -> Result<(), CommandError> {
        Ok(self.staged.place()?)
    }

    fn revert(&mut self) {
        if let Err(error) = self.staged.revoke() {
            tracing::error!(%error, "an import that was refused is taken at the next start all the same");
        }
    }

    fn apply(&mut self, _: &mut MonitorState, _: DateTime<Utc>) -> Vec<Output> {
        vec![Output::Restart]
    }

    fn finish(self: Box<Self>) {
        self.pieces.forget();
        tracing::warn!(from = self.staged.contents.manifest.agent, "a state was imported: the agent restarts");
    }
}
