//! `shape`: the time-averaged mel spectrum without its level, its bands weighed by how they vary together.
//!
//! The Mahalanobis distance to the baseline's mean. Of 128 bands and few windows no covariance can be estimated, so it is
//! shrunk by a fixed 0.2 towards bands that vary alike and by themselves: Ledoit and Wolf's estimate of how far to shrink
//! did no better on recordings, and it jumps where windows overlap. What is kept is the covariance's Cholesky factor.

use serde::{Deserialize, Serialize};

use super::base64_f32;

/// So much of the covariance is that of bands which vary alike and by themselves.
const SHRINKAGE: f64 = 0.2;
/// Least scatter of a band, dB.
const LEAST_SCATTER_DB: f64 = 0.1;
/// Windows that the covariance is estimated from, at most.
const WINDOWS_LIMIT: usize = 2048;

/// What is normal for the shape of the spectrum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapeLane {
    /// dB, less the mean over all bands.
    #[serde(with = "base64_f32")]
    mean: Vec<f32>,
    /// The lower triangle of the covariance's Cholesky factor, row by row.
    #[serde(with = "base64_f32")]
    factor: Vec<f32>,
}

impl ShapeLane {
    /// `None` for fewer than two spectra, or where they are not of one width.
    pub fn fit<'a>(spectra: impl ExactSizeIterator<Item = &'a [f32]>) -> Option<Self> {
        let step = spectra.len().div_ceil(WINDOWS_LIMIT).max(1);
        let mut rows: Vec<Vec<f64>> = spectra.step_by(step).map(without_level).collect();
        let width = rows.first()?.len();
        if rows.len() < 2 || width == 0 || rows.iter().any(|row| row.len() != width) {
            return None;
        }
        let count = rows.len() as f64;
        let mean: Vec<f64> = (0..width).map(|band| rows.iter().map(|row| row[band]).sum::<f64>() / count).collect();
        for row in &mut rows {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        }
        let factor = cholesky(covariance(&rows, width), width)?;
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Some(ShapeLane { mean: narrow(mean), factor: narrow(factor) })
    }

    pub fn score(&self, spectrum: &[f32]) -> Option<f64> {
        let width = self.mean.len();
        if spectrum.len() != width {
            return None;
        }
        let mut solved = without_level(spectrum);
        let mut rest = self.factor.as_slice();
        let mut squares = 0.0;
        for band in 0..width {
            let (row, below) = rest.split_at(band + 1);
            rest = below;
            let known = dot(&row[..band], &solved[..band]);
            solved[band] = (solved[band] - f64::from(self.mean[band]) - known) / f64::from(row[band]);
            squares += solved[band] * solved[band];
        }
        Some((squares / width as f64).sqrt()).filter(|score| score.is_finite())
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let width = self.mean.len();
        let diagonal = |band: usize| self.factor[band * (band + 3) / 2];
        width > 0 && self.factor.len() == width * (width + 1) / 2 && (0..width).all(|band| diagonal(band) > 0.0)
    }
}

/// In four lanes, as in `sums`, where each addition does not wait for the one before.
#[allow(clippy::needless_range_loop, reason = "the lanes are counted")]
fn dot(factors: &[f32], values: &[f64]) -> f64 {
    const LANES: usize = 4;
    let ((factors, factors_rest), (values, values_rest)) = (factors.as_chunks::<LANES>(), values.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (factors, values) in factors.iter().zip(values) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(factors[lane]) * values[lane];
        }
    }
    let rest = factors_rest.iter().zip(values_rest).map(|(factor, value)| f64::from(*factor) * value);
    lanes.iter().sum::<f64>() + rest.sum::<f64>()
}

fn without_level(spectrum: &[f32]) -> Vec<f64> {
    let level = spectrum.iter().map(|value| f64::from(*value)).sum::<f64>() / spectrum.len().max(1) as f64;
    spectrum.iter().map(|value| f64::from(*value) - level).collect()
}

