//! `baseline.learn`, `baseline.apply`, `baseline.discard`: a machine's normal, learned where it stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::config::BaselineMode;
use crate::control::baselines::{
    ApplyBaseline, BeginLearning, DiscardBaseline, Discarded, NewLearner, Proposed, PutBack, What,
};
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::learning;
use crate::control::messages;
use crate::control::outcome::Outcome;
use crate::control::values::{FalseAlarmRate, Minutes, OnOff, Target};
use crate::monitor::baseline_switch::Switches;
use crate::numbers::counted;
use crate::scoring::baseline::Learner;

/// Learn a machine's normal while it runs; the result is proposed in an event.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineLearn {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// Minutes of normal running to hear; what cannot be assessed does not count. Take 100 windows or more.
    #[arg(long)]
    pub minutes: Minutes,
    /// Wanted share of normal windows that are called anomalous; default: the configured one, 0.01.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_alarm_rate: Option<FalseAlarmRate>,
    /// Add what is heard to the baseline in use, for another load or season.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<OnOff>,
}

impl Execute for BaselineLearn {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let mut machines = Vec::new();
        for number in context.targets(&self.machine)? {
            let state = shared.monitor.lock();
            let config = &state.machines[number].config;
            // What the agent began by itself gives way: somebody says that all that comes is normal.
            let by_itself = |learner: &&Learner| config.baseline == Some(BaselineMode::Auto) && !learner.takes_all();
            if let Some(learner) = state.machines[number].learning.learner.as_ref().filter(|one| !by_itself(one)) {
                let progress = learner.progress();
                let share = (100.0 * progress.heard_s / progress.wanted_s).min(100.0);
                let message = format!(
                    "{} is being learned, {share:.0} % of {}; baseline.discard ends that",
                    config.id,
                    counted(progress.wanted_s / 60.0, "minute")
                );
                return Err(CommandError::new(Code::Busy, message));
            }
            let rate = self.false_alarm_rate.map_or(config.false_alarm_rate, FalseAlarmRate::get);
            let learner = learning::new_learner(&state, number, self.minutes.get(), rate, context.now)?.taking_all();
            let learner = match self.add {
                Some(OnOff(true)) => {
                    let refused = |why| CommandError::new(Code::BadArgument, format!("add: {}: {why}", config.id));
                    learning::base(&state, number).map_err(refused)?;
                    learner.adding()
                }
                _ => learner,
            };
            let generation = shared.baselines.new_generation();
            machines.push(NewLearner { number, id: context.machine_id(number), generation, learner });
        }
        let begun = machines.iter().map(|new| {
            let settings = new.learner.settings();
            json!({
                "machine": &*new.id, "minutes": settings.wanted_s / 60.0,
                "false_alarm_rate": settings.false_alarm_rate, "threshold": settings.previous_threshold,
            })
        });
        let data = json!({ "machines": begun.collect::<Vec<_>>() });
        Ok(Outcome::change(data, BeginLearning { shared, machines, switches: Switches::default() }))
    }
}

/// Take the learned baseline into use: its bank and threshold, and all lanes where it has them.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineApply {
    /// The machine, or `*` for all of the agent's that have a proposal.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for BaselineApply {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let numbers = context.targets(&self.machine)?;
        let state = shared.monitor.lock();
        let loaded = state.loaded.as_ref().ok_or_else(learning::no_bundle)?;
        let mut machines = Vec::new();
        for number in numbers {
            let (machine, id) = (&state.machines[number], context.machine_id(number));
            let Some(baseline) = machine.learning.proposal.clone() else { continue };
            baseline
                .check_origin(loaded.origin(number))
                .map_err(|error| CommandError::new(Code::BadArgument, format!("{id}: {error}")))?;
            // A threshold set remotely was meant for another bank.
            let mut settings = machine.settings.clone();
            settings.reset_threshold(context.changed());
            let previous = learning::in_use(&state, number);
            machines.push(Proposed { number, id, baseline, previous, settings: Some(settings) });
        }
        drop(state);
        if machines.is_empty() {
            let message = match &self.machine {
                Target::One(id) => format!("machine: {id} has no proposal; baseline.learn makes one"),
                Target::All => "machine: no machine has a proposal; baseline.learn makes one".to_owned(),
            };
            return Err(CommandError::new(Code::BadArgument, message));
        }
        let facts: Vec<_> = machines.iter().map(|one| messages::baseline_facts(&one.id, &one.baseline)).collect();
        let data = json!({ "machines": facts });
        let switches = Switches::default();
        Ok(Outcome::change(data, ApplyBaseline { shared, machines, why: context.why(), by_itself: false, switches }))
    }
}

