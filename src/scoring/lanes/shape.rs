//! `shape`: what a window's time-averaged mel spectrum differs by from its nearest in the baseline, its bands weighed by how
//! they vary together.
//!
//! How far each of several boxes of neighbouring bands is off, weighed so that it stands out the most from how the bands of
//! normal windows vary together (a matched filter, `b' C^-1 x / sqrt(b' C^-1 b)` for a box `b`, a difference `x` less its mean
//! over the bands, and a covariance `C`); the fourth powers of all boxes are averaged. Of 128 bands and few windows no
//! covariance can be estimated, so it is shrunk by a fixed share towards bands that vary alike and by themselves: Ledoit and
//! Wolf's estimate of how far to shrink did no better on recordings, and it jumps where windows overlap. What is kept is the
//! covariance's Cholesky factor.

use serde::{Deserialize, Serialize};

use super::rows::are_positive;
use super::{base64_f32, boxes};

/// So much of the covariance is that of bands which vary alike and by themselves.
const SHRINKAGE: f64 = 0.6;
/// Least scatter of a band, dB.
const LEAST_SCATTER_DB: f64 = 0.1;
/// Least standard deviation of a box, weighed: where all bands are in it.
const LEAST_BOX_SCATTER: f32 = 1e-6;

/// What is normal for the shape of the spectrum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapeLane {
    /// Of what normal windows differ by, dB, less the mean over all bands; or, without boxes, of their spectra: what read `mean` alone
    /// would take the one for the other.
    #[serde(rename = "mean_difference", alias = "mean", with = "base64_f32")]
    mean: Vec<f32>,
    /// The lower triangle of the covariance's Cholesky factor, row by row.
    #[serde(with = "base64_f32")]
    factor: Vec<f32>,
    /// What normal windows show in each box; missing in what was learned before there were boxes: it is judged by the spectrum's
    /// Mahalanobis distance to the baseline's mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_f32")]
    scatter: Vec<f32>,
}

impl ShapeLane {
    /// From what normal windows differ by. `None` for fewer than two, or where they are not of one width.
    pub fn fit(differences: &[Vec<f64>]) -> Option<Self> {
        let mut rows: Vec<Vec<f64>> = differences.iter().map(|row| without_level(row.iter().copied())).collect();
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
        let mut lane = ShapeLane { mean: narrow(mean), factor: narrow(factor), scatter: Vec::new() };
        lane.scatter = lane.box_scatter();
        Some(lane)
    }

    /// Of a window's spectrum, dB, and its difference from its nearest in the baseline.
    pub fn score(&self, spectrum: &[f32], difference: &[f64]) -> Option<f64> {
        let width = self.mean.len();
        if spectrum.len() != width || difference.len() != width {
            return None;
        }
        let is_boxed = !self.scatter.is_empty();
        let mut values = match is_boxed {
            true => without_level(difference.iter().copied()),
            false => without_level(spectrum.iter().map(|value| f64::from(*value))),
        };
        values.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value -= f64::from(*mean));
        self.whiten(&mut values);
        let score = if is_boxed {
            self.weigh(&mut values);
            boxes::deviation(&boxes::sums(&values), &self.scatter)
        } else {
            (values.iter().map(|value| value * value).sum::<f64>() / width as f64).sqrt()
        };
        Some(score).filter(|score| score.is_finite())
    }

    /// `L^-1 x`, where `L` is the covariance's factor.
    fn whiten(&self, values: &mut [f64]) {
        for (band, row) in self.rows() {
            let known = dot(&row[..band], &values[..band]);
            values[band] = (values[band] - known) / f64::from(row[band]);
        }
    }

    /// What was whitened, `L^-1 x`, becomes `C^-1 x`, less its mean: boxes have no level either.
    fn weigh(&self, whitened: &mut [f64]) {
        for (band, row) in self.rows().rev() {
            let (before, own) = whitened.split_at_mut(band);
            own[0] /= f64::from(row[band]);
            before.iter_mut().zip(row).for_each(|(value, factor)| *value -= f64::from(*factor) * own[0]);
        }
        let level = whitened.iter().sum::<f64>() / whitened.len() as f64;
        whitened.iter_mut().for_each(|value| *value -= level);
    }

    /// The factor's rows, each up to its diagonal.
    fn rows(&self) -> impl DoubleEndedIterator<Item = (usize, &[f32])> {
        (0..self.mean.len()).map(|band| (band, &self.factor[start_of(band)..start_of(band + 1)]))
    }

    /// The standard deviation of each box, weighed so.
    fn box_scatter(&self) -> Vec<f32> {
        let bands = self.mean.len();
        let scatter = |(start, width): (usize, usize)| {
            let inside = |band: usize| f64::from(u8::from((start..start + width).contains(&band)));
            let mut weights: Vec<f64> =
                (0..bands).map(|band| (inside(band) - width as f64 / bands as f64) / (width as f64).sqrt()).collect();
            self.whiten(&mut weights);
            self.weigh(&mut weights);
            let variance = weights[start..start + width].iter().sum::<f64>() / (width as f64).sqrt();
            (variance.max(0.0).sqrt() as f32).max(LEAST_BOX_SCATTER)
        };
        boxes::of(bands).map(scatter).collect()
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let width = self.mean.len();
        let diagonal = |band: usize| self.factor[start_of(band + 1) - 1];
        let boxed =
            self.scatter.is_empty() || (self.scatter.len() == boxes::of(width).count() && are_positive(&self.scatter));
        width > 0 && self.factor.len() == start_of(width) && (0..width).all(|band| diagonal(band) > 0.0) && boxed
    }
}

