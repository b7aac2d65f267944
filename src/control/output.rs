//! What control hands to the agent to be sent.

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
    /// The agent's `info` names another bundle now.
    Info,
    /// The agent's health was asked for.
    Health,
}
