//! Learning a machine's normal, from the first window to the baseline in use: what commands begin and end, and what
//! happens by itself in between.
//!
//! The judging thread feeds the learner; when it has enough, a thread of its own works out the proposal, which takes
//! seconds, while windows go on being judged.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use chrono::{DateTime, Utc};

use super::error::{Code, CommandError};
use super::messages::{event, facts, progress_event, said, settings_msg};
use super::outcome::Output;
use super::shared::Shared;
use crate::config::BaselineMode;
use crate::monitor::MonitorState;
use crate::monitor::baseline_store::BaselineStore;
use crate::mqtt::payload::EventKind;
use crate::scoring::Baseline;
use crate::scoring::baseline::{BaselineError, LearnSettings, Learner};

/// A proposal that is being worked out; one at a time.
#[derive(Default)]
pub struct Proposing(Option<(usize, Receiver<Result<Baseline, BaselineError>>)>);

impl Proposing {
    /// Begins what is to be learned by itself, works out what is complete, takes into use what is to be used by itself.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.finish(shared, now);
        let mut state = shared.monitor.lock();
        for number in 0..state.machines.len() {
            out.extend(auto_learn(shared, &mut state, number, now));
            let learner = state.machines[number].learning.learner.as_ref();
            if let (None, Some(learner)) = (&self.0, learner.filter(|learner| learner.progress().complete)) {
                self.0 = begin(number, learner.clone());
            }
        }
        out
    }

    fn finish(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let Some((number, outcome)) = &self.0 else { return Vec::new() };
        let (number, result) = match outcome.try_recv() {
            Err(TryRecvError::Empty) => return Vec::new(),
            Err(TryRecvError::Disconnected) => (*number, Err("the agent stumbled over it; its log says where".into())),
            Ok(result) => (*number, result.map_err(|error| error.to_string())),
        };
        self.0 = None;
        let mut state = shared.monitor.lock();
        let site = &mut state.machines[number].learning;
        // Discarded meanwhile.
        if site.learner.take_if(|learner| learner.progress().complete).is_none() {
            return Vec::new();
        }
        let (id, baselines) = (&shared.config.machine[number].id, BaselineStore::new(&shared.config.agent.state_dir));
        let kept = result.and_then(|baseline| match baselines.keep_proposal(id, &baseline) {
            Ok(()) => Ok(Arc::new(baseline)),
            Err(error) => Err(format!("the baseline cannot be kept: {error}")),
        });
        match kept {
            Ok(baseline) => {
                let told = facts(id, &baseline);
                site.proposal = Some(baseline.clone());
                vec![event(shared, number, EventKind::BaselineLearned, said(&baseline), Some(told), now)]
            }
            Err(problem) => {
                tracing::warn!(machine = id, problem, "nothing was learned");
                if let Err(error) = baselines.drop_learner(id) {
                    tracing::warn!(machine = id, %error, "what was heard cannot be dropped");
                }
                site.failed = Some(problem.clone());
                vec![event(shared, number, EventKind::BaselineFailed, problem, None, now)]
            }
        }
    }
}

fn begin(number: usize, learner: Learner) -> Option<(usize, Receiver<Result<Baseline, BaselineError>>)> {
    let (done, outcome) = mpsc::channel();
    // Nobody listens any more when the agent is stopping; the learner is on disk.
    let job = move || drop(done.send(learner.propose()));
    match std::thread::Builder::new().name("baseline".into()).spawn(job) {
        Ok(_) => Some((number, outcome)),
        Err(error) => {
            tracing::warn!(%error, "no thread for a baseline; tried again");
            None
        }
    }
}

/// What `baseline = "auto"` does without being asked, and the end of what no longer fits the bundle.
fn auto_learn(shared: &Arc<Shared>, state: &mut MonitorState, number: usize, now: DateTime<Utc>) -> Vec<Output> {
    let mut out = Vec::new();
    let Some(loaded) = &state.loaded else { return out };
    let config = &shared.config.machine[number];
    let baselines = BaselineStore::new(&shared.config.agent.state_dir);
    let site = &mut state.machines[number].learning;
    let misfit = site.learner.as_ref().and_then(|learner| learner.settings().origin.check(loaded.origin(number)).err());
    if let Some(error) = misfit {
        site.learner = None;
        if let Err(error) = baselines.drop_learner(&config.id) {
            tracing::warn!(machine = config.id, %error, "what was heard cannot be dropped");
        }
        out.push(event(shared, number, EventKind::BaselineFailed, format!("learning ends: {error}"), None, now));
    }
    if config.baseline != Some(BaselineMode::Auto) {
        return out;
    }
    let fits = |baseline: &Arc<Baseline>| baseline.check_origin(loaded.origin(number)).is_ok();
    if let Some(proposal) = site.proposal.clone().filter(fits) {
        match baselines.keep_in_use(&config.id, &proposal) {
            Ok(()) => out.extend(take_into_use(shared, state, number, Some(proposal), " by itself", now)),
            Err(error) => tracing::warn!(machine = config.id, %error, "the baseline cannot be kept; tried again"),
        }
    } else if loaded.baseline(number).is_none() && site.learner.is_none() {
        match learner(state, number, config.baseline_minutes, config.false_alarm_rate, now) {
            Ok(learner) => {
                out.push(progress_event(shared, number, &learner.progress(), now));
                state.machines[number].learning.learner = Some(learner);
            }
            Err(fault) => tracing::error!(machine = config.id, error = fault.message, "cannot learn"),
        }
    }
    out
}

/// A learner for machine number `number` as it is judged now.
///
/// # Errors
/// Where no bundle is loaded.
pub fn learner(
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

/// Judges a machine by a baseline from its next window on, or by the bundle's bank again; what to tell of it.
pub fn take_into_use(
    shared: &Arc<Shared>,
    state: &mut MonitorState,
    number: usize,
    baseline: Option<Arc<Baseline>>,
    why: &str,
    now: DateTime<Utc>,
) -> Vec<Output> {
    let Some(loaded) = &mut state.loaded else { return Vec::new() };
    loaded.use_baseline(number, baseline.clone());
    let slow = loaded.baseline(number).and_then(|(baseline, _)| baseline.slow());
    let machine = &mut state.machines[number];
    machine.alarm.calibrate(slow);
    machine.alarm.forget_evidence();
    let id = &shared.config.machine[number].id;
    let told = match baseline {
        Some(baseline) => {
            machine.learning.proposal = None;
            let detail = format!("threshold {:.4}{why}", baseline.threshold);
            event(shared, number, EventKind::BaselineApplied, detail, Some(facts(id, &baseline)), now)
        }
        None => event(shared, number, EventKind::BaselineDiscarded, format!("baseline{why}"), None, now),
    };
    let settings = settings_msg(shared, state, number, &state.machines[number].settings, now);
    vec![told, Output::Settings(settings)]
}
