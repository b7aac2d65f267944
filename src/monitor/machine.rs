//! One machine as the agent runs it: its configuration, what was set remotely, its alarm and what is being learned of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::baseline_store::BaselineStore;
use super::heard::HeardWindows;
use super::settings::{MachineSettings, Maintenance};
use crate::config::MachineConfig;
use crate::scoring::adaptation::{Adaptation, HoldsFor};
use crate::scoring::alarm::Alarm;
use crate::scoring::baseline::{LearnProgress, Learner, Origin as LearnOrigin, Sample};
use crate::scoring::gate::SignalHealth;
use crate::scoring::gate::debounce::SignalDebounce;
use crate::scoring::{Assessment, Baseline, Reason, Recent, Scored, UsualSpectrum};

/// One machine as the agent runs it.
pub struct Machine {
    pub config: MachineConfig,
    pub origin: Origin,
    pub settings: MachineSettings,
    pub alarm: Alarm,
    pub counts: WindowCounts,
    /// The last verdict, for `state.get` and the health message.
    pub last: Option<Assessment>,
    pub learning: LearningState,
    pub signal: SignalState,
    /// Its windows of the last minute.
    pub heard: HeardWindows,
    /// What they sound like, which counts with the next one.
    pub recent: Recent,
    pub usual: UsualSpectrum,
    /// What it was found to do daily; counts only with `adapt` in its configuration.
    pub adaptation: Adaptation,
}

/// Where a machine's configuration comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration's file; commands do not change it.
    #[default]
    File,
    /// `machine.add`; kept in the state directory.
    Command,
}

impl Machine {
    /// A machine that begins, with what was kept of it.
    pub fn new(
        config: MachineConfig,
        origin: Origin,
        settings: MachineSettings,
        mut alarm: Alarm,
        learning: LearningState,
        now: DateTime<Utc>,
    ) -> Machine {
        // Maintenance is kept with the settings; a power cut may have come before the alarm followed.
        if settings.maintenance(now).is_some() != alarm.in_maintenance() {
            alarm.set_maintenance(settings.maintenance(now).map(Maintenance::note), now);
        }
        let (counts, signal) = (WindowCounts::default(), SignalState::default());
        Machine {
            config,
            origin,
            settings,
            alarm,
            counts,
            last: None,
            learning,
            signal,
            heard: HeardWindows::default(),
            recent: Recent::default(),
            usual: UsualSpectrum::default(),
            adaptation: Adaptation::default(),
        }
    }
}

impl Machine {
    /// Forgets what its last windows were like: what it is heard with from now on is another.
    pub fn forget_sound(&mut self) {
        self.alarm.forget_evidence();
        self.recent = Recent::default();
    }
}

/// A window that was left out of what is learned, because a provisional alarm stood.
const LEFT_OUT_ALARM: &str = "alarm";

/// A window that was taken back, because what it might have been evidence of was forgotten with maintenance or a change.
const LEFT_OUT_UNDECIDED: &str = "undecided";

impl Machine {
    /// Takes one window into what is being learned, where something is; `had_fault`: a fault alarm stood before this window.
    ///
    /// While what has been learned until now finds a fault, windows are left out, and those that raised the alarm are taken
    /// back: a fault must not become the normal. But a false alarm must not keep the machine from ever being learned: for no
    /// longer than all of it is to take.
    pub fn learn(
        &mut self,
        scored: &Scored,
        end: DateTime<Utc>,
        origin: &LearnOrigin,
        had_fault: bool,
    ) -> Option<(LearnProgress, Option<WantedBetween>)> {
        let learner = self.learning.learner.as_mut()?;
        let before = learner.progress();
        if learner.settings().origin.check(origin).is_err() {
            return None;
        }
        let judging = learner.is_judged();
        let forgotten = self.alarm.take_forgotten_windows();
        if judging {
            // After a power cut they may not be in what was kept of this learner: as many others go then, which is told.
            learner.take_back(forgotten, LEFT_OUT_UNDECIDED);
        }
        let waited = learner.left_out_s(LEFT_OUT_ALARM) >= learner.settings().wanted_s;
        // Right after a start nothing judges yet, but the alarm goes on.
        let counts = scored.assessment.provisional || scored.assessment.reason == Some(Reason::Learning);
        let faulty = judging && counts && self.alarm.has_fault() && !waited;
        if faulty && !had_fault {
            // This one has not been taken in.
            learner.take_back(self.alarm.undecided_windows().saturating_sub(1), LEFT_OUT_ALARM);
        }
        if faulty {
            return Some((learner.leave_out(LEFT_OUT_ALARM), None));
        }
        if self.has_learned() {
            return None;
        }
        let learner = self.learning.learner.as_mut()?;
        let progress = learner.on_window(scored, end);
        let (hop_s, rate_hz) = (learner.settings().hop_s, origin.front_end.rate_hz);
        let back_s = if progress.windows > before.windows { learner.wanted_between_s() } else { Vec::new() };
        let wanted = WantedBetween { generation: self.learning.generation, hop_s, back_s, rate_hz };
        Some((progress, Some(wanted).filter(|wanted| !wanted.back_s.is_empty())))
    }

