//! More normal windows for a baseline: it is fitted anew from the windows that it keeps and those that are added.

use serde::{Deserialize, Serialize};

use super::sample::{LearnSettings, Sample};
use super::{Baseline, BaselineError, propose};

/// Windows that a baseline keeps, at most: as many as are judged one by one when it is made.
pub const SAMPLES_LIMIT: usize = 2048;

/// What an addition changed, and what it would have changed in the past. Alarms by their numbers in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Windows that were added.
    pub added: usize,
    /// The alarm whose windows they are; `None`: they were learned.
    pub alarm: Option<i64>,
    pub previous_threshold: f64,
    /// Alarms that are no known faults, whose clips are there: those that would not have come, and those that still would.
    pub gone: Vec<i64>,
    pub still: Vec<i64>,
    /// Known faults: found with the new baseline too, and not any more.
    pub found: Vec<i64>,
    pub missed: Vec<i64>,
}

impl Baseline {
    /// Keeps the windows that it was made from, at most [`SAMPLES_LIMIT`]: those that somebody has confirmed, and of the
    /// others as many of the whole time alike.
    #[must_use]
    pub fn keeping<'a>(mut self, samples: impl IntoIterator<Item = &'a Sample>) -> Baseline {
        let (confirmed, others): (Vec<&Sample>, Vec<&Sample>) =
            samples.into_iter().partition(|sample| sample.confirmed);
        let most = SAMPLES_LIMIT - confirmed.len().min(SAMPLES_LIMIT / 2);
        let stride = others.len().div_ceil(most).max(1);
        let newest = confirmed.len().saturating_sub(SAMPLES_LIMIT / 2);
        let kept = others.into_iter().step_by(stride).chain(confirmed.into_iter().skip(newest));
        self.samples = kept.cloned().collect();
        self
    }

    /// Whether it has kept the windows that it was made from: one of an earlier version has not.
    pub fn can_be_added_to(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Whether it was made with windows that ended at these times, s, which somebody has confirmed.
    pub fn has_confirmed(&self, at_s: &[f64]) -> bool {
        self.samples.iter().any(|sample| sample.confirmed && at_s.contains(&sample.at_s))
    }

    /// The baseline of its own windows and of `more`. Takes seconds: not between two windows.
    /// Windows that are there already are not added again.
    ///
    /// # Errors
    /// It keeps no windows; what is missing for a baseline.
    pub fn extended(&self, more: &[Sample], hop_s: f64, learned: String) -> Result<Baseline, BaselineError> {
        if !self.can_be_added_to() {
            return Err(BaselineError::NoSamples);
        }
        let recording = self.samples.iter().map(|sample| sample.recording).max().unwrap_or_default();
        let is_new = |sample: &&Sample| !self.samples.iter().any(|own| own.at_s == sample.at_s);
        let more: Vec<Sample> =
            more.iter().filter(is_new).map(|sample| Sample { recording, ..sample.clone() }).collect();
        let settings = LearnSettings {
            machine: self.machine.clone(),
            origin: self.origin.clone(),
            hop_s,
            wanted_s: 0.0,
            false_alarm_rate: self.false_alarm_rate,
            previous_threshold: Some(self.threshold),
        };
        let all = || self.samples.iter().chain(&more);
        let mut baseline = propose(all(), &settings)?;
        baseline.learned = learned;
        let changes = Changes { added: more.len(), previous_threshold: self.threshold, ..Changes::default() };
        baseline.changes = Some(changes);
        Ok(baseline.keeping(all()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Judged, Origin};
    use super::*;
    use crate::features::FrontEnd;
    use crate::scoring::lanes::Features;
    use crate::scoring::recent::Recent;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Windows around a place in every space.
    fn windows(seed: u64, count: usize, place: f32) -> Vec<Sample> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut noise = |length: usize| (0..length).map(|_| place + rng.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
        let sample = |number: usize| {
            let features = Features { spectrum: noise(32), envelope: noise(40), burst: noise(6), texture: noise(6) };
            Sample::new(0, 1000.0 * f64::from(place) + 5.0 * number as f64, -30.0, noise(4), features)
        };
        (0..count).map(sample).collect()
    }

    fn settings() -> LearnSettings {
        let front_end = FrontEnd::default();
        let origin = Origin { bundle: "b@1".into(), encoder_sha256: "00".into(), index: 0, front_end };
        let (hop_s, wanted_s, false_alarm_rate, previous_threshold) = (5.0, 60.0, 0.01, None);
        LearnSettings { machine: "fan-1".into(), origin, hop_s, wanted_s, false_alarm_rate, previous_threshold }
    }

    /// Share of the windows that are called anomalous.
    fn anomalous(baseline: &Baseline, windows: &[Sample]) -> f64 {
        let bank = baseline.bank();
        let is_anomalous = |window: &&Sample| {
            let (_, distance) = bank.nearest(&window.embedding).expect("a bank");
            let score = baseline.lane_score(distance, &window.features).expect("lanes");
            score.p_value < baseline.false_alarm_rate
        };
        windows.iter().filter(is_anomalous).count() as f64 / windows.len() as f64
    }

    /// The same of windows that follow each other, each judged with those before it.
    fn anomalous_in_turn(baseline: &Baseline, windows: &[Sample]) -> f64 {
        let (bank, mut recent) = (baseline.bank(), Recent::default());
        let mut is_anomalous = |window: &&Sample| {
            let (_, distance) = bank.nearest(&window.embedding).expect("a bank");
            let alone = baseline.judged(distance, &window.features).expect("lanes");
            let p_value = |judged: &Judged| judged.score().expect("a score").p_value;
            if p_value(&alone) < baseline.false_alarm_rate {
                return true;
            }
            recent.note(window.at_s, 5.0, &window.features.spectrum);
            alone.with_those_before(&recent).is_some_and(|all| p_value(&all) < baseline.false_alarm_rate)
        };
        windows.iter().filter(|window| is_anomalous(window)).count() as f64 / windows.len() as f64
    }

    #[test]
    fn what_was_confirmed_is_normal_from_then_on_and_what_lies_elsewhere_is_not() {
        let normal = windows(1, 400, 0.0);
        let before = propose(&normal, &settings()).expect("a baseline").keeping(&normal);
        let (disturbance, again, fault) = (windows(2, 10, 6.0), windows(3, 200, 6.0), windows(4, 200, -6.0));
        assert_eq!((anomalous(&before, &again), anomalous(&before, &fault)), (1.0, 1.0));
        let confirmed: Vec<_> = disturbance.into_iter().map(|sample| Sample { confirmed: true, ..sample }).collect();
        let after = before.extended(&confirmed, 5.0, "now".into()).expect("a baseline");
        assert_eq!(after.changes.as_ref().map(|changes| changes.added), Some(10));
        assert!(anomalous(&after, &again) < 0.3, "{}", anomalous(&after, &again));
        assert!(anomalous(&after, &fault) > 0.9, "{}", anomalous(&after, &fault));
        assert!(anomalous(&after, &windows(5, 400, 0.0)) < 0.05);
        // Also where it goes on for long, and every window has others before it.
        let (again, normal_again) =
            (anomalous_in_turn(&after, &again), anomalous_in_turn(&after, &windows(5, 400, 0.0)));
        assert!(again < 0.3 && normal_again < 0.05, "{again} {normal_again}");
        assert!(after.has_confirmed(&[confirmed[3].at_s]) && !after.has_confirmed(&[normal[3].at_s]));
        // The same once more adds nothing; the file has it all.
        let read = Baseline::from_json(&after.to_json()).expect("readable");
        assert_eq!(read, after);
        let twice = read.extended(&confirmed, 5.0, "now".into()).expect("a baseline");
        assert_eq!(twice.changes.as_ref().map(|changes| changes.added), Some(0));
        assert_eq!((twice.threshold, twice.samples.len()), (after.threshold, 410));
    }

    #[test]
    fn only_so_many_are_kept_and_one_without_any_cannot_be_added_to() {
        let normal = windows(1, 3 * SAMPLES_LIMIT, 0.0);
        let some = propose(&normal[..100], &settings()).expect("a baseline");
        assert_eq!(some.extended(&normal[..1], 5.0, String::new()), Err(BaselineError::NoSamples));
        let confirmed: Vec<_> = windows(2, 50, 1.0).into_iter().map(|one| Sample { confirmed: true, ..one }).collect();
        let kept = some.keeping(normal.iter().chain(&confirmed)).samples;
        assert!(kept.len() <= SAMPLES_LIMIT && kept.len() > SAMPLES_LIMIT / 2, "{}", kept.len());
        assert_eq!(kept.iter().filter(|sample| sample.confirmed).count(), 50);
    }
}
