//! Learning a machine's normal, from the first window to the baseline in use: what commands begin and end, and what
//! happens by itself in between.
//!
//! The judging thread feeds the learner; when it has enough, a thread of its own works out the proposal, which takes
//! seconds, while windows go on being judged.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::desk::settings_msg;
use super::fault::{Code, Fault};
use super::{Output, Shared};
use crate::agent::baselines::Shelf;
use crate::agent::station::Inner;
use crate::clock::Timestamp;
use crate::config::BaselineMode;
use crate::mqtt::payload::{EventKind, EventMsg, SchemaVersion};
use crate::scoring::Baseline;
use crate::scoring::baseline::{BaselineError, LearnSettings, Learner, Progress};

/// A proposal that is being worked out; one at a time.
#[derive(Default)]
pub struct Proposing(Option<(usize, Receiver<Result<Baseline, BaselineError>>)>);

impl Proposing {
    /// Begins what is to be learned by itself, works out what is complete, takes into use what is to be used by itself.
    pub fn tick(&mut self, shared: &Arc<Shared>, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.finish(shared, now);
        let mut inner = shared.station.lock();
        for number in 0..inner.machines.len() {
            out.extend(by_itself(shared, &mut inner, number, now));
            let learner = inner.machines[number].site.learner.as_ref();
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
        let mut inner = shared.station.lock();
        let site = &mut inner.machines[number].site;
        // Discarded meanwhile.
        if site.learner.take_if(|learner| learner.progress().complete).is_none() {
            return Vec::new();
        }
        let (id, shelf) = (&shared.config.machine[number].id, Shelf::new(&shared.config.agent.state_dir));
        let kept = result.and_then(|baseline| match shelf.keep_proposal(id, &baseline) {
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
                if let Err(error) = shelf.drop_learner(id) {
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
fn by_itself(shared: &Arc<Shared>, inner: &mut Inner, number: usize, now: DateTime<Utc>) -> Vec<Output> {
    let mut out = Vec::new();
    let Some(loaded) = &inner.loaded else { return out };
    let config = &shared.config.machine[number];
    let shelf = Shelf::new(&shared.config.agent.state_dir);
    let site = &mut inner.machines[number].site;
    let misfit = site.learner.as_ref().and_then(|learner| learner.settings().origin.check(loaded.origin(number)).err());
    if let Some(error) = misfit {
        site.learner = None;
        if let Err(error) = shelf.drop_learner(&config.id) {
            tracing::warn!(machine = config.id, %error, "what was heard cannot be dropped");
        }
        out.push(event(shared, number, EventKind::BaselineFailed, format!("learning ends: {error}"), None, now));
    }
    if config.baseline != Some(BaselineMode::Auto) {
        return out;
    }
    let fits = |baseline: &Arc<Baseline>| baseline.check_origin(loaded.origin(number)).is_ok();
    if let Some(proposal) = site.proposal.clone().filter(fits) {
        match shelf.keep_in_use(&config.id, &proposal) {
            Ok(()) => out.extend(take_into_use(shared, inner, number, Some(proposal), " by itself", now)),
            Err(error) => tracing::warn!(machine = config.id, %error, "the baseline cannot be kept; tried again"),
        }
    } else if loaded.baseline(number).is_none() && site.learner.is_none() {
        match learner(inner, number, config.baseline_minutes, config.false_alarm_rate, now) {
            Ok(learner) => {
                out.push(progress_event(shared, number, &learner.progress(), now));
                inner.machines[number].site.learner = Some(learner);
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
    inner: &Inner,
    number: usize,
    minutes: f64,
    false_alarm_rate: f64,
    now: DateTime<Utc>,
) -> Result<Learner, Fault> {
    let loaded = inner.loaded.as_ref().ok_or_else(no_bundle)?;
    let settings = LearnSettings {
        machine: inner.machines[number].config.id.clone(),
        origin: loaded.origin(number).clone(),
        hop_s: inner.machines[number].config.hop_s,
        wanted_s: 60.0 * minutes,
        false_alarm_rate,
        previous_threshold: inner.threshold(number, now).map(|found| found.threshold),
    };
    Learner::new(settings, now).map_err(|error| Fault::new(Code::BadArgument, error))
}

pub fn no_bundle() -> Fault {
    Fault::new(Code::BundleInvalid, "no bundle is loaded: nothing to learn with")
}

/// Judges a machine by a baseline from its next window on, or by the bundle's bank again; what to tell of it.
pub fn take_into_use(
    shared: &Arc<Shared>,
    inner: &mut Inner,
    number: usize,
    baseline: Option<Arc<Baseline>>,
    why: &str,
    now: DateTime<Utc>,
) -> Vec<Output> {
    let Some(loaded) = &mut inner.loaded else { return Vec::new() };
    loaded.use_baseline(number, baseline.clone());
    let slow = loaded.baseline(number).and_then(|(baseline, _)| baseline.slow());
    let machine = &mut inner.machines[number];
    machine.alarm.calibrate(slow);
    machine.alarm.forget_evidence();
    let id = &shared.config.machine[number].id;
    let told = match baseline {
        Some(baseline) => {
            machine.site.proposal = None;
            let detail = format!("threshold {:.4}{why}", baseline.threshold);
            event(shared, number, EventKind::BaselineApplied, detail, Some(facts(id, &baseline)), now)
        }
        None => event(shared, number, EventKind::BaselineDiscarded, format!("baseline{why}"), None, now),
    };
    let settings = settings_msg(shared, inner, number, &inner.machines[number].settings, now);
    vec![told, Output::Settings(settings)]
}

/// What a baseline is and what it would have meant, in numbers.
pub fn facts(machine: &str, baseline: &Baseline) -> Value {
    let meant = &baseline.meant;
    json!({
        "machine": machine,
        "learned": baseline.learned,
        "bundle": baseline.origin.bundle,
        "threshold": baseline.threshold,
        "threshold_by": baseline.threshold_by,
        "false_alarm_rate": baseline.false_alarm_rate,
        "windows": meant.windows,
        "rows": baseline.rows().len(),
        "lanes": baseline.has_lanes(),
        "heard_s": meant.heard_s.round(),
        "left_out": baseline.left_out.values().sum::<u64>(),
        "distance_share": meant.distance_share,
        "distance_alarms": meant.distance_alarms,
        "combined_share": meant.combined_share,
        "combined_alarms": meant.combined_alarms,
        "previous_share": meant.previous_share,
        "baseline_dbfs": baseline.level_dbfs,
        "off_below_dbfs": baseline.off_below_dbfs,
    })
}

/// The same in words.
fn said(baseline: &Baseline) -> String {
    let meant = &baseline.meant;
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let previous = meant.previous_share.map(|before| format!(", {} with the present one", share(before)));
    format!(
        "threshold {:.4}: {} of {} windows would have been anomalous{}; apply or discard it",
        baseline.threshold,
        share(meant.distance_share),
        meant.windows,
        previous.unwrap_or_default(),
    )
}

/// How far learning has come.
pub fn progress_event(shared: &Shared, number: usize, progress: &Progress, now: DateTime<Utc>) -> Output {
    let (detail, facts) = progress_told(progress);
    event(shared, number, EventKind::BaselineLearning, detail, Some(facts), now)
}

/// In words and in numbers.
pub fn progress_told(progress: &Progress) -> (String, Value) {
    let Progress { heard_s, wanted_s, windows, left_out, .. } = progress;
    let left: u64 = left_out.values().sum();
    let share = (heard_s / wanted_s).min(1.0);
    let why: Vec<_> = left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(", left out: {}", why.join(", ")) };
    let detail = format!("{:.0} %: {windows} windows{why}", 100.0 * share);
    let facts = json!({
        "share": share, "heard_s": heard_s, "wanted_s": wanted_s, "windows": windows, "left_out": left,
    });
    (detail, facts)
}

/// An event of one machine; `facts` is an object.
pub fn event(
    shared: &Shared,
    number: usize,
    event: EventKind,
    detail: String,
    facts: Option<Value>,
    now: DateTime<Utc>,
) -> Output {
    let mut facts = match facts {
        Some(Value::Object(facts)) => facts,
        _ => Map::new(),
    };
    facts.remove("machine");
    Output::Event(EventMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        machine: Some(shared.config.machine[number].id.clone()),
        event,
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        facts,
        clock: shared.clock.mark(),
        late: false,
    })
}
