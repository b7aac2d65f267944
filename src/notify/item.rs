//! What stands about machines and agent, and what is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::notify::NotifyEvent;
use crate::scoring::Why;
use crate::scoring::alarm::{AlarmState, AlarmStatus, Kind};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub kind: NotifyEvent,
    pub since: DateTime<Utc>,
    /// Somebody takes care of it.
    pub acknowledged: bool,
    pub why: Option<Why>,
    /// Windows that were counted as evidence of it.
    pub count: u64,
    /// What else is known, as of a microphone that is not heard.
    pub detail: Option<String>,
    /// How long the broker has been away.
    pub lasted: Option<Duration>,
}

/// How a machine, or the agent itself, is.
#[derive(Debug, Clone, PartialEq)]
pub enum Now {
    Calm {
        since: DateTime<Utc>,
    },
    Standing(Standing),
    /// Shelved or in maintenance: nothing is told of it, neither that it begins nor that it ends.
    Hidden,
}

impl Now {
    /// `detail`: why a machine is not heard.
    pub fn of_alarm(status: &AlarmStatus, detail: Option<String>) -> Now {
        let kind = match (status.state, status.kind) {
            (AlarmState::Shelved, _) => return Now::Hidden,
            (AlarmState::Normal, _) | (_, None) => return Now::Calm { since: status.since },
            (_, Some(Kind::Fault)) => NotifyEvent::Fault,
            (_, Some(Kind::Wear)) => NotifyEvent::Wear,
            (_, Some(Kind::Deaf)) => NotifyEvent::Deaf,
        };
        Now::Standing(Standing {
            kind,
            since: status.since,
            acknowledged: status.state == AlarmState::Acknowledged,
            why: status.why.clone(),
            count: status.count,
            detail: detail.filter(|_| kind == NotifyEvent::Deaf),
            lasted: None,
        })
    }
}

/// A machine's id; `None`: the agent itself.
pub type Subject = Option<String>;

/// Everything that could be told, by whom it is about.
pub type Situation = BTreeMap<Subject, Known>;

/// What is known of a machine or the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What people call it.
    pub name: String,
    pub now: Now,
}

/// What an item tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Raised,
    /// Nobody has acknowledged it.
    Repeated,
    Cleared,
    Restarted,
}

/// One thing that one target is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub ts: Timestamp,
    pub event: Phase,
    pub kind: NotifyEvent,
    pub machine: Subject,
    pub name: String,
    /// When it began.
    pub since: Timestamp,
    pub title: String,
    pub text: String,
    pub urgent: bool,
    #[serde(flatten)]
    pub why: Why,
    pub count: u64,
}

/// How much a message presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Priority {
    Low,
    Normal,
    High,
    Urgent,
}

impl Item {
    pub fn priority(&self) -> Priority {
        match (self.event, self.kind) {
            _ if self.urgent && self.event != Phase::Cleared => Priority::Urgent,
            (Phase::Cleared, _) => Priority::Low,
            (_, NotifyEvent::Fault) => Priority::High,
            _ => Priority::Normal,
        }
    }
}

/// What is sent to one target at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub agent: String,
    pub title: String,
    pub text: String,
    pub priority: Priority,
    /// Where the page shows it.
    pub url: Option<String>,
    pub items: Vec<Item>,
}
