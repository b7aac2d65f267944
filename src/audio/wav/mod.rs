//! WAV files: read whatever recorder wrote them, found in directories and cut into windows, written.

pub mod files;
mod reader;
pub mod recorder;

pub use reader::{MAX_CHANNELS, WavReader};
