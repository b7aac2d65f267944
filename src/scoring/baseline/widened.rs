//! How unlike a baseline a window is where the tail of all lanes together may be wider than learned.

use super::calibration::lane_scores;
use super::{Baseline, LaneScore};
use crate::scoring::lanes::Features;

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
    /// As [`Baseline::lane_score`], and with a tail that is `times` as wide; `rate` is the share of normal windows that may be
    /// called anomalous.
    pub fn widened_score(&self, distance: f64, features: &Features, times: f64, rate: f64) -> Option<WidenedScore> {
        let calibration = self.calibration.as_ref()?;
        let (tails, scores) = (&calibration.tails, lane_scores(&calibration.lanes, distance, features));
        let learned = LaneScore::of(tails.ln_p(&scores)?);
        let widened = match times > 1.0 {
            true => LaneScore::of(tails.clone().widened(times).ln_p(&scores)?),
            false => learned,
        };
        Some(WidenedScore { learned, widened, needed: tails.widening(&scores, rate).unwrap_or(0.0) })
    }
}
