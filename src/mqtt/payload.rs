//! Every payload as a Rust type; `auscult schema` prints the JSON Schema made from them.
//!
//! Rules for all of them: a field is always there and is `null` where it has no value, but for `clock`, which is there
//! only while the clock is not synchronised; numbers are finite; times are RFC 3339 in UTC with milliseconds and `Z`.
//! `late` closes every message that waits on disk, so that it can be set without parsing the message again.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::topics::{AgentPart, MachinePart, Topic};
use crate::clock::{ClockMark, Timestamp};
use crate::scoring::alarm::{AlarmState, Kind};
use crate::scoring::threshold::ThresholdSource;
use crate::scoring::{Assessment, BandDifference, Judge, Lane, Reason, Verdict};

/// The version of all payloads, `1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(SchemaVersion),
            other => Err(serde::de::Error::custom(format_args!("expected schema 1, found {other}"))),
        }
    }
}

impl JsonSchema for SchemaVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SchemaVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Version of the payloads.", "const": 1 })
    }
}

/// `<agent>/status`, retained, and the last will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub schema: SchemaVersion,
    pub state: State,
    /// Id of this start of the agent: tells an old will from news.
    pub boot: String,
    /// When the state began; of `offline` (the will): when the connection that it belongs to began.
    pub ts: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Connected.
    Online,
    /// Stopped cleanly.
    Stopped,
    /// The last will: the connection broke.
    Offline,
}

/// `<agent>/info`, retained: what this agent is. No secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    /// Version of auscult.
    pub version: String,
    pub boot: String,
    /// Name and version of the bundle in use.
    pub bundle: Option<String>,
    /// Ids of the monitored machines.
    pub machines: Vec<String>,
    pub tags: Vec<String>,
    /// The commands that it takes.
    pub commands: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

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
    #[serde(flatten)]
    pub mqtt: MqttHealth,
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
}

/// `<agent>/<machine>/verdict`: of one window. Retained, unless late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictMsg {
    pub schema: SchemaVersion,
    /// Time of the window's last sample.
    pub ts: Timestamp,
    /// Counts the machine's windows from 0, without gaps, across restarts. The outbox sets it.
    pub seq: u64,
    pub agent: String,
    pub machine: String,
    pub verdict: Verdict,
    /// Why it is `unknown`; null otherwise.
    pub reason: Option<Reason>,
    /// Euclidean distance to the nearest normal embedding; null where it was not computed.
    pub distance: Option<f64>,
    /// Limit of the distance; null without a bundle.
    pub threshold: Option<f64>,
    /// distance / threshold.
    pub ratio: Option<f64>,
    /// How unlike the learned baseline the window is over all lanes: -log10 of `p_value`; null without one.
    pub score: Option<f64>,
    /// Share of normal windows that are as unlike it.
    pub p_value: Option<f64>,
    /// The lane that `score` comes from.
    pub lane: Option<Lane>,
    /// Root mean square level in dB of full scale, floor -120.
    pub level_dbfs: f64,
    /// Name and version of the bundle that it was scored with.
    pub bundle: Option<String>,
    /// State of the machine's alarm with this window; null where nobody keeps one.
    pub alarm: Option<AlarmState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    /// Sent after an outage: it is history, not news.
    pub late: bool,
}

