//! How the agent and its machines are doing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};
use crate::window::Reason;

/// `<agent>/health`, every 60 s and on request; not stored, so a time without connection has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    pub boot: String,
    /// Seconds since this start.
    pub uptime_s: f64,
    /// Resident memory of the process, MiB.
    pub memory_mb: Option<f64>,
    /// Temperature of the CPU, degrees Celsius.
    pub cpu_temp_c: Option<f64>,
    /// Free room on the disk of the state directory, MiB.
    #[serde(default)]
    pub disk_free_mb: Option<f64>,
    #[serde(flatten)]
    pub mqtt: MqttHealth,
    /// Why the machines' past is not on disk; null where it is.
    #[serde(default)]
    pub trend_error: Option<String>,
    /// Why the alarms' journal cannot be written; null where it can.
    #[serde(default)]
    pub journal_error: Option<String>,
    /// Why the state of the alarms is not on disk and would not outlive a restart; null where it is. Older agents do not say
    /// so.
    #[serde(default)]
    pub alarms_error: Option<String>,
    /// Why the sound of the last alarm is not kept; null where it is. Older agents do not say so.
    #[serde(default)]
    pub evidence_error: Option<String>,
    /// Alarms of the last 30 days; null while the journal cannot be read. Older agents do not say so.
    #[serde(default)]
    pub alarms: Option<u64>,
    /// The same a day; null until it is read for how long the agent has listened.
    #[serde(default)]
    pub alarms_per_day: Option<f64>,
    /// Seconds until half of those that were acknowledged were; null without any.
    #[serde(default)]
    pub acknowledge_median_s: Option<f64>,
    /// Share of faults among those that somebody has answered, 0..1; null without any.
    #[serde(default)]
    pub alarm_fault_share: Option<f64>,
    /// One entry for each machine.
    pub machines: Vec<MachineHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

/// The part of [`Health`] that the outbox and the connection know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MqttHealth {
    /// Messages that wait for their acknowledgement.
    pub outbox_depth: u64,
    /// Bytes of the store on disk.
    pub outbox_bytes: u64,
    /// Where new messages wait.
    pub outbox_state: OutboxState,
    /// Why the outbox is not on disk.
    pub outbox_error: Option<String>,
    /// Messages that were given up unsent since the store was made: it was full, or they were too old.
    pub dropped: u64,
    /// Connections after the first since this start.
    pub reconnects: u64,
    /// Control messages that were not taken in since this start, because too many came at once.
    pub incoming_dropped: u64,
    /// What last went wrong with the connection.
    pub last_error: Option<String>,
    /// When the first of the agent's certificate and its authority's ends; null without TLS files.
    #[serde(default)]
    pub certificate_until: Option<Timestamp>,
    /// Version of MQTT that the connection speaks: 4 (which is 3.1.1) or 5; null without one. Older agents do not say so.
    #[serde(default)]
    pub mqtt_version: Option<u8>,
    /// Messages that the broker will never take (too large, topic not allowed) and that were given up since this start.
    #[serde(default)]
    pub refused: u64,
    /// Topics and subscriptions that the broker denies at present; what waits for them stays in the outbox.
    #[serde(default)]
    pub denied: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutboxState {
    /// On disk: nothing is lost by a power cut.
    #[default]
    Disk,
    /// In memory, bounded: the disk is full or broken.
    Memory,
}

/// One machine in [`Health`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineHealth {
    pub machine: String,
    /// State of the capture: `running`, `lost`, `ended`, ...
    pub capture: String,
    /// Why it is lost.
    pub capture_problem: Option<String>,
    /// Times that the capture lost samples since this start while its source was there.
    pub xruns: u64,
    /// Seconds of sound lost so.
    pub lost_s: f64,
    /// Times that the source was lost since this start.
    pub losses: u64,
    /// Windows that could not be scored in time since this start.
    pub overload: u64,
    /// Windows without a verdict since this start: given up after hours of overload.
    pub dropped: u64,
    /// Seconds since sound last came; null before the first.
    pub last_frame_age_s: Option<f64>,
    /// Share of the windows since the last health message that could be assessed, 0..1; null when there was none.
    pub assessed: Option<f64>,
    /// The signal's fault that lasts, as its event tells it; null without one.
    pub signal: Option<Reason>,
    /// Level of the sound that came last, dB of full scale, floor -120; null before the first.
    pub level_dbfs: Option<f64>,
    /// Share of the samples of the last window that are cut off at one height, 0..1; null before the first.
    pub clipped_share: Option<f64>,
    /// Mean of the samples of the last window, full scale is 1; null before the first.
    pub dc: Option<f64>,
    /// Hours that it ran (its windows were judged), since the agent first heard it; null while that cannot be read.
    #[serde(default)]
    pub running_h: Option<f64>,
    /// Hours that it stood still, as far as a learned baseline shows it.
    #[serde(default)]
    pub standing_h: Option<f64>,
    /// Hours in which it could not be judged, and nobody had planned that.
    #[serde(default)]
    pub unheard_h: Option<f64>,
}
