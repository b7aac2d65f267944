//! One hour of one day: how wide the tail would have had to be in it.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// Of fewer windows nothing is said.
const WINDOWS_LEAST: u32 = 30;
/// An hour is beyond what was asked where so many times the asked share of its windows is anomalous, so many times that of
/// the day's middle hour ...
const BEYOND: f64 = 2.0;
/// ... and so many windows.
const ANOMALOUS_LEAST: u32 = 3;
/// Steps in which is counted how much wider the tail would have to be, from 1 to twice; and one for all beyond.
const STEPS: usize = 20;
/// More windows than an hour has.
const COUNT_LIMIT: u32 = 1_000_000;
const STEP: f64 = 0.05;

/// What was found in an hour that is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Hour {
    pub windows: u32,
    /// Of them anomalous under the learned baseline alone.
    pub anomalous: u32,
    /// So many times as wide the tail would have had to be for the asked rate to hold.
    pub needed: f64,
}

impl Hour {
    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let widest = 1.0 + STEP * (STEPS + 1) as f64 + 1e-6;
        self.windows <= COUNT_LIMIT && self.anomalous <= self.windows && (1.0..=widest).contains(&self.needed)
    }

    fn share(&self) -> f64 {
        f64::from(self.anomalous) / f64::from(self.windows.max(1))
    }

    /// Whether by far more windows were anomalous than asked, and than in the middle hour of its day: what is so in most hours
    /// is no matter of the hour.
    pub fn is_beyond<'a>(&self, day: impl Iterator<Item = &'a Hour>, rate: f64) -> bool {
        let mut shares: Vec<f64> = day.map(Hour::share).collect();
        shares.sort_by(f64::total_cmp);
        let middle = shares.get(shares.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        self.anomalous >= ANOMALOUS_LEAST && self.share() > BEYOND * middle.max(rate)
    }
}

/// The hour that is going on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenHour {
    date: NaiveDate,
    hour: u32,
    /// Windows that need no wider tail, then those by how much wider a one they need.
    counts: [u32; STEPS + 2],
}

impl OpenHour {
    pub fn new(date: NaiveDate, hour: u32) -> OpenHour {
        OpenHour { date, hour, counts: [0; STEPS + 2] }
    }

    pub fn is_of(&self, date: NaiveDate, hour: u32) -> bool {
        (self.date, self.hour) == (date, hour)
    }

    pub fn date(&self) -> NaiveDate {
        self.date
    }

    pub fn hour(&self) -> u32 {
        self.hour
    }

    /// One window that needs a tail so many times as wide.
    pub fn count(&mut self, needed: f64) {
        let step = ((needed - 1.0) / STEP).ceil().clamp(0.0, STEPS as f64 + 1.0) as usize;
        self.counts[step] = self.counts[step].saturating_add(1);
    }

    /// `None` where too little was heard.
    pub fn found(&self, rate: f64) -> Option<Hour> {
        let windows = self.counts.iter().sum();
        if windows < WINDOWS_LEAST {
            return None;
        }
        let allowed = rate * f64::from(windows);
        // From the widest down, as long as no more windows lie beyond than are allowed.
        let mut beyond = 0;
        let mut needed = STEPS + 1;
        while needed > 0 {
            beyond += self.counts[needed];
            if f64::from(beyond) > allowed {
                break;
            }
            needed -= 1;
        }
        let anomalous = self.counts[1..].iter().sum();
        Some(Hour { windows, anomalous, needed: 1.0 + STEP * needed as f64 })
    }

    pub fn is_valid(&self) -> bool {
        self.hour < 24 && self.counts.iter().all(|count| *count <= COUNT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(needed: impl IntoIterator<Item = f64>) -> Option<Hour> {
        let mut open = OpenHour::new(NaiveDate::default(), 5);
        needed.into_iter().for_each(|needed| open.count(needed));
        open.found(0.05)
    }

    #[test]
    fn what_an_hour_needs_is_the_quantile_that_was_asked() {
        assert_eq!(found([0.0; 29]), None);
        let hour = found((0..100).map(|number| f64::from(number) / 50.0)).expect("enough windows");
        // 49 of 100 lie above 1, and the five above 1.88 are allowed.
        assert!((hour.needed - 1.9).abs() < 1e-9 && hour.anomalous == 49, "{hour:?}");
        let quiet = found((0..100).map(|number| f64::from(number) / 95.0)).expect("enough windows");
        assert!(quiet.needed == 1.0 && quiet.anomalous == 4, "{quiet:?}");
        let wild = found([9.0; 40]).expect("enough windows");
        assert!((wild.needed - 2.05).abs() < 1e-9 && wild.anomalous == 40, "{wild:?}");
    }

    #[test]
    fn an_hour_is_beyond_where_it_differs_from_the_middle_one_of_its_day() {
        let hour = |anomalous| Hour { windows: 100, anomalous, needed: 1.5 };
        let beyond = |day: &[u32], own: u32| {
            let day: Vec<Hour> = day.iter().copied().map(hour).collect();
            hour(own).is_beyond(day.iter(), 0.01)
        };
        assert!(beyond(&[9, 9, 0, 0], 9) && beyond(&[9, 9, 4, 4], 9));
        assert!(!beyond(&[9, 9, 9, 0], 9) && !beyond(&[9], 9) && !beyond(&[9, 9, 5, 5], 9), "so it is all day");
        assert!(!beyond(&[2, 0, 0, 0], 2), "chance");
    }
}
