//! What capture has to say about each machine, and how each machine's source is doing.

use std::time::Instant;

use crate::audio::config::MachineInput;
use crate::audio::source::Format;
use crate::window::Window;

/// What capture has to say, in the order of its coming.
#[derive(Debug)]
pub enum Captured {
    /// The next window of a machine.
    Window(Window),
    /// Something happened to a machine's source.
    Event { machine: usize, event: CaptureEvent },
    /// A machine's source has come to its end: no more windows.
    End { machine: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum CaptureEvent {
    /// The source was lost or cannot be opened; reported once, however long it takes.
    MicLost { why: String },
    /// Its frames come again.
    MicBack,
    /// Sound was lost while the source was running: so many times, so many seconds, since the last such event.
    Overrun { gaps: u64, lost_s: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureState {
    /// Nothing has come yet.
    Starting,
    Live,
    Lost,
    Ended,
}

/// How one machine's source is doing; counts since the start.
#[derive(Debug, Clone)]
pub struct MachineStats {
    pub machine: usize,
    pub id: String,
    pub state: CaptureState,
    /// Why it is lost.
    pub why: Option<String>,
    /// What the source delivers; `None` before its first frame.
    pub format: Option<Format>,
    /// Windows cut, those without sound too.
    pub windows: u64,
    /// Times that sound was lost while the source was running (overruns, holes).
    pub gaps: u64,
    /// Seconds of sound lost so.
    pub lost_s: f64,
    /// Times that the source was lost.
    pub losses: u64,
    /// Windows that could not be scored in time.
    pub overload: u64,
    /// Windows of which nothing is left, because nobody took them for hours.
    pub forgotten: u64,
    /// When the last frame came.
    pub last_frame: Option<Instant>,
    /// Level of the last frames, dB of full scale.
    pub level_dbfs: Option<f64>,
}

impl MachineStats {
    pub(super) fn new(input: &MachineInput) -> Self {
        MachineStats {
            machine: input.machine,
            id: input.id.clone(),
            state: CaptureState::Starting,
            why: None,
            format: None,
            windows: 0,
            gaps: 0,
            lost_s: 0.0,
            losses: 0,
            overload: 0,
            forgotten: 0,
            last_frame: None,
            level_dbfs: None,
        }
    }
}
