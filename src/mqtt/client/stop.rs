//! A clean stop: send what there is, publish `stopped`, disconnect.

use std::time::{Duration, Instant};

/// Of a stop's time, what is kept for publishing `stopped`, and then for closing the outbox.
const GOODBYE_TIME: Duration = Duration::from_millis(1500);
pub const CLOSE_TIME: Duration = Duration::from_millis(500);

/// How a stop went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopReport {
    /// The broker has acknowledged `stopped`.
    pub stopped_published: bool,
    /// Messages that wait on disk for the next start.
    pub left: u64,
}

/// The agent asks for a stop.
pub struct Stop {
    pub limit: Duration,
    pub done: std::sync::mpsc::Sender<StopReport>,
}

/// A clean stop in progress.
pub struct Stopping {
    pub stop: Stop,
    pub phase: Phase,
    /// The end of the present phase.
    pub until: Instant,
    pub end: Instant,
    pub stopped_published: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// Sends what there is.
    Drain,
    /// `stopped` is to be published.
    PublishStopped,
    AwaitAcknowledgement,
    /// DISCONNECT is on its way.
    Leave,
    Over,
}

impl Stopping {
    pub fn begin(stop: Stop, now: Instant) -> Stopping {
        let end = now + stop.limit - CLOSE_TIME.min(stop.limit / 4);
        let until = end - GOODBYE_TIME.min(stop.limit / 3);
        Stopping { stop, phase: Phase::Drain, until, end, stopped_published: false }
    }
}
