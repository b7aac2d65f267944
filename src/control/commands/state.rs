//! `ping` and `state.get`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::desk::{Desk, Outcome};
use crate::control::fault::Fault;

/// Is the agent there?
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

impl Execute for Ping {
    fn run(self, _desk: &mut Desk) -> Result<Outcome, Fault> {
        Ok(Outcome::Answer(json!({ "version": env!("CARGO_PKG_VERSION") })))
    }
}

/// Everything that the agent knows of itself and its machines.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateGet {}

impl Execute for StateGet {
    fn run(self, desk: &mut Desk) -> Result<Outcome, Fault> {
        Ok(Outcome::Answer(desk.state()))
    }
}
