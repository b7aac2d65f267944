//! What a machine sounds like now, for those who look: kept only while somebody asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Sound is kept for this long after it was asked for.
const WANTED_FOR: Duration = Duration::from_secs(2);
/// Newest samples that are kept.
pub const LIVE_SAMPLES: usize = 2048;

/// The newest sound of one machine.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveSound {
    /// At the rate of the machine's windows; [`LIVE_SAMPLES`] of them.
    pub samples: Vec<f32>,
    pub rate_hz: u32,
    /// Root mean square and peak of what has come since the sound was last taken; full scale is 1.
    pub rms: f64,
    pub peak: f64,
}

/// Where a capture thread leaves the newest sound. Costs it one comparison while nobody looks.
pub(super) struct LiveTap {
    rate_hz: u32,
    made: Instant,
    /// Milliseconds after `made`.
    wanted_until: AtomicU64,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    samples: VecDeque<f32>,
    count: usize,
    squares: f64,
    peak: f64,
}

impl LiveTap {
    pub fn new(rate_hz: u32) -> LiveTap {
        LiveTap { rate_hz, made: Instant::now(), wanted_until: AtomicU64::new(0), newest: Mutex::default() }
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Leaves sound for those who look.
    pub fn leave(&self, samples: &[f32]) {
        if self.wanted_until.load(Ordering::Relaxed) <= self.age_ms() {
            return;
        }
        let mut newest = self.newest.lock();
        newest.samples.extend(samples);
        let surplus = newest.samples.len().saturating_sub(LIVE_SAMPLES);
        newest.samples.drain(..surplus);
        newest.count += samples.len();
        newest.squares += samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
        newest.peak = samples.iter().fold(newest.peak, |peak, &sample| peak.max(f64::from(sample).abs()));
    }

    /// Takes what has come since the last time; `None` when it is nothing, or not enough yet.
    pub fn take(&self) -> Option<LiveSound> {
        let now = self.age_ms();
        let wanted = u64::try_from(WANTED_FOR.as_millis()).unwrap_or(u64::MAX);
        let mut newest = self.newest.lock();
        if self.wanted_until.swap(now.saturating_add(wanted), Ordering::Relaxed) <= now {
            *newest = Newest::default();
        }
        if newest.count == 0 || newest.samples.len() < LIVE_SAMPLES {
            return None;
        }
        let sound = LiveSound {
            samples: newest.samples.iter().copied().collect(),
            rate_hz: self.rate_hz,
            rms: (newest.squares / newest.count as f64).sqrt(),
            peak: newest.peak,
        };
        (newest.count, newest.squares, newest.peak) = (0, 0.0, 0.0);
        Some(sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_kept_from_the_first_question_on() {
        let tap = LiveTap::new(16_000);
        tap.leave(&[0.5; 5000]);
        assert_eq!(tap.take(), None);
        tap.leave(&[0.5; 1000]);
        assert_eq!(tap.take(), None, "not enough for a spectrum");
        tap.leave(&[-1.0; 2000]);
        let sound = tap.take().expect("enough");
        assert_eq!((sound.samples.len(), sound.samples[0], sound.samples[LIVE_SAMPLES - 1]), (LIVE_SAMPLES, 0.5, -1.0));
        assert_eq!(sound.peak, 1.0);
        assert!((sound.rms - (2250.0_f64 / 3000.0).sqrt()).abs() < 1e-9, "{}", sound.rms);
        assert_eq!(tap.take(), None, "nothing new");
        tap.leave(&[0.25; 100]);
        assert_eq!(tap.take().map(|sound| sound.peak), Some(0.25));
    }
}
