//! What a machine is scored with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};
use crate::scoring::Judge;
use crate::scoring::adaptation::WidenedHour;
use crate::scoring::threshold::ThresholdSource;

/// `<agent>/<machine>/settings`, retained: what the machine is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsMsg {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    pub machine: String,
    /// Limit of the distance; null without a bundle.
    pub threshold: Option<f64>,
    /// Where the threshold comes from.
    pub source: ThresholdSource,
    /// What decides over a window: the distance, or all lanes together, where a baseline was learned.
    pub judge: Judge,
    /// Share of normal windows that all lanes together may call anomalous; null where the distance decides. Version 0.1
    /// does not say it.
    #[serde(default)]
    pub false_alarm_rate: Option<f64>,
    /// When the learning of the baseline in use began; null where there is none.
    pub baseline: Option<String>,
    /// What has been learned until now judges, while learning goes on; null where it does not. Older agents do not say so.
    #[serde(default)]
    pub provisional: Option<Provisional>,
    /// What recurs daily and was let in; null where `adapt` is off. Older agents do not say so.
    #[serde(default)]
    pub adaptation: Option<AdaptationMsg>,
    /// Counts the changes of this machine's settings.
    pub revision: u64,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// When the override ends; null when it stays.
    pub until: Option<Timestamp>,
    /// Name and version of the bundle in use.
    pub bundle: Option<String>,
    /// The bundle that the override was set under, where another one runs now; null otherwise.
    pub made_for: Option<String>,
    /// Windows are not judged, because somebody works on the machine.
    pub maintenance: bool,
    /// When the maintenance ends by itself.
    pub maintenance_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

/// A baseline that is not whole yet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provisional {
    /// Windows that it was made from.
    pub windows: u64,
    /// Normal running that was heard when it was made, s.
    pub heard_s: f64,
    /// Normal running that is wanted for the whole one, s.
    pub wanted_s: f64,
}

/// What a machine was found to do daily.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdaptationMsg {
    /// Days that are remembered, 14 at most.
    pub days: usize,
    /// Hours of the day, of UTC, whose tail is wider; all others are judged as learned.
    pub hours: Vec<WidenedHour>,
}
