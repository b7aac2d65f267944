//! WAV files: read whatever recorder wrote them, found in directories and cut into windows, written.

pub mod files;
mod memory;
mod reader;
pub mod recorder;

pub use memory::{from_16_bits, from_bytes, to_16_bits, to_bytes, to_floats};
pub use reader::{MAX_CHANNELS, WavReader};
