//! What some windows of a machine come to: counts, times, and how distance, score and level are spread.

use crate::scoring::{Assessment, Reason, Verdict};

/// The smallest, the middle and the largest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub min: f64,
    /// Of an even number the lower middle one.
    pub median: f64,
    pub max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len().checked_sub(1)? / 2)?;
        Some(Spread { min: values[0], median, max: *values.last()? })
    }

    /// Of spreads with the number of windows behind each: extremes are exact, the median is that of the medians, each as
    /// often as it has windows.
    fn merged(parts: impl Iterator<Item = (Spread, u32)>) -> Option<Spread> {
        let mut parts: Vec<(Spread, u32)> = parts.collect();
        parts.sort_by(|(a, _), (b, _)| a.median.total_cmp(&b.median));
        let all: u64 = parts.iter().map(|(_, windows)| u64::from(*windows).max(1)).sum();
        let mut below = 0;
        let middle = parts.iter().find(|(_, windows)| {
            below += u64::from(*windows).max(1);
            2 * below >= all
        });
        let (min, max) = parts.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), (spread, _)| {
            (min.min(spread.min), max.max(spread.max))
        });
        Some(Spread { min, median: middle?.0.median, max })
    }
}

/// One window, as the trend takes it in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    verdict: Verdict,
    reason: Option<Reason>,
    distance: Option<f64>,
    score: Option<f64>,
    level_dbfs: f64,
    threshold: Option<f64>,
    /// From this window to the next, s: so much time it stands for.
    hop_s: f64,
}

impl Sample {
    pub fn new(assessment: &Assessment, hop_s: f64) -> Sample {
        let Assessment { verdict, reason, distance, score, level_dbfs, threshold, .. } = *assessment;
        Sample { verdict, reason, distance, score, level_dbfs, threshold, hop_s }
    }

    /// The time that it stands for.
    pub fn hours(&self) -> Hours {
        let mut hours = Hours::default();
        match self.reason {
            None => hours.running_s = self.hop_s,
            Some(Reason::MachineOff) => hours.standing_s = self.hop_s,
            // Nobody says anything about the machine, and nothing is wrong.
            Some(Reason::Learning | Reason::NoBundle | Reason::Maintenance) => {}
            Some(_) => hours.unheard_s = self.hop_s,
        }
        hours
    }

    fn has_sound(&self) -> bool {
        !matches!(self.reason, Some(Reason::NoSignal | Reason::Overload))
    }
}

/// How long a machine ran, stood still and could not be heard.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hours {
    /// Its windows were judged.
    pub running_s: f64,
    /// `machine_off`: known only under a baseline that was learned on site.
    pub standing_s: f64,
    /// Its windows could not be judged, and nobody had planned that: the microphone, the signal, the load.
    pub unheard_s: f64,
}

impl std::ops::AddAssign for Hours {
    fn add_assign(&mut self, other: Hours) {
        self.running_s += other.running_s;
        self.standing_s += other.standing_s;
        self.unheard_s += other.unheard_s;
    }
}

/// How long a machine ran, and since when that is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    pub hours: Hours,
    /// Unix s; `None` while no clock has been right.
    pub since_s: Option<i64>,
}

/// The windows of one machine in one step of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub windows: u32,
    /// Of them neither `unknown`.
    pub assessed: u32,
    pub anomalous: u32,
    pub hours: Hours,
    pub distance: Option<Spread>,
    pub score: Option<Spread>,
    /// Of the windows that had any sound.
    pub level_dbfs: Option<Spread>,
    /// The one in force at the end.
    pub threshold: Option<f64>,
}

impl Row {
    /// Of single windows, oldest first.
    pub fn of(samples: &[Sample]) -> Row {
        let count = |is: fn(&Sample) -> bool| samples.iter().filter(|sample| is(sample)).count() as u32;
        let mut hours = Hours::default();
        samples.iter().for_each(|sample| hours += sample.hours());
        Row {
            windows: samples.len() as u32,
            assessed: count(|sample| sample.verdict != Verdict::Unknown),
            anomalous: count(|sample| sample.verdict == Verdict::Anomalous),
            hours,
            distance: Spread::of(samples.iter().filter_map(|sample| sample.distance)),
            score: Spread::of(samples.iter().filter_map(|sample| sample.score)),
            level_dbfs: Spread::of(samples.iter().filter(|sample| sample.has_sound()).map(|sample| sample.level_dbfs)),
            threshold: samples.iter().rev().find_map(|sample| sample.threshold),
        }
    }

    /// Of shorter steps, oldest first.
    pub fn merged<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Row {
        let mut all = Row::default();
        for row in rows.clone() {
            all.windows = all.windows.saturating_add(row.windows);
            all.assessed = all.assessed.saturating_add(row.assessed);
            all.anomalous = all.anomalous.saturating_add(row.anomalous);
            all.hours += row.hours;
            all.threshold = row.threshold.or(all.threshold);
        }
        let spread = |of: fn(&Row) -> (Option<Spread>, u32)| {
            Spread::merged(rows.clone().map(of).filter_map(|(spread, windows)| Some((spread?, windows))))
        };
        all.distance = spread(|row| (row.distance, row.assessed));
        all.score = spread(|row| (row.score, row.assessed));
        all.level_dbfs = spread(|row| (row.level_dbfs, row.windows));
        all
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::scoring::judge;

    pub fn window(distance: f64) -> Sample {
        let mut assessment = judge(distance, 0.5, -30.0 + distance);
        assessment.score = Some(2.0 * distance);
        Sample::new(&assessment, 5.0)
    }

    pub fn unknown(reason: Reason) -> Sample {
        Sample::new(&Assessment::unknown(reason, Some(0.4), -90.0), 5.0)
    }

    #[test]
    fn windows_come_to_counts_times_and_spreads() {
        let windows = [0.3, 0.1, 0.9, 0.2].map(window);
        let others = [Reason::MachineOff, Reason::NoSignal, Reason::Clipped, Reason::Learning].map(unknown);
        let row = Row::of(&[windows, others].concat());
        assert_eq!((row.windows, row.assessed, row.anomalous), (8, 4, 1));
        assert_eq!(row.hours, Hours { running_s: 20.0, standing_s: 5.0, unheard_s: 10.0 });
        assert_eq!(row.distance, Some(Spread { min: 0.1, median: 0.2, max: 0.9 }));
        assert_eq!(row.score.map(|score| score.max), Some(1.8));
        assert_eq!(row.level_dbfs.map(|level| (level.min, level.median)), Some((-90.0, -29.9)), "not of no_signal");
        assert_eq!(row.threshold, Some(0.4), "the one at the end");
        assert_eq!(Row::of(&[]), Row::default());
    }

    #[test]
    fn steps_add_up_and_their_medians_count_by_their_windows() {
        let few = Row::of(&[window(0.9), window(0.8)]);
        let many = Row::of(&[0.1, 0.2, 0.3, 0.2, 0.2].map(window));
        let none = Row::of(&[unknown(Reason::NoSignal)]);
        let row = Row::merged([&few, &many, &none].into_iter());
        assert_eq!((row.windows, row.assessed, row.anomalous), (8, 7, 2));
        assert_eq!(row.hours, Hours { running_s: 35.0, standing_s: 0.0, unheard_s: 5.0 });
        assert_eq!(row.distance, Some(Spread { min: 0.1, median: 0.2, max: 0.9 }));
        assert_eq!(row.threshold, Some(0.4));
        assert_eq!(Row::merged([&few].into_iter()), few);
        assert_eq!(Row::merged([].into_iter()), Row::default());
    }
}
