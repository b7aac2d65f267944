//! `baseline.learn`, `baseline.apply`, `baseline.discard`: a machine's normal, learned where it stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::learning;
use crate::control::messages;
use crate::control::outcome::{Act, Outcome};
use crate::control::values::{FalseAlarmRate, Minutes, Target};
use crate::monitor::MonitorState;
use crate::monitor::baseline_store::BaselineStore;
use crate::mqtt::payload::EventKind;
use crate::scoring::baseline::Learner;

/// Learn a machine's normal while it runs; what it comes to is proposed in an event.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineLearn {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// How much normal running to hear; what cannot be assessed does not count. 100 windows at least are advised.
    #[arg(long)]
    pub minutes: Minutes,
    /// Wanted share of normal windows that are called anomalous; default: the configured one, 0.01.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_alarm_rate: Option<FalseAlarmRate>,
}

impl Execute for BaselineLearn {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let (shared, now) = (context.shared.clone(), context.now);
        let mut learners = Vec::new();
        for number in context.targets(&self.machine)? {
            let state = shared.monitor.lock();
            let config = &shared.config.machine[number];
            if let Some(learner) = &state.machines[number].learning.learner {
                let progress = learner.progress();
                let share = (100.0 * progress.heard_s / progress.wanted_s).min(100.0);
                let message = format!(
                    "{} is being learned, {share:.0} % of {} minutes; baseline.discard ends that",
                    config.id,
                    progress.wanted_s / 60.0
                );
                return Err(CommandError::new(Code::Busy, message));
            }
            let rate = self.false_alarm_rate.map_or(config.false_alarm_rate, FalseAlarmRate::get);
            learners.push((number, learning::learner(&state, number, self.minutes.get(), rate, now)?));
        }
        let told = learners.iter().map(|(number, learner): &(usize, Learner)| {
            let settings = learner.settings();
            json!({
                "machine": context.machine_id(*number), "minutes": settings.wanted_s / 60.0,
                "false_alarm_rate": settings.false_alarm_rate, "threshold": settings.previous_threshold,
            })
        });
        let data = json!({ "machines": told.collect::<Vec<_>>() });
        let baselines = BaselineStore::new(&shared.config.agent.state_dir);
        let kept: Vec<_> = learners
            .iter()
            .map(|(number, learner)| (context.machine_id(*number).to_owned(), learner.clone()))
            .collect();
        let keep = move || {
            kept.iter().try_for_each(|(id, learner)| baselines.keep_learner(id, learner))?;
            Ok(())
        };
        let apply = move |state: &mut MonitorState| {
            let begun = learners.into_iter().map(|(number, learner)| {
                let progress = learner.progress();
                let site = &mut state.machines[number].learning;
                (site.learner, site.failed) = (Some(learner), None);
                messages::progress_event(&shared, number, &progress, now)
            });
            begun.collect()
        };
        Ok(Outcome::Act(Act { data, settings: Vec::new(), keep: Box::new(keep), apply: Box::new(apply) }))
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
        let (shared, now) = (context.shared.clone(), context.now);
        let state = shared.monitor.lock();
        let loaded = state.loaded.as_ref().ok_or_else(learning::no_bundle)?;
        let (mut told, mut settings, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for number in context.targets(&self.machine)? {
            let id = context.machine_id(number);
            let in_use = loaded.baseline(number).filter(|(_, on_site)| *on_site);
            let baseline = match (&state.machines[number].learning.proposal, in_use, &self.machine) {
                (Some(proposal), ..) => proposal.clone(),
                // Asked again: it is in use already.
                (None, Some((baseline, _)), Target::One(_)) => baseline.clone(),
                (None, None, Target::One(_)) => {
                    let message = format!("machine: {id} has no proposal; baseline.learn makes one");
                    return Err(CommandError::new(Code::BadArgument, message));
                }
                (None, _, Target::All) => continue,
            };
            let origin = loaded.origin(number);
            baseline
                .check_origin(origin)
                .map_err(|error| CommandError::new(Code::BadArgument, format!("{id}: {error}")))?;
            // A threshold set from afar was meant for another bank.
            let mut new = state.machines[number].settings.clone();
            new.reset_threshold(context.changed());
            settings.push((number, new));
            told.push(messages::facts(id, &baseline));
            taken.push((number, baseline));
        }
        drop(state);
        let baselines = BaselineStore::new(&shared.config.agent.state_dir);
        let kept = taken.clone();
        let ids = shared.clone();
        let keep = move || {
            let keep = |(number, baseline): &(usize, std::sync::Arc<_>)| {
                baselines.keep_in_use(&ids.config.machine[*number].id, baseline)
            };
            kept.iter().try_for_each(keep)?;
            Ok(())
        };
        let why = context.why();
        let apply = move |state: &mut MonitorState| {
            let each = taken.into_iter().flat_map(|(number, baseline)| {
                learning::take_into_use(&shared, state, number, Some(baseline), &why, now)
            });
            each.collect()
        };
        let data = json!({ "machines": told });
        Ok(Outcome::Act(Act { data, settings, keep: Box::new(keep), apply: Box::new(apply) }))
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

/// What is discarded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Learning,
    Proposal,
    Baseline,
}

impl Execute for BaselineDiscard {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let (shared, now) = (context.shared.clone(), context.now);
        let mut found = Vec::new();
        for number in context.targets(&self.machine)? {
            let state = shared.monitor.lock();
            let site = &state.machines[number].learning;
            let in_use = state.loaded.as_ref().and_then(|loaded| loaded.baseline(number)).filter(|(_, site)| *site);
            let what = match (&site.learner, &site.proposal, in_use) {
                (Some(_), ..) => What::Learning,
                (None, Some(_), _) => What::Proposal,
                (None, None, Some(_)) => What::Baseline,
                (None, None, None) => continue,
            };
            found.push((number, what));
        }
        if let (Target::One(id), true) = (&self.machine, found.is_empty()) {
            let message = format!("machine: {id} is not being learned and has no baseline: nothing to discard");
            return Err(CommandError::new(Code::BadArgument, message));
        }
        let told =
            found.iter().map(|(number, what)| json!({ "machine": context.machine_id(*number), "discarded": what }));
        let data = json!({ "machines": told.collect::<Vec<_>>() });
        let encoder = shared.monitor.lock().loaded.as_ref().map(|loaded| loaded.bundle.encoder_sha256.clone());
        let drop_files = {
            let (shared, found) = (shared.clone(), found.clone());
            let baselines = BaselineStore::new(&shared.config.agent.state_dir);
            move || {
                found.iter().try_for_each(|(number, what)| {
                    let id = &shared.config.machine[*number].id;
                    match (what, &encoder) {
                        (What::Learning, _) => baselines.drop_learner(id),
                        (What::Proposal, _) => baselines.drop_proposal(id),
                        (What::Baseline, Some(encoder)) => baselines.drop_in_use(id, encoder),
                        (What::Baseline, None) => Ok(()),
                    }
                })
            }
        };
        let (first, again) = (drop_files.clone(), drop_files);
        let why = context.why();
        let apply = move |state: &mut MonitorState| {
            let mut out = Vec::new();
            for (number, what) in found {
                let site = &mut state.machines[number].learning;
                match what {
                    What::Learning => site.learner = None,
                    What::Proposal => site.proposal = None,
                    What::Baseline => {
                        out.extend(learning::take_into_use(&shared, state, number, None, &why, now));
                        continue;
                    }
                }
                let detail = format!("{}{why}", json!(what).as_str().unwrap_or_default());
                out.push(messages::event(&shared, number, EventKind::BaselineDiscarded, detail, None, now));
            }
            // The judging thread may have written what it learns in between.
            if let Err(error) = again() {
                tracing::warn!(%error, "what was discarded may be there again after a restart");
            }
            out
        };
        let keep = move || Ok(first()?);
        Ok(Outcome::Act(Act { data, settings: Vec::new(), keep: Box::new(keep), apply: Box::new(apply) }))
    }
}

