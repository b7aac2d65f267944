//! The verdict of one window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::SignalHealth;
use super::lanes::{Features, Lane};
use super::why::Why;
use crate::window::Reason;

/// Of one window. Never `Normal` for what could not be assessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Normal,
    Anomalous,
    Unknown,
}

/// What decides over a window's verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// `distance > threshold`.
    #[default]
    Distance,
    /// The combined score of all lanes: a probability below the baseline's false alarm rate.
    Combined,
}

/// How a window was judged in an hour of the day whose tail may be wider than learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapted {
    /// So many times as wide the tail of all lanes together was; 1 is as learned.
    pub widening: f64,
    /// `p_value` under the learned baseline alone.
    pub learned_p_value: f64,
    /// So many times as wide that tail would have to be for the window to be as rare as was asked; 0 where it is not in the tail.
    pub needed: f64,
}

/// What scoring found out about one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    pub verdict: Verdict,
    /// Present exactly where the verdict is `Unknown`.
    pub reason: Option<Reason>,
    /// Euclidean distance to the nearest row of the bank, where it was computed and is finite.
    pub distance: Option<f64>,
    pub threshold: Option<f64>,
    /// Root mean square level in dB of full scale, floor -120.
    pub level_dbfs: f64,
    /// How unlike the baseline the window is over all lanes, where there is an on-site baseline: `-log10` of `p_value`.
    pub score: Option<f64>,
    /// Share of the baseline's own windows that are as unlike it, calibrated; where there is an on-site baseline.
    pub p_value: Option<f64>,
    /// The lane that `score` comes from.
    pub lane: Option<Lane>,
    /// Whether it is anomalous by a lane that sees what comes and goes within a window; not where the distance decides.
    pub unsteady: bool,
    /// Whether it is anomalous with those before it alone, and not by itself: windows that follow each other share them, and are
    /// one witness.
    pub lingering: bool,
    /// In what it differs from normal windows, where it does.
    pub why: Option<Why>,
    /// Judged by what had been learned until then, while learning went on.
    pub provisional: bool,
    /// Where the machine's normal may move with the hour of the day.
    pub adapted: Option<Adapted>,
}

impl Assessment {
    /// A window that could not be assessed.
    pub fn unknown(reason: Reason, threshold: Option<f64>, level_dbfs: f64) -> Self {
        Assessment {
            verdict: Verdict::Unknown,
            reason: Some(reason),
            distance: None,
            threshold,
            level_dbfs,
            score: None,
            p_value: None,
            lane: None,
            unsteady: false,
            lingering: false,
            why: None,
            provisional: false,
            adapted: None,
        }
    }

    /// Whether the window is anomalous without a look at those before it.
    pub fn is_anomalous_by_itself(&self) -> bool {
        self.verdict == Verdict::Anomalous && !self.lingering
    }

    /// `p_value` under the learned baseline alone, whatever the hour: what moves slowly is judged by it.
    pub fn learned_p_value(&self) -> Option<f64> {
        self.adapted.map(|adapted| adapted.learned_p_value).or(self.p_value)
    }

    /// Distance as a multiple of the threshold.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.distance? / self.threshold?)
    }
}

/// What came of one window.
#[derive(Debug, Clone)]
pub struct Scored {
    pub assessment: Assessment,
    /// The embedding, where it was computed.
    pub embedding: Option<Vec<f32>>,
    /// What the cheap lanes see, where it was computed: what a baseline is learned from.
    pub features: Option<Features>,
    /// What the samples say about the microphone, where they were looked at.
    pub signal: Option<SignalHealth>,
}

/// `distance > threshold` is anomalous; anything not finite is unknown.
pub fn judge(distance: f64, threshold: f64, level_dbfs: f64) -> Assessment {
    if !distance.is_finite() || !threshold.is_finite() {
        return Assessment::unknown(Reason::NotFinite, Some(threshold).filter(|t| t.is_finite()), level_dbfs);
    }
    let verdict = if distance > threshold { Verdict::Anomalous } else { Verdict::Normal };
    Assessment {
        verdict,
        reason: None,
        distance: Some(distance),
        threshold: Some(threshold),
        level_dbfs,
        score: None,
        p_value: None,
        lane: None,
        unsteady: false,
        lingering: false,
        why: None,
        provisional: false,
        adapted: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_itself_is_normal() {
        assert_eq!(judge(0.25, 0.25, -20.0).verdict, Verdict::Normal);
        assert_eq!(judge(0.25 + f64::EPSILON, 0.25, -20.0).verdict, Verdict::Anomalous);
    }

    #[test]
    fn what_is_not_finite_is_unknown() {
        for (distance, threshold) in [(f64::NAN, 0.2), (f64::INFINITY, 0.2), (0.1, f64::NAN), (0.1, f64::INFINITY)] {
            let assessment = judge(distance, threshold, -20.0);
            assert_eq!((assessment.verdict, assessment.reason), (Verdict::Unknown, Some(Reason::NotFinite)));
            assert_eq!(assessment.distance, None);
        }
    }
}
