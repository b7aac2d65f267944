//! What the cheap lanes take from one window: its mean spectrum, the slow movement of its level, its bursts.

use std::sync::Arc;

use auscult_signal::decibels::{decibels, to_decibels};
use auscult_signal::sums::total;
use auscult_signal::{Complex32, FrontEnd, LEAST_POWER, Real, RealToComplex, ShortFrames, emphasise, hann};
use serde::{Deserialize, Serialize};

use super::base64_f32;

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
    /// The pre-emphasised window, between silence for half of the longest frame on each side.
    emphasised: Vec<f32>,
    /// Where it begins there.
    begin: usize,
    movement_fft: Arc<dyn RealToComplex<f32>>,
    movement_taper: Vec<f32>,
    movement: Vec<f32>,
    movement_bins: Vec<Complex32>,
    /// Modulation bins that count.
    modulations: std::ops::Range<usize>,
    /// Room for finding medians and the like.
    sorted: Sorted,
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
        let begin = TEXTURE_STEPS * hop / 2;

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
            emphasised: vec![0.0; 2 * begin + (front_end.window_samples() + 1).max(frames * hop)],
            begin,
            movement_taper: hann(frames),
            movement: movement_fft.make_input_vec(),
            movement_bins: movement_fft.make_output_vec(),
            movement_fft,
            modulations,
            sorted: Sorted(Vec::with_capacity(frames)),
        }
    }

    /// The features of one window. `window` is the front-end's window, all finite; `mel_db` is `[n_mels, n]`, what the front-end made of it.
    pub fn extract(&mut self, window: &[f32], mel_db: &[f32], n_mels: usize) -> Features {
        let columns = (mel_db.len() / n_mels.max(1)).max(1);
        let spectrum = mel_db.chunks_exact(columns).map(|row| total(row) / columns as f32).collect();
        self.emphasise(window);
        let texture = self.texture();
        let (burst, envelope) = self.movement();
        Features { spectrum, envelope, burst, texture }
    }

    /// Fills `emphasised`; the silence after the window is emphasised too.
    fn emphasise(&mut self, window: &[f32]) {
        let (Some(&first), Some(&last)) = (window.first(), window.last()) else { return };
        let emphasised = &mut self.emphasised[self.begin..][..=window.len()];
        emphasised[0] = first;
        emphasise(window, self.pre_emphasis, &mut emphasised[1..window.len()]);
        emphasised[window.len()] = -self.pre_emphasis * last;
    }

    /// How much each band flutters.
    fn texture(&mut self) -> Vec<f32> {
        let above = ((TEXTURE_SHARE * self.frames as f64) as usize).min(self.frames - 1);
        let (middle, sorted) = (self.frames / 2, &mut self.sorted);
        let flutter = |powers: &mut [f32]| {
            sorted.fill(powers);
            let median = sorted.nth(0, middle);
            decibels(sorted.nth(middle, above), LEAST_POWER) - decibels(median, LEAST_POWER)
        };
        self.longer.powers(&self.emphasised, self.begin).map(flutter).collect()
    }

    /// Bursts band by band, and the spectrum of what all bands do together, weighted by how steady each is: a machine
    /// that runs out of true moves them all at once, the air moves each by itself.
    fn movement(&mut self) -> (Vec<f32>, Vec<f32>) {
        let loudest = ((BURST_SHARE * self.frames as f64).round() as usize).clamp(1, self.frames);
        let (cut, half) = (self.frames - loudest, self.frames / 2);
        let mut burst = Vec::with_capacity(self.short.bands());
        let mut weights = 0.0;
        self.movement.fill(0.0);
        for levels in self.short.powers(&self.emphasised, self.begin) {
            self.sorted.fill(levels);
            let middle = decibels(self.sorted.nth(0, half), LEAST_POWER);
            self.sorted.nth(half, cut);
            let loud: f32 = self.sorted.from(cut).map(|power| decibels(power, LEAST_POWER)).sum();
            burst.push(loud / loudest as f32 - middle);

            to_decibels(levels, LEAST_POWER);
            levels.iter_mut().for_each(|level| *level -= middle);
            self.sorted.fill(levels);
            let deviation = 1.4826 * self.sorted.nth(0, half) + 0.1;
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

/// Absolute values, sorted as far as they are asked for. As whole numbers, whose order is that of the bits of a number without
/// its sign: they are sorted in half the time.
struct Sorted(Vec<u32>);

impl Sorted {
    fn fill(&mut self, values: &[f32]) {
        self.0.clear();
        self.0.extend(values.iter().map(|value| value.abs().to_bits()));
    }

    /// The value that has `number` smaller ones; those before number `from`, not above `number`, are known to be smaller.
    fn nth(&mut self, from: usize, number: usize) -> f32 {
        f32::from_bits(*self.0[from..].select_nth_unstable(number - from).1)
    }

    /// All from number `number` on, which was asked for last.
    fn from(&self, number: usize) -> impl Iterator<Item = f32> {
        self.0[number..].iter().map(|&bits| f32::from_bits(bits))
    }
}
