//! Mel spectrogram in parity with librosa 0.11: pre-emphasis, STFT, Slaney mel bands, dB, min-max.
#![allow(clippy::needless_range_loop, reason = "what iterators are given may be compiled apart, and slower")]

use crate::decibels::to_decibels;
use crate::fft::{PairedPower, Real};
use crate::front_end::{FeatureError, FrontEnd};
use crate::sums::{are_finite, dot, range};

/// Least power that becomes dB: librosa's `amin`.
const LEAST_POWER: f32 = 1e-10;

/// Added to the range in min-max scaling, so that a constant image is 0 and not 0/0.
const RANGE_FLOOR_DB: f32 = 1e-8;

/// Where loud and quiet lie farther apart than this, the rounding of an `f32` transform of the loud shows among the quiet:
/// then it is done again in `f64`, as librosa does. Machines' sound seldom gets there, and it costs half as much again.
const PRECISE_ABOVE_DB: f32 = 50.0;

/// Computes spectrograms of windows of one length; keeps its plans and buffers between calls.
///
/// Frame `t` is centred on sample `t * hop`, with zeros beyond the window's ends, so that there are
/// `1 + window_samples / hop` frames in all.
pub struct MelExtractor {
    front_end: FrontEnd,
    quick: PairedPower<f32>,
    /// Made once a window needs it.
    precise: Option<PairedPower<f64>>,
    bands: Vec<Band>,
    /// The pre-emphasised window between `n_fft / 2` zeros on each side.
    padded: Vec<f32>,
    /// Of two frames, `[2, bins]`.
    power: Vec<f32>,
    /// `[n_mels, frames_total]`: power at first, then dB.
    mel_db: Vec<f32>,
    /// `[n_mels, frames]`.
    image: Vec<f32>,
    /// Least and most of `mel_db`.
    range_db: (f32, f32),
}

/// One triangle of the mel filter bank: its weights other than zero.
struct Band {
    first_bin: usize,
    weights: Vec<f32>,
}

impl MelExtractor {
    /// # Errors
    /// What [`FrontEnd::check`] says.
    pub fn new(front_end: &FrontEnd) -> Result<Self, FeatureError> {
        front_end.check()?;
        let (n_fft, bins, frames_total) = (front_end.n_fft, front_end.bins(), front_end.frames_total());
        Ok(MelExtractor {
            front_end: front_end.clone(),
            quick: PairedPower::new(n_fft),
            precise: None,
            bands: mel_bands(front_end),
            padded: vec![0.0; front_end.window_samples() + n_fft],
            power: vec![0.0; 2 * bins],
            mel_db: vec![0.0; frames_total * front_end.n_mels],
            image: vec![0.0; front_end.n_mels * front_end.frames],
            range_db: (0.0, 0.0),
        })
    }

    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// The image `[n_mels, frames]` row-major, 0..1, of one window of exactly `window_samples()` samples.
    ///
    /// # Errors
    /// `Length` for a window of another length, `NotFinite` where a sample or its power is not finite.
    pub fn compute(&mut self, window: &[f32]) -> Result<&[f32], FeatureError> {
        let expected = self.front_end.window_samples();
        if window.len() != expected {
            return Err(FeatureError::Length { expected, found: window.len() });
        }
        self.emphasise(window);
        // A NaN would be lost in the maximum, and the encoder's ReLU can turn one into a plausible embedding.
        if !are_finite(&self.padded) {
            return Err(FeatureError::NotFinite);
        }
        let MelExtractor { front_end, quick, precise, bands, padded, power, mel_db, .. } = self;
        mel_powers(quick, padded, front_end.hop, bands, power, mel_db);
        let mut range_db = decibels(mel_db, front_end.top_db)?;
        if range_db.1 - range_db.0 > PRECISE_ABOVE_DB {
            let precise = precise.get_or_insert_with(|| PairedPower::new(front_end.n_fft));
            mel_powers(precise, padded, front_end.hop, bands, power, mel_db);
            range_db = decibels(mel_db, front_end.top_db)?;
        }
        self.range_db = range_db;
        self.scale();
        Ok(&self.image)
    }

    /// The image that the last [`compute`](Self::compute) gave.
    pub fn image(&self) -> &[f32] {
        &self.image
    }

    /// Mel spectrogram of the last [`compute`](Self::compute), `[n_mels, frames_total]` row-major, in dB, floored at
    /// `top_db` below its loudest value.
    pub fn mel_db(&self) -> &[f32] {
        &self.mel_db
    }

