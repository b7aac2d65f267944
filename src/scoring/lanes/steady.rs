//! `steady`: the spectrum averaged over the last windows, up to a minute of them, compared as `spectrum` compares that of one.

use serde::{Deserialize, Serialize};

use super::rows::Rows;
use super::spectrum::SpectrumLane;

/// Averages of the baseline that are kept, at most: they differ less than windows do.
const ROWS_LIMIT: usize = 512;
/// Fewest averages to learn from.
const ROWS_LEAST: usize = 8;
/// Longer than anything is averaged over, s.
const LENGTH_LIMIT_S: f64 = 1e6;

/// Nearest neighbour of the spectrum that stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteadyLane {
    /// What is averaged over, s.
    length_s: f64,
    averages: SpectrumLane,
}

impl SteadyLane {
    /// From averages over `length_s`; `near(i, j)` says that two of them are too close in time to be compared. `None` for too few.
    pub fn fit(length_s: f64, averages: &[&[f32]], near: impl Fn(usize, usize) -> bool) -> Option<Self> {
        let step = averages.len().div_ceil(ROWS_LIMIT).max(1);
        let rows = Rows::new(averages.iter().step_by(step).copied())?;
        if rows.len() < ROWS_LEAST {
            return None;
        }
        Some(SteadyLane { length_s, averages: SpectrumLane::fit(rows, &|a, b| near(a * step, b * step)) })
    }

    pub fn length_s(&self) -> f64 {
        self.length_s
    }

    pub fn score(&self, average: &[f32]) -> Option<f64> {
        self.averages.score(average)
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        self.length_s > 0.0 && self.length_s <= LENGTH_LIMIT_S && self.averages.is_valid()
    }
}