/// Go back to the baseline that was in use before this one; the present one is kept in its place.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineRollback {
    /// The machine; one at a time.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for BaselineRollback {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let (shared, number) = (context.shared.clone(), context.target(&self.machine)?);
        let id = context.machine_id(number);
        let origin = {
            let state = shared.monitor.lock();
            state.loaded.as_ref().ok_or_else(learning::no_bundle)?.origin(number).clone()
        };
        let kept = shared.baselines.previous(&id, &origin.encoder_sha256);
        let kept =
            kept.map_err(|lost| CommandError::new(Code::Failed, format!("the baseline before is lost: {lost}")))?;
        let Some(baseline) = kept else {
            let message = format!("machine: {id} has no baseline before this one");
            return Err(CommandError::new(Code::BadArgument, message));
        };
        baseline
            .check_origin(&origin)
            .map_err(|error| CommandError::new(Code::BadArgument, format!("{id}: {error}")))?;
        let state = shared.monitor.lock();
        let mut settings = state.machines[number].settings.clone();
        settings.reset_threshold(context.changed());
        let previous = learning::in_use(&state, number);
        drop(state);
        let data = json!({ "machines": [messages::baseline_facts(&id, &baseline)] });
        let machines = vec![Proposed { number, id, baseline: baseline.into(), previous, settings: Some(settings) }];
        let why = format!(", as before{}", context.why());
        Ok(Outcome::change(
            data,
            ApplyBaseline { shared, machines, why, by_itself: false, switches: Switches::default() },
        ))
    }
}

/// Drop what is being learned or was proposed; where there is neither, the learned baseline that is in use.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineDiscard {
    /// The machine, or `*` for all of the agent's that have something to discard.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for BaselineDiscard {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let mut machines = Vec::new();
        for number in context.targets(&self.machine)? {
            let state = shared.monitor.lock();
            let learning = &state.machines[number].learning;
            let what = match (&learning.learner, &learning.proposal, learning::in_use(&state, number)) {
                (Some(_), ..) => What::Learning(learning.generation),
                (None, Some(proposal), _) => What::Proposal(proposal.clone()),
                (None, None, Some(baseline)) => What::Baseline(baseline),
                (None, None, None) => continue,
            };
            machines.push(Discarded { number, id: context.machine_id(number), what });
        }
        if let (Target::One(id), true) = (&self.machine, machines.is_empty()) {
            let message = format!("machine: {id} is not being learned and has no baseline: nothing to discard");
            return Err(CommandError::new(Code::BadArgument, message));
        }
        let discarded = machines.iter().map(|one| json!({ "machine": &*one.id, "discarded": one.what.to_string() }));
        let data = json!({ "machines": discarded.collect::<Vec<_>>() });
        let switches = Switches::default();
        Ok(Outcome::change(data, DiscardBaseline { shared, machines, why: context.why(), switches }))
    }
}

/// Takes a baseline out of use that was learned on site, where the bundle has a bank to go back to: it is a proposal
/// again. `None` where there is nothing to go back from or to.
pub(super) fn put_back(context: &CommandContext, number: usize) -> Option<Outcome> {
    let shared = context.shared.clone();
    let state = shared.monitor.lock();
    state.loaded.as_ref().filter(|loaded| loaded.has_bank(number))?;
    let baseline = learning::in_use(&state, number)?;
    let mut settings = state.machines[number].settings.clone();
    settings.reset_threshold(context.changed());
    drop(state);
    let id = context.machine_id(number);
    let data = json!({
        "machines": [{ "machine": &*id, "proposal": messages::baseline_facts(&id, &baseline) }],
        "note": "there was no override: the learned baseline is out of use, and a proposal again",
    });
    let (why, switches) = (context.why(), Switches::default());
    Some(Outcome::change(data, PutBack { shared, number, id, baseline, settings, why, switches }))
}
