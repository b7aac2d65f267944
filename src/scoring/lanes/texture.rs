//! `texture`: how much each band flutters, as a profile over bands, against the nearest profiles of the baseline.
//!
//! A tone stands still, noise flutters, and what grinds or rattles does it in steps. Where a fault changes how, the bands'
//! mean power may stay as it was. Bands are compared together, each in its own scatter: a profile that never was is
//! unusual, though each band by itself has been seen.

use serde::{Deserialize, Serialize};

use super::base64_f32;
use super::rows::{Rows, are_positive};
use auscult_signal::sums::squared_distance;

/// Profiles of the baseline that a window is compared with.
const NEIGHBOURS: usize = 3;
/// Least scatter of a band, dB.
const LEAST_SCATTER_DB: f64 = 0.3;

/// Nearest neighbours among the baseline's profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextureLane {
    /// Profiles in units of `scatter`.
    rows: Rows,
    /// Scatter of each band over the baseline, dB.
    #[serde(with = "base64_f32")]
    scatter: Vec<f32>,
}

impl TextureLane {
    /// `None` where there are no profiles, or not of one width.
    pub fn fit(profiles: &Rows) -> Option<Self> {
        let (count, width) = (profiles.len() as f64, profiles.width());
        let scatter: Vec<f32> = (0..width)
            .map(|band| {
                let column = || profiles.iter().map(|row| f64::from(row[band]));
                let mean = column().sum::<f64>() / count;
                ((column().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt() + LEAST_SCATTER_DB) as f32
            })
            .collect();
        let scaled: Vec<Vec<f32>> = profiles.iter().map(|row| in_units(row, &scatter)).collect();
        Some(TextureLane { rows: Rows::new(scaled.iter().map(Vec::as_slice))?, scatter })
    }

    pub fn score(&self, profile: &[f32]) -> Option<f64> {
        if profile.len() != self.scatter.len() {
            return None;
        }
        let own = in_units(profile, &self.scatter);
        let mut nearest = [f32::INFINITY; NEIGHBOURS];
        for row in self.rows.iter() {
            let squared = squared_distance(row, &own);
            if squared < nearest[NEIGHBOURS - 1] {
                let place = nearest.partition_point(|other| *other <= squared);
                nearest[place..].rotate_right(1);
                nearest[place] = squared;
            }
        }
        let found = nearest.iter().filter(|squared| squared.is_finite());
        let sum: f64 = found.clone().map(|squared| f64::from(squared.sqrt())).sum();
        let count = found.count();
        (count > 0).then(|| sum / count as f64 / (own.len() as f64).sqrt())
    }

    /// Keeps only those profiles whose number `keep` has; the scatter stays as it was learned.
    pub fn thin(&mut self, keep: &[usize]) {
        self.rows.keep(keep);
    }

    /// Whether what was read fits together.
    pub fn is_valid(&self) -> bool {
        self.rows.is_valid() && self.rows.width() == self.scatter.len() && are_positive(&self.scatter)
    }
}

fn in_units(profile: &[f32], scatter: &[f32]) -> Vec<f32> {
    profile.iter().zip(scatter).map(|(value, scatter)| value / scatter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ways to run, each normal; a mixture of both that never was is not.
    #[test]
    fn a_profile_that_never_was_is_unusual() {
        let rows: Vec<[f32; 4]> = (0..40)
            .map(|number| {
                let sway = 0.1 * (number as f32).sin();
                if number % 2 == 0 { [1.0 + sway, 1.0, 4.0, 4.0] } else { [4.0, 4.0 + sway, 1.0, 1.0] }
            })
            .collect();
        let rows = Rows::new(rows.iter().map(|row| row.as_slice())).expect("profiles");
        let lane = TextureLane::fit(&rows).expect("a lane");
        assert!(lane.is_valid());
        let score = |profile: [f32; 4]| lane.score(&profile).expect("a score");
        assert!(score([4.0, 4.0, 1.0, 1.0]) < 0.1 && score([1.0, 1.0, 4.0, 4.0]) < 0.1);
        assert!(score([4.0, 1.0, 4.0, 1.0]) > 1.0);
        assert_eq!(lane.score(&[1.0]), None);
    }
}