/// The shrunk covariance of rows without their mean; its lower triangle, row by row.
fn covariance(rows: &[Vec<f64>], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width * (width + 1) / 2];
    for row in rows {
        let mut rest = sums.as_mut_slice();
        for band in 0..width {
            let (own, below) = std::mem::take(&mut rest).split_at_mut(band + 1);
            rest = below;
            own.iter_mut().zip(row).for_each(|(sum, value)| *sum += row[band] * value);
        }
    }
    let scale = (1.0 - SHRINKAGE) / rows.len() as f64;
    let trace: f64 = rows.iter().flatten().map(|value| value * value).sum::<f64>() / rows.len() as f64;
    let alike = SHRINKAGE * trace / width as f64 + LEAST_SCATTER_DB.powi(2);
    sums.iter_mut().for_each(|sum| *sum *= scale);
    (0..width).for_each(|band| sums[band * (band + 3) / 2] += alike);
    sums
}

/// The factor of a matrix that is given and answered as its lower triangle; `None` where it is not positive definite.
fn cholesky(mut lower: Vec<f64>, width: usize) -> Option<Vec<f64>> {
    let start = |row: usize| row * (row + 1) / 2;
    for row in 0..width {
        for column in 0..=row {
            let (above, own) = lower.split_at(start(row));
            // The row itself, where it meets its own column.
            let other = if column < row { &above[start(column)..] } else { own };
            let shared: f64 = own[..column].iter().zip(other).map(|(a, b)| a * b).sum();
            let left = own[column] - shared;
            let value = if column == row { left.sqrt() } else { left / other[column] };
            if !value.is_finite() || (column == row && value <= 0.0) {
                return None;
            }
            lower[start(row) + column] = value;
        }
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bands that rise together: what parts them is farther than what moves both, though the step is the same.
    #[test]
    fn bands_that_vary_together_are_one() {
        let sway = |number: u32| (f64::from(number) * 0.7).sin() as f32;
        let rows: Vec<Vec<f32>> = (0..200)
            .map(|number| {
                let (both, own) = (3.0 * sway(number), 0.3 * sway(7 * number + 1));
                vec![both + own, both - own, 0.1 * sway(3 * number), 0.0, 0.0, 0.0]
            })
            .collect();
        let lane = ShapeLane::fit(rows.iter().map(Vec::as_slice)).expect("spectra enough");
        assert!(lane.is_valid());
        let score = |spectrum: [f32; 6]| lane.score(&spectrum).expect("a score");
        let (together, apart) = (score([2.0, 2.0, 0.0, 0.0, 0.0, 0.0]), score([2.0, -2.0, 0.0, 0.0, 0.0, 0.0]));
        assert!(apart > 2.0 * together, "{apart} {together}");
        // The level tells nothing.
        assert!((score([12.0, 12.0, 10.0, 10.0, 10.0, 10.0]) - together).abs() < 1e-6);
        assert_eq!(lane.score(&[1.0, 2.0]), None);
    }

    #[test]
    fn the_distance_is_that_of_the_whole_matrix() {
        let lower = cholesky(vec![4.0, 2.0, 5.0, 0.0, 1.0, 2.0], 3).expect("a positive definite matrix");
        let expected = [2.0, 1.0, 2.0, 0.0, 0.5, 1.75f64.sqrt()];
        assert!(lower.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{lower:?}");
        assert_eq!(cholesky(vec![1.0, 2.0, 1.0], 2), None);
    }

    #[test]
    fn spectra_without_any_spread_have_a_shape() {
        let rows = [[1.0f32; 8]; 5];
        let lane = ShapeLane::fit(rows.iter().map(|row| row.as_slice())).expect("spectra enough");
        assert_eq!(lane.score(&[3.0; 8]), Some(0.0));
        assert_eq!(ShapeLane::fit(rows[..1].iter().map(|row| row.as_slice())), None);
    }
}