    /// How many of the windows that were learned last a fault may have begun in that is not told yet. What judges them must
    /// not be made from them.
    pub fn undecided_windows(&self) -> u64 {
        let is_judged = self.learning.learner.as_ref().is_some_and(Learner::is_judged);
        if is_judged && !self.alarm.has_fault() { self.alarm.undecided_windows() } else { 0 }
    }

    /// Whether all that is wanted has been heard, without those.
    pub fn has_learned(&self) -> bool {
        self.learning.learner.as_ref().is_some_and(|learner| learner.is_complete_without(self.undecided_windows()))
    }

    /// What is being learned, without those.
    pub fn decided_learner(&self) -> Option<Learner> {
        let mut learner = self.learning.learner.clone()?;
        learner.take_back(self.undecided_windows(), LEFT_OUT_UNDECIDED);
        Some(learner)
    }

    /// Takes a window between two others into what is being learned.
    pub fn learn_between(&mut self, scored: &Scored, back_s: f64, origin: &LearnOrigin) {
        let Some(learner) = &mut self.learning.learner else { return };
        if learner.settings().origin.check(origin).is_ok() {
            learner.on_window_between(scored, back_s);
        }
    }
}

impl Machine {
    /// How many times as wide the tail is in the hour of a window that ends at `end`, under the baseline in use; `None`
    /// where nothing that recurs daily is let in.
    pub fn widening(&mut self, baseline: Option<&Baseline>, end: DateTime<Utc>) -> Option<f64> {
        let baseline = baseline.filter(|_| self.config.adapt)?;
        let false_alarm_rate = self.settings.false_alarm_rate.unwrap_or(baseline.false_alarm_rate);
        self.adaptation.begin(HoldsFor { baseline: baseline.learned.clone(), false_alarm_rate });
        Some(self.adaptation.widening(end))
    }

    /// Time passes; whether what is let in of what recurs daily has changed.
    pub fn adapt(&mut self, now: DateTime<Utc>) -> bool {
        let is_untold = self.adaptation.take_untold();
        self.config.adapt && (self.adaptation.pass(now, self.alarm.stands()) || is_untold)
    }
}

/// Windows that a learner wants between the last two.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedBetween {
    /// Of the learner.
    pub generation: u64,
    /// From one of the two to the other, s.
    pub hop_s: f64,
    /// So long before the last one they end, s.
    pub back_s: Vec<f64>,
    pub rate_hz: u32,
}

/// What is being learned of a machine.
#[derive(Debug, Default)]
pub struct LearningState {
    /// Takes in every window until it has enough.
    pub learner: Option<Learner>,
    /// Of the learner, as the [`BaselineStore`] counts them.
    pub generation: u64,
    /// Waits to be applied or discarded.
    pub proposal: Option<Arc<Baseline>>,
    /// Why learning came to nothing.
    pub failed: Option<String>,
    /// When a provisional baseline was last made of the learner.
    pub provisional: ProvisionalAttempt,
    /// Wait to be worked into the baseline.
    pub additions: Vec<Addition>,
}

/// Windows of an alarm that was answered as normal.
#[derive(Debug, Clone)]
pub struct Addition {
    /// Its number in the journal.
    pub alarm: Option<i64>,
    pub samples: Arc<Vec<Sample>>,
}

/// An attempt to make a provisional baseline.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProvisionalAttempt {
    /// Of the learner.
    pub generation: u64,
    /// That it had then.
    pub windows: u64,
    pub failed: bool,
}

impl LearningState {
    /// Goes on from what an earlier run left; what is lost of it is in `failed`.
    pub fn restore(baselines: &BaselineStore, machine: &str) -> LearningState {
        let (learner, proposal) = (baselines.learner(machine), baselines.proposal(machine));
        let lost =
            [("what was being learned", learner.as_ref().err()), ("the proposed baseline", proposal.as_ref().err())];
        let lost = lost.into_iter().filter_map(|(what, lost)| Some(format!("{what} is lost: {}", lost?)));
        let problem = lost.collect::<Vec<_>>().join("; ");
        if !problem.is_empty() {
            tracing::error!(machine, "{problem}");
        }
        LearningState {
            learner: learner.ok().flatten(),
            generation: baselines.new_generation(),
            proposal: proposal.ok().flatten().map(Arc::new),
            failed: Some(problem).filter(|problem| !problem.is_empty()),
            provisional: ProvisionalAttempt::default(),
            additions: Vec::new(),
        }
    }
}

/// How a machine's microphone is doing, by its signal.
#[derive(Debug, Default)]
pub struct SignalState {
    /// Figures of the last window that was looked at.
    pub signal: Option<SignalHealth>,
    /// From the faults of windows to those that last.
    pub watch: SignalDebounce,
}

/// Windows of a machine since the agent's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowCounts {
    pub windows: u64,
    /// Of them neither `unknown`.
    pub assessed: u64,
}
