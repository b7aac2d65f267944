//! Mel spectrogram in parity with librosa 0.11.

use super::FrontEnd;

/// Front-end parameters that cannot be computed with.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error("{0}")]
    Parameter(String),
}

/// Computes spectrograms of windows of one length; keeps its plans and buffers between calls.
pub struct MelExtractor {
    front_end: FrontEnd,
}

impl MelExtractor {
    /// # Errors
    /// Parameters that make no spectrogram (fmax above half the rate, no band, window shorter than the FFT ...).
    pub fn new(front_end: &FrontEnd) -> Result<Self, FeatureError> {
        Ok(MelExtractor { front_end: front_end.clone() })
    }

    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// The image `[n_mels, frames]` row-major, 0..1, of one window of exactly `window_samples()` samples.
    ///
    /// # Errors
    /// A window of another length.
    pub fn compute(&mut self, window: &[f32]) -> Result<&[f32], FeatureError> {
        Err(FeatureError::Parameter(format!("no front-end yet for {} samples", window.len())))
    }
}