/// Takes a baseline out of use that was learned on site, where the bundle has a bank to go back to: it is a proposal
/// again. `None` where there is nothing to go back from or to.
pub(super) fn put_back(context: &CommandContext, number: usize) -> Option<Outcome> {
    let (shared, now, why) = (context.shared.clone(), context.now, context.why());
    let state = shared.monitor.lock();
    let loaded = state.loaded.as_ref().filter(|loaded| loaded.has_bank(number))?;
    let (baseline, _) = loaded.baseline(number).filter(|(_, on_site)| *on_site)?;
    let baseline = baseline.clone();
    let mut settings = state.machines[number].settings.clone();
    settings.reset_threshold(context.changed());
    drop(state);
    let id = context.machine_id(number).to_owned();
    let data = json!({ "machines": [{ "machine": id, "proposal": messages::facts(&id, &baseline) }] });
    let kept = baseline.clone();
    let baselines = BaselineStore::new(&shared.config.agent.state_dir);
    let keep = move || Ok(baselines.put_back(&id, &kept)?);
    let apply = move |state: &mut MonitorState| {
        state.machines[number].learning.proposal = Some(baseline);
        learning::take_into_use(&shared, state, number, None, &why, now)
    };
    Some(Outcome::Act(Act { data, settings: vec![(number, settings)], keep: Box::new(keep), apply: Box::new(apply) }))
}
