//! What the windows so far say about an alarm: `k` of `n`, the slow average, and for how long nothing could be assessed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::config::AlarmConfig;
use super::status::Kind;
use crate::scoring::stats::normal_quantile;
use crate::scoring::verdict::{Assessment, Verdict};
use crate::window::Reason;

/// How the baseline's own windows scattered: what the slow lane's limit is made from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlowCalibration {
    /// Windows in the baseline.
    pub windows: usize,
    /// Correlation of one window's normal score with the next one's, 0..1.
    pub correlation: f64,
}

/// Whether the machine's windows can be assessed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignalHealth {
    /// The last `run` verdicts were assessed.
    Fine { run: usize },
    /// Not assessed for so long, without a reason that anyone planned.
    Lost { for_s: f64 },
    /// Not assessed and not expected to be: learning, standing still, in maintenance. The time does not run on.
    Excused { for_s: f64 },
}

/// What the evidence says about one kind of alarm: `Some(true)` raises it, `Some(false)` clears it, `None` does neither.
pub(super) type Vote = Option<bool>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// The last assessed windows, oldest first: was it anomalous?
    recent: VecDeque<bool>,
    /// The same windows: was it anomalous by what comes and goes in it?
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    unsteady: VecDeque<bool>,
    /// For how many windows `k` of `n` has held.
    #[serde(default, skip_serializing_if = "is_zero")]
    raised_windows: usize,
    /// Windows that were undecided when the evidence was forgotten: what they would have raised is not known any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    forgotten: usize,
    /// How long `k` of `n` has held, and how long the calm, s.
    raised_s: f64,
    calm_s: f64,
    /// Moving average of the windows' normal scores; 0 is the baseline's mean.
    slow: f64,
    #[serde(rename = "hearing")]
    signal: SignalHealth,
}

impl Evidence {
    pub fn new() -> Self {
        Evidence {
            recent: VecDeque::new(),
            unsteady: VecDeque::new(),
            raised_windows: 0,
            forgotten: 0,
            raised_s: 0.0,
            calm_s: 0.0,
            slow: 0.0,
            signal: SignalHealth::Fine { run: 0 },
        }
    }

    /// Nothing yet, but that so many windows stay undecided for ever.
    pub fn after(forgotten: usize) -> Self {
        Evidence { forgotten, ..Evidence::new() }
    }

    /// Drops windows beyond `n`, for a state that was kept under a larger one.
    pub fn fit(&mut self, config: &AlarmConfig) {
        // What an earlier version kept has none of them.
        self.unsteady.resize(self.recent.len(), false);
        let excess = self.recent.len().saturating_sub(config.n);
        self.recent.drain(..excess);
        self.unsteady.drain(..excess);
        if !self.slow.is_finite() {
            self.slow = 0.0;
        }
    }

    /// Anomalous windows among the last `n`.
    pub fn anomalous(&self) -> usize {
        self.recent.iter().filter(|&&anomalous| anomalous).count()
    }

    /// How many of the last assessed windows a fault may have begun in that is being decided upon.
    pub fn undecided(&self) -> usize {
        self.recent.len() + self.raised_windows.saturating_sub(1) + self.forgotten
    }

    /// How many of those were forgotten since this was last asked.
    pub fn take_forgotten(&mut self) -> usize {
        std::mem::take(&mut self.forgotten)
    }

    /// Time passes; whatever is waiting for it to pass, waits less.
    pub fn pass(&mut self, step_s: f64, config: &AlarmConfig) {
        // Nothing is known of the time in which nothing could be assessed.
        if self.anomalous() >= config.k && matches!(self.signal, SignalHealth::Fine { .. }) {
            self.raised_s += step_s;
        }
        if self.calm(config) {
            self.calm_s += step_s;
        }
        if let SignalHealth::Lost { for_s } = &mut self.signal {
            *for_s += step_s;
        }
    }

