//! What changes a machine's baseline: learning begins, a proposal is taken into use, put back, discarded.

use std::io;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::error::CommandError;
use super::messages::{baseline_facts, event, progress_event, settings_msg};
use super::output::Output;
use super::shared::Shared;
use super::store::Commit;
use super::transaction::Transaction;
use crate::monitor::MonitorState;
use crate::monitor::settings::MachineSettings;
use crate::mqtt::payload::EventKind;
use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;

/// Begins to learn some machines' normal.
pub struct BeginLearning {
    pub shared: Arc<Shared>,
    pub machines: Vec<NewLearner>,
}

/// A learner without any window yet.
pub struct NewLearner {
    /// The machine's number.
    pub number: usize,
    pub id: Arc<str>,
    pub generation: u64,
    pub learner: Learner,
}

impl Transaction for BeginLearning {
    fn persist(&mut self) -> Result<(), CommandError> {
        let baselines = &self.shared.baselines;
        let save = |new: &NewLearner| baselines.save_learner(&new.id, new.generation, &new.learner);
        Ok(self.machines.iter().try_for_each(save)?)
    }

    fn revert(&mut self) {
        for new in &self.machines {
            warn(&new.id, self.shared.baselines.end_learner(&new.id, new.generation));
        }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let begin = |new: NewLearner| {
            let progress = new.learner.progress();
            let learning = &mut state.machines[new.number].learning;
            (learning.learner, learning.generation, learning.failed) = (Some(new.learner), new.generation, None);
            progress_event(&self.shared, new.number, &progress, now)
        };
        self.machines.drain(..).map(begin).collect()
    }
}

/// Takes proposals into use.
pub struct ApplyBaseline {
    pub shared: Arc<Shared>,
    pub machines: Vec<Proposed>,
    /// What is taken into use is the one before, and takes its place.
    pub rolls_back: bool,
    /// Who and why, for the event.
    pub why: String,
}

/// One machine's proposal.
pub struct Proposed {
    /// The machine's number.
    pub number: usize,
    pub id: Arc<str>,
    pub baseline: Arc<Baseline>,
    /// The baseline that was learned on site and is in use until now.
    pub previous: Option<Arc<Baseline>>,
    /// New settings, where they change.
    pub settings: Option<MachineSettings>,
}

impl Transaction for ApplyBaseline {
    fn persist(&mut self) -> Result<(), CommandError> {
        // The proposal stays until the end: after a power cut the same command finds it again.
        // The one before is kept first, unless it is itself what is read from there.
        let store = &self.shared.baselines;
        let keep = |one: &Proposed| one.previous.as_ref().map_or(Ok(()), |before| store.save_previous(&one.id, before));
        let save = |one: &Proposed| match self.rolls_back {
            true => store.save_in_use(&one.id, &one.baseline).and_then(|()| keep(one)),
            false => keep(one).and_then(|()| store.save_in_use(&one.id, &one.baseline)),
        };
        Ok(self.machines.iter().try_for_each(save)?)
    }

    fn rows(&self) -> Commit<'_> {
        let settings = self.machines.iter().filter_map(|one| Some((&*one.id, one.settings.as_ref()?)));
        Commit { settings: settings.collect(), ..Commit::default() }
    }

    fn revert(&mut self) {
        for one in &self.machines {
            warn(
                &one.id,
                match &one.previous {
                    Some(previous) => self.shared.baselines.save_in_use(&one.id, previous),
                    None => self.shared.baselines.remove_in_use(&one.id, &one.baseline),
                },
            );
            if self.rolls_back {
                warn(&one.id, self.shared.baselines.save_previous(&one.id, &one.baseline));
            }
        }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        for one in &self.machines {
            if let Some(settings) = &one.settings {
                state.machines[one.number].settings = settings.clone();
            }
            out.extend(use_baseline(&self.shared, state, one.number, Some(&one.baseline), &self.why, now));
        }
        out
    }

    fn finish(self: Box<Self>) {
        for one in &self.machines {
            warn(&one.id, self.shared.baselines.remove_proposal(&one.id));
        }
    }
}

/// Takes a baseline that was learned on site out of use: it is a proposal again.
pub struct PutBack {
    pub shared: Arc<Shared>,
    /// The machine's number.
    pub number: usize,
    pub id: Arc<str>,
    pub baseline: Arc<Baseline>,
    pub settings: MachineSettings,
    /// Who and why, for the event.
    pub why: String,
}

