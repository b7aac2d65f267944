//! What the agent is, and whether it is connected.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};

/// `<agent>/status`, retained, and the last will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub schema: SchemaVersion,
    pub state: AgentState,
    /// Id of this start of the agent: tells an old will from news.
    pub boot: String,
    /// When the state began; of `offline` (the will): when the connection that it belongs to began.
    pub ts: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "State")]
pub enum AgentState {
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
    /// It is the demo's, because none is configured: it knows simulated machines only. Version 0.1 does not say so.
    #[serde(default)]
    pub demo_bundle: bool,
    /// Ids of the monitored machines.
    pub machines: Vec<String>,
    /// What people call them, by id, where that is something else. Version 0.1 has none.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    pub tags: Vec<String>,
    /// The commands that it takes.
    pub commands: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}
