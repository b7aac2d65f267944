//! Every payload as a Rust type; `auscult schema` prints the JSON Schema made from them.
//!
//! Rules for all of them: a field is always present and is `null` where it has no value, except `clock`, which is present
//! only while the clock is not synchronised; numbers are finite; times are RFC 3339 in UTC with milliseconds and `Z`.
//! `late` is the last field of every message that waits on disk, so that it can be set without parsing the message again.

pub mod alarm;
pub mod compat;
pub mod encode;
pub mod event;
pub mod evidence;
pub mod health;
pub mod reply;
pub mod schema;
pub mod settings;
pub mod status;
pub mod verdict;
pub mod version;

pub use self::alarm::AlarmMsg;
pub use self::compat::{CompatRecord, Estado};
pub use self::encode::{encode, mark_late};
pub use self::event::{EventKind, EventMsg};
pub use self::evidence::EvidenceMsg;
pub use self::health::{Health, MachineHealth, MqttHealth, OutboxState};
pub use self::reply::{Command, ErrorCode, Reply, ReplyError, ReplyStatus};
pub use self::schema::schemas;
pub use self::settings::{AdaptationMsg, Provisional, SettingsMsg};
pub use self::status::{AgentState, Info, Status};
pub use self::verdict::{AdaptedMsg, VerdictMsg};
pub use self::version::SchemaVersion;
