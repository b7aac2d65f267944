//! The front-end: 5 s of mono audio become the mel spectrogram that the encoder was trained on.

mod mel;

pub use mel::{FeatureError, MelExtractor};

use serde::{Deserialize, Serialize};

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

impl FrontEnd {
    /// Samples in one window.
    pub fn window_samples(&self) -> usize {
        (self.window_s * f64::from(self.rate_hz)).round() as usize
    }
}
