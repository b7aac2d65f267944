//! Gives a source that could go faster (a file, a simulation) the pace of real time, or of a multiple of it.

use std::time::{Duration, Instant, SystemTime};

use super::source::{Format, Read, Source, SourceError};

/// Longest wait in one read.
const WAIT: Duration = Duration::from_millis(200);
/// Behind by more than this (the process was stopped, the machine asleep), the pace begins anew instead of rushing.
const RUSH: Duration = Duration::from_secs(2);

/// A source whose frames come no sooner than they would from a microphone.
pub struct Paced {
    inner: Box<dyn Source>,
    /// Times real time.
    speed: f64,
    begun: Instant,
    frames: u64,
    /// Frames that were read and are not due yet, and that read's outcome.
    next: Option<(Vec<f32>, Read)>,
}

impl Paced {
    pub fn new(inner: Box<dyn Source>) -> Self {
        Paced::at_speed(inner, 1.0)
    }

    /// At a multiple of real time, above 0.
    pub fn at_speed(inner: Box<dyn Source>, speed: f64) -> Self {
        Paced { inner, speed, begun: Instant::now(), frames: 0, next: None }
    }
}

impl Source for Paced {
    fn format(&self) -> Format {
        self.inner.format()
    }

    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError> {
        let (block, read) = match self.next.take() {
            Some(next) => next,
            None => {
                let mut block = Vec::new();
                let read = self.inner.read(&mut block)?;
                self.frames += (block.len() / self.format().channels.max(1)) as u64;
                (block, read)
            }
        };
        if block.is_empty() {
            return Ok(read);
        }
        let played_s = self.frames as f64 / f64::from(self.format().rate_hz) / self.speed;
        let due = self.begun + Duration::from_secs_f64(played_s);
        let now = Instant::now();
        if due > now + WAIT {
            self.next = Some((block, read));
            std::thread::sleep(WAIT);
            return Ok(Read::Nothing);
        }
        if due > now {
            std::thread::sleep(due - now);
        } else if now - due > RUSH {
            self.begun += now - due;
        }
        frames.extend_from_slice(&block);
        let late = Instant::now().saturating_duration_since(due).min(RUSH);
        Ok(Read::Frames { end: SystemTime::now() - late })
    }
}
