//! A stream's clock: which moment a frame was captured at, by counting frames. Pure.

/// Frames later than this are held back until it is clear whether they are late or others were lost, s.
const LATE_S: f64 = 0.25;
/// Frames that stay late for so long: others were lost, s.
const LOST_AFTER_S: f64 = 1.0;
/// A card's clock is never further off than this.
const MAX_DRIFT: f64 = 500e-6;

/// What the arrival of a block of frames shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrival {
    OnTime,
    /// Later than the frames before it would have it: a backlog, or frames are missing before it. Wait for more.
    Late,
    /// Since the block that was late first, so many seconds of sound are missing.
    Lost(f64),
}

/// Follows the least delayed blocks: no block can arrive before it was captured, so those are true, however busy
/// the machine is. The card's drift against the host's clock shows in them, and goes into the time alone.
#[derive(Debug)]
pub struct StreamClock {
    rate_hz: f64,
    /// When frame 0 was captured, on the host's clock, s.
    origin_s: Option<f64>,
    last_s: f64,
    /// Since when blocks are late, and the least that they were.
    late: Option<(f64, f64)>,
}

impl StreamClock {
    pub fn new(rate_hz: u32) -> Self {
        StreamClock { rate_hz: f64::from(rate_hz), origin_s: None, last_s: 0.0, late: None }
    }

    /// A block has arrived at `at_s` on the host's clock; `frames` is the count up to and with its last frame.
    pub fn observe(&mut self, frames: u64, at_s: f64) -> Arrival {
        let counted_s = frames as f64 / self.rate_hz;
        let Some(origin_s) = self.origin_s else {
            (self.origin_s, self.last_s) = (Some(at_s - counted_s), at_s);
            return Arrival::OnTime;
        };
        let passed_s = (at_s - self.last_s).max(0.0);
        self.last_s = at_s;
        let late_s = at_s - (origin_s + counted_s);
        if late_s <= LATE_S {
            self.late = None;
            self.origin_s = Some(origin_s + late_s.min(MAX_DRIFT * passed_s));
            return Arrival::OnTime;
        }
        let (since_s, least_s) = self.late.unwrap_or((at_s, late_s));
        let least_s = least_s.min(late_s);
        if at_s - since_s < LOST_AFTER_S {
            self.late = Some((since_s, least_s));
            return Arrival::Late;
        }
        self.late = None;
        self.origin_s = Some(origin_s + least_s);
        Arrival::Lost(least_s)
    }

    /// Frames are known to be missing before this block: how many seconds of sound, by the clock. Starts anew from here.
    pub fn lost(&mut self, frames: u64, at_s: f64) -> f64 {
        let expected_s = self.time_s(frames).unwrap_or(at_s);
        (self.origin_s, self.last_s, self.late) = (Some(at_s - frames as f64 / self.rate_hz), at_s, None);
        (at_s - expected_s).max(0.0)
    }

    /// When frame `frames` (a count) was captured, on the host's clock, s; `None` before the first block.
    pub fn time_s(&self, frames: u64) -> Option<f64> {
        Some(self.origin_s? + frames as f64 / self.rate_hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;

    /// Blocks of 0.1 s from a card that is `drift` fast, `jitter(n)` s late each; the clock and the largest error of its
    /// time after the first 10 s.
    fn follow(drift: f64, blocks: u64, jitter: impl Fn(u64) -> f64) -> (StreamClock, f64) {
        let (mut clock, mut worst) = (StreamClock::new(RATE), 0.0_f64);
        for n in 1..=blocks {
            let true_s = n as f64 * 0.1 / (1.0 + drift);
            assert_eq!(clock.observe(n * 4800, true_s + jitter(n)), Arrival::OnTime);
            if true_s > 10.0 {
                worst = worst.max((clock.time_s(n * 4800).unwrap() - true_s).abs());
            }
        }
        (clock, worst)
    }

    #[test]
    fn drift_is_followed_in_the_time_for_a_day() {
        for drift in [-200e-6, 0.0, 200e-6] {
            let (_, worst) = follow(drift, 864_000, |n| if n % 7 == 0 { 0.0 } else { (n % 5) as f64 * 0.04 });
            assert!(worst < 0.005, "{drift}: {worst} s");
        }
    }

    #[test]
    fn a_backlog_that_is_caught_up_loses_nothing() {
        let (mut clock, _) = follow(0.0, 100, |_| 0.0);
        assert_eq!(clock.observe(101 * 4800, 10.9), Arrival::Late);
        assert_eq!(clock.observe(109 * 4800, 10.95), Arrival::OnTime);
        assert!((clock.time_s(109 * 4800).unwrap() - 10.9).abs() < 0.001);
    }

    #[test]
    fn missing_frames_are_noticed_within_a_good_second_and_measured() {
        let (mut clock, _) = follow(0.0, 100, |_| 0.0);
        let mut noticed = None;
        for n in 101..120_u64 {
            // 0.7 s are missing before block 101.
            if let Arrival::Lost(lost_s) = clock.observe(n * 4800, n as f64 * 0.1 + 0.7) {
                noticed = Some((n, lost_s));
                break;
            }
        }
        let (block, lost_s) = noticed.unwrap();
        assert!(block <= 112 && (lost_s - 0.7).abs() < 0.001, "{block} {lost_s}");
        assert_eq!(clock.observe((block + 1) * 4800, (block + 1) as f64 * 0.1 + 0.7), Arrival::OnTime);
    }

    #[test]
    fn an_overrun_is_measured_at_once() {
        let (mut clock, _) = follow(0.0, 100, |_| 0.0);
        assert!((clock.lost(101 * 4800, 10.4) - 0.3).abs() < 1e-9);
        assert_eq!(clock.observe(102 * 4800, 10.5), Arrival::OnTime);
    }
}
