//! Learning a machine's normal, from the first window to the baseline in use: what happens by itself between the commands
//! that begin and end it.
//!
//! The scoring thread feeds the learner; when it has enough, another thread works out the proposal, which takes
//! seconds, while windows go on being judged. Only the controller's thread begins and ends learners, so that what it
//! read under the monitor's lock still holds when a file is written and the lock taken again.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::baselines::{ApplyBaseline, Proposed};
use super::error::{Code, CommandError};
use super::fitting::Fitting;
use super::messages::{baseline_facts, describe_baseline, event, progress_event};
use super::output::Output;
use super::shared::Shared;
use super::transaction::Transaction;
use crate::clock::Timestamp;
use crate::config::BaselineMode;
use crate::monitor::MonitorState;
use crate::monitor::baseline_switch::{self, Switch, Switches};
use crate::monitor::clips::{Rules, review};
use crate::monitor::machine::{Addition, Machine};
use crate::monitor::model::ActiveBundle;
use crate::mqtt::payload::EventKind;
use crate::scoring::baseline::{BaselineError, LearnSettings, Learner};
use crate::scoring::{Baseline, Judge};

/// A proposal that is being worked out; one at a time.
#[derive(Default)]
pub struct Proposing(Option<Fitting<MadeFrom>>);

/// What a proposal is made from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MadeFrom {
    /// The learner of this generation.
    Learner(u64),
    /// The windows of an alarm that was answered as normal.
    Answer,
}

