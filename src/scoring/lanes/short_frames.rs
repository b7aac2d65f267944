//! The power of some bands in short frames of a window.

use std::sync::Arc;

use auscult_fft::{Complex32, Real, RealToComplex};

use crate::features::FrontEnd;

/// Frames of one length, a step apart; keeps its plan and buffers between calls.
pub(super) struct ShortFrames {
    step: usize,
    count: usize,
    fft: Arc<dyn RealToComplex<f32>>,
    taper: Vec<f32>,
    /// First bin of each band, and the end of the last.
    edges: Vec<usize>,
    frame: Vec<f32>,
    bins: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// dB, `[bands, count]`.
    levels: Vec<f32>,
}

impl ShortFrames {
    /// `count` frames of `length` samples, `step` apart; at most `bands` bands, geometric from the lowest bin on.
    pub fn new(front_end: &FrontEnd, step: usize, length: usize, count: usize, bands: usize) -> Self {
        let bin_hz = f64::from(front_end.rate_hz) / length as f64;
        let half = length / 2;
        let lowest = ((front_end.fmin_hz / bin_hz).round() as usize).clamp(1, half - 1);
        let end = ((front_end.fmax_hz / bin_hz).round() as usize + 1).clamp(lowest + 1, half + 1);
        let ratio = end as f64 / lowest as f64;
        let edge = |i: usize| (lowest as f64 * ratio.powf(i as f64 / bands as f64)).round() as usize;
        let mut edges: Vec<usize> = (0..=bands).map(edge).collect();
        edges.dedup();
        let fft = f32::forward(length);
        ShortFrames {
            step,
            count,
            taper: hann(length),
            frame: fft.make_input_vec(),
            bins: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            levels: vec![0.0; count * (edges.len() - 1)],
            fft,
            edges,
        }
    }

    pub fn bands(&self) -> usize {
        self.edges.len() - 1
    }

    /// The level of each band in each frame of `sound`, dB, band by band; frames are centred, so that half of the first
    /// one is silence. Whoever asks may change them.
    pub fn levels(&mut self, sound: &[f32]) -> std::slice::ChunksExactMut<'_, f32> {
        let (length, bands) = (self.frame.len(), self.bands());
        for number in 0..self.count {
            let end = (number * self.step + length / 2).min(sound.len());
            let before = (length / 2).saturating_sub(number * self.step);
            let start = (number * self.step).saturating_sub(length / 2).min(end);
            let heard = before + end - start;
            self.frame[..before].fill(0.0);
            self.frame[heard..].fill(0.0);
            let tapered = sound[start..end].iter().zip(&self.taper[before..]).map(|(sample, taper)| sample * taper);
            self.frame[before..heard].iter_mut().zip(tapered).for_each(|(out, value)| *out = value);
            self.fft
                .process_with_scratch(&mut self.frame, &mut self.bins, &mut self.scratch)
                .expect("the buffers were made by this plan");
            for band in 0..bands {
                let bins = &self.bins[self.edges[band]..self.edges[band + 1]];
                let power: f32 = bins.iter().map(Complex32::norm_sqr).sum();
                self.levels[band * self.count + number] = 10.0 * (power + 1e-12).log10();
            }
        }
        self.levels.chunks_exact_mut(self.count)
    }
}

pub(super) fn hann(length: usize) -> Vec<f32> {
    let turn = std::f64::consts::TAU / length as f64;
    (0..length).map(|n| (0.5 - 0.5 * (turn * n as f64).cos()) as f32).collect()
}
