//! What stands behind the page: an agent, or a fleet behind a broker.

use std::fmt;

use serde::Serialize;

use super::hub::Hub;
use crate::mqtt::topics::Topic;

/// What the page shows and commands.
pub trait Home: Send + Sync + 'static {
    /// What the page has to know before the first message.
    fn about(&self) -> About;

    /// What is published, and the state that is retained.
    fn hub(&self) -> &Hub;

    /// Sends a command to where it belongs, without waiting for its outcome: the reply comes as a message.
    ///
    /// # Errors
    /// Why it could not be sent.
    fn send(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), Refusal>;

    /// Drops what the broker keeps of an agent that is gone: its topics are then cleared.
    ///
    /// # Errors
    /// Why it is not dropped.
    fn forget(&self, agent: &str) -> Result<(), Refusal> {
        let _ = agent;
        Err(Refusal("agents are forgotten on the fleet's page".into()))
    }

    /// What the machine sounds like now, as the payload of its `live` topic. Asked about ten times a second while
    /// somebody looks, and never otherwise. `None`: nothing new yet.
    ///
    /// # Errors
    /// Why there is none.
    fn live(&self, agent: &str, machine: &str) -> Result<Option<String>, Refusal> {
        let _ = (agent, machine);
        Err(Refusal("live sound is on the agent's own page".into()))
    }
}

/// One agent, or many behind a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HomeKind {
    Agent,
    Fleet,
}

/// Who is at home.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    pub home: HomeKind,
    /// First part of every topic.
    pub root: String,
    /// The agent's id, where there is one agent.
    pub agent: Option<String>,
    pub version: &'static str,
    /// Whether the sound of windows may leave the agent.
    pub allow_audio: bool,
    /// Whether agents that are gone can be forgotten here.
    pub forget: bool,
}

/// Why a command was not sent; one line for the person at the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
