//! Parameters of the front-end, and what of them can be computed with.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Sample rates that sound can be captured, resampled and scored at, Hz.
pub const RATES_HZ: RangeInclusive<u32> = 8_000..=192_000;

/// Bins of the FFT that a front-end's band is wide, at least.
const LEAST_BINS: f64 = 4.0;

/// Why no spectrogram can be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FeatureError {
    /// Front-end parameters that cannot be computed with.
    #[error("{0}")]
    Parameter(String),
    /// A window of another length than the front-end's.
    #[error("expected a window of {expected} samples, found {found}")]
    Length { expected: usize, found: usize },
    /// NaN or infinity in the samples or in what was computed from them.
    #[error("the window's samples or their power are not finite")]
    NotFinite,
}

/// Parameters of the front-end. The defaults are those of a bundle without `bundle.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrontEnd {
    /// Sample rate of the window, Hz.
    pub rate_hz: u32,
    /// Length of the window, s.
    pub window_s: f64,
    /// Length of the FFT, samples.
    pub n_fft: usize,
    /// Step from frame to frame, samples.
    pub hop: usize,
    /// Mel bands: rows of the spectrogram.
    pub n_mels: usize,
    /// Lower edge of the lowest band, Hz.
    pub fmin_hz: f64,
    /// Upper edge of the highest band, Hz.
    pub fmax_hz: f64,
    /// Coefficient of `y[t] = x[t] - c * x[t-1]`.
    pub pre_emphasis: f64,
    /// Dynamic range below the loudest bin, dB.
    pub top_db: f64,
    /// Frames kept after scaling: columns of the spectrogram.
    pub frames: usize,
}

impl Default for FrontEnd {
    fn default() -> Self {
        FrontEnd {
            rate_hz: 16_000,
            window_s: 5.0,
            n_fft: 2048,
            hop: 512,
            n_mels: 128,
            fmin_hz: 20.0,
            fmax_hz: 8000.0,
            pre_emphasis: 0.97,
            top_db: 80.0,
            frames: 128,
        }
    }
}

/// Bounds of what a bundle may ask for: far beyond use, near enough that neither a Pi's memory nor its time runs out.
const MAX_WINDOW_SAMPLES: f64 = 4e6;
const MAX_N_FFT: usize = 1 << 16;
const MAX_N_MELS: usize = 2048;
/// Most frames of one window.
const MAX_FRAMES: usize = 1 << 14;
/// A frame overlaps its neighbours so many times at most: a smaller step costs work and shows nothing new.
const MAX_OVERLAP: usize = 64;
/// Most values of power spectrum, mel matrix and image together: 64 MiB as f32.
const MAX_VALUES: usize = 1 << 24;

impl FrontEnd {
    /// Samples in one window.
    pub fn window_samples(&self) -> usize {
        (self.window_s * f64::from(self.rate_hz)).round() as usize
    }

    /// Bins of the power spectrum.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// Frames of one window, those included that only count in scaling.
    pub fn frames_total(&self) -> usize {
        let padded = self.window_samples() + 2 * (self.n_fft / 2);
        (padded - self.n_fft) / self.hop + 1
    }

    /// Edges of the mel bands, Hz, `[n_mels + 2]`: band `i` rises from edge `i`, peaks at `i + 1` and falls to `i + 2`.
    /// They lie evenly on Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above.
    pub fn mel_edges_hz(&self) -> Vec<f64> {
        let (low, high) = (hz_to_mel(self.fmin_hz), hz_to_mel(self.fmax_hz));
        let step = (high - low) / (self.n_mels + 1) as f64;
        (0..self.n_mels + 2).map(|edge| mel_to_hz(low + step * edge as f64)).collect()
    }

