//! `maintenance.set`: somebody works on the machine, its windows are `unknown` with the reason `maintenance`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Execute;
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::Outcome;
use crate::control::values::{OnOff, Target};
use crate::monitor::settings::Maintenance;
use crate::mqtt::payload::EventKind;

/// Begin or end maintenance.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSet {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// `true` begins it, `false` ends it.
    #[arg(long)]
    pub on: OnOff,
    /// When it ends by itself (RFC 3339, or +90m, +2h, +1d).
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Execute for MaintenanceSet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let until = context.to_come(self.until)?;
        if !self.on.0 && until.is_some() {
            return Err(CommandError::argument("until", "none together with \"on\": false", "one"));
        }
        let (by, reason) = context.who();
        let maintenance = self.on.0.then_some(Maintenance { until, by, reason, set_at: context.now });
        let kind = if self.on.0 { EventKind::MaintenanceOn } else { EventKind::MaintenanceOff };
        context.change(&self.machine, kind, |settings| settings.set_maintenance(maintenance.clone()))
    }
}
