//! How a change is made: its files, the reply on disk, the change itself between two windows. Or not at all.

use chrono::{DateTime, Utc};

use super::error::CommandError;
use super::output::Output;
use super::store::{Commit, StateStore, StoreError};
use crate::monitor::{Monitor, MonitorState};

/// A change in steps, in the order in which [`make`] takes them. A power cut before the reply is on disk finds the
/// command unanswered: done again, it must come to the same.
pub trait Transaction: Send {
    /// Writes the files; they are on disk when it returns. Nothing counts yet.
    ///
    /// # Errors
    /// Why the change cannot be made; [`Transaction::revert`] follows.
    fn persist(&mut self) -> Result<(), CommandError> {
        Ok(())
    }

    /// The rows that are written in one SQLite transaction with the reply.
    fn rows(&self) -> Commit<'_> {
        Commit::default()
    }

    /// Must not be made while a job is under way, which has looked at what this changes.
    fn waits_for_jobs(&self) -> bool {
        false
    }

    /// Undoes [`Transaction::persist`], where that failed or the reply could not be written.
    fn revert(&mut self) {}

    /// Makes the change between two windows and says what to send. The monitor is locked: no file is touched here.
    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output>;

    /// Tidies up, when all is done.
    fn finish(self: Box<Self>) {}
}

/// Why a change was not made.
pub enum NotMade {
    Refused(CommandError),
    Reply(StoreError),
}

/// Makes a change, confirmed by `reply` to the command of that id, if it has one; what to send besides the reply.
///
/// # Errors
/// Where nothing was changed.
pub fn make(
    mut transaction: Box<dyn Transaction>,
    reply: Option<(&str, &str)>,
    store: &mut StateStore,
    monitor: &Monitor,
    now: DateTime<Utc>,
) -> Result<Vec<Output>, NotMade> {
    if let Err(error) = transaction.persist() {
        transaction.revert();
        return Err(NotMade::Refused(error));
    }
    let rows = transaction.rows();
    if let Err(error) = store.commit(&Commit { reply, ..rows }, now) {
        transaction.revert();
        return Err(NotMade::Reply(error));
    }
    let out = transaction.apply(&mut monitor.lock(), now);
    transaction.finish();
    Ok(out)
}