impl VerdictMsg {
    /// The message of one window; `alarm` is for the agent to fill in, `seq` follows when it is published.
    pub fn new(
        agent: &str,
        machine: &str,
        ts: Timestamp,
        assessment: &Assessment,
        bundle: Option<&str>,
        clock: Option<ClockMark>,
    ) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        VerdictMsg {
            schema: SchemaVersion,
            ts,
            seq: 0,
            agent: agent.to_owned(),
            machine: machine.to_owned(),
            verdict: assessment.verdict,
            reason: assessment.reason,
            distance: assessment.distance.and_then(finite),
            threshold: assessment.threshold.and_then(finite),
            ratio: assessment.ratio().and_then(finite),
            score: assessment.score.and_then(finite),
            p_value: assessment.p_value.and_then(finite),
            lane: assessment.lane,
            level_dbfs: finite(assessment.level_dbfs).unwrap_or(-120.0),
            bundle: bundle.map(str::to_owned),
            alarm: None,
            clock,
            late: false,
        }
    }
}

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
    /// When this state began.
    pub since: Timestamp,
    /// Windows that spoke for the alarm since shortly before it was raised; when it has cleared, in all.
    pub count: u64,
    /// The window that raised it: its distance as a multiple of the threshold; null where nothing stands.
    pub ratio: Option<f64>,
    /// Share of the baseline's windows with a smaller distance, %; null without a learned baseline.
    pub percentile: Option<f64>,
    /// The lane that was the most surprised; null without a learned baseline.
    pub lane: Option<Lane>,
    /// The frequencies that differ most from the nearest normal windows, at most three ranges, the strongest first;
    /// empty without a learned baseline.
    pub bands: Vec<BandDifference>,
    /// Who acknowledged or shelved it.
    pub by: Option<String>,
    pub comment: Option<String>,
    /// When the shelving ends.
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    pub late: bool,
}

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
    /// When the baseline in use was learned; null where there is none.
    pub baseline: Option<String>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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
    /// A baseline has been learned and waits to be applied.
    BaselineLearned,
    /// It is in use.
    BaselineApplied,
    /// It is not any more, or will not be.
    BaselineDiscarded,
    /// Learning came to nothing, or what was learned does not count under this bundle.
    BaselineFailed,
    MaintenanceOn,
    MaintenanceOff,
    /// What was set from afar could not be read at start; the configuration's and the bundle's values apply.
    SettingsLost,
    /// The agent started.
    Started,
    /// Wall time moved against the monotonic clock.
    ClockJumped,
    /// The clock is synchronised from now on.
    ClockSynchronised,
    /// The outbox cannot write to disk and keeps what it can in memory.
    OutboxFailed,
    /// The outbox is on disk again.
    OutboxBack,
    /// The store was corrupt and was set aside; what it held unsent is lost.
    OutboxCorrupt,
    /// The outbox is full or its messages too old: the oldest were given up.
    OutboxDropped,
}

/// A command on `<agent>/control` or `fleet/control`. What is `null` counts as not given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// Chosen by the sender; the reply carries it, and the same id again is done once.
    pub id: String,
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// On `fleet/control`: only agents with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// After this time the command is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The command's own arguments.
    #[serde(flatten)]
    pub arguments: Map<String, Value>,
}