/// Where a row of a packed lower triangle begins.
fn start_of(row: usize) -> usize {
    row * (row + 1) / 2
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

fn without_level(values: impl ExactSizeIterator<Item = f64> + Clone) -> Vec<f64> {
    let level = values.clone().sum::<f64>() / values.len().max(1) as f64;
    values.map(|value| value - level).collect()
}

/// The shrunk covariance of rows without their mean; its lower triangle, row by row.
fn covariance(rows: &[Vec<f64>], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; start_of(width)];
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
    for row in 0..width {
        for column in 0..=row {
            let (above, own) = lower.split_at(start_of(row));
            // The row itself, where it meets its own column.
            let other = if column < row { &above[start_of(column)..] } else { own };
            let shared: f64 = own[..column].iter().zip(other).map(|(a, b)| a * b).sum();
            let left = own[column] - shared;
            let value = if column == row { left.sqrt() } else { left / other[column] };
            if !value.is_finite() || (column == row && value <= 0.0) {
                return None;
            }
            lower[start_of(row) + column] = value;
        }
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Two bands that rise together: what parts them is farther than what moves both, though the step is the same.
    #[test]
    fn bands_that_vary_together_are_one() {
        let sway = |number: u32| (f64::from(number) * 0.7).sin();
        let rows: Vec<Vec<f64>> = (0..200)
            .map(|number| {
                let (both, own) = (3.0 * sway(number), 0.3 * sway(7 * number + 1));
                vec![both + own, both - own, 0.1 * sway(3 * number), 0.0, 0.0, 0.0]
            })
            .collect();
        let lane = ShapeLane::fit(&rows).expect("differences enough");
        assert!(lane.is_valid());
        let score = |difference: [f64; 6]| lane.score(&[0.0; 6], &difference).expect("a score");
        let (together, apart) = (score([2.0, 2.0, 0.0, 0.0, 0.0, 0.0]), score([2.0, -2.0, 0.0, 0.0, 0.0, 0.0]));
        assert!(apart > 2.0 * together, "{apart} {together}");
        // The level tells nothing.
        assert!((score([12.0, 12.0, 10.0, 10.0, 10.0, 10.0]) - together).abs() < 1e-6);
        assert_eq!(lane.score(&[1.0, 2.0], &[1.0, 2.0]), None);
    }

    /// A box over bands that vary by themselves counts as one over their mean: a step of all bands in it stands out `sqrt(width)`
    /// times as much as that of one band.
    #[test]
    fn neighbours_that_move_together_stand_out() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut noise = || rng.random_range(-0.5..0.5);
        let rows: Vec<Vec<f64>> = (0..1000).map(|_| (0..64).map(|_| noise()).collect()).collect();
        let lane = ShapeLane::fit(&rows).expect("differences enough");
        let with = |bands: std::ops::Range<usize>| {
            let difference: Vec<f64> = (0..64).map(|band| f64::from(u8::from(bands.contains(&band)))).collect();
            lane.score(&[0.0; 64], &difference).expect("a score")
        };
        let (few, many) = (with(20..22), with(20..28));
        assert!(many > 1.9 * few && many < 3.5 * few, "{few} {many}");
        // The scatter is what normal windows show: their scores are about 1, the fourth root of 3 for noise of Gauss.
        let normal = rows.iter().map(|row| lane.score(&[0.0; 64], row).expect("a score")).sum::<f64>() / 1000.0;
        assert!((0.9..1.5).contains(&normal), "{normal}");
    }

    /// What was learned before there were boxes.
    #[test]
    fn without_boxes_it_is_the_mahalanobis_distance() {
        let lane = ShapeLane { mean: vec![0.0; 2], factor: vec![2.0, 0.0, 1.0], scatter: Vec::new() };
        let text = serde_json::to_string(&lane).expect("JSON");
        assert!(!text.contains("scatter"), "{text}");
        let read: ShapeLane = serde_json::from_str(&text.replace("mean_difference", "mean")).expect("a lane");
        assert!(read.is_valid());
        // Without its level: 1, -1; so many standard deviations are 0.5, -1.
        let score = read.score(&[2.0, 0.0], &[9.0, 0.0]).expect("a score");
        assert!((score - (1.25f64 / 2.0).sqrt()).abs() < 1e-12, "{score}");
        assert!(!ShapeLane { scatter: vec![1.0], ..lane }.is_valid());
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
        let rows = vec![vec![1.0; 8]; 5];
        let lane = ShapeLane::fit(&rows).expect("differences enough");
        assert_eq!(lane.score(&[3.0; 8], &[3.0; 8]), Some(0.0));
        assert_eq!(ShapeLane::fit(&rows[..1]), None);
    }
}
