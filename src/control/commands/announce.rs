//! `announce`: what is retained is published again, for those whom the broker gives nothing of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::Outcome;

/// A fleet's agents publish within this time, where nothing else is said.
const WITHIN_S: f64 = 3.0;
/// As long as a very large fleet may take.
const LONGEST_S: f64 = 600.0;

/// Publish status, info, settings, alarms and last verdicts again: some brokers give a subscription with wildcards nothing of
/// what they keep.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// Each agent publishes at a moment within so many seconds, up to 600, so that a fleet does not do so at once; default: 3.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_s: Option<f64>,
}

impl Execute for Announce {
    fn run(self, _: &mut CommandContext) -> Result<Outcome, CommandError> {
        let within_s = self.within_s.unwrap_or(WITHIN_S);
        if !(0.0..=LONGEST_S).contains(&within_s) {
            return Err(CommandError::argument("within_s", "a number from 0 to 600", within_s));
        }
        Ok(Outcome::Announce(json!({ "within_s": within_s }), Duration::from_secs_f64(within_s)))
    }
}
