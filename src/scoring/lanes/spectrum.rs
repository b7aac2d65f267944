//! `spectrum`: the time-averaged mel spectrum in dB, less the mean of its three nearest baseline windows.
//!
//! A level that moves as a whole, by a few dB, is no fault and does not count. A fault changes neighbouring bands together, so the
//! difference is summed over boxes of several widths, each divided by what normal windows show there, and the fourth
//! powers of all boxes averaged. A load at which the machine is steady is judged more sharply than one at which it is not:
//! the result is divided by what its nearest windows have themselves.

use serde::{Deserialize, Serialize};

use super::rows::{Rows, are_positive};
use super::{base64_f32, boxes};
use auscult_signal::sums::differences;

/// Baseline windows that a window's spectrum is compared with.
const NEIGHBOURS: usize = 3;
/// So far a spectrum may lie above or below another as a whole, dB, and still be the same.
const LEVEL_FREEDOM_DB: f32 = 3.0;
/// Least scatter of a box, dB: below it is the microphone's, not the machine's.
const LEAST_SCATTER_DB: f64 = 0.1;
/// Scores are measured by those of the nearest windows, and for this part by those of all: what few windows say of a place
/// is not to be relied on alone.
const OF_ALL: f64 = 0.3;
/// Least score that others are measured by.
const LEAST_USUAL: f64 = 1e-3;
/// More than a normal window ever scores.
const USUAL_LIMIT: f64 = 1e6;
/// Windows that the boxes' scatter is estimated from, at most.
const SCATTER_WINDOWS: usize = 512;

/// Nearest neighbour of the time-averaged spectrum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpectrumLane {
    /// Spectra of the baseline, dB, `[n, n_mels]`.
    rows: Rows,
    /// Scatter of each box.
    #[serde(with = "base64_f32")]
    scatter: Vec<f32>,
    /// What each row scores among the others, `[n]`; empty in what was learned before scores were measured by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_f32")]
    usual: Vec<f32>,
    /// Mean of `usual`.
    #[serde(default)]
    usual_mean: f64,
}

impl SpectrumLane {
    /// `near(i, j)` says that windows `i` and `j` are too close in time to be compared. With what the windows differ by from their
    /// nearest, dB, mel band by mel band.
    pub fn fit(rows: Rows, near: &impl Fn(usize, usize) -> bool) -> (Self, Vec<Vec<f64>>) {
        let step = rows.len().div_ceil(SCATTER_WINDOWS).max(1);
        let looked_at: Vec<Option<Vec<f64>>> = rows
            .iter()
            .enumerate()
            .step_by(step)
            .map(|(own, row)| Some(Nearest::find(&rows, row, |other| other != own && !near(own, other))?.difference))
            .collect();
        let sums: Vec<Option<Vec<f64>>> =
            looked_at.iter().map(|difference| difference.as_deref().map(boxes::sums)).collect();
        let mut squares = vec![0.0; boxes::of(rows.width()).count()];
        let mut count = 0.0;
        for sums in sums.iter().flatten() {
            squares.iter_mut().zip(sums).for_each(|(square, sum)| *square += sum * sum);
            count += 1.0;
        }
        let scatter: Vec<f32> = squares
            .iter()
            .map(|square| (square / f64::max(count, 1.0) + LEAST_SCATTER_DB.powi(2)).sqrt() as f32)
            .collect();
        let scores: Vec<Option<f64>> =
            sums.iter().map(|sums| sums.as_ref().map(|sums| boxes::deviation(sums, &scatter))).collect();
        let known: f64 = scores.iter().flatten().sum();
        let usual_mean = (known / f64::max(count, 1.0)).max(LEAST_USUAL);
        // A row that was not looked at is like the one before it in time.
        let usual = (0..rows.len()).map(|row| scores[row / step].unwrap_or(usual_mean) as f32).collect();
        (SpectrumLane { rows, scatter, usual, usual_mean }, looked_at.into_iter().flatten().collect())
    }

    pub fn score(&self, spectrum: &[f32]) -> Option<f64> {
        self.compare(spectrum).map(|(score, _)| score)
    }

    /// The score, and how far each mel band lies above (below) the nearest windows of the baseline, dB.
    pub fn compare(&self, spectrum: &[f32]) -> Option<(f64, Vec<f64>)> {
        let Nearest { rows, difference } = Nearest::find(&self.rows, spectrum, |_| true)?;
        let deviation = boxes::deviation(&boxes::sums(&difference), &self.scatter);
        if self.usual.is_empty() {
            return Some((deviation, difference));
        }
        let of_nearest: f64 = rows.iter().map(|row| f64::from(self.usual[*row])).sum();
        let usual = OF_ALL * self.usual_mean + (1.0 - OF_ALL) * of_nearest / rows.len() as f64;
        Some((deviation / usual.max(LEAST_USUAL), difference))
    }

    /// Keeps only those rows whose number `keep` has.
    pub fn thin(&mut self, keep: &[usize]) {
        self.rows.keep(keep);
        if !self.usual.is_empty() {
            self.usual = keep.iter().map(|row| self.usual[*row]).collect();
        }
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let measured = self.usual.is_empty()
            || (self.usual.len() == self.rows.len()
                && self.usual.iter().all(|usual| (0.0..=USUAL_LIMIT as f32).contains(usual))
                && self.usual_mean > 0.0
                && self.usual_mean <= USUAL_LIMIT);
        let scattered = self.scatter.len() == boxes::of(self.rows.width()).count() && are_positive(&self.scatter);
        self.rows.is_valid() && scattered && measured
    }
}

/// The rows that a spectrum is the most like, and what is left of it without them.
struct Nearest {
    /// Their numbers; one at least.
    rows: Vec<usize>,
    /// The spectrum less their mean, each brought to its level, dB.
    difference: Vec<f64>,
}

impl Nearest {
    /// Among those rows that `keep` accepts; `None` where there are none.
    fn find(rows: &Rows, spectrum: &[f32], keep: impl Fn(usize) -> bool) -> Option<Nearest> {
        if spectrum.len() != rows.width() {
            return None;
        }
        let count = spectrum.len() as f32;
        let mut nearest: Vec<(f32, f32, usize, &[f32])> = Vec::with_capacity(NEIGHBOURS + 1);
        for (number, row) in rows.iter().enumerate().filter(|(number, _)| keep(*number)) {
            let (sum, squares) = differences(spectrum, row);
            let level = (sum / count).clamp(-LEVEL_FREEDOM_DB, LEVEL_FREEDOM_DB);
            let squared = squares - 2.0 * level * sum + count * level * level;
            if nearest.len() < NEIGHBOURS || nearest.last().is_some_and(|(most, ..)| squared < *most) {
                let place = nearest.partition_point(|(other, ..)| *other <= squared);
                nearest.insert(place, (squared, level, number, row));
                nearest.truncate(NEIGHBOURS);
            }
        }
        if nearest.is_empty() {
            return None;
        }
        let mean = |band: usize| {
            nearest.iter().map(|(_, level, _, row)| f64::from(row[band] + level)).sum::<f64>() / nearest.len() as f64
        };
        let difference = spectrum.iter().enumerate().map(|(band, value)| f64::from(*value) - mean(band)).collect();
        Some(Nearest { rows: nearest.iter().map(|(_, _, number, _)| *number).collect(), difference })
    }
}
