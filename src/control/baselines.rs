//! What changes a machine's baseline: learning begins, a proposal is taken into use, put back, discarded.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::error::CommandError;
use super::messages::{baseline_facts, event, progress_event, settings_msg};
use super::output::Output;
use super::shared::Shared;
use super::store::Commit;
use super::transaction::Transaction;
use crate::monitor::MonitorState;
use crate::monitor::baseline_switch::{Switch, Switches, warn};
use crate::monitor::settings::MachineSettings;
use crate::mqtt::payload::EventKind;
use crate::scoring::Baseline;
use crate::scoring::baseline::Learner;

/// Begins to learn some machines' normal.
pub struct BeginLearning {
    pub shared: Arc<Shared>,
    pub machines: Vec<NewLearner>,
    pub switches: Switches,
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
        for new in &self.machines {
            let switch = Switch::default().learner(Some(&new.learner));
            self.switches.begin(&self.shared.baselines, &new.id, switch)?;
        }
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        Commit { switches: self.switches.rows(), ..Commit::default() }
    }

    fn revert(&mut self) {
        self.switches.revert(&self.shared.baselines);
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

    fn finish(mut self: Box<Self>) {
        self.switches.finish(&self.shared.baselines);
    }
}

/// Takes proposals into use.
pub struct ApplyBaseline {
    pub shared: Arc<Shared>,
    pub machines: Vec<Proposed>,
    /// Who and why, for the event.
    pub why: String,
    /// Nobody has asked for it: no reply decides it.
    pub by_itself: bool,
    pub switches: Switches,
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
        for one in &self.machines {
            let mut switch = if self.by_itself { Switch::decided() } else { Switch::default() };
            if let Some(previous) = &one.previous {
                switch = switch.previous(previous);
            }
            let switch = switch.use_baseline(&one.baseline).proposal(None);
            self.switches.begin(&self.shared.baselines, &one.id, switch)?;
        }
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        let settings = self.machines.iter().filter_map(|one| Some((&*one.id, one.settings.as_ref()?)));
        Commit { settings: settings.collect(), switches: self.switches.rows(), ..Commit::default() }
    }

    fn revert(&mut self) {
        self.switches.revert(&self.shared.baselines);
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

    fn finish(mut self: Box<Self>) {
        self.switches.finish(&self.shared.baselines);
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
    pub switches: Switches,
}

impl Transaction for PutBack {
    fn persist(&mut self) -> Result<(), CommandError> {
        let switch = Switch::default().proposal(Some(&self.baseline)).out_of_use(&self.baseline);
        Ok(self.switches.begin(&self.shared.baselines, &self.id, switch)?)
    }

    fn rows(&self) -> Commit<'_> {
        let settings = vec![(&*self.id, &self.settings)];
        Commit { settings, switches: self.switches.rows(), ..Commit::default() }
    }

    fn revert(&mut self) {
        self.switches.revert(&self.shared.baselines);
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let machine = &mut state.machines[self.number];
        machine.settings = self.settings.clone();
        machine.learning.proposal = Some(self.baseline.clone());
        use_baseline(&self.shared, state, self.number, None, &self.why, now)
    }

    fn finish(mut self: Box<Self>) {
        self.switches.finish(&self.shared.baselines);
    }
}

/// Drops what is being learned, was proposed or is in use.
pub struct DiscardBaseline {
    pub shared: Arc<Shared>,
    pub machines: Vec<Discarded>,
    /// Who and why, for the event.
    pub why: String,
    pub switches: Switches,
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
        for Discarded { id, what, .. } in &self.machines {
            let switch = Switch::default();
            let switch = match what {
                What::Learning(_) => switch.learner(None),
                What::Proposal(_) => switch.proposal(None),
                What::Baseline(baseline) => switch.out_of_use(baseline),
            };
            self.switches.begin(&self.shared.baselines, id, switch)?;
        }
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        Commit { switches: self.switches.rows(), ..Commit::default() }
    }

    fn revert(&mut self) {
        self.switches.revert(&self.shared.baselines);
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

    fn finish(mut self: Box<Self>) {
        let baselines = &self.shared.baselines;
        self.switches.finish(baselines);
        for Discarded { id, what, .. } in &self.machines {
            if let What::Learning(generation) = what {
                // What was noted of it meanwhile goes too.
                warn(id, baselines.end_learner(id, *generation));
            }
        }
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