/// `<agent>/reply`: one for each command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    pub schema: SchemaVersion,
    pub ts: Timestamp,
    pub agent: String,
    /// Of the command; null where it could not be read.
    pub id: Option<String>,
    /// Of the command; null where it could not be read.
    pub command: Option<String>,
    pub status: ReplyStatus,
    /// Null when `status` is `ok`.
    pub error: Option<ReplyError>,
    /// The command's own answer.
    pub data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    pub late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplyStatus {
    Ok,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyError {
    pub code: ErrorCode,
    /// One line that names the value and what was expected.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not a JSON object.
    BadJson,
    /// Longer than a command may be.
    TooLarge,
    UnknownCommand,
    UnknownMachine,
    /// An argument that is missing, unknown, of the wrong type or out of range; a retained message.
    BadArgument,
    /// Its `expires` has passed.
    Expired,
    /// The bundle cannot be used; the running one goes on.
    BundleInvalid,
    /// Something else is being done, or the same was done a moment ago; send it again later, with the same id.
    Busy,
    /// The agent's configuration does not allow it.
    NotAllowed,
    /// The agent itself could not do it: its disk is full or broken.
    Failed,
}

/// `<agent>/<machine>/evidence`: a part of a file that `evidence.get` asked for. Not stored: parts that are lost with the
/// connection do not come again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceMsg {
    pub schema: SchemaVersion,
    /// Time of the window's last sample.
    pub ts: Timestamp,
    pub agent: String,
    pub machine: String,
    /// Of the command; null where it had none.
    pub id: Option<String>,
    /// `audio.wav` or `spectrogram.png`.
    pub file: String,
    /// Number of this part, from 0.
    pub part: u32,
    /// How many parts the file has.
    pub parts: u32,
    /// Length of the whole file, bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file, hex.
    pub sha256: String,
    /// The part's bytes in Base64; no part but the last is padded, so that the parts can simply be joined.
    pub data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

/// `[compat] escoita_topic`: a verdict as the original wrote it, for its Telegraf and Grafana. Windows that could not
/// be assessed have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompatRecord {
    pub timestamp: Timestamp,
    pub machine_id: String,
    pub estado: Estado,
    pub distancia: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Estado {
    Normal,
    Abnormal,
}

impl CompatRecord {
    /// `None` for a window that could not be assessed.
    pub fn of(verdict: &VerdictMsg) -> Option<Self> {
        let estado = match verdict.verdict {
            Verdict::Normal => Estado::Normal,
            Verdict::Anomalous => Estado::Abnormal,
            Verdict::Unknown => return None,
        };
        Some(CompatRecord {
            timestamp: verdict.ts,
            machine_id: verdict.machine.clone(),
            estado,
            distancia: verdict.distance?,
        })
    }
}

/// The JSON of a payload.
pub fn encode<T: Serialize>(payload: &T) -> Vec<u8> {
    serde_json::to_vec(payload).expect("payloads have string keys and no failing fields")
}

const NOT_LATE: &[u8] = b"\"late\":false}";
const LATE: &[u8] = b"\"late\":true}";

/// Sets `late` in an encoded payload; one without `late` stays as it is.
pub fn mark_late(encoded: &mut Vec<u8>) {
    if encoded.ends_with(NOT_LATE) {
        encoded.truncate(encoded.len() - NOT_LATE.len());
        encoded.extend_from_slice(LATE);
    }
}

/// Name and JSON Schema of every payload.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    fn of<T: JsonSchema>() -> Schema {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        settings.into_generator().into_root_schema_for::<T>()
    }
    vec![
        ("status", of::<Status>()),
        ("info", of::<Info>()),
        ("health", of::<Health>()),
        ("verdict", of::<VerdictMsg>()),
        ("alarm", of::<AlarmMsg>()),
        ("settings", of::<SettingsMsg>()),
        ("event", of::<EventMsg>()),
        ("evidence", of::<EvidenceMsg>()),
        ("control", of::<Command>()),
        ("reply", of::<Reply>()),
        ("threshold_set", json_schema!({ "title": "threshold/set: a bare number", "type": "number" })),
        ("compat", of::<CompatRecord>()),
    ]
}

