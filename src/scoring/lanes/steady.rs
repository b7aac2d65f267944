//! `steady`: the spectrum averaged over the last windows, up to a minute of them, compared as `spectrum` compares that of one.

use serde::{Deserialize, Serialize};

use super::rows::Rows;
use super::spectrum::SpectrumLane;
use crate::scoring::recent::Average;

/// Fewest averages to learn from.
const ROWS_LEAST: usize = 8;
/// Longer than anything is averaged over, s.
const LENGTH_LIMIT_S: f64 = 1e6;
/// An average of less sound than this part of what was learned scatters more.
const COVERED: f64 = 0.8;

/// Nearest neighbour of the spectrum that stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SteadyLane {
    /// What is averaged over, s.
    length_s: f64,
    /// So much sound an average needs, s.
    covered_s: f64,
    averages: SpectrumLane,
}

impl SteadyLane {
    /// From averages over `length_s`; `near(i, j)` says that two of them are too close in time to be compared. `None` for too few.
    pub fn fit(length_s: f64, averages: &[&Average], near: impl Fn(usize, usize) -> bool) -> Option<Self> {
        let rows = Rows::new(averages.iter().map(|average| average.spectrum.as_slice()))?;
        if rows.len() < ROWS_LEAST {
            return None;
        }
        let mut covered_s: Vec<f64> = averages.iter().map(|average| average.covered_s).collect();
        covered_s.sort_by(f64::total_cmp);
        let covered_s = COVERED * covered_s[covered_s.len() / 2];
        let (averages, _) = SpectrumLane::fit(rows, &near);
        Some(SteadyLane { length_s, covered_s, averages })
    }

    pub fn length_s(&self) -> f64 {
        self.length_s
    }

    /// `None` for what is of too little sound, or of another width.
    pub fn score(&self, average: &Average) -> Option<f64> {
        (average.covered_s >= self.covered_s).then(|| self.averages.score(&average.spectrum)).flatten()
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let lengths = [self.length_s, self.covered_s];
        lengths.iter().all(|length_s| *length_s > 0.0 && *length_s <= LENGTH_LIMIT_S) && self.averages.is_valid()
    }
}
