//! What an alarm shows, and why it refuses a person's wish.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scoring::why::Why;

/// State of a machine's alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlarmState {
    Normal,
    /// Raised, and nobody has answered.
    Active,
    /// Raised, and somebody takes care of it.
    Acknowledged,
    /// Hidden until a stated time, or in maintenance.
    Shelved,
}

/// What the alarm is about, the most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Fault,
    Wear,
    Deaf,
}

/// Who did something about the alarm, why, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    pub by: Option<String>,
    pub comment: Option<String>,
    pub until: Option<DateTime<Utc>>,
    /// When it was done; version 0.1 did not keep it.
    pub at: Option<DateTime<Utc>>,
}

/// What the `alarm` topic shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmStatus {
    pub state: AlarmState,
    /// What it is about: the most serious of what stands unacknowledged, or else of what stands. `None` when nothing does.
    pub kind: Option<Kind>,
    /// When what is shown began: the alarm, the shelving, the calm.
    pub since: DateTime<Utc>,
    /// When the alarm of `kind` was raised.
    pub raised: Option<DateTime<Utc>>,
    /// Windows that were evidence of the alarm of `kind`, since shortly before it was raised; once it has cleared, in all.
    pub count: u64,
    /// In what the window differed that raised it; `None` where nothing stands.
    pub why: Option<Why>,
    /// Who acknowledged or shelved it, why, until when.
    pub note: Note,
    /// Shelved because of maintenance.
    pub maintenance: bool,
}

/// The alarm's status has changed and must be published.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    pub from: AlarmStatus,
    pub to: AlarmStatus,
}

/// Why a person's wish was not done, and what to do instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AlarmError {
    #[error("there is no alarm to acknowledge")]
    NothingToAcknowledge,
    #[error("the alarm was already acknowledged by {0}")]
    AlreadyAcknowledged(String),
    #[error("until: expected a time after now and at most {0} s from now, found {1}")]
    BadEnd(f64, String),
    #[error("the alarm is not shelved")]
    NotShelved,
}
