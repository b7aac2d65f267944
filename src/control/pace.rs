//! How fast commands are taken in, so that a flood of them cannot take the processor from scoring.

use std::time::Duration;

/// Commands a second in the long run.
const RATE: f64 = 20.0;
/// So many at once after a quiet time.
const BURST: f64 = 100.0;

/// A token bucket; time is handed in.
#[derive(Debug)]
pub struct Pace {
    tokens: f64,
    last: Duration,
}

impl Pace {
    pub fn new(now: Duration) -> Pace {
        Pace { tokens: BURST, last: now }
    }

    /// One command is taken in at `now` (of any monotonic clock): how long to wait before the next one.
    pub fn take(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * RATE).min(BURST) - 1.0;
        Duration::from_secs_f64((-self.tokens / RATE).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed() {
        let mut now = Duration::from_secs(5);
        let mut pace = Pace::new(now);
        for _ in 0..BURST as usize {
            assert_eq!(pace.take(now), Duration::ZERO);
        }
        let begin = now;
        for _ in 0..200 {
            now += pace.take(now);
        }
        let rate = 200.0 / (now - begin).as_secs_f64();
        assert!((rate - RATE).abs() < 0.5, "{rate}");
        now += Duration::from_secs(60);
        assert_eq!(pace.take(now), Duration::ZERO);
    }
}
