//! The alarm of a machine over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};
use crate::scoring::alarm::{AlarmState, Kind};
use crate::scoring::{BandDifference, Lane};

/// `<agent>/<machine>/alarm`: of one machine over time. The newest is retained; late ones tell the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmMsg {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    pub machine: String,
    pub state: AlarmState,
    /// What the alarm is about; null when nothing stands.
    pub kind: Option<Kind>,
    /// When what is shown began: the alarm, also where somebody has acknowledged it since, the shelving, the maintenance, the
    /// calm.
    pub since: Timestamp,
    /// Windows that were evidence of the alarm, since shortly before it was raised; once it has cleared, in all.
    pub count: u64,
    /// The window that raised it: its distance as a multiple of the threshold; null where nothing stands.
    pub ratio: Option<f64>,
    /// Share of normal windows that have a smaller distance, %, as the baseline's are distributed; null without a learned
    /// baseline.
    pub percentile: Option<f64>,
    /// The lane that was the most surprised; null without a learned baseline.
    pub lane: Option<Lane>,
    /// The frequencies that differ most from the nearest normal windows, at most three ranges, the strongest first;
    /// empty without a learned baseline.
    pub bands: Vec<BandDifference>,
    /// One line for a person: lane, ratio, frequencies, how sure, how many windows when this was sent; null where nothing
    /// stands. Older agents do not say so.
    #[serde(default)]
    pub text: Option<String>,
    /// The fault of this machine that it sounds like, as somebody has named it: `like the bearing of 3 March 2026`; null where
    /// it sounds like none, or that is not sure. Older agents do not say so.
    #[serde(default)]
    pub like: Option<String>,
    /// Its number in the journal (`alarm.get`); null where nothing stands, or the journal cannot be written. Older agents do
    /// not say so.
    #[serde(default)]
    pub journal: Option<i64>,
    /// It was raised by what had been learned until then, while learning went on: wrong more often. Older agents do not say so.
    #[serde(default)]
    pub provisional: bool,
    /// Who acknowledged or shelved it.
    pub by: Option<String>,
    pub comment: Option<String>,
    /// When the shelving ends.
    pub until: Option<Timestamp>,
    /// When the alarm of `kind` was raised, also while it is acknowledged or shelved; null where none stands. Version 0.1
    /// does not say it.
    #[serde(default)]
    pub raised: Option<Timestamp>,
    /// When it was acknowledged or shelved; null where it is neither. Version 0.1 does not say it.
    #[serde(default)]
    pub at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    pub late: bool,
}
