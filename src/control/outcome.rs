//! What a command results in: the answer, the change, the job.

use std::time::Duration;

use serde_json::Value;

use super::error::CommandError;
use super::transaction::Transaction;
use crate::mqtt::payload::EvidenceMsg;

/// What a command results in.
pub enum Outcome {
    /// Nothing changes; this is the answer.
    Answer(Value),
    /// Nothing changes; the agent's health is published, then this is the answer.
    Health(Value),
    /// Nothing changes; within the time, all that is retained is published again.
    Announce(Value, Duration),
    /// The answer, and what goes to the machine's `evidence` topic.
    Evidence(Value, Vec<EvidenceMsg>),
    /// Something changes.
    Change(Change),
    /// It takes long and is done beside the other commands, one at a time; its outcome follows.
    Job(Job),
}

/// A change and the reply that confirms it.
pub struct Change {
    /// What the reply says.
    pub data: Value,
    pub transaction: Box<dyn Transaction>,
}

impl Outcome {
    /// A change, confirmed by a reply with `data`.
    pub fn change(data: Value, transaction: impl Transaction + 'static) -> Outcome {
        Outcome::Change(Change { data, transaction: Box::new(transaction) })
    }

    /// The same with a line for the person who asked, where there is one.
    #[must_use]
    pub fn with_note(mut self, note: Option<String>) -> Outcome {
        if let (Outcome::Change(Change { data: Value::Object(fields), .. }), Some(note)) = (&mut self, note) {
            fields.insert("note".to_owned(), note.into());
        }
        self
    }
}

/// A job for the worker. It changes nothing that a running window depends on; its outcome is applied between two
/// windows, like that of a short command.
pub struct Job(pub(super) Box<dyn FnOnce() -> Result<Outcome, CommandError> + Send>);

impl Job {
    pub fn new(job: impl FnOnce() -> Result<Outcome, CommandError> + Send + 'static) -> Job {
        Job(Box::new(job))
    }
}
