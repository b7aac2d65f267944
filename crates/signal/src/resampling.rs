//! rubato's resampler of one channel, block by block.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, ResamplerConstructionError, WindowFunction};

/// A resampler that turns blocks of one length into blocks of another one: a windowed sinc as long as a block, applied by
/// overlap-add in the frequency domain. Blackman-Harris: its transition is about 8 bins of a block wide.
pub struct BlockResampler {
    fft: Fft<f32>,
}

impl BlockResampler {
    /// From `from_hz` to `to_hz`, with blocks of `block_in` samples.
    ///
    /// # Errors
    /// `rubato` cannot do it.
    pub fn new(from_hz: u32, to_hz: u32, block_in: usize) -> Result<BlockResampler, ResamplerConstructionError> {
        let window = WindowFunction::BlackmanHarris;
        let (from, to) = (from_hz as usize, to_hz as usize);
        let fft = Fft::new_custom(from, to, block_in, 1, 1, window, FixedSync::Both)?;
        Ok(BlockResampler { fft })
    }

    /// Samples of a block that goes in.
    pub fn block_in(&self) -> usize {
        self.fft.input_frames_next()
    }

    /// Samples of a block that comes out.
    pub fn block_out(&self) -> usize {
        self.fft.output_frames_next()
    }

    /// The filter's delay, in samples that come out.
    pub fn delay(&self) -> usize {
        self.fft.output_delay()
    }

    /// Takes one block in and gives one out. Samples must be finite, and so small that their transform is.
    ///
    /// # Panics
    /// Where a slice is no block.
    pub fn process(&mut self, input: &[f32], output: &mut [f32]) {
        let source = InterleavedSlice::new(input, 1, self.block_in()).expect("one block of one channel");
        let mut sink = InterleavedSlice::new_mut(output, 1, self.block_out()).expect("one block of one channel");
        self.fft.process_into_buffer(&source, &mut sink, None).expect("the buffers hold a block each");
    }

    /// Forgets what it was given.
    pub fn reset(&mut self) {
        self.fft.reset();
    }
}
