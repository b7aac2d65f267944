//! Learning a machine's normal, from the first window to the baseline in use: what happens by itself between the commands
//! that begin and end it.
//!
//! The scoring thread feeds the learner; when it has enough, another thread works out the proposal, which takes
//! seconds, while windows go on being judged. Only the controller's thread begins and ends learners, so that what it
//! read under the monitor's lock still holds when a file is written and the lock taken again.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::baselines::{self, ApplyBaseline, Proposed};
use super::error::{Code, CommandError};
use super::fitting::Fitting;
use super::messages::{baseline_facts, describe_baseline, event, progress_event};
use super::output::Output;
use super::shared::Shared;
use super::transaction::Transaction;
use crate::config::BaselineMode;
use crate::monitor::MonitorState;
use crate::mqtt::payload::EventKind;
use crate::scoring::Baseline;
use crate::scoring::baseline::{LearnSettings, Learner};

/// A proposal that is being worked out, of the generation of its learner; one at a time.
#[derive(Default)]
pub struct Proposing(Option<Fitting<u64>>);

impl Proposing {
    /// Begins what is to be learned by itself, works out what is complete, takes into use what is to be used by itself.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.finish(shared, now);
        let machines = shared.monitor.lock().machines.numbers();
        for number in machines {
            out.extend(auto_learn(shared, number, now));
        }
        if self.0.is_none() {
            let state = shared.monitor.lock();
            let complete = |learner: &&Learner| learner.progress().complete;
            let found = state.machines.iter().find_map(|(number, machine)| {
                let learner = machine.learning.learner.as_ref().filter(complete)?;
                Some((number, machine.learning.generation, learner.clone()))
            });
            drop(state);
            self.0 = found.and_then(|(number, generation, learner)| {
                Fitting::begin(number, generation, move || learner.propose())
            });
        }
        out
    }

    fn finish(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let Some(fitting) = &self.0 else { return Vec::new() };
        let (number, generation) = (fitting.number, fitting.made_from);
        let Some(result) = fitting.poll() else { return Vec::new() };
        self.0 = None;
        {
            let state = shared.monitor.lock();
            let learning = state.machines.get(number).map(|machine| &machine.learning);
            if !learning.is_some_and(|learning| learning.learner.is_some() && learning.generation == generation) {
                // Discarded meanwhile, or the machine was removed.
                return Vec::new();
            }
        }
        let (id, store) = (shared.monitor.id(number), &shared.baselines);
        let saved = result.and_then(|baseline| match store.save_proposal(&id, &baseline) {
            Ok(()) => Ok(Arc::new(baseline)),
            Err(error) => Err(format!("the baseline cannot be saved: {error}")),
        });
        // A learner that is still there after a power cut proposes once more.
        baselines::warn(&id, store.end_learner(&id, generation));
        let mut state = shared.monitor.lock();
        let learning = &mut state.machines[number].learning;
        learning.learner = None;
        match saved {
            Ok(baseline) => {
                let facts = baseline_facts(&id, &baseline);
                learning.proposal = Some(baseline.clone());
                let detail = describe_baseline(&baseline);
                vec![event(shared, number, EventKind::BaselineLearned, detail, Some(facts), now)]
            }
            Err(problem) => {
                learning.failed = Some(problem.clone());
                drop(state);
                vec![event(shared, number, EventKind::BaselineFailed, problem, None, now)]
            }
        }
    }
}

/// What `baseline = "auto"` does without being asked, and the end of what no longer fits the bundle.
fn auto_learn(shared: &Arc<Shared>, number: usize, now: DateTime<Utc>) -> Vec<Output> {
    let mut out = end_misfit(shared, number, now);
    let mut state = shared.monitor.lock();
    let Some(loaded) = &state.loaded else { return out };
    let machine = &state.machines[number];
    if machine.config.baseline != Some(BaselineMode::Auto) {
        return out;
    }
    let fits = |baseline: &Arc<Baseline>| baseline.check_origin(loaded.origin(number)).is_ok();
    if let Some(proposal) = machine.learning.proposal.clone().filter(fits) {
        let previous = in_use(&state, number);
        drop(state);
        let proposed = Proposed { number, id: shared.monitor.id(number), baseline: proposal, previous, settings: None };
        let mut apply =
            Box::new(ApplyBaseline { shared: shared.clone(), machines: vec![proposed], why: " by itself".into() });
        match apply.persist() {
            Ok(()) => {
                out.extend(apply.apply(&mut shared.monitor.lock(), now));
                apply.finish();
            }
            Err(error) => {
                let id = shared.monitor.id(number);
                tracing::warn!(machine = &*id, %error, "the baseline cannot be saved; tried again");
            }
        }
    } else if loaded.baseline(number).is_none() && machine.learning.learner.is_none() {
        let (minutes, rate) = (machine.config.baseline_minutes, machine.config.false_alarm_rate);
        match new_learner(&state, number, minutes, rate, now) {
            Ok(learner) => {
                out.push(progress_event(shared, number, &learner.progress(), now));
                let learning = &mut state.machines[number].learning;
                (learning.learner, learning.generation) = (Some(learner), shared.baselines.new_generation());
            }
            Err(error) => {
                drop(state);
                tracing::error!(machine = &*shared.monitor.id(number), %error, "cannot learn");
            }
        }
    }
    out
}

/// Ends a learner that no longer fits the bundle.
fn end_misfit(shared: &Shared, number: usize, now: DateTime<Utc>) -> Vec<Output> {
    let mut state = shared.monitor.lock();
    let Some(loaded) = &state.loaded else { return Vec::new() };
    let learner = state.machines[number].learning.learner.as_ref();
    let misfit = learner.and_then(|learner| learner.settings().origin.check(loaded.origin(number)).err());
    let Some(error) = misfit else { return Vec::new() };
    let learning = &mut state.machines[number].learning;
    learning.learner = None;
    let generation = learning.generation;
    drop(state);
    let id = shared.monitor.id(number);
    baselines::warn(&id, shared.baselines.end_learner(&id, generation));
    vec![event(shared, number, EventKind::BaselineFailed, format!("learning ends: {error}"), None, now)]
}

/// The baseline in use, where it was learned on site.
pub fn in_use(state: &MonitorState, number: usize) -> Option<Arc<Baseline>> {
    let (baseline, _) = state.loaded.as_ref()?.baseline(number).filter(|(_, on_site)| *on_site)?;
    Some(baseline.clone())
}

/// A learner for machine number `number` as it is judged now.
///
/// # Errors
/// Where no bundle is loaded.
pub fn new_learner(
    state: &MonitorState,
    number: usize,
    minutes: f64,
    false_alarm_rate: f64,
    now: DateTime<Utc>,
) -> Result<Learner, CommandError> {
    let loaded = state.loaded.as_ref().ok_or_else(no_bundle)?;
    let settings = LearnSettings {
        machine: state.machines[number].config.id.clone(),
        origin: loaded.origin(number).clone(),
        hop_s: state.machines[number].config.hop_s,
        wanted_s: 60.0 * minutes,
        false_alarm_rate,
        previous_threshold: state.threshold(number, now).map(|found| found.threshold),
    };
    Learner::new(settings, now).map_err(|error| CommandError::new(Code::BadArgument, error))
}

pub fn no_bundle() -> CommandError {
    CommandError::new(Code::BundleInvalid, "no bundle is loaded: nothing to learn with")
}
