//! What a baseline says of one window: lane by lane, and by all of them together.

use super::calibration::{LaneCalibration, Scores, lane_scores};
use super::{Baseline, LaneScore};
use crate::scoring::lanes::{Features, Lane};
use crate::scoring::recent::Recent;

/// One window's score in each lane that applies.
#[derive(Debug, Clone)]
pub struct Judged<'a> {
    calibration: &'a LaneCalibration,
    window_s: f64,
    scores: Scores,
}

/// One window under the learned tail, and under a wider one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WidenedScore {
    pub learned: LaneScore,
    pub widened: LaneScore,
    /// So many times as wide the learned tail would have to be for the window to be as rare as asked; 0 where it is not in the
    /// tail, or not every lane applies.
    pub needed: f64,
}

impl Baseline {
    /// A window by itself; `None` where the baseline has no lanes.
    pub fn judged(&self, distance: f64, features: &Features) -> Option<Judged<'_>> {
        let calibration = self.calibration.as_ref()?;
        let scores = lane_scores(&calibration.lanes, distance, features);
        Some(Judged { calibration, window_s: self.origin.front_end.window_s, scores })
    }
}

impl Judged<'_> {
    /// The same with those before it, of which `recent` has the spectra up to the window's own; `None` where they are too few, or
    /// the baseline does not know what is normal for them.
    #[must_use]
    pub fn with_those_before(mut self, recent: &Recent) -> Option<Self> {
        let lane = self.calibration.lanes.steady.as_ref()?;
        let average = recent.mean(lane.length_s(), self.window_s)?;
        self.scores.push((Lane::Steady, lane.score(&average)?));
        Some(self)
    }

    /// By all lanes; `None` where none applies.
    pub fn score(&self) -> Option<LaneScore> {
        self.calibration.tails.ln_p(&self.scores).map(LaneScore::of)
    }

    /// As [`Judged::score`], and with a tail that is `times` as wide; `rate` is the share of normal windows that may be called
    /// anomalous.
    pub fn widened(&self, times: f64, rate: f64) -> Option<WidenedScore> {
        let tails = &self.calibration.tails;
        let learned = self.score()?;
        let widened = match times > 1.0 {
            true => LaneScore::of(tails.ln_p_widened(&self.scores, times)?),
            false => learned,
        };
        Some(WidenedScore { learned, widened, needed: tails.widening(&self.scores, rate).unwrap_or(0.0) })
    }

    /// In each lane by itself: the share of normal windows that are as unlike the baseline.
    pub fn p_values(&self) -> Vec<(Lane, f64)> {
        let tails = &self.calibration.tails;
        let p_value = |(lane, score): &(Lane, f64)| Some((*lane, tails.of(*lane)?.ln_p(*score).exp()));
        self.scores.iter().filter_map(p_value).collect()
    }
}
