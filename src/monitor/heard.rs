//! The windows of the last minute of a machine, as they were scored: what is kept beside the sound of an alarm.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::scoring::baseline::Sample;
use crate::scoring::{Scored, Verdict};

/// So long windows are kept.
const KEPT: TimeDelta = TimeDelta::seconds(90);
/// And so many at most, where they overlap much.
const MOST: usize = 256;

/// One window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeardWindow {
    /// When it ended.
    pub at: DateTime<Utc>,
    pub verdict: Verdict,
    /// Anomalous with those before it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lingering: bool,
    pub distance: Option<f64>,
    pub threshold: Option<f64>,
    /// `-log10` of its probability over all lanes.
    pub score: Option<f64>,
    pub level_dbfs: f64,
    /// What a baseline is made of, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// The windows of the last minute, oldest first.
#[derive(Debug, Default)]
pub struct HeardWindows(VecDeque<HeardWindow>);

impl HeardWindows {
    /// Keeps a window that ended at `end`; `hop_s`: from one to the next. Sound that comes faster than in real time is dated
    /// by it, as a baseline wants it.
    pub fn note(&mut self, scored: &Scored, end: DateTime<Utc>, hop_s: f64) {
        let assessment = &scored.assessment;
        let sample = scored.embedding.as_ref().zip(scored.features.as_ref()).map(|(embedding, features)| {
            Sample::new(0, self.dated(end, hop_s), assessment.level_dbfs, embedding.clone(), features.clone())
        });
        self.0.push_back(HeardWindow {
            at: end,
            verdict: assessment.verdict,
            lingering: assessment.lingering,
            distance: assessment.distance,
            threshold: assessment.threshold,
            score: assessment.score,
            level_dbfs: assessment.level_dbfs,
            sample,
        });
        // Also of a clock that was set.
        let is_old = |window: &HeardWindow| (end - window.at).abs() > KEPT;
        while self.0.len() > MOST || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }

    /// When a window ended that is noted next, s: sound that comes faster than in real time is dated by `hop_s`.
    pub fn dated(&self, end: DateTime<Utc>, hop_s: f64) -> f64 {
        let last = self.0.back().and_then(|last| Some(last.sample.as_ref()?.at_s + 0.999 * hop_s));
        (end.timestamp_millis() as f64 / 1000.0).max(last.unwrap_or(f64::NEG_INFINITY))
    }

    /// The last so many that ended until a time.
    pub fn last_until(&self, until: DateTime<Utc>, most: usize) -> Vec<HeardWindow> {
        let mut found: Vec<_> = self.0.iter().rev().filter(|window| window.at <= until).take(most).cloned().collect();
        found.reverse();
        found
    }

    /// The newest that was normal.
    pub fn last_normal(&self) -> Option<&HeardWindow> {
        self.0.iter().rev().find(|window| window.verdict == Verdict::Normal && window.sample.is_some())
    }

    /// The first so many that ended after a time.
    pub fn first_after(&self, after: DateTime<Utc>, most: usize) -> Vec<HeardWindow> {
        self.0.iter().filter(|window| window.at > after).take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::judge;

    #[test]
    fn the_windows_of_the_last_minute_are_kept() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time");
        let mut heard = HeardWindows::default();
        for second in 0..200_i64 {
            let assessment = judge(second as f64, 100.0, -20.0);
            let scored = Scored { assessment, embedding: None, features: None, signal: None };
            heard.note(&scored, at(second), 1.0);
        }
        let all = heard.first_after(at(-1000), 1000);
        assert_eq!((all.len(), all[0].at), (91, at(109)));
        let times = |windows: Vec<HeardWindow>| windows.iter().map(|one| one.at).collect::<Vec<_>>();
        assert_eq!(times(heard.last_until(at(155), 5)), (151..=155).map(at).collect::<Vec<_>>());
        assert_eq!(times(heard.first_after(at(155), 3)), (156..=158).map(at).collect::<Vec<_>>());
        assert_eq!(all[50].verdict, Verdict::Anomalous);
        let scored = Scored { assessment: judge(1.0, 2.0, 0.0), embedding: None, features: None, signal: None };
        heard.note(&scored, at(5), 1.0);
        assert_eq!(heard.first_after(at(-1000), 1000).len(), 1, "the clock was set back");
    }
}
