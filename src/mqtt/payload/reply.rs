//! Commands, and the replies to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};

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
    /// The file is no export of an agent's state that can be taken; nothing was changed.
    StateInvalid,
    /// Something else is being done, or the same was done a moment ago; send it again later, with the same id.
    Busy,
    /// The agent's configuration does not allow it.
    NotAllowed,
    /// The agent itself could not do it: its disk is full or broken.
    Failed,
}