    /// The dB that 0 and 1 stand for in the image of the last [`compute`](Self::compute).
    pub fn range_db(&self) -> (f32, f32) {
        self.range_db
    }

    /// `y[t] = x[t] - c * x[t-1]`, the first sample kept.
    fn emphasise(&mut self, window: &[f32]) {
        let inner = &mut self.padded[self.front_end.n_fft / 2..][..window.len()];
        inner[0] = window[0];
        emphasise(window, self.front_end.pre_emphasis as f32, &mut inner[1..]);
    }

    /// Min-max over all frames, of which the first `frames` become the image.
    fn scale(&mut self) {
        let (least, most) = self.range_db;
        let range = most - least + RANGE_FLOOR_DB;
        let rows = self.mel_db.chunks_exact(self.front_end.frames_total());
        for (out, row) in self.image.chunks_exact_mut(self.front_end.frames).zip(rows) {
            let row = &row[..out.len()];
            for n in 0..out.len() {
                out[n] = (row[n] - least) / range;
            }
        }
    }
}

/// Fills `emphasised`, one shorter than `sound`, with each sample less so much of the one before.
pub fn emphasise(sound: &[f32], coefficient: f32, emphasised: &mut [f32]) {
    let length = emphasised.len();
    let (before, own) = (&sound[..length], &sound[1..][..length]);
    for n in 0..length {
        emphasised[n] = own[n] - coefficient * before[n];
    }
}

/// Fills `mel`, `[bands, frames]`, with the power in each band of the frames that begin every `hop` samples; `power` is room
/// for two frames.
fn mel_powers<T: Real>(
    transform: &mut PairedPower<T>,
    padded: &[f32],
    hop: usize,
    bands: &[Band],
    power: &mut [f32],
    mel: &mut [f32],
) {
    let (frames, bins) = (mel.len() / bands.len(), power.len() / 2);
    let (first, second) = power.split_at_mut(bins);
    for frame in (0..frames).step_by(2) {
        // The last one is alone, where their number is odd.
        let other = (frame + 1).min(frames - 1);
        transform.powers([&padded[frame * hop..], &padded[other * hop..]], [first, second]);
        for (number, band) in bands.iter().enumerate() {
            let row = &mut mel[number * frames..][..frames];
            row[frame] = dot(&first[band.first_bin..], &band.weights);
            row[other] = dot(&second[band.first_bin..], &band.weights);
        }
    }
}

/// Turns powers into dB, none of them more than `top_db` below the loudest; the least and the most of them.
fn decibels(mel: &mut [f32], top_db: f64) -> Result<(f32, f32), FeatureError> {
    if !are_finite(mel) {
        return Err(FeatureError::NotFinite);
    }
    to_decibels(mel, LEAST_POWER);
    let (least, most) = range(mel);
    let floor = most - top_db as f32;
    if least >= floor {
        return Ok((least, most));
    }
    for value in mel {
        *value = if *value < floor { floor } else { *value };
    }
    Ok((floor, most))
}

