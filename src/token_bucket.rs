//! A limit on how often something may happen. Pure: time is handed in.

use std::time::{Duration, Instant};

/// At most so many a second in the long run, and a burst after a quiet time.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_s: f64,
    burst: f64,
    tokens: f64,
    counted: Instant,
}

impl TokenBucket {
    /// A full bucket; `per_s` is above 0, `burst` at least 1.
    pub fn new(per_s: f64, burst: f64, now: Instant) -> Self {
        TokenBucket { per_s, burst, tokens: burst, counted: now }
    }

    /// Takes a token; false where there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed_s = now.saturating_duration_since(self.counted).as_secs_f64();
        self.tokens = (self.tokens + passed_s * self.per_s).min(self.burst);
        self.counted = now;
        let available = self.tokens >= 1.0;
        if available {
            self.tokens -= 1.0;
        }
        available
    }

    /// Returns a token: what it was taken for does not count.
    pub fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    /// When the next token can be taken.
    pub fn ready_at(&self) -> Instant {
        self.counted + Duration::from_secs_f64(((1.0 - self.tokens) / self.per_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_whatever_the_rhythm() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100.0, 16.0, start);
        let mut taken = 0;
        for millisecond in 0..10_000 {
            taken += i32::from(bucket.take(start + Duration::from_millis(millisecond)));
        }
        assert!((1000..=1016).contains(&taken), "{taken}");
        assert!(!bucket.take(start + Duration::from_millis(9_999)));
        assert!(bucket.take(bucket.ready_at() + Duration::from_micros(1)));
    }

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed() {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = TokenBucket::new(20.0, 100.0, now);
        for _ in 0..100 {
            assert!(bucket.take(now));
        }
        for _ in 0..200 {
            now = bucket.ready_at().max(now) + Duration::from_nanos(100);
            assert!(bucket.take(now));
        }
        let rate = 200.0 / (now - start).as_secs_f64();
        assert!((rate - 20.0).abs() < 0.5, "{rate}");
        now += Duration::from_secs(60);
        assert!(bucket.take(now) && bucket.take(now), "a quiet time fills the bucket");
    }
}
