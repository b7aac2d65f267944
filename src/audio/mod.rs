//! Sound from the outside: capture cards, WAV files, simulated machines; resampled and cut into windows.

pub mod capture;
mod clipping;
pub mod cutter;
pub mod device;
pub mod evidence;
pub mod files;
pub mod health;
pub mod inject;
mod paced;
mod queue;
pub mod recorder;
pub mod resample;
mod stream;
pub mod synth;
pub mod watch;
pub mod wav;

pub use capture::{Capture, CaptureEvent, CaptureState, Captured, MachineStats, start, start_streams};
pub use paced::Paced;
pub use stream::{Opener, StreamSpec};

use std::time::SystemTime;

use crate::config::Channel;

/// How a source's samples are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub rate_hz: u32,
    pub channels: usize,
}

/// Makes `mono` one channel of interleaved `frames`, or the mean of all.
pub fn take_channel(frames: &[f32], channels: usize, channel: Channel, mono: &mut Vec<f32>) {
    mono.clear();
    let frames = frames.chunks_exact(channels.max(1));
    match channel {
        Channel::One(channel) => mono.extend(frames.filter_map(|frame| frame.get(channel))),
        Channel::Mix => mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / frame.len() as f32)),
    }
}

/// What one call of [`Source::read`] brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Read {
    /// Frames were appended; the last of them was captured at `end`.
    Frames { end: SystemTime },
    /// This many frames were lost before whatever comes next; nothing was appended.
    Gap { frames: u64 },
    /// Nothing arrived within the time that a healthy source needs; nothing was appended.
    Nothing,
    /// The source has come to its end (a WAV file that is not looped).
    End,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source cannot be opened or was lost; trying again later may help.
    #[error("{0}")]
    Lost(String),
    /// The source's description is wrong; trying again does not help.
    #[error("{0}")]
    Config(String),
    /// The file is not audio that can be read.
    #[error("{0}")]
    Data(String),
}

/// Where sound comes from. Owned by one capture thread, which does nothing but read, resample and cut windows.
pub trait Source: Send {
    fn format(&self) -> Format;

    /// Waits for sound, for 0.2 s at most, and appends what came to `frames`: interleaved, -1..1.
    ///
    /// # Errors
    /// `Lost` where the source must be opened again, `Data` for a broken file.
    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError>;
}

/// What the capture side needs to know of one machine.
#[derive(Debug, Clone)]
pub struct MachineInput {
    /// Number of the machine in the configuration.
    pub machine: usize,
    /// Its id, for logs and thread names.
    pub id: String,
    pub source: crate::config::SourceConfig,
    /// Seconds from window to window.
    pub hop_s: f64,
    /// Rate that the bundle wants, Hz.
    pub rate_hz: u32,
    /// Length of a window at that rate.
    pub window_samples: usize,
}

/// One window of one machine: mono, at the bundle's rate.
#[derive(Debug, Clone)]
pub struct Window {
    pub machine: usize,
    /// Time of the window's last sample.
    pub end: SystemTime,
    /// `window_samples` samples; empty where `fault` says that there are none.
    pub samples: Vec<f32>,
    /// Why the window cannot be assessed, as far as capture knows: `gap`, `no_signal`, `overload`.
    pub fault: Option<crate::scoring::Reason>,
}