/// Which of [`schemas`] describes the messages of a topic.
pub fn schema_name(topic: &Topic) -> &'static str {
    match topic {
        Topic::FleetControl => "control",
        Topic::Agent { part, .. } => match part {
            AgentPart::Status => "status",
            AgentPart::Info => "info",
            AgentPart::Health => "health",
            AgentPart::Event => "event",
            AgentPart::Reply => "reply",
            AgentPart::Control => "control",
        },
        Topic::Machine { part, .. } => match part {
            MachinePart::Verdict => "verdict",
            MachinePart::Alarm => "alarm",
            MachinePart::Settings => "settings",
            MachinePart::Event => "event",
            MachinePart::Evidence => "evidence",
            MachinePart::ThresholdSet => "threshold_set",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(assessment: &Assessment) -> VerdictMsg {
        let ts: Timestamp = serde_json::from_str("\"2026-03-01T12:00:00.123456+01:00\"").expect("a time");
        VerdictMsg::new("pi-7", "blower-1", ts, assessment, Some("fan 1.2"), None)
    }

    fn assessment(distance: f64) -> Assessment {
        crate::scoring::judge(distance, 0.25, -31.5)
    }

    #[test]
    fn a_verdict_reads_as_the_contract_says() {
        let text = String::from_utf8(encode(&verdict(&assessment(0.5)))).expect("UTF-8");
        assert_eq!(
            text,
            r#"{"schema":1,"ts":"2026-03-01T11:00:00.123Z","seq":0,"agent":"pi-7","machine":"blower-1","verdict":"anomalous","reason":null,"distance":0.5,"threshold":0.25,"ratio":2.0,"score":null,"p_value":null,"lane":null,"level_dbfs":-31.5,"bundle":"fan 1.2","alarm":null,"late":false}"#
        );
        assert_eq!(serde_json::from_str::<VerdictMsg>(&text).expect("its own text"), verdict(&assessment(0.5)));
    }

    #[test]
    fn what_is_not_finite_is_null() {
        let mut broken = assessment(0.5);
        broken.distance = Some(f64::NAN);
        broken.threshold = Some(0.0);
        broken.level_dbfs = f64::NEG_INFINITY;
        let message = verdict(&broken);
        assert_eq!((message.distance, message.ratio, message.level_dbfs), (None, None, -120.0));
    }

    #[test]
    fn late_is_set_in_what_waits_and_nowhere_else() {
        let mut encoded = encode(&verdict(&assessment(0.5)));
        mark_late(&mut encoded);
        let late: VerdictMsg = serde_json::from_slice(&encoded).expect("JSON still");
        assert_eq!(late, VerdictMsg { late: true, ..verdict(&assessment(0.5)) });
        let mut other = b"{\"x\":false}".to_vec();
        mark_late(&mut other);
        assert_eq!(other, b"{\"x\":false}");
    }

    /// `mark_late` relies on it.
    #[test]
    fn late_closes_whatever_waits_on_disk() {
        let ts = Timestamp::from(chrono::DateTime::UNIX_EPOCH);
        let agent = || "a".to_owned();
        let alarm = AlarmMsg {
            schema: SchemaVersion,
            ts,
            agent: agent(),
            machine: "m".into(),
            state: AlarmState::Active,
            kind: Some(Kind::Fault),
            since: ts,
            count: 3,
            ratio: Some(1.5),
            percentile: Some(99.5),
            lane: Some(Lane::Spectrum),
            bands: vec![BandDifference { from_hz: 500.0, to_hz: 900.0, difference_db: -6.0 }],
            by: None,
            comment: None,
            until: None,
            clock: Some(ClockMark::Unsynced),
            late: false,
        };
        let event = EventMsg {
            schema: SchemaVersion,
            ts,
            agent: agent(),
            machine: None,
            event: EventKind::ClockJumped,
            detail: None,
            facts: Map::new(),
            clock: None,
            late: false,
        };
        let reply = Reply {
            schema: SchemaVersion,
            ts,
            agent: agent(),
            id: None,
            command: None,
            status: ReplyStatus::Ok,
            error: None,
            data: Some(serde_json::json!({ "late": false })),
            clock: None,
            late: false,
        };
        for encoded in [encode(&alarm), encode(&event), encode(&reply)] {
            assert!(encoded.ends_with(NOT_LATE), "{}", String::from_utf8_lossy(&encoded));
        }
    }

    #[test]
    fn the_original_gets_no_record_of_what_could_not_be_assessed() {
        let record = CompatRecord::of(&verdict(&assessment(0.5))).expect("a verdict");
        let text = String::from_utf8(encode(&record)).expect("UTF-8");
        assert_eq!(
            text,
            r#"{"timestamp":"2026-03-01T11:00:00.123Z","machine_id":"blower-1","estado":"abnormal","distancia":0.5}"#
        );
        assert_eq!(CompatRecord::of(&verdict(&assessment(f64::NAN))), None);
    }

    #[test]
    fn every_field_is_required_but_the_clock() {
        for (name, schema) in schemas() {
            if matches!(name, "control" | "threshold_set") {
                continue;
            }
            let schema = schema.to_value();
            let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
            for field in schema["properties"].as_object().expect("an object").keys() {
                let optional = field == "clock";
                assert_eq!(!optional, required.iter().any(|r| **r == *field), "{name}.{field}");
            }
        }
    }
}
