//! What every source of sound has in common.

use std::time::SystemTime;

/// How a source's samples are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub rate_hz: u32,
    pub channels: usize,
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
#[error(transparent)]
pub enum SourceError {
    /// The source cannot be opened or was lost; trying again later may help.
    Lost(SourceProblem),
    /// The source's description is wrong; trying again does not help.
    Config(SourceProblem),
    /// The file is not audio that can be read.
    Data(SourceProblem),
}

/// What is wrong with a source, naming it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceProblem {
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceProblem {
    /// `what` fails because of `cause`.
    pub fn of(what: impl ToString, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceProblem {
        SourceProblem { what: what.to_string(), source: Some(cause.into()) }
    }
}

impl<T: Into<String>> From<T> for SourceProblem {
    fn from(what: T) -> SourceProblem {
        SourceProblem { what: what.into(), source: None }
    }
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
