//! What has been learned until now judges while learning goes on, from 40 windows on: a person who has just set a machine
//! up need not wait for an hour until a fault is told. Made again whenever there are a quarter more windows, on a thread of
//! its own; what is complete takes its place ([`learning`](super::learning)).

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::fitting::Fitting;
use super::messages::{event, settings_msg};
use super::output::Output;
use super::shared::Shared;
use crate::config::BaselineMode;
use crate::monitor::MonitorState;
use crate::monitor::machine::ProvisionalAttempt;
use crate::monitor::model::ProvisionalBaseline;
use crate::mqtt::payload::EventKind;
use crate::numbers::counted;
use crate::scoring::Baseline;
use crate::scoring::baseline::{LearnProgress, Learner, PROVISIONAL_LEAST};

/// A provisional baseline that is being made; one at a time.
#[derive(Default)]
pub struct Provisionals(Option<Fitting<ProvisionalBaseline>>);

impl Provisionals {
    /// Takes into use what is made, ends what no longer holds, begins what is due.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.finish(shared, now);
        let mut state = shared.monitor.lock();
        for number in state.machines.numbers() {
            if has_ended(&state, number) {
                if let Some(loaded) = &mut state.loaded {
                    loaded.use_provisional(number, None);
                }
                out.push(settings(shared, &state, number, now));
            }
        }
        if self.0.is_none() {
            let due = state.machines.numbers().into_iter().find_map(|number| due(&state, number));
            drop(state);
            self.0 = due.and_then(|(number, learner, made_from)| {
                Fitting::begin(number, made_from, move || learner.provisional())
            });
        }
        out
    }

    fn finish(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let Some(fitting) = &self.0 else { return Vec::new() };
        let (number, made_from) = (fitting.number, fitting.made_from);
        let Some(result) = fitting.poll() else { return Vec::new() };
        self.0 = None;
        let mut state = shared.monitor.lock();
        if learner(&state, number).is_none_or(|(_, generation)| generation != made_from.generation) {
            // Discarded meanwhile, complete, or the machine was removed.
            return Vec::new();
        }
        let ProvisionalBaseline { generation, windows, .. } = made_from;
        let failed = result.is_err();
        state.machines[number].learning.provisional = ProvisionalAttempt { generation, windows, failed };
        match result {
            Ok(baseline) => take_into_use(shared, &mut state, number, baseline, made_from, now),
            Err(problem) => {
                drop(state);
                let machine = &*shared.monitor.id(number);
                tracing::info!(machine, problem, "what has been learned until now cannot judge yet");
                Vec::new()
            }
        }
    }
}

fn take_into_use(
    shared: &Shared,
    state: &mut MonitorState,
    number: usize,
    baseline: Baseline,
    made_from: ProvisionalBaseline,
    now: DateTime<Utc>,
) -> Vec<Output> {
    let Some(loaded) = &mut state.loaded else { return Vec::new() };
    let is_first = loaded.provisional(number).is_none();
    let detail = format!(
        "judged provisionally from now on, by {}, {:.0} of {:.0} minutes: alarms may be wrong more often",
        counted(made_from.windows, "window"),
        made_from.heard_s / 60.0,
        made_from.wanted_s / 60.0
    );
    loaded.use_provisional(number, Some((Arc::new(baseline), made_from)));
    // So few windows say nothing about what moves slowly.
    state.machines[number].alarm.calibrate(None);
    let mut out = vec![settings(shared, state, number, now)];
    if is_first {
        out.push(event(shared, number, EventKind::BaselineProvisional, detail, None, now));
    }
    out
}

fn settings(shared: &Shared, state: &MonitorState, number: usize, now: DateTime<Utc>) -> Output {
    Output::Settings(settings_msg(shared, state, number, &state.machines[number].settings, now))
}

/// The learner whose machine is to be judged by it, and its generation.
fn learner(state: &MonitorState, number: usize) -> Option<(&Learner, u64)> {
    let (machine, loaded) = (state.machines.get(number)?, state.loaded.as_ref()?);
    let learning = &machine.learning;
    let learner = learning.learner.as_ref().filter(|learner| !learner.takes_all())?;
    let fits = learner.settings().origin.check(loaded.origin(number)).is_ok();
    let wanted = machine.config.baseline == Some(BaselineMode::Auto) && loaded.baseline(number).is_none();
    (fits && wanted).then_some((learner, learning.generation))
}

/// What it judges by was learned by a learner that is gone. A proposal that waits to be used takes its place at once.
fn has_ended(state: &MonitorState, number: usize) -> bool {
    let provisional = state.loaded.as_ref().and_then(|loaded| loaded.provisional(number));
    let waits = state.machines[number].learning.proposal.is_some();
    let goes_on = |made_from: &ProvisionalBaseline| {
        learner(state, number).is_some_and(|(_, generation)| generation == made_from.generation)
    };
    provisional.is_some_and(|made_from| !waits && !goes_on(made_from))
}

fn due(state: &MonitorState, number: usize) -> Option<(usize, Learner, ProvisionalBaseline)> {
    let (learner, generation) = learner(state, number)?;
    let machine = &state.machines[number];
    let progress = learner.progress();
    let windows = progress.windows.saturating_sub(machine.undecided_windows());
    if windows < PROVISIONAL_LEAST as u64 || progress.complete {
        return None;
    }
    let last = &machine.learning.provisional;
    let is_judging = state.loaded.as_ref().is_some_and(|loaded| loaded.provisional(number).is_some());
    let is_new = last.generation != generation || !(last.failed || is_judging);
    // After windows were taken back, as before.
    let is_due = is_new || 4 * windows >= 5 * last.windows;
    if !is_due {
        return None;
    }
    let learner = machine.decided_learner()?;
    let LearnProgress { heard_s, wanted_s, .. } = learner.progress();
    Some((number, learner, ProvisionalBaseline { generation, windows, heard_s, wanted_s }))
}
