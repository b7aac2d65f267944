//! Wall time that can be trusted, or says that it cannot: is the system clock synchronised, and did it jump?
//!
//! A Raspberry Pi has no clock battery. Whether its clock was set since boot is asked, in this order:
//! 1. a time before this program was written is never right;
//! 2. where systemd-timesyncd runs (Raspberry Pi OS), its file `/run/systemd/timesync/synchronized`;
//! 3. otherwise `timedatectl`, which knows the kernel's state whatever set it (chrony, ntpd, PTP);
//! 4. where nothing shows it, as in a container, the clock is the host's and counts as synchronised.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wall clock further than this from where the monotonic clock expects it has jumped. NTP slews by 0.5 ms a second.
const JUMP_S: f64 = 1.0;

/// 2026-01-01T00:00:00Z: no message of this program is older.
pub const NOT_BEFORE_S: i64 = 1_767_225_600;

/// How often an unsynchronised clock is asked about again.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A moment: RFC 3339 in UTC with milliseconds and `Z`. Any offset is understood when read; on the command line also a
/// span from now: `+90m`, `+2h`, `+1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    const EXPECTED: &str = "a time like 2026-03-01T12:00:00Z";

    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }

    fn read(text: &str) -> Option<Timestamp> {
        // Rounded first: a leap second at the end of an era is in the next.
        let time = Timestamp::from(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
        // A time that cannot be counted in ms around our era is not the end of anything.
        let years = (DateTime::<Utc>::UNIX_EPOCH..DateTime::from_timestamp(253_402_300_800, 0)?).contains(&time.0);
        years.then_some(time)
    }

    fn from_now(span: &str) -> Option<Timestamp> {
        let span_ms = Self::span_ms(span.strip_prefix('+')?)?;
        Some(Timestamp::from(Utc::now() + TimeDelta::milliseconds(span_ms)))
    }

    /// Reads a time of the past: RFC 3339, or `-90m`, `-2h`, `-7d` from now.
    ///
    /// # Errors
    /// What was expected and found.
    pub fn before(text: &str) -> Result<Timestamp, String> {
        let ago = |span: &str| Some(Timestamp::from(Utc::now() - TimeDelta::milliseconds(Self::span_ms(span)?)));
        let found =
            || format!("expected {}, or -90m, -2h, -7d from now, found {}", Self::EXPECTED, clipped(&text.into()));
        Timestamp::read(text).or_else(|| text.strip_prefix('-').and_then(ago)).ok_or_else(found)
    }

    fn span_ms(span: &str) -> Option<i64> {
        let number: f64 = span.get(..span.len().checked_sub(1)?)?.parse().ok()?;
        let unit_s = match span.as_bytes().last()? {
            b's' => 1.0,
            b'm' => 60.0,
            b'h' => 3600.0,
            b'd' => 86_400.0,
            _ => return None,
        };
        let span_ms = number * unit_s * 1000.0;
        let sane = span_ms > 0.0 && span_ms < 1e12;
        sane.then_some(span_ms as i64)
    }
}

/// A found value in few words.
fn clipped(found: &serde_json::Value) -> String {
    let text = found.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Cuts to milliseconds, so that what is written reads back as the same moment.
    fn from(time: DateTime<Utc>) -> Self {
        Timestamp(DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap_or(time))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found =
            || format!("expected {}, or +90m, +2h, +1d from now, found {}", Self::EXPECTED, clipped(&text.into()));
        Timestamp::read(text).or_else(|| Timestamp::from_now(text)).ok_or_else(found)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        value.as_str().and_then(Timestamp::read).ok_or_else(|| {
            serde::de::Error::custom(format_args!("expected {}, found {}", Self::EXPECTED, clipped(&value)))
        })
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        })
    }
}

/// Present only while the system clock is not synchronised: `ts` may be far off, `seq` still orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClockMark {
    Unsynced,
}

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

/// Looks at the clock, once a second or so, and reports what changed. Pure: time is handed in.
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

/// Watches the system's clock on its own thread, once a second; ends when `changed` answers false.
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
    fn times_are_utc_to_the_millisecond() {
        let read = |value: serde_json::Value| serde_json::from_value::<Timestamp>(value);
        let time = read("2026-03-01T14:00:00.123456+02:00".into()).expect("a time");
        assert_eq!(time.to_string(), "2026-03-01T12:00:00.123Z");
        const LAST: &str = "9999-12-31T23:59:60Z";
        for text in ["", "tomorrow", "2026-03-01", "2026-03-01T12:00:00", "9999999999", "0001-01-01T00:00:00Z", LAST] {
            assert!(read(text.into()).is_err(), "{text}");
        }
        let in_two_hours: Timestamp = "+2h".parse().expect("a span");
        assert!((in_two_hours.utc() - Utc::now() - TimeDelta::hours(2)).abs() < TimeDelta::minutes(1));
        for text in ["+", "+h", "+-2h", "+1e99d", "2h", "+2w", "+ä"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        let two_hours_ago = Timestamp::before("-2h").expect("a span");
        assert!((in_two_hours.utc() - two_hours_ago.utc() - TimeDelta::hours(4)).abs() < TimeDelta::minutes(1));
        assert!(Timestamp::before("+2h").is_err() && Timestamp::before("-").is_err());
        assert!(read("+2h".into()).is_err(), "a span is for the command line: a message may be late");
        let error = read(7.into()).expect_err("no time").to_string();
        assert_eq!(error, "expected a time like 2026-03-01T12:00:00Z, found 7");
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
    fn synchronised_is_reported_once_and_marks_messages_until_then() {
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
