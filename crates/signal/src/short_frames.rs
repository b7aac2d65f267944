//! The power of some bands in short frames of a window.

use crate::fft::PairedPower;
use crate::front_end::FrontEnd;
use crate::sums::total;

/// Added to every power, so that silence has a level.
pub const LEAST_POWER: f32 = 1e-12;

/// Frames of one length, a step apart; keeps its plan and buffers between calls.
pub struct ShortFrames {
    step: usize,
    length: usize,
    count: usize,
    transform: PairedPower<f32>,
    /// First bin of each band, and the end of the last.
    edges: Vec<usize>,
    /// Of two frames, `[2, length / 2 + 1]`.
    bins: Vec<f32>,
    /// `[bands, count]`.
    powers: Vec<f32>,
}

impl ShortFrames {
    /// `count` frames of `length` samples, an even number, `step` apart; at most `bands` bands, geometric from the lowest bin
    /// on.
    pub fn new(front_end: &FrontEnd, step: usize, length: usize, count: usize, bands: usize) -> Self {
        let bin_hz = f64::from(front_end.rate_hz) / length as f64;
        let half = length / 2;
        let lowest = ((front_end.fmin_hz / bin_hz).round() as usize).clamp(1, half - 1);
        let end = ((front_end.fmax_hz / bin_hz).round() as usize + 1).clamp(lowest + 1, half + 1);
        let ratio = end as f64 / lowest as f64;
        let edge = |i: usize| (lowest as f64 * ratio.powf(i as f64 / bands as f64)).round() as usize;
        let mut edges: Vec<usize> = (0..=bands).map(edge).collect();
        edges.dedup();
        ShortFrames {
            step,
            length,
            count,
            transform: PairedPower::new(length),
            bins: vec![0.0; 2 * (half + 1)],
            powers: vec![0.0; count * (edges.len() - 1)],
            edges,
        }
    }

    pub fn bands(&self) -> usize {
        self.edges.len() - 1
    }

    /// The power of each band in each frame, band by band, none below [`LEAST_POWER`]. Frame 0 is centred on sample `begin` of
    /// `sound`, which has half a frame before that and after the centre of the last one. Whoever asks may change the powers.
    pub fn powers(&mut self, sound: &[f32], begin: usize) -> std::slice::ChunksExactMut<'_, f32> {
        let first = begin - self.length / 2;
        let (bins, other_bins) = self.bins.split_at_mut(self.length / 2 + 1);
        for frame in (0..self.count).step_by(2) {
            // The last one is alone, where their number is odd.
            let other = (frame + 1).min(self.count - 1);
            let samples = [frame, other].map(|frame| &sound[first + frame * self.step..]);
            self.transform.powers(samples, [bins, other_bins]);
            for (band, edges) in self.edges.windows(2).enumerate() {
                let row = &mut self.powers[band * self.count..][..self.count];
                row[frame] = LEAST_POWER + total(&bins[edges[0]..edges[1]]);
                row[other] = LEAST_POWER + total(&other_bins[edges[0]..edges[1]]);
            }
        }
        self.powers.chunks_exact_mut(self.count)
    }
}