    /// Smallest step from frame to frame whose frames are few enough, and small enough in all, to be computed.
    fn least_hop(&self) -> usize {
        // Of each frame: its power spectrum, its mel powers twice (by frame, by band), its column of the image.
        let frames = MAX_FRAMES.min(MAX_VALUES / (self.bins() + 3 * self.n_mels));
        let span = self.window_samples() + 2 * (self.n_fft / 2) - self.n_fft;
        (span / frames + 1).max(self.n_fft / MAX_OVERLAP)
    }

    /// Bounds what a front-end costs before anything of it is allocated: whoever reads one from outside calls this first.
    ///
    /// # Errors
    /// The first parameter that no spectrogram can be computed with, what was expected and what was found.
    pub fn check(&self) -> Result<(), FeatureError> {
        let fail = |name: &str, expected: String, found: &dyn std::fmt::Display| {
            Err(FeatureError::Parameter(format!("{name}: expected {expected}, found {found}")))
        };
        if !RATES_HZ.contains(&self.rate_hz) {
            return fail("rate_hz", format!("{} to {} Hz", RATES_HZ.start(), RATES_HZ.end()), &self.rate_hz);
        }
        if !(16..=MAX_N_FFT).contains(&self.n_fft) {
            return fail("n_fft", format!("16 to {MAX_N_FFT}"), &self.n_fft);
        }
        let rate_hz = f64::from(self.rate_hz);
        let (least_s, most_s) = (self.n_fft as f64 / rate_hz, MAX_WINDOW_SAMPLES / rate_hz);
        // Written so that NaN fails, here and below.
        if !(least_s..=most_s).contains(&self.window_s) {
            let expected = format!("{least_s} (n_fft samples) to {most_s} seconds");
            return fail("window_s", expected, &self.window_s);
        }
        if !(1..=MAX_N_MELS).contains(&self.n_mels) {
            return fail("n_mels", format!("1 to {MAX_N_MELS}"), &self.n_mels);
        }
        let least = self.least_hop();
        if self.hop < least {
            return fail("hop", format!("at least {least} samples"), &self.hop);
        }
        if !(self.fmax_hz > 0.0 && self.fmax_hz <= rate_hz / 2.0) {
            let expected = format!("above 0 and at most half the rate, {} Hz", rate_hz / 2.0);
            return fail("fmax_hz", expected, &self.fmax_hz);
        }
        // What a machine sounds like is not to be told from fewer.
        let highest = self.fmax_hz - LEAST_BINS * rate_hz / self.n_fft as f64;
        if !(0.0..=highest).contains(&self.fmin_hz) {
            let expected = format!("0 to {highest} Hz, {LEAST_BINS} bins of {} samples below fmax_hz", self.n_fft);
            return fail("fmin_hz", expected, &self.fmin_hz);
        }
        if !(0.0..=1.0).contains(&self.pre_emphasis) {
            return fail("pre_emphasis", "0 to 1".into(), &self.pre_emphasis);
        }
        if !(self.top_db > 0.0 && self.top_db.is_finite()) {
            return fail("top_db", "above 0".into(), &self.top_db);
        }
        if !(1..=self.frames_total()).contains(&self.frames) {
            let expected = format!("1 to {}, all that the window has", self.frames_total());
            return fail("frames", expected, &self.frames);
        }
        Ok(())
    }
}

/// Slaney's scale: 200/3 Hz to the mel up to 1 kHz (15 mel), then 27 mel for each factor of 6.4.
const LINEAR_HZ: f64 = 200.0 / 3.0;
const BEND_HZ: f64 = 1000.0;
const BEND_MEL: f64 = BEND_HZ / LINEAR_HZ;

fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

/// A frequency on the scale of [`FrontEnd::mel_edges_hz`].
pub fn hz_to_mel(hz: f64) -> f64 {
    if hz < BEND_HZ { hz / LINEAR_HZ } else { BEND_MEL + (hz / BEND_HZ).ln() / log_step() }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < BEND_MEL { mel * LINEAR_HZ } else { BEND_HZ * (log_step() * (mel - BEND_MEL)).exp() }
}