impl Transaction for PutBack {
    fn persist(&mut self) -> Result<(), CommandError> {
        self.shared.baselines.save_proposal(&self.id, &self.baseline)?;
        Ok(self.shared.baselines.remove_in_use(&self.id, &self.baseline)?)
    }

    fn rows(&self) -> Commit<'_> {
        Commit { settings: vec![(&self.id, &self.settings)], ..Commit::default() }
    }

    fn revert(&mut self) {
        let baselines = &self.shared.baselines;
        let in_use = baselines.save_in_use(&self.id, &self.baseline);
        warn(&self.id, in_use.and_then(|()| baselines.remove_proposal(&self.id)));
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let machine = &mut state.machines[self.number];
        machine.settings = self.settings.clone();
        machine.learning.proposal = Some(self.baseline.clone());
        use_baseline(&self.shared, state, self.number, None, &self.why, now)
    }
}

/// Drops what is being learned, was proposed or is in use.
pub struct DiscardBaseline {
    pub shared: Arc<Shared>,
    pub machines: Vec<Discarded>,
    /// Who and why, for the event.
    pub why: String,
}

/// What one machine loses.
pub struct Discarded {
    /// The machine's number.
    pub number: usize,
    pub id: Arc<str>,
    pub what: What,
}

/// What is discarded; the words are those of reply and event.
#[derive(strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum What {
    /// The learner of this generation.
    Learning(u64),
    Proposal(Arc<Baseline>),
    Baseline(Arc<Baseline>),
}

impl Transaction for DiscardBaseline {
    fn persist(&mut self) -> Result<(), CommandError> {
        let baselines = &self.shared.baselines;
        let remove = |Discarded { id, what, .. }: &Discarded| match what {
            What::Learning(generation) => baselines.end_learner(id, *generation),
            What::Proposal(_) => baselines.remove_proposal(id),
            What::Baseline(baseline) => baselines.remove_in_use(id, baseline),
        };
        Ok(self.machines.iter().try_for_each(remove)?)
    }

    fn revert(&mut self) {
        let baselines = &self.shared.baselines;
        for Discarded { number, id, what } in &self.machines {
            warn(
                id,
                match what {
                    What::Learning(generation) => {
                        baselines.reopen_learner(id, *generation);
                        let learner = self.shared.monitor.lock().machines[*number].learning.learner.clone();
                        learner.map_or(Ok(()), |learner| baselines.save_learner(id, *generation, &learner))
                    }
                    What::Proposal(proposal) => baselines.save_proposal(id, proposal),
                    What::Baseline(baseline) => baselines.save_in_use(id, baseline),
                },
            );
        }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        for Discarded { number, what, .. } in &self.machines {
            let learning = &mut state.machines[*number].learning;
            match what {
                What::Learning(_) => learning.learner = None,
                What::Proposal(_) => learning.proposal = None,
                What::Baseline(_) => {
                    out.extend(use_baseline(&self.shared, state, *number, None, &self.why, now));
                    continue;
                }
            }
            let detail = format!("{what}{}", self.why);
            out.push(event(&self.shared, *number, EventKind::BaselineDiscarded, detail, None, now));
        }
        out
    }
}

/// A file that is not as it should be after a change was undone or done.
pub(super) fn warn(id: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(machine = id, %error, "a baseline's files are not as they should be");
    }
}

/// Judges a machine by a baseline from its next window on, or by the bundle's bank again; what to send.
fn use_baseline(
    shared: &Shared,
    state: &mut MonitorState,
    number: usize,
    baseline: Option<&Arc<Baseline>>,
    why: &str,
    now: DateTime<Utc>,
) -> Vec<Output> {
    let Some(loaded) = &mut state.loaded else { return Vec::new() };
    loaded.use_baseline(number, baseline.cloned());
    let slow = loaded.baseline(number).and_then(|(baseline, _)| baseline.slow());
    let machine = &mut state.machines[number];
    machine.alarm.calibrate(slow);
    machine.alarm.forget_evidence();
    let event = match baseline {
        Some(baseline) => {
            machine.learning.proposal = None;
            let detail = format!("threshold {:.4}{why}", baseline.threshold);
            let facts = baseline_facts(&machine.config.id, baseline);
            event(shared, number, EventKind::BaselineApplied, detail, Some(facts), now)
        }
        None => event(shared, number, EventKind::BaselineDiscarded, format!("baseline{why}"), None, now),
    };
    let settings = settings_msg(shared, state, number, &state.machines[number].settings, now);
    vec![event, Output::Settings(settings)]
}
