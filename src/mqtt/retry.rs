//! When to try again, and how fast to catch up. Pure: time and chance are handed in.

use std::time::{Duration, Instant};

/// Pauses that double from the shortest to the longest, each cut by chance to between half and all of it.
#[derive(Debug, Clone)]
pub struct Pause {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    pub fn new((shortest, longest): (Duration, Duration)) -> Self {
        Pause { shortest, longest, next: shortest * 2 }
    }

    /// The next pause; `chance` is 0..1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let pause = self.next.min(self.longest).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
        self.next = (self.next * 2).min(self.longest);
        pause.max(self.shortest)
    }

    /// A connection has ended after `lived`: one that outlived the pause before it was a good one. Two agents that
    /// push each other out of the broker by the same id so come to rest.
    pub fn connection_ended(&mut self, lived: Duration) {
        if lived >= self.next {
            self.next = self.shortest * 2;
        }
    }
}

/// At most so many a second, evenly.
#[derive(Debug, Clone)]
pub struct Throttle {
    per_s: f64,
    tokens: f64,
    counted: Instant,
}

/// Messages that may go at once after a rest.
const BURST: f64 = 16.0;

impl Throttle {
    pub fn new(per_s: f64, now: Instant) -> Self {
        Throttle { per_s, tokens: BURST, counted: now }
    }

    /// Whether one may go now.
    pub fn take(&mut self, now: Instant) -> bool {
        self.count(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// When the next one may go.
    pub fn ready_at(&self) -> Instant {
        self.counted + Duration::from_secs_f64(((1.0 - self.tokens) / self.per_s).max(0.0))
    }

    fn count(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.counted).as_secs_f64();
        self.tokens = (self.tokens + passed_s * self.per_s).min(BURST);
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_within_their_bounds() {
        let mut pause = Pause::new((SECOND, 60 * SECOND));
        let longest: Vec<u64> = (0..8).map(|_| pause.next(1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause.next(0.0), 30 * SECOND);
        pause.connection_ended(59 * SECOND);
        assert_eq!(pause.next(1.0), 60 * SECOND, "the connection lived shorter than the pause before it");
        pause.connection_ended(60 * SECOND);
        assert_eq!(pause.next(0.0), SECOND);
    }

    #[test]
    fn the_rate_holds_whatever_the_rhythm() {
        let start = Instant::now();
        let mut throttle = Throttle::new(100.0, start);
        let mut sent = 0;
        for millisecond in 0..10_000 {
            sent += i32::from(throttle.take(start + Duration::from_millis(millisecond)));
        }
        assert!((1000..=1000 + BURST as i32).contains(&sent), "{sent}");
        assert!(!throttle.take(start + Duration::from_millis(9_999)));
        assert!(throttle.take(throttle.ready_at() + Duration::from_micros(1)));
    }
}
