//! `threshold.set`, `threshold.get`, `threshold.reset`, `threshold.preview`, and `rate.set` for those that are judged by all
//! lanes together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Execute, baseline};
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::control::values::{FalseAlarmRate, Target};
use crate::monitor::preview;
use crate::monitor::settings::{MachineSettings, Override};
use crate::mqtt::payload::EventKind;
use crate::scoring::Judge;
use crate::scoring::threshold::{Threshold, ThresholdSource};

/// Override a machine's threshold.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdSet {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// The limit of the distance: above 0, below 1000.
    #[arg(long, allow_negative_numbers = true)]
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
        let off = lanes_off(context, &self.machine)?;
        let outcome = context.change(&self.machine, EventKind::ThresholdChanged, |settings| {
            settings.set_threshold(over.clone(), changed.clone());
        })?;
        Ok(outcome.with_note(off))
    }
}

/// What a threshold of its own switches off, in words; `None` where no lane decides now.
fn lanes_off(context: &CommandContext, target: &Target) -> Result<Option<String>, CommandError> {
    let numbers = context.targets(target)?;
    let combined: Vec<_> = numbers.into_iter().map(|number| context.settings(number)).collect();
    let combined = combined.iter().filter(|settings| settings.judge == Judge::Combined);
    let machines: Vec<_> = combined.map(|settings| settings.machine.as_str()).collect();
    Ok((!machines.is_empty()).then(|| {
        format!(
            "{}: the distance decides alone now; all other lanes are off until threshold.reset. \
             rate.set moves the limit of all lanes together instead",
            machines.join(", ")
        )
    }))
}

/// Let all lanes decide together with another false alarm rate: higher finds more, lower alarms less often. An override of
/// the threshold ends.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSet {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// Share of normal windows that may be called anomalous; above 0, at most 0.5.
    #[arg(long, allow_negative_numbers = true)]
    pub false_alarm_rate: FalseAlarmRate,
}

impl Execute for RateSet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let mut settings = MachineSettings::default();
        settings.set_rate(self.false_alarm_rate.get(), context.changed());
        for number in context.targets(&self.machine)? {
            let state = context.shared.monitor.lock();
            if state.rate_with(number, &settings, context.now).is_none() {
                let problem = "expected a machine that is judged by all lanes together";
                let cure = "baseline.learn makes such a baseline, threshold.set moves the distance's limit";
                let message =
                    format!("machine: {problem}, {} is judged by its distance; {cure}", context.machine_id(number));
                return Err(CommandError::new(Code::BadArgument, message));
            }
        }
        let (rate, changed) = (self.false_alarm_rate.get(), context.changed());
        context.change(&self.machine, EventKind::ThresholdChanged, |settings| settings.set_rate(rate, changed.clone()))
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

/// Go back: drop an override or a false alarm rate that was set; of one machine that has neither, take the baseline that was
/// learned on site out of use, so that the configuration's or the bundle's threshold and the bundle's bank count again.
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
            && !context.has_own_rate(number)
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
    #[arg(long, allow_negative_numbers = true)]
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
