//! `ping`, `state.get` and `health.get`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::Outcome;
use crate::mqtt::topics::{AgentPart, AgentTopics};

/// Is the agent there?
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

impl Execute for Ping {
    fn run(self, _: &mut CommandContext) -> Result<Outcome, CommandError> {
        Ok(Outcome::Answer(json!({ "version": env!("CARGO_PKG_VERSION") })))
    }
}

/// Everything that the agent knows of itself and its machines.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateGet {}

impl Execute for StateGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        Ok(Outcome::Answer(context.state()))
    }
}

/// The agent's health now, besides the one every minute: published on its topic before the reply.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthGet {}

impl Execute for HealthGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let mqtt = &context.shared.config.mqtt;
        let topics = AgentTopics::new(&mqtt.root, &context.shared.config.agent.id);
        Ok(Outcome::Health(json!({ "topic": topics.of_agent(AgentPart::Health) })))
    }
}