    /// Takes one window in.
    pub fn take(&mut self, assessment: &Assessment, config: &AlarmConfig) {
        if assessment.verdict == Verdict::Unknown {
            let for_s = match self.signal {
                SignalHealth::Fine { .. } => 0.0,
                SignalHealth::Lost { for_s } | SignalHealth::Excused { for_s } => for_s,
            };
            let planned = [Reason::Learning, Reason::MachineOff, Reason::Maintenance].map(Some);
            let excused = planned.contains(&assessment.reason);
            self.signal = if excused { SignalHealth::Excused { for_s } } else { SignalHealth::Lost { for_s } };
            return;
        }
        let run = if let SignalHealth::Fine { run } = self.signal { run } else { 0 };
        self.signal = SignalHealth::Fine { run: run.saturating_add(1) };

        // What only lingers is weak: the slow average finds it.
        self.recent.push_back(assessment.is_anomalous_by_itself());
        self.unsteady.push_back(assessment.unsteady);
        self.fit(config);
        if self.anomalous() < config.k {
            self.raised_s = 0.0;
            // What flickers around `k` is not over.
            self.raised_windows = if self.calm(config) { 0 } else { self.raised_windows.saturating_sub(1) };
        } else {
            self.raised_windows = self.raised_windows.saturating_add(1);
        }
        if !self.calm(config) {
            self.calm_s = 0.0;
        }
        // What was let in of the hours of the day must not swallow wear.
        if let Some(p_value) = assessment.learned_p_value()
            && config.slow_windows > 0.0
        {
            // Bounded, so that a single bang is no wear.
            let score = normal_quantile(1.0 - p_value).clamp(-3.0, 4.0);
            self.slow += smoothing(config) * (score - self.slow);
        }
    }

    /// What the evidence says about one kind of alarm, right after an assessed window.
    pub fn vote(&self, kind: Kind, config: &AlarmConfig, calibration: Option<SlowCalibration>) -> Vote {
        match kind {
            Kind::Fault if self.anomalous() >= config.k => {
                Some(true).filter(|_| self.raised_s >= config.raise_after_s && !self.may_pass(config))
            }
            Kind::Fault => Some(false).filter(|_| self.calm(config) && self.calm_s >= config.clear_after_s),
            Kind::Wear => {
                let limit = calibration.and_then(|known| slow_limit(config, known)).unwrap_or(f64::INFINITY);
                if self.slow > limit {
                    Some(true)
                } else {
                    Some(false).filter(|_| self.slow < 0.5 * limit && self.calm(config))
                }
            }
            Kind::Deaf => match self.signal {
                SignalHealth::Lost { for_s } if config.deaf_after_s > 0.0 && for_s >= config.deaf_after_s => Some(true),
                SignalHealth::Fine { run } if run >= config.k => Some(false),
                _ => None,
            },
        }
    }

    /// Whether it may be over soon: speech, hammering and doors come and go; what a machine does it goes on doing.
    fn may_pass(&self, config: &AlarmConfig) -> bool {
        let unsteady = self.unsteady.iter().filter(|&&unsteady| unsteady).count();
        2 * unsteady > self.anomalous() && self.raised_windows <= config.unsteady_windows
    }

    fn calm(&self, config: &AlarmConfig) -> bool {
        self.recent.len() >= config.n && self.anomalous() <= config.clear_at_most
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Weight of a new window in the slow average.
fn smoothing(config: &AlarmConfig) -> f64 {
    1.0 - (-1.0 / config.slow_windows).exp2()
}

/// The slow average's limit: so many standard errors of an exponentially weighted average of windows that are
/// correlated like an AR(1) process, the uncertainty of the baseline's own mean included.
fn slow_limit(config: &AlarmConfig, baseline: SlowCalibration) -> Option<f64> {
    if config.slow_windows <= 0.0 || baseline.windows < 2 {
        return None;
    }
    let (weight, rho) = (smoothing(config), baseline.correlation.clamp(0.0, 0.99));
    let kept = (1.0 - weight) * rho;
    let of_average = weight / (2.0 - weight) * (1.0 + kept) / (1.0 - kept);
    let of_baseline = (1.0 + rho) / (1.0 - rho) / baseline.windows as f64;
    Some((config.slow_sigmas * (of_average + of_baseline).sqrt()).max(config.slow_shift))
}
