//! Wall time that can be trusted, or says that it cannot: is the system clock synchronised, and did it jump?
//!
//! A Raspberry Pi has no clock battery. Whether its clock was set since boot is asked, in this order:
//! 1. a time before this program was written is never right;
//! 2. where systemd-timesyncd runs (Raspberry Pi OS), its file `/run/systemd/timesync/synchronized`;
//! 3. otherwise `timedatectl`, which knows the kernel's state whatever set it (chrony, ntpd, PTP);
//! 4. where nothing tells, as in a container, the clock is the host's and counts as synchronised.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::mqtt::payload::{ClockMark, Timestamp};

/// A wall clock further than this from where the monotonic clock expects it has jumped. NTP slews by 0.5 ms a second.
const JUMP_S: f64 = 1.0;

/// 2026-01-01T00:00:00Z: no message of this program is older.
const NOT_BEFORE_S: i64 = 1_767_225_600;

/// How often an unsynchronised clock is asked about again.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The agent's clock, for whoever stamps a message. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock {
    synchronised: Arc<AtomicBool>,
}

impl Clock {
    pub fn new(synchronised: bool) -> Self {
        Clock { synchronised: Arc::new(AtomicBool::new(synchronised)) }
    }

    /// Asks the system once; [`ClockWatch`] keeps it up to date.
    pub fn of_system() -> Self {
        Clock::new(system_clock_synchronised(Utc::now()))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from(Utc::now())
    }

    pub fn is_synchronised(&self) -> bool {
        self.synchronised.load(Ordering::Relaxed)
    }

    /// What goes into a message's `clock` field.
    pub fn mark(&self) -> Option<ClockMark> {
        (!self.is_synchronised()).then_some(ClockMark::Unsynced)
    }
}

/// What became of the clock between two looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClockChange {
    /// Wall time moved by `by_s` seconds against the monotonic clock.
    Jumped { by_s: f64 },
    /// The clock was synchronised for the first time since the start.
    Synchronised,
}

/// Looks at the clock, once a second or so, and tells what changed. Pure: time is handed in.
#[derive(Debug)]
pub struct ClockWatch {
    clock: Clock,
    last: Option<(DateTime<Utc>, Duration)>,
}

impl ClockWatch {
    pub fn new(clock: Clock) -> Self {
        ClockWatch { clock, last: None }
    }

    /// `monotonic` counts from any fixed moment; `synchronised` is asked only until it is true once.
    pub fn look(
        &mut self,
        wall: DateTime<Utc>,
        monotonic: Duration,
        synchronised: impl FnOnce() -> bool,
    ) -> Vec<ClockChange> {
        let mut changes = Vec::new();
        if let Some((wall_before, monotonic_before)) = self.last.replace((wall, monotonic)) {
            let wall_s = (wall - wall_before).as_seconds_f64();
            let by_s = wall_s - monotonic.saturating_sub(monotonic_before).as_secs_f64();
            if by_s.abs() > JUMP_S {
                changes.push(ClockChange::Jumped { by_s });
            }
        }
        if !self.clock.is_synchronised() && synchronised() {
            self.clock.synchronised.store(true, Ordering::Relaxed);
            changes.push(ClockChange::Synchronised);
        }
        changes
    }
}

/// Watches the system's clock on a thread of its own, once a second; ends when `changed` answers false.
///
/// # Errors
/// The thread could not be started.
pub fn watch_system_clock(
    clock: Clock,
    mut changed: impl FnMut(&[ClockChange]) -> bool + Send + 'static,
) -> std::io::Result<()> {
    let watch = move || {
        let start = Instant::now();
        let mut watch = ClockWatch::new(clock);
        let mut asked: Option<Instant> = None;
        loop {
            let ask = asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY);
            let wall = Utc::now();
            let changes = watch.look(wall, start.elapsed(), || {
                if ask {
                    asked = Some(Instant::now());
                }
                ask && system_clock_synchronised(wall)
            });
            if !changed(&changes) {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    std::thread::Builder::new().name("clock".into()).spawn(watch).map(drop)
}

/// Whether the system's clock was set since boot; the module's head says how that is known.
pub fn system_clock_synchronised(now: DateTime<Utc>) -> bool {
    if now.timestamp() < NOT_BEFORE_S {
        return false;
    }
    let timesyncd = Path::new("/run/systemd/timesync");
    if timesyncd.is_dir() {
        return timesyncd.join("synchronized").exists();
    }
    let asked = std::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stderr(std::process::Stdio::null())
        .output();
    match asked {
        Ok(answer) if answer.status.success() => answer.stdout.trim_ascii() != b"no",
        Ok(_) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis((seconds * 1000.0) as i64).expect("a time within range")
    }

    #[test]
    fn a_jump_is_seen_and_a_slew_is_not() {
        let mut watch = ClockWatch::new(Clock::new(true));
        let mut look = |wall, monotonic| watch.look(at(wall), Duration::from_secs_f64(monotonic), || true);
        assert_eq!(look(1000.0, 10.0), []);
        assert_eq!(look(1001.0005, 11.0), []);
        assert_eq!(look(1060.0, 70.0), [], "a long pause between two looks is no jump");
        assert_eq!(look(5061.0, 71.0), [ClockChange::Jumped { by_s: 4000.0 }]);
        assert_eq!(look(5062.0, 72.0), []);
        assert_eq!(look(1000.0, 73.0), [ClockChange::Jumped { by_s: -4063.0 }]);
    }

    #[test]
    fn synchronised_is_told_once_and_marks_messages_until_then() {
        let clock = Clock::new(false);
        let mut watch = ClockWatch::new(clock.clone());
        assert_eq!(watch.look(at(1.0), Duration::from_secs(1), || false), []);
        assert_eq!(clock.mark(), Some(ClockMark::Unsynced));
        let changes = watch.look(at(2e9), Duration::from_secs(2), || true);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(changes[1], ClockChange::Synchronised);
        assert_eq!(clock.mark(), None);
        assert_eq!(watch.look(at(2e9 + 1.0), Duration::from_secs(3), || unreachable!("asked again")), []);
    }

    #[test]
    fn a_clock_of_1970_is_never_synchronised() {
        assert!(!system_clock_synchronised(at(12_345.0)));
    }
}
