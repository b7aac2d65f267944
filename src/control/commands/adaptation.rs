//! `adaptation.reset`: what a machine was found to do daily is forgotten, all hours are judged as learned at once.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::adapting;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::control::output::Output;
use crate::control::shared::Shared;
use crate::control::store::Commit;
use crate::control::transaction::Transaction;
use crate::control::values::Target;
use crate::monitor::MonitorState;

/// Forget what a machine was found to do daily.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptationReset {
    /// The machine, or `*` for all of the agent's that let in what recurs daily.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for AdaptationReset {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let mut numbers = context.targets(&self.machine)?;
        let state = context.shared.monitor.lock();
        let given = numbers.len();
        numbers.retain(|number| state.machines[*number].config.adapt);
        if numbers.is_empty() && given > 0 {
            let message = "machine: expected one that lets in what recurs daily (adapt = true), found none";
            return Err(CommandError::new(Code::BadArgument, message));
        }
        let machine = |number: &usize| {
            let machine = &state.machines[*number];
            let (days, hours) = (machine.adaptation.days(), machine.adaptation.hours());
            json!({ "machine": machine.config.id, "forgotten": { "days": days, "hours": hours } })
        };
        let data = json!({ "machines": numbers.iter().map(machine).collect::<Vec<_>>() });
        let machines = numbers.into_iter().map(|number| (number, context.machine_id(number))).collect();
        let forget = ForgetAdaptation { shared: context.shared.clone(), machines, why: context.why() };
        Ok(Outcome::change(data, forget))
    }
}

struct ForgetAdaptation {
    shared: Arc<Shared>,
    machines: Vec<(usize, Arc<str>)>,
    /// Who and why, for the event.
    why: String,
}

impl Transaction for ForgetAdaptation {
    fn rows(&self) -> Commit<'_> {
        let forget_adaptations = self.machines.iter().map(|(_, id)| &**id).collect();
        Commit { forget_adaptations, ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        for (number, _) in &self.machines {
            state.machines[*number].adaptation.forget();
            out.extend(adapting::changed(&self.shared, state, *number, &format!("; forgotten{}", self.why), now));
        }
        out
    }
}
