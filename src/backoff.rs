//! How long to wait before the next attempt. Pure: time and chance are handed in.

use std::time::Duration;

/// Pauses that double from the shortest to the longest.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Backoff { shortest, longest, next: shortest }
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        pause
    }

    /// The next pause, up to twice as long by `chance` (0..1) but never over the longest, so that many clients of one
    /// server that went away do not come back in step.
    pub fn next_spread(&mut self, chance: f64) -> Duration {
        let upper = self.upper();
        self.next();
        upper.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)).max(self.shortest)
    }

    /// An attempt was successful: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// A connection has ended after `lived`. Only one that outlived the pause before it counts as successful: two clients
    /// that push each other out of a broker by the same id slow down that way.
    pub fn connection_ended(&mut self, lived: Duration) {
        if lived >= self.upper() {
            self.reset();
        }
    }

    /// As [`Backoff::connection_ended`], where another server can take the next one and nobody pushes anybody out: a connection
    /// that outlived some of the shortest pauses counts as successful.
    pub fn one_of_several_ended(&mut self, lived: Duration) {
        if lived >= 5 * self.shortest {
            self.reset();
        } else {
            self.connection_ended(lived);
        }
    }

    /// The longest that the next pause can be.
    fn upper(&self) -> Duration {
        (2 * self.next).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_within_their_bounds() {
        let mut backoff = Backoff::new(SECOND / 4, 4 * SECOND);
        let pauses: Vec<u128> = (0..6).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 4000]);
        backoff.reset();
        assert_eq!(backoff.next(), SECOND / 4);
    }

    #[test]
    fn where_there_are_other_servers_a_short_life_is_a_success() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        for _ in 0..5 {
            backoff.next();
        }
        backoff.one_of_several_ended(4 * SECOND);
        assert_eq!(backoff.next(), 32 * SECOND);
        backoff.one_of_several_ended(5 * SECOND);
        assert_eq!(backoff.next(), SECOND);
    }

    #[test]
    fn spread_pauses_stay_within_the_bounds_and_end_with_a_good_connection() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        let longest: Vec<u64> = (0..8).map(|_| backoff.next_spread(1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.next_spread(0.0), 30 * SECOND);
        backoff.connection_ended(59 * SECOND);
        assert_eq!(backoff.next_spread(1.0), 60 * SECOND, "the connection lived shorter than the pause before it");
        backoff.connection_ended(60 * SECOND);
        assert_eq!(backoff.next_spread(0.0), SECOND);
    }
}
