//! What control asks of those who tell people of alarms; `notify` answers it.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::notify::TargetKind;

/// Tells people.
pub trait Notify: Send + Sync {
    /// The targets, and how they fare.
    fn status(&self) -> Vec<TargetStatus>;

    /// Sends a test message to the target of this name, or to all. Blocks for as long as the network takes.
    ///
    /// # Errors
    /// When the next test may be, where the last one was a moment ago.
    fn test(&self, name: Option<&str>) -> Result<Vec<TestOutcome>, Duration>;
}

/// How one target fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStatus {
    pub name: String,
    pub kind: TargetKind,
    /// Items that wait to be told.
    pub waiting: usize,
    /// When a message was taken last, since the start.
    pub sent: Option<Timestamp>,
    /// Why the last one was not.
    pub problem: Option<String>,
}

impl TargetStatus {
    pub fn new(name: String, kind: TargetKind) -> TargetStatus {
        TargetStatus { name, kind, waiting: 0, sent: None, problem: None }
    }
}

/// What became of a test message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestOutcome {
    pub name: String,
    pub kind: TargetKind,
    pub sent: bool,
    pub problem: Option<String>,
}
