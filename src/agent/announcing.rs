//! When the agent publishes again what it has retained, because somebody has asked with `announce`.

use std::time::{Duration, Instant};

use crate::control::Output;

/// Between two times at least this passes, however many ask.
const PAUSE: Duration = Duration::from_secs(5);

/// The next time, where somebody waits for it, and the last one.
#[derive(Default)]
pub struct Announcing {
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Announcing {
    /// Takes in what was asked for. `random` is from 0 to 1: where in the span that the asker allows this agent speaks.
    pub fn ask(&mut self, outputs: &[Output], random: f64, now: Instant) {
        for output in outputs {
            if let Output::Announce(within) = output {
                let at = now + within.mul_f64(random);
                let at = self.last.map_or(at, |last| at.max(last + PAUSE));
                self.due = Some(self.due.map_or(at, |due| due.min(at)));
            }
        }
    }

    /// Whether it is time.
    pub fn take(&mut self, now: Instant) -> bool {
        let is_time = self.due.is_some_and(|due| due <= now);
        if is_time {
            (self.due, self.last) = (None, Some(now));
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_speaks_at_its_own_moment() {
        let (mut announcing, now) = (Announcing::default(), Instant::now());
        assert!(!announcing.take(now));
        announcing.ask(&[Output::Info, Output::Announce(Duration::from_secs(10))], 0.5, now);
        assert!(!announcing.take(now + Duration::from_millis(4_900)));
        // Another who wants it sooner gets it sooner, and the first has it with him.
        announcing.ask(&[Output::Announce(Duration::from_secs(1))], 0.5, now);
        assert!(announcing.take(now + Duration::from_millis(500)));
        assert!(!announcing.take(now + Duration::from_secs(20)));
    }

    #[test]
    fn a_flood_of_askers_makes_one_announcement_in_five_seconds() {
        let (mut announcing, begin) = (Announcing::default(), Instant::now());
        let mut announced = 0;
        for step in 0..1000 {
            let now = begin + Duration::from_millis(20 * step);
            announcing.ask(&[Output::Announce(Duration::ZERO)], 0.9, now);
            announced += usize::from(announcing.take(now));
        }
        assert_eq!(announced, 4, "20 s");
    }
}
