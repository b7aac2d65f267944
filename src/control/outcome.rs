//! What a command does: the answer, the change and how it is made, and what is then sent.

use std::path::PathBuf;

use serde_json::Value;

use super::error::CommandError;
use crate::monitor::MonitorState;
use crate::monitor::model::ActiveBundle;
use crate::monitor::settings::MachineSettings;
use crate::mqtt::payload::{EventKind, EventMsg, EvidenceMsg, SettingsMsg};
use crate::scoring::alarm;

/// Something to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To `<agent>/reply`: the encoded [`Reply`].
    Reply(Vec<u8>),
    /// Retained, to the machine's `settings`.
    Settings(SettingsMsg),
    /// To the machine's `event`, or the agent's.
    Event(EventMsg),
    /// To the machine's `evidence`.
    Evidence(EvidenceMsg),
    /// A machine's alarm changed with its maintenance.
    Alarm { machine: usize, change: alarm::Change },
    /// The agent's `info` names another bundle now.
    Info,
    /// The agent's health was asked for.
    Health,
}

/// What a command comes to.
pub enum Outcome {
    /// Nothing changes; this is the answer.
    Answer(Value),
    /// Nothing changes; the agent's health is published, then this is the answer.
    Health(Value),
    /// These settings change, now and together with the reply.
    Change(Change),
    /// The answer, and what goes to the machine's `evidence` topic.
    Evidence(Value, Vec<EvidenceMsg>),
    /// Something else changes.
    Act(Act),
    /// Another bundle is taken into use.
    Switch(Box<Switch>),
    /// It takes long and is done beside the other commands, one at a time; what it comes to follows.
    Job(Job),
}

/// Puts a change on the disk.
pub type Keep = Box<dyn FnOnce() -> Result<(), CommandError> + Send>;
/// Takes a change into use, while nothing is judged.
pub type Apply = Box<dyn FnOnce(&mut MonitorState) -> Vec<Output> + Send>;

/// A change that is more than settings, in the order in which it is made: [`Act::keep`], the reply on the disk,
/// [`Act::apply`]. A power cut in between finds the command unanswered: done again, it must come to the same.
pub struct Act {
    /// What the reply tells.
    pub data: Value,
    /// Numbers of machines and their new settings: written with the reply, in use before [`Act::apply`].
    pub settings: Vec<(usize, MachineSettings)>,
    /// Makes it last: on the disk when it returns. Where it fails, nothing has changed.
    pub keep: Keep,
    /// Takes it into use, between two windows, and says what to tell of it.
    pub apply: Apply,
}

/// A bundle that is ready to be switched to.
pub struct Switch {
    pub loaded: ActiveBundle,
    /// Makes it last: the link to it. On the disk when it returns.
    pub keep: Keep,
    /// The bundle to load at the next start; `None`: the configured one.
    pub choice: Option<PathBuf>,
    /// What the reply tells.
    pub data: Value,
    /// Tidies up, when the reply is on the disk.
    pub after: Box<dyn FnOnce() + Send>,
}

/// New settings of some machines.
pub struct Change {
    /// Number of the machine, its new settings, what to tell of it.
    pub machines: Vec<(usize, MachineSettings, String)>,
    pub kind: EventKind,
}

/// A job for the worker. It changes nothing that a running window depends on; what it comes to is done between two
/// windows, as what a short command comes to.
pub struct Job(pub(super) Box<dyn FnOnce() -> Result<Outcome, CommandError> + Send>);

impl Job {
    pub fn new(job: impl FnOnce() -> Result<Outcome, CommandError> + Send + 'static) -> Job {
        Job(Box::new(job))
    }
}
