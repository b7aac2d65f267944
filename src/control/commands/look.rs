//! `config.get` and `log.get`: how the agent is set, and what it has logged; without secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::log_tail;

/// The newest lines are asked for without a number.
const LINES: usize = 200;

/// What the agent is set to: file, environment and page together, as TOML. Passwords are `***`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigGet {}

impl Execute for ConfigGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let mut config = context.shared.config.clone();
        context.shared.broker.current().lay_over(&mut config.mqtt);
        let text = toml::to_string(&config)
            .map_err(|error| CommandError::new(Code::Failed, format!("the configuration cannot be shown: {error}")))?;
        Ok(Outcome::Answer(json!({ "toml": text, "broker_from": config.mqtt.origin })))
    }
}

/// The newest lines of the agent's log, oldest first.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogGet {
    /// How many lines to show, up to 500; default: 200.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=500))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u16>,
}

impl Execute for LogGet {
    fn run(self, _: &mut CommandContext) -> Result<Outcome, CommandError> {
        let lines = self.lines.map_or(LINES, usize::from);
        if !(1..=log_tail::LINES).contains(&lines) {
            return Err(CommandError::argument("lines", "a number from 1 to 500", lines));
        }
        Ok(Outcome::Answer(json!({ "lines": log_tail::newest(lines) })))
    }
}
