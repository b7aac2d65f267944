//! Sound from the outside: capture cards, WAV files, simulated machines; resampled and cut into windows.

pub mod capture;
pub mod compressed;
pub mod config;
pub mod device;
pub mod flac;
mod levels;
pub mod meters;
mod paced;
pub mod resample;
pub mod sound_file;
mod source;
pub mod synth;
pub mod wav;

pub use capture::{
    Capture, CaptureEvent, CaptureState, Captured, MachineStats, Opener, StreamSpec, start, start_streams,
};
pub use config::{Channel, MachineInput, SourceConfig, take_channel};
pub use paced::Paced;
pub use source::{Format, Read, Source, SourceError, SourceProblem};
