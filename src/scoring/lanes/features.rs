//! What the cheap lanes take from one window: its mean spectrum, the slow movement of its level, its bursts.

use std::sync::Arc;

use auscult_fft::{Complex32, Real, RealToComplex};
use serde::{Deserialize, Serialize};

use super::base64_f32;
use super::short_frames::{ShortFrames, hann};
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
/// Share of the frames that lie below a band's texture, and the steps that such a frame is long: 32 ms tell a tone from
/// noise where 16 ms do not.
const TEXTURE_SHARE: f64 = 0.8;
const TEXTURE_STEPS: usize = 4;
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
    /// How far the loudest fifth of frames of 32 ms rises above the median, at least, dB, band by band; empty in what
    /// was written before there was such a lane.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "base64_f32")]
    pub texture: Vec<f32>,
}

/// Computes [`Features`]; keeps its plans and buffers between calls.
pub struct FeatureExtractor {
    pre_emphasis: f32,
    frames: usize,
    /// What moves and bursts is looked for in frames of 16 ms ...
    short: ShortFrames,
    /// ... and what flutters in frames of 32 ms.
    longer: ShortFrames,
    emphasised: Vec<f32>,
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
        let frames = (front_end.window_samples() / hop).max(2);
        let movement_fft = f32::forward(frames);
        let of = |steps: usize| ShortFrames::new(front_end, hop, steps * hop, frames, BANDS);
        let (short, longer) = (of(2), of(TEXTURE_STEPS));

        let frames_hz = rate_hz / hop as f64;
        let bin_of = |hz: f64| hz * frames as f64 / frames_hz;
        let last = (bin_of(MODULATION_HZ.1).floor() as usize + 1).min(frames / 2);
        let first = bin_of(MODULATION_HZ.0).ceil() as usize;
        let modulations = if last.saturating_sub(first) < LEAST_MODULATIONS { 0..0 } else { first..last };

        FeatureExtractor {
            pre_emphasis: front_end.pre_emphasis as f32,
            frames,
            short,
            longer,
            emphasised: Vec::with_capacity(front_end.window_samples() + 1),
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
        self.emphasise(window);
        let texture = self.texture();
        let (burst, envelope) = self.movement();
        Features { spectrum, envelope, burst, texture }
    }

    /// Fills `emphasised`; the silence after the window is emphasised too.
    fn emphasise(&mut self, window: &[f32]) {
        let before = std::iter::once(0.0).chain(window.iter().copied());
        let after = window.iter().copied().chain(std::iter::once(0.0));
        self.emphasised.clear();
        self.emphasised.extend(after.zip(before).map(|(sample, before)| sample - self.pre_emphasis * before));
    }

    /// How much each band flutters.
    fn texture(&mut self) -> Vec<f32> {
        let above = ((TEXTURE_SHARE * self.frames as f64) as usize).min(self.frames - 1);
        let sorted = &mut self.sorted;
        let flutter = |levels: &mut [f32]| {
            let middle = median(levels, sorted);
            *levels.select_nth_unstable_by(above, f32::total_cmp).1 - middle
        };
        self.longer.levels(&self.emphasised).map(flutter).collect()
    }

    /// Bursts band by band, and the spectrum of what all bands do together, weighted by how steady each is: a machine
    /// that runs out of true moves them all at once, the air moves each by itself.
    fn movement(&mut self) -> (Vec<f32>, Vec<f32>) {
        let loudest = ((BURST_SHARE * self.frames as f64).round() as usize).clamp(1, self.frames);
        let cut = self.frames - loudest;
        let mut burst = Vec::with_capacity(self.short.bands());
        let mut weights = 0.0;
        self.movement.fill(0.0);
        for levels in self.short.levels(&self.emphasised) {
            let middle = median(levels, &mut self.sorted);
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
        (burst, self.modulation_spectrum())
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

fn median(values: &[f32], room: &mut Vec<f32>) -> f32 {
    room.clear();
    room.extend_from_slice(values);
    let middle = room.len() / 2;
    *room.select_nth_unstable_by(middle, f32::total_cmp).1
}
