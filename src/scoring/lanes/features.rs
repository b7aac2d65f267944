//! What the cheap lanes take from one window: its mean spectrum, the slow movement of its level, its bursts.

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use super::base64_f32;
use crate::features::FrontEnd;

/// Step of the short frames, s: a level that moves up to 40 Hz needs them, and a burst of 20 ms fills two or three.
const STEP_S: f64 = 0.008;
/// Bands of the short frames, at most: geometric from the lowest bin on.
const BANDS: usize = 16;
/// Modulation frequencies looked at, Hz.
const MODULATION_HZ: (f64, f64) = (0.5, 40.0);
/// Fewer modulation bins than this (a window below a quarter of a second) are no spectrum.
const LEAST_MODULATIONS: usize = 8;
/// Share of the short frames that counts as a burst: 64 ms of 5 s.
const BURST_SHARE: f64 = 0.0128;
/// Share of the short frames that lie below a band's texture.
const TEXTURE_SHARE: f64 = 0.9;
/// Levels are clipped at so many standard deviations before their movement is looked at: bursts are another lane's.
const MOVEMENT_CLIP: f32 = 3.0;

/// What the lanes see of one window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Features {
    /// Mel spectrum averaged over time, dB, `[n_mels]`.
    #[serde(with = "base64_f32")]
    pub spectrum: Vec<f32>,
    /// Log power of the level's movement, one value for each modulation frequency, 0.5 to 40 Hz in steps of
    /// `1 / window_s`; empty for windows too short to have any.
    #[serde(with = "base64_f32")]
    pub envelope: Vec<f32>,
    /// How far the loudest 64 ms of 5 s rise above the median, dB, band by band.
    #[serde(with = "base64_f32")]
    pub burst: Vec<f32>,
    /// How far the loudest tenth of the short frames rises above the median, at least, dB, band by band; empty in what
    /// was written before there was such a lane.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_f32")]
    pub texture: Vec<f32>,
}

/// Computes [`Features`]; keeps its plans and buffers between calls.
pub struct FeatureExtractor {
    pre_emphasis: f32,
    hop: usize,
    frames: usize,
    fft: Arc<dyn RealToComplex<f32>>,
    taper: Vec<f32>,
    /// First bin of each band, and the end of the last.
    edges: Vec<usize>,
    frame: Vec<f32>,
    bins: Vec<Complex32>,
    /// dB, `[bands, frames]`.
    levels: Vec<f32>,
    movement_fft: Arc<dyn RealToComplex<f32>>,
    movement_taper: Vec<f32>,
    movement: Vec<f32>,
    movement_bins: Vec<Complex32>,
    /// Modulation bins that count.
    modulations: std::ops::Range<usize>,
    /// Room for a median.
    sorted: Vec<f32>,
}

impl FeatureExtractor {
    /// `front_end` must have passed its own check.
    pub fn new(front_end: &FrontEnd) -> Self {
        let rate_hz = f64::from(front_end.rate_hz);
        let hop = ((STEP_S * rate_hz).round() as usize).max(4);
        let n_fft = 2 * hop;
        let frames = (front_end.window_samples() / hop).max(2);
        let mut planner = RealFftPlanner::new();
        let (fft, movement_fft) = (planner.plan_fft_forward(n_fft), planner.plan_fft_forward(frames));

        let bin_hz = rate_hz / n_fft as f64;
        let lowest = ((front_end.fmin_hz / bin_hz).round() as usize).clamp(1, hop - 1);
        let end = ((front_end.fmax_hz / bin_hz).round() as usize + 1).clamp(lowest + 1, hop + 1);
        let ratio = end as f64 / lowest as f64;
        let edge = |i: usize| (lowest as f64 * ratio.powf(i as f64 / BANDS as f64)).round() as usize;
        let mut edges: Vec<usize> = (0..=BANDS).map(edge).collect();
        edges.dedup();

        let frames_hz = rate_hz / hop as f64;
        let bin_of = |hz: f64| hz * frames as f64 / frames_hz;
        let last = (bin_of(MODULATION_HZ.1).floor() as usize + 1).min(frames / 2);
        let first = bin_of(MODULATION_HZ.0).ceil() as usize;
        let modulations = if last.saturating_sub(first) < LEAST_MODULATIONS { 0..0 } else { first..last };

        FeatureExtractor {
            pre_emphasis: front_end.pre_emphasis as f32,
            hop,
            frames,
            taper: hann(n_fft),
            frame: fft.make_input_vec(),
            bins: fft.make_output_vec(),
            fft,
            levels: vec![0.0; frames * (edges.len() - 1)],
            edges,
            movement_taper: hann(frames),
            movement: movement_fft.make_input_vec(),
            movement_bins: movement_fft.make_output_vec(),
            movement_fft,
            modulations,
            sorted: Vec::with_capacity(frames),
        }
    }

