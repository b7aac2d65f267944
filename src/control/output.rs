//! What control hands to the agent to be sent.

use std::sync::Arc;
use std::time::Duration;

use crate::mqtt::payload::{EventMsg, EvidenceMsg, SettingsMsg};

/// Something to send.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To `<agent>/reply`: the encoded [`Reply`](crate::mqtt::payload::Reply).
    Reply(Vec<u8>),
    /// Retained, to the machine's `settings`.
    Settings(SettingsMsg),
    /// To the machine's `event`, or the agent's.
    Event(EventMsg),
    /// To the machine's `evidence`.
    Evidence(EvidenceMsg),
    /// Alarms have changed: the monitor has the changes, which are to be saved and published.
    Alarms,
    /// The agent's `info` says something else now.
    Info,
    /// The machine of this number is there: its alarm's state and what Home Assistant is told of it.
    MachineAdded(usize),
    /// The machine of this id is gone: its retained state is cleared.
    MachineRemoved(Arc<str>),
    /// The agent's health was asked for.
    Health,
    /// All that is retained is to be published again, at a moment within this time.
    Announce(Duration),
    /// The agent is to start anew.
    Restart,
}
