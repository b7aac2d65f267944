//! `threshold.set`, `threshold.get`, `threshold.reset`, `threshold.preview`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Execute, baseline};
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::Outcome;
use crate::control::values::Target;
use crate::monitor::preview;
use crate::monitor::settings::Override;
use crate::mqtt::payload::EventKind;
use crate::scoring::threshold::{Threshold, ThresholdSource};

/// Override a machine's threshold.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdSet {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// The limit of the distance: above 0, below 1000.
    #[arg(long)]
    pub threshold: Threshold,
    /// When the override ends (RFC 3339, or +90m, +2h, +1d); without it, it stays until reset.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Execute for ThresholdSet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let until = context.to_come(self.until)?;
        let (changed, set_at, bundle) = (context.changed(), context.now, context.bundle_label());
        let over = Override { threshold: self.threshold.get(), until, set_at, bundle };
        context.change(&self.machine, EventKind::ThresholdChanged, |settings| {
            settings.set_threshold(over.clone(), changed.clone());
        })
    }
}

/// A machine's threshold and where it comes from.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdGet {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for ThresholdGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let machines: Vec<_> =
            context.targets(&self.machine)?.into_iter().map(|number| context.settings(number)).collect();
        Ok(Outcome::Answer(json!({ "machines": machines })))
    }
}

/// Go back: from an override to the threshold below it; where there is none, from a baseline that was learned on site to
/// the configuration's or the bundle's threshold and the bundle's bank.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdReset {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for ThresholdReset {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        if let [number] = context.targets(&self.machine)?[..]
            && context.threshold(number).is_some_and(|found| found.source == ThresholdSource::Baseline)
            && let Some(outcome) = baseline::put_back(context, number)
        {
            return Ok(outcome);
        }
        let changed = context.changed();
        context.change(&self.machine, EventKind::ThresholdChanged, |settings| settings.reset_threshold(changed.clone()))
    }
}

/// What a threshold would have called anomalous in the last 24 hours.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdPreview {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// The limit to try; it is not set.
    #[arg(long)]
    pub threshold: Threshold,
}

impl Execute for ThresholdPreview {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let mut machines = Vec::new();
        for number in context.targets(&self.machine)? {
            let entries = context.last_day(number)?;
            let alarm = context.alarm_config(number);
            let in_effect = context.threshold(number).map(|found| found.threshold);
            machines.push(json!({
                "machine": &*context.machine_id(number),
                "hours": preview::hours(&entries),
                "windows": preview::assessed(&entries),
                "unassessed": entries.len() - preview::assessed(&entries),
                "preview": preview::with_threshold(&entries, self.threshold.get(), &alarm),
                "now": in_effect.map(|threshold| preview::with_threshold(&entries, threshold, &alarm)),
            }));
        }
        Ok(Outcome::Answer(json!({ "machines": machines })))
    }
}