    /// The features of one window. `window` is the front-end's window, all finite; `mel_db` is `[n_mels, n]`, what the front-end made of it.
    pub fn extract(&mut self, window: &[f32], mel_db: &[f32], n_mels: usize) -> Features {
        let columns = (mel_db.len() / n_mels.max(1)).max(1);
        let spectrum = mel_db.chunks_exact(columns).map(|row| row.iter().sum::<f32>() / columns as f32).collect();
        self.short_frames(window);
        let (burst, texture, envelope) = self.movement();
        Features { spectrum, envelope, burst, texture }
    }

    /// Fills `levels` with the power in dB of each band in each short frame.
    fn short_frames(&mut self, window: &[f32]) {
        let (hop, bands) = (self.hop, self.edges.len() - 1);
        for number in 0..self.frames {
            // Centred like the front-end's frames: the first half of the first frame is silence.
            let start = (number * hop) as isize - hop as isize;
            for (n, (out, taper)) in self.frame.iter_mut().zip(&self.taper).enumerate() {
                let at = |t: isize| usize::try_from(t).ok().and_then(|t| window.get(t)).copied().unwrap_or(0.0);
                let t = start + n as isize;
                *out = (at(t) - self.pre_emphasis * at(t - 1)) * taper;
            }
            self.fft.process(&mut self.frame, &mut self.bins).expect("the buffers were made by this plan");
            for band in 0..bands {
                let bins = &self.bins[self.edges[band]..self.edges[band + 1]];
                let power: f32 = bins.iter().map(Complex32::norm_sqr).sum();
                self.levels[band * self.frames + number] = 10.0 * (power + 1e-12).log10();
            }
        }
    }

    /// Bursts and texture band by band, and the spectrum of what all bands do together, weighted by how steady each is: a machine
    /// that runs out of true moves them all at once, the air moves each by itself.
    fn movement(&mut self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let loudest = ((BURST_SHARE * self.frames as f64).round() as usize).clamp(1, self.frames);
        let cut = self.frames - loudest;
        let flutter = ((TEXTURE_SHARE * self.frames as f64) as usize).min(self.frames - 1);
        let mut burst = Vec::with_capacity(self.edges.len() - 1);
        let mut texture = Vec::with_capacity(self.edges.len() - 1);
        let mut weights = 0.0;
        self.movement.fill(0.0);
        for levels in self.levels.chunks_exact_mut(self.frames) {
            let middle = median(levels, &mut self.sorted);
            texture.push(*self.sorted.select_nth_unstable_by(flutter, f32::total_cmp).1 - middle);
            self.sorted.select_nth_unstable_by(cut, f32::total_cmp);
            burst.push(self.sorted[cut..].iter().sum::<f32>() / loudest as f32 - middle);

            levels.iter_mut().for_each(|level| *level -= middle);
            self.sorted.clear();
            self.sorted.extend(levels.iter().map(|level| level.abs()));
            let half = self.sorted.len() / 2;
            let deviation = 1.4826 * *self.sorted.select_nth_unstable_by(half, f32::total_cmp).1 + 0.1;
            let (most, weight) = (MOVEMENT_CLIP * deviation, deviation.powi(-2));
            for (sum, level) in self.movement.iter_mut().zip(levels.iter()) {
                *sum += weight * level.clamp(-most, most);
            }
            weights += weight;
        }
        self.movement.iter_mut().for_each(|value| *value /= weights);
        (burst, texture, self.modulation_spectrum())
    }

    /// Log power of `movement` at the modulation frequencies, each with its two neighbours.
    fn modulation_spectrum(&mut self) -> Vec<f32> {
        let mean = self.movement.iter().sum::<f32>() / self.frames as f32;
        for (value, taper) in self.movement.iter_mut().zip(&self.movement_taper) {
            *value = (*value - mean) * taper;
        }
        self.movement_fft
            .process(&mut self.movement, &mut self.movement_bins)
            .expect("the buffers were made by this plan");
        let power = |bin: usize| self.movement_bins.get(bin).map_or(0.0, Complex32::norm_sqr);
        let smoothed = |bin: usize| (power(bin.saturating_sub(1)) + power(bin) + power(bin + 1)) / 3.0;
        self.modulations.clone().map(|bin| (smoothed(bin) + 1e-9).ln()).collect()
    }
}

fn hann(length: usize) -> Vec<f32> {
    let turn = std::f64::consts::TAU / length as f64;
    (0..length).map(|n| (0.5 - 0.5 * (turn * n as f64).cos()) as f32).collect()
}

fn median(values: &[f32], room: &mut Vec<f32>) -> f32 {
    room.clear();
    room.extend_from_slice(values);
    let middle = room.len() / 2;
    *room.select_nth_unstable_by(middle, f32::total_cmp).1
}