impl Proposing {
    /// Begins what is to be learned by itself, works out what is complete, takes into use what is to be used by itself.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.finish(shared, now);
        let machines = shared.monitor.lock().machines.numbers();
        for number in machines {
            out.extend(auto_learn(shared, number, now));
        }
        if self.0.is_none() {
            self.0 = begin(shared, now);
        }
        out
    }

    fn finish(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let Some(fitting) = &self.0 else { return Vec::new() };
        let (number, made_from) = (fitting.number, fitting.made_from);
        let Some(result) = fitting.poll() else { return Vec::new() };
        self.0 = None;
        {
            let state = shared.monitor.lock();
            let is_wanted = |machine: &Machine| match made_from {
                MadeFrom::Learner(generation) => {
                    machine.learning.learner.is_some() && machine.learning.generation == generation
                }
                MadeFrom::Answer => true,
            };
            if !state.machines.get(number).is_some_and(is_wanted) {
                // Discarded meanwhile, or the machine was removed.
                return Vec::new();
            }
        }
        let (id, store) = (shared.monitor.id(number), &shared.baselines);
        let mut switches = Switches::default();
        let saved = result.and_then(|baseline| {
            let switch = Switch::decided().proposal(Some(&baseline));
            // The learner goes in the same step: it must not propose once more after a power cut.
            let switch = if made_from == MadeFrom::Answer { switch } else { switch.learner(None) };
            match switches.begin(store, &id, switch) {
                Ok(()) => Ok(Arc::new(baseline)),
                Err(error) => Err(format!("the baseline cannot be saved: {error}")),
            }
        });
        switches.finish(store);
        if let MadeFrom::Learner(generation) = made_from {
            baseline_switch::warn(&id, store.end_learner(&id, generation));
        }
        let mut state = shared.monitor.lock();
        let waits = saved.as_ref().is_ok_and(|baseline| !applies_by_itself(&state, number, baseline));
        let learning = &mut state.machines[number].learning;
        if made_from != MadeFrom::Answer {
            learning.learner = None;
        }
        match saved {
            Ok(baseline) => {
                let facts = baseline_facts(&id, &baseline);
                learning.proposal = Some(baseline.clone());
                let detail = describe_baseline(&baseline, waits);
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

/// Begins with what waits: an answer first.
fn begin(shared: &Arc<Shared>, now: DateTime<Utc>) -> Option<Fitting<MadeFrom>> {
    let mut state = shared.monitor.lock();
    let waits = state.machines.iter().find(|(_, machine)| !machine.learning.additions.is_empty());
    if let Some(number) = waits.map(|(number, _)| number) {
        let addition = state.machines[number].learning.additions.remove(0);
        let extend = extend(shared, &state, number, addition, now);
        drop(state);
        return Fitting::begin(number, MadeFrom::Answer, extend);
    }
    let (number, generation, learner) = state.machines.iter().find_map(|(number, machine)| {
        let learner = machine.has_learned().then(|| machine.decided_learner()).flatten()?;
        Some((number, machine.learning.generation, learner))
    })?;
    let made_from = MadeFrom::Learner(generation);
    if learner.adds() {
        let addition = Addition { alarm: None, samples: Arc::new(learner.confirmed_samples()) };
        let extend = extend(shared, &state, number, addition, now);
        drop(state);
        return Fitting::begin(number, made_from, extend);
    }
    drop(state);
    Fitting::begin(number, made_from, move || learner.propose())
}

/// Adds windows to a machine's baseline, and looks what that would have changed.
fn extend(
    shared: &Arc<Shared>,
    state: &MonitorState,
    number: usize,
    Addition { alarm, samples }: Addition,
    now: DateTime<Utc>,
) -> impl FnOnce() -> Result<Baseline, BaselineError> + Send + 'static {
    let base = base(state, number);
    let Machine { config, alarm: own, learning, .. } = &state.machines[number];
    let rules = Rules { judge: config.judge.unwrap_or(Judge::Combined), alarm: own.config().clone() };
    let (hop_s, learned) = (config.hop_s, Timestamp::from(now).to_string());
    let proposed = learning.proposal.as_ref().and_then(|proposal| proposal.changes.clone());
    let (clips, journal) = (shared.clips.clone(), shared.journal.clone());
    move || {
        let mut baseline = base.map_err(BaselineError::Refused)?.extended(&samples, hop_s, learned)?;
        let mut changes = review(&clips, &baseline, &rules, |key| journal.number(key));
        changes.alarm = alarm;
        // What waits already is added to, and counts from the one in use on.
        if let Some(before) = proposed {
            changes.added += before.added;
            changes.previous_threshold = before.previous_threshold;
        }
        baseline.changes = Some(changes);
        Ok(baseline)
    }
}

/// The baseline that windows can be added to: one that waits with an addition, else the one in use.
///
/// # Errors
/// Why there is none.
pub fn base(state: &MonitorState, number: usize) -> Result<Arc<Baseline>, String> {
    let proposal = state.machines[number].learning.proposal.as_ref();
    let base = match proposal {
        Some(proposal) if proposal.changes.is_some() => proposal.clone(),
        Some(_) => return Err("a proposed baseline waits: apply or discard it first".into()),
        None => in_use(state, number).ok_or("it has no baseline that was learned here")?,
    };
    match base.can_be_added_to() {
        true => Ok(base),
        false => Err(BaselineError::NoSamples.to_string()),
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
    let proposal = machine.learning.proposal.clone();
    if let Some(proposal) = proposal.filter(|proposal| applies_by_itself(&state, number, proposal)) {
        let previous = in_use(&state, number);
        drop(state);
        let proposed = Proposed { number, id: shared.monitor.id(number), baseline: proposal, previous, settings: None };
        let mut apply = Box::new(ApplyBaseline {
            shared: shared.clone(),
            machines: vec![proposed],
            why: " by itself".into(),
            by_itself: true,
            switches: Switches::default(),
        });
        match apply.persist() {
            Ok(()) => {
                out.extend(apply.apply(&mut shared.monitor.lock(), now));
                apply.finish();
            }
            Err(error) => {
                apply.revert();
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

/// Whether `baseline = "auto"` takes a proposal into use. What was added is for a person to apply.
fn applies_by_itself(state: &MonitorState, number: usize, proposal: &Baseline) -> bool {
    let fits = |loaded: &ActiveBundle| proposal.check_origin(loaded.origin(number)).is_ok();
    state.machines[number].config.baseline == Some(BaselineMode::Auto)
        && proposal.changes.is_none()
        && state.loaded.as_ref().is_some_and(fits)
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
    baseline_switch::warn(&id, shared.baselines.end_learner(&id, generation));
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
