//! What happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};

/// `<agent>/<machine>/event`, and `<agent>/event` for what concerns the whole agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventMsg {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    /// Null when it concerns the whole agent.
    pub machine: Option<String>,
    pub event: EventKind,
    /// One line for a person.
    pub detail: Option<String>,
    /// What can be counted, by names that go with `event`; see docs/topics.md.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    pub late: bool,
}

/// What happened. More may be added: a reader passes over what it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// The source delivers nothing any more.
    MicLost,
    MicBack,
    /// The machine's windows began to be `unknown` for this reason.
    Silent,
    Flat,
    Clipped,
    DcOffset,
    Noise,
    NotFinite,
    /// Sound was lost while the source was there.
    Gap,
    /// Windows could not be scored in time.
    Overload,
    /// The signal's fault is over.
    SignalBack,
    ThresholdChanged,
    BundleChanged,
    /// A bundle was refused or failed; the one before stays in use.
    BundleFailed,
    /// How far learning has come.
    BaselineLearning,
    /// What has been learned until now judges while learning goes on.
    BaselineProvisional,
    /// A baseline has been learned and waits to be applied.
    BaselineLearned,
    /// It is in use.
    BaselineApplied,
    /// It is not any more, or will not be.
    BaselineDiscarded,
    /// Learning came to nothing, or what was learned does not count under this bundle.
    BaselineFailed,
    /// What recurs daily: in some hours of the day the tail is wider, or less wide, from here on; or all of it is forgotten.
    AdaptationChanged,
    /// Somebody has said what an alarm was.
    AlarmConfirmed,
    MaintenanceOn,
    MaintenanceOff,
    /// A machine was added, changed or removed while the agent runs.
    MachineAdded,
    MachineChanged,
    MachineRemoved,
    /// A machine that was added remotely is not there: the configuration's file has one of its id, or it cannot be read.
    MachineIgnored,
    /// What was set remotely, the alarms or the inventory of the state directory were lost or damaged; what is configured
    /// applies.
    SettingsLost,
    /// What another card or agent had exported is in place of what was set and learned here.
    StateImported,
    /// The agent started.
    Started,
    /// Wall time moved against the monotonic clock.
    ClockJumped,
    /// The clock is synchronised from now on.
    ClockSynchronised,
    /// A certificate that the connection needs ends within 30 days.
    CertificateEnds,
    /// The broker does not take what the agent publishes to a topic; it waits.
    PublishDenied,
    /// The broker denies a subscription that the agent needs for its commands.
    SubscribeDenied,
    /// The broker will never take a message, which was given up.
    MessageRefused,
    /// The outbox cannot write to disk and keeps what it can in memory.
    OutboxFailed,
    /// The outbox is on disk again.
    OutboxBack,
    /// The store was corrupt and was set aside; what it held unsent is lost.
    OutboxCorrupt,
    /// The outbox is full or its messages too old: the oldest were dropped.
    OutboxDropped,
    /// A file that keeps the machines' `seq` was lost or damaged: the numbers continue higher, so that none is used twice.
    SeqSkipped,
    /// The machines' past was damaged or missing.
    TrendLost,
    /// The machines' past cannot be written and goes on in memory.
    TrendFailed,
    /// It is written again.
    TrendBack,
}
