//! What a threshold would have meant for the windows that are stored: pure arithmetic on their distances.

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::history::Entry;
use crate::scoring::alarm::{Alarm, AlarmConfig, AlarmState};
use crate::scoring::{Assessment, Reason, judge};

/// Fewest hours of windows from which alarms a day are counted; less says nothing about a day.
const LEAST_HOURS: f64 = 1.0;

/// What one threshold would have done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    pub threshold: f64,
    /// Windows that it would have called anomalous.
    pub anomalous: usize,
    /// Of the assessed ones, 0..1; null without any.
    pub share: Option<f64>,
    /// Times that the machine's `k` of `n` would have raised the alarm.
    pub alarms: usize,
    /// That in a day; null where there is less than an hour of windows.
    pub alarms_per_day: Option<f64>,
}

/// Windows with a distance.
pub fn assessed(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| entry.distance.is_some()).count()
}

/// From the first window to the last, hours.
pub fn hours(entries: &[Entry]) -> f64 {
    let span = |(first, last): (&Entry, &Entry)| (last.at_ms - first.at_ms) as f64 / 3_600_000.0;
    let hours = entries.first().zip(entries.last()).map_or(0.0, span);
    (hours * 1000.0).round() / 1000.0
}

/// Judges the stored windows, oldest first, with another threshold.
pub fn with_threshold(entries: &[Entry], threshold: f64, alarm: &AlarmConfig) -> Preview {
    let anomalous = entries.iter().filter(|entry| entry.distance.is_some_and(|distance| distance > threshold)).count();
    let assessed = assessed(entries);
    let alarms = alarms(entries, threshold, alarm);
    let hours = hours(entries);
    Preview {
        threshold,
        anomalous,
        share: (assessed > 0).then(|| anomalous as f64 / assessed as f64),
        alarms,
        alarms_per_day: (hours >= LEAST_HOURS).then(|| alarms as f64 * 24.0 / hours),
    }
}

/// Runs the machine's own alarm over the windows, without the lanes that do not come from the threshold.
fn alarms(entries: &[Entry], threshold: f64, alarm: &AlarmConfig) -> usize {
    let Some(first) = entries.first() else { return 0 };
    let time = |entry: &Entry| DateTime::from_timestamp_millis(entry.at_ms).unwrap_or_default();
    let config = AlarmConfig { slow_windows: 0.0, deaf_after_s: 0.0, latching: false, ..alarm.clone() };
    let mut alarm = Alarm::new(config, time(first));
    let raised = entries.iter().filter(|entry| {
        let assessment = match entry.distance {
            Some(distance) => judge(distance, threshold, 0.0),
            None => Assessment::unknown(Reason::NoSignal, Some(threshold), 0.0),
        };
        let change = alarm.on_verdict(&assessment, time(entry));
        change.is_some_and(|change| change.from.state == AlarmState::Normal && change.to.state == AlarmState::Active)
    });
    raised.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows 5 s apart: quiet for an hour, then `bad` loud ones, then quiet for another hour.
    fn day(bad: usize) -> Vec<Entry> {
        let distances = [vec![Some(0.1); 720], vec![Some(0.3); bad], vec![None; 3], vec![Some(0.1); 720]].concat();
        let entry = |(number, distance)| Entry { at_ms: 1_800_000_000_000 + 5000 * number as i64, distance };
        distances.into_iter().enumerate().map(entry).collect()
    }

    #[test]
    fn windows_and_alarms_are_counted() {
        let alarm = AlarmConfig::default();
        let entries = day(8);
        assert_eq!((assessed(&entries), entries.len()), (1448, 1451));
        let found = with_threshold(&entries, 0.2, &alarm);
        assert_eq!((found.anomalous, found.alarms), (8, 1));
        assert_eq!(found.share, Some(8.0 / 1448.0));
        let per_day = found.alarms_per_day.expect("two hours of windows");
        assert!((per_day - 24.0 / (1450.0 * 5.0 / 3600.0)).abs() < 0.01, "{per_day}");

        assert_eq!(with_threshold(&day(4), 0.2, &alarm).alarms, 0, "4 of 8 are no alarm");
        assert_eq!(with_threshold(&entries, 0.3, &alarm).anomalous, 0, "the threshold itself is normal");
        assert_eq!(with_threshold(&entries, 0.05, &alarm).alarms, 1, "one that never ends");
    }

    #[test]
    fn little_is_not_made_much_of() {
        let alarm = AlarmConfig::default();
        let none = with_threshold(&[], 0.2, &alarm);
        assert_eq!((none.anomalous, none.share, none.alarms, none.alarms_per_day), (0, None, 0, None));
        assert_eq!(with_threshold(&day(8)[..719], 0.2, &alarm).alarms_per_day, None);
    }
}