/// Triangles on Slaney's mel scale, each of unit area (`librosa.filters.mel` with its defaults).
fn mel_bands(front_end: &FrontEnd) -> Vec<Band> {
    let edges = front_end.mel_edges_hz();
    let bin_hz = f64::from(front_end.rate_hz) / front_end.n_fft as f64;
    edges
        .windows(3)
        .map(|edge| {
            let (lower, centre, upper) = (edge[0], edge[1], edge[2]);
            let weight = |bin: usize| {
                let hz = bin as f64 * bin_hz;
                let triangle = ((hz - lower) / (centre - lower)).min((upper - hz) / (upper - centre)).max(0.0);
                (triangle * 2.0 / (upper - lower)) as f32
            };
            let first_bin = ((lower / bin_hz).floor() as usize).min(front_end.bins() - 1);
            let last_bin = ((upper / bin_hz).ceil() as usize).min(front_end.bins() - 1);
            // Up to a whole number of eights with zeros, which are summed side by side.
            let end = (first_bin + (last_bin + 1 - first_bin).next_multiple_of(8)).min(front_end.bins());
            Band { first_bin, weights: (first_bin..end).map(weight).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn noise(samples: usize) -> Vec<f32> {
        let mut rng = StdRng::seed_from_u64(1);
        (0..samples).map(|_| rng.random_range(-0.5..0.5)).collect()
    }

    /// The same by the definition, in f64, every bin of the discrete Fourier transform summed up.
    fn by_definition(front_end: &FrontEnd, window: &[f32]) -> Vec<f64> {
        let n_fft = front_end.n_fft as i64;
        let emphasised = |t: i64| match usize::try_from(t) {
            Ok(t) if t < window.len() => {
                let before = t.checked_sub(1).map_or(0.0, |before| f64::from(window[before]));
                f64::from(window[t]) - front_end.pre_emphasis * before
            }
            _ => 0.0,
        };
        let edges = front_end.mel_edges_hz();
        let frames = front_end.frames_total();
        let mut db = vec![0.0; front_end.n_mels * frames];
        for frame in 0..frames {
            let start = (frame * front_end.hop) as i64 - n_fft / 2;
            let power: Vec<f64> = (0..=n_fft / 2)
                .map(|bin| {
                    let (mut re, mut im) = (0.0, 0.0);
                    for n in 0..n_fft {
                        let turn = std::f64::consts::TAU / n_fft as f64;
                        let value = emphasised(start + n) * (0.5 - 0.5 * (turn * n as f64).cos());
                        re += value * (turn * (bin * n) as f64).cos();
                        im -= value * (turn * (bin * n) as f64).sin();
                    }
                    re * re + im * im
                })
                .collect();
            for band in 0..front_end.n_mels {
                let (lower, centre, upper) = (edges[band], edges[band + 1], edges[band + 2]);
                let mut sum = 0.0;
                for (bin, power) in power.iter().enumerate() {
                    let hz = bin as f64 * f64::from(front_end.rate_hz) / n_fft as f64;
                    let up = (hz - lower) / (centre - lower);
                    let down = (upper - hz) / (upper - centre);
                    sum += power * up.min(down).max(0.0) * 2.0 / (upper - lower);
                }
                db[band * frames + frame] = 10.0 * sum.max(1e-10).log10();
            }
        }
        let loudest = db.iter().copied().fold(f64::MIN, f64::max);
        let floored: Vec<f64> = db.iter().map(|&value| value.max(loudest - front_end.top_db)).collect();
        let least = floored.iter().copied().fold(f64::MAX, f64::min);
        floored
            .chunks(frames)
            .flat_map(|row| row[..front_end.frames].iter().map(|v| (v - least) / (loudest - least + 1e-8)))
            .collect()
    }

    #[test]
    fn every_parameter_counts_as_defined() {
        let base = FrontEnd {
            rate_hz: 8000,
            window_s: 0.15,
            n_fft: 128,
            hop: 50,
            n_mels: 12,
            fmin_hz: 100.0,
            fmax_hz: 4000.0,
            pre_emphasis: 0.97,
            top_db: 80.0,
            frames: 20,
        };
        let variants = [
            base.clone(),
            FrontEnd { rate_hz: 10_000, ..base.clone() },
            FrontEnd { window_s: 0.125, ..base.clone() },
            FrontEnd { n_fft: 96, ..base.clone() },
            FrontEnd { n_fft: 99, ..base.clone() },
            FrontEnd { hop: 37, ..base.clone() },
            FrontEnd { n_mels: 20, ..base.clone() },
            FrontEnd { fmin_hz: 0.0, ..base.clone() },
            FrontEnd { fmax_hz: 1900.0, ..base.clone() },
            FrontEnd { pre_emphasis: 0.0, ..base.clone() },
            FrontEnd { top_db: 15.0, ..base.clone() },
            FrontEnd { frames: 3, ..base.clone() },
        ];
        for front_end in variants {
            let window = noise(front_end.window_samples());
            let mut extractor = MelExtractor::new(&front_end).unwrap();
            let image = extractor.compute(&window).unwrap();
            let expected = by_definition(&front_end, &window);
            assert_eq!(image.len(), expected.len());
            let worst = image.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{worst} with {front_end:?}");
        }
    }

    #[test]
    fn the_quiet_beside_the_loud_is_exact() {
        let front_end = FrontEnd {
            window_s: 0.15,
            rate_hz: 8000,
            hop: 100,
            n_fft: 256,
            n_mels: 12,
            frames: 10,
            fmax_hz: 4000.0,
            ..FrontEnd::default()
        };
        let tone = |n: usize| 0.5 * (n as f32 * 0.8).sin();
        let window: Vec<f32> = noise(1200).iter().enumerate().map(|(n, noise)| tone(n) + 1e-4 * noise).collect();
        let mut extractor = MelExtractor::new(&front_end).unwrap();
        let image = extractor.compute(&window).unwrap();
        let worst = image.iter().zip(by_definition(&front_end, &window)).map(|(a, b)| (f64::from(*a) - b).abs());
        assert!(worst.fold(0.0, f64::max) < 3e-6);
        assert!(extractor.range_db().1 - extractor.range_db().0 > PRECISE_ABOVE_DB);
    }

    #[test]
    fn a_sine_is_where_it_belongs() {
        // 1000 Hz is bin 128 of 2048 at 16 kHz: a sine of amplitude 1 under Hann has power (n_fft / 4)^2 there.
        let tone: Vec<f32> = (0..2048).map(|n| (std::f32::consts::TAU * (n % 16) as f32 / 16.0).sin()).collect();
        let faint: Vec<f32> = tone.iter().map(|sample| sample * 1e-3).collect();
        let (mut loud, mut quiet) = ([0.0; 1025], [0.0; 1025]);
        PairedPower::<f32>::new(2048).powers([&tone, &faint], [&mut loud, &mut quiet]);
        assert!((loud[128] / (512.0 * 512.0) - 1.0).abs() < 1e-4 && loud[140] < 1e-4);
        assert!((quiet[128] / (512.0 * 512.0) - 1e-6).abs() < 1e-9 && quiet[140] < 1e-7);
        PairedPower::<f64>::new(2048).powers([&tone, &faint], [&mut loud, &mut quiet]);
        assert!((loud[128] / (512.0 * 512.0) - 1.0).abs() < 1e-5 && loud[140] < 1e-4);
    }

    #[test]
    fn parameters_that_cannot_work_are_named() {
        let base = FrontEnd::default();
        let cases = [
            (FrontEnd { rate_hz: 0, ..base.clone() }, "rate_hz"),
            (FrontEnd { window_s: f64::NAN, ..base.clone() }, "window_s"),
            (FrontEnd { window_s: 0.1, ..base.clone() }, "window_s"),
            (FrontEnd { window_s: 1e9, ..base.clone() }, "window_s"),
            (FrontEnd { n_fft: 0, ..base.clone() }, "n_fft"),
            (FrontEnd { n_fft: 1 << 40, ..base.clone() }, "n_fft"),
            (FrontEnd { hop: 0, ..base.clone() }, "hop"),
            (FrontEnd { hop: 1, window_s: 200.0, ..base.clone() }, "hop"),
            (FrontEnd { hop: 31, ..base.clone() }, "hop"),
            (FrontEnd { hop: 1, n_fft: 16, window_s: 116.25, ..base.clone() }, "hop"),
            (FrontEnd { n_mels: 0, ..base.clone() }, "n_mels"),
            (FrontEnd { n_mels: usize::MAX, ..base.clone() }, "n_mels"),
            (FrontEnd { fmin_hz: -1.0, ..base.clone() }, "fmin_hz"),
            (FrontEnd { fmin_hz: 8000.0, ..base.clone() }, "fmin_hz"),
            (FrontEnd { fmin_hz: 7980.0, ..base.clone() }, "fmin_hz"),
            (FrontEnd { fmax_hz: 8000.1, ..base.clone() }, "fmax_hz"),
            (FrontEnd { fmax_hz: f64::INFINITY, ..base.clone() }, "fmax_hz"),
            (FrontEnd { pre_emphasis: f64::NAN, ..base.clone() }, "pre_emphasis"),
            (FrontEnd { top_db: 0.0, ..base.clone() }, "top_db"),
            (FrontEnd { frames: 0, ..base.clone() }, "frames"),
            (FrontEnd { frames: 158, ..base.clone() }, "frames"),
        ];
        for (front_end, name) in cases {
            let error = MelExtractor::new(&front_end).err().expect(name).to_string();
            assert!(error.starts_with(&format!("{name}: expected")), "{name}: {error}");
        }
    }

    #[test]
    fn a_window_that_is_not_finite_has_no_image() {
        let mut extractor = MelExtractor::new(&FrontEnd::default()).unwrap();
        for value in [f32::NAN, f32::INFINITY, 1e30] {
            let mut window = noise(80_000);
            window[70_000] = value;
            assert_eq!(extractor.compute(&window), Err(FeatureError::NotFinite), "{value}");
        }
        // Beyond the last frame that reaches the image, and in no way left over for the next window.
        assert!(extractor.compute(&noise(80_000)).unwrap().iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(matches!(extractor.compute(&[0.0; 3]), Err(FeatureError::Length { expected: 80_000, found: 3 })));
    }

    #[test]
    fn silence_is_a_black_image() {
        let mut extractor = MelExtractor::new(&FrontEnd::default()).unwrap();
        assert!(extractor.compute(&[0.0; 80_000]).unwrap().iter().all(|&value| value == 0.0));
    }
}
