//! What an alarm shows, and why it refuses a person's wish.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::numbers::counted;
use crate::scoring::why::Why;
use crate::window::Reason;

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

impl Kind {
    /// As it is written everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Fault => "fault",
            Kind::Wear => "wear",
            Kind::Deaf => "deaf",
        }
    }

    /// What such a word stands for.
    pub fn of_word(word: &str) -> Option<Kind> {
        [Kind::Fault, Kind::Wear, Kind::Deaf].into_iter().find(|kind| kind.word() == word)
    }
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

impl AlarmStatus {
    /// The sentence that stands wherever a person looks, without since when, which each tells in its own way:
    /// `burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB; as unusual as 1 normal window in 3000; 14 windows`. `None` where
    /// nothing stands. `reason`: why the machine cannot be assessed now.
    pub fn sentence(&self, reason: Option<Reason>) -> Option<String> {
        Some(sentence(self.kind?, self.why.as_ref(), self.count, reason))
    }
}

fn sentence(kind: Kind, why: Option<&Why>, count: u64, reason: Option<Reason>) -> String {
    let windows = (count > 0).then(|| counted(count, "window"));
    let what = match kind {
        Kind::Deaf => reason.map(|reason| reason.in_words().to_owned()),
        Kind::Fault | Kind::Wear => why.map(Why::to_string),
    };
    let why = why.filter(|_| kind != Kind::Deaf);
    let provisional = why.filter(|why| why.provisional).map(|_| "provisional, learning goes on".to_owned());
    let parts = [what.filter(|what| !what.is_empty()), why.and_then(Why::rarity), provisional, windows];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One alarm from its beginning to its end, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmRecord {
    pub kind: Kind,
    pub since: DateTime<Utc>,
    /// `None` while it stands.
    pub ended: Option<DateTime<Utc>>,
    /// Anomalous windows that count towards it.
    pub count: u64,
    /// In what its worst window differed.
    pub why: Option<Why>,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(Note, DateTime<Utc>)>,
}

impl AlarmRecord {
    /// As [`AlarmStatus::sentence`], of its worst window.
    pub fn sentence(&self) -> String {
        sentence(self.kind, self.why.as_ref(), self.count, None)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::Lane;

    fn status(kind: Option<Kind>, count: u64, why: Option<Why>) -> AlarmStatus {
        let (since, note) = (DateTime::UNIX_EPOCH, Note::default());
        AlarmStatus { state: AlarmState::Active, kind, since, raised: None, count, why, note, maintenance: false }
    }

    #[test]
    fn the_sentence_says_what_how_sure_and_how_often() {
        let why = Why { ratio: Some(2.31), lane: Some(Lane::Burst), p_value: Some(1e-4), ..Why::default() };
        let said =
            |kind, count, why, reason| status(Some(kind), count, why).sentence(reason).expect("something stands");
        assert_eq!(
            said(Kind::Fault, 14, Some(why.clone()), None),
            "burst, 2.3 x threshold; as unusual as 1 normal window in 10000; 14 windows"
        );
        let provisional = Why { provisional: true, p_value: None, ..why };
        assert_eq!(
            said(Kind::Fault, 1, Some(provisional), None),
            "burst, 2.3 x threshold; provisional, learning goes on; 1 window"
        );
        let deaf = said(Kind::Deaf, 120, None, Some(Reason::NoSignal));
        assert_eq!(deaf, format!("{}; 120 windows", Reason::NoSignal.in_words()));
        assert_eq!(said(Kind::Deaf, 3, None, None), "3 windows");
        assert_eq!(status(None, 7, None).sentence(None), None);
    }
}
