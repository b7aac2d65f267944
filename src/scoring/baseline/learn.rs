//! Collecting the windows of normal running.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sample::{LearnSettings, Sample};
use super::{Baseline, BaselineError, propose};
use crate::numbers::LARGEST_COUNT;
use crate::scoring::lanes::Features;
use crate::scoring::verdict::Scored;
use crate::window::Reason;

/// Windows kept while learning, at most; beyond that every second one is dropped, over the whole time alike.
const MATERIAL_LIMIT: usize = 8192;
/// With fewer windows than this, those between them are learned too; they overlap, and where there are more they add little.
const BETWEEN_BELOW: u64 = 60;
/// Windows between two others begin so far apart, s; a fifth of a window's length where that is more.
const BETWEEN_S: f64 = 1.0;
/// A provisional baseline is made from so many windows at most, of the whole time alike: it takes less than a second.
const PROVISIONAL_LIMIT: usize = 1024;

/// How far learning has come.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnProgress {
    /// Normal running so far, s; windows left out do not count.
    pub heard_s: f64,
    pub wanted_s: f64,
    /// Windows taken in.
    pub windows: u64,
    /// Windows left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// There is enough for a proposal.
    pub complete: bool,
}

impl LearnProgress {
    /// How much of what is wanted has been heard, 0..1.
    pub fn share(&self) -> f64 {
        (self.heard_s / self.wanted_s).clamp(0.0, 1.0)
    }
}

/// Collects windows until there are enough; then [`Learner::propose`] makes a baseline of them. Cheap to clone: the samples
/// are shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    settings: LearnSettings,
    began: DateTime<Utc>,
    #[serde(rename = "heard", serialize_with = "write_samples", deserialize_with = "read_samples")]
    samples: Vec<Arc<Sample>>,
    /// Windows that begin between those, as long as there are few.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_samples",
        deserialize_with = "read_samples"
    )]
    between: Vec<Arc<Sample>>,
    /// One of so many windows is kept.
    stride: u64,
    last_at_s: Option<f64>,
    windows: u64,
    heard_s: f64,
    left_out: BTreeMap<String, u64>,
    /// Somebody said that all of it is normal: nothing is judged by what has been learned until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    takes_all: bool,
    /// What is learned is added to the baseline in use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    adds: bool,
}

impl Learner {
    /// # Errors
    /// A false alarm rate that makes no sense.
    pub fn new(settings: LearnSettings, now: DateTime<Utc>) -> Result<Self, BaselineError> {
        super::check_rate(settings.false_alarm_rate)?;
        let left_out = BTreeMap::new();
        let (samples, between) = (Vec::new(), Vec::new());
        let (stride, windows, heard_s) = (1, 0, 0.0);
        Ok(Learner {
            settings,
            began: now,
            samples,
            between,
            stride,
            last_at_s: None,
            windows,
            heard_s,
            left_out,
            takes_all: false,
            adds: false,
        })
    }

    /// Somebody says that all that comes is normal.
    #[must_use]
    pub fn taking_all(self) -> Self {
        Learner { takes_all: true, ..self }
    }

    /// What comes is added to the baseline in use.
    #[must_use]
    pub fn adding(self) -> Self {
        Learner { adds: true, ..self }
    }

    /// Whether what is learned is added to the baseline in use.
    pub fn adds(&self) -> bool {
        self.adds
    }

    /// What was heard, each window confirmed as normal by whoever began to learn.
    pub fn confirmed_samples(&self) -> Vec<Sample> {
        self.all().map(|sample| Sample { confirmed: true, ..sample.clone() }).collect()
    }

    /// Whether somebody said that all that comes is normal.
    pub fn takes_all(&self) -> bool {
        self.takes_all
    }

    /// Whether what it hears may be a fault: nobody has said that it is normal.
    pub fn is_judged(&self) -> bool {
        !self.takes_all && !self.adds
    }

    /// Checks what was read, whatever wrote it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), BaselineError> {
        let fault = |problem: &str| Err(BaselineError::File(problem.into()));
        super::check_rate(self.settings.false_alarm_rate)?;
        let numbers = [self.settings.hop_s, self.settings.wanted_s, self.heard_s, self.last_at_s.unwrap_or_default()];
        if !numbers.iter().all(|number| number.is_finite()) || self.stride == 0 {
            return fault("numbers that are none");
        }
        let counts = self.left_out.values().copied().chain([self.windows, self.stride]);
        let heard = self.heard_s >= 0.0 && self.settings.wanted_s > 0.0 && self.settings.hop_s > 0.0;
        if !heard || counts.into_iter().any(|count| count > LARGEST_COUNT) {
            return fault("numbers that cannot be");
        }
        let is_reason = |word: &String| word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !self.left_out.keys().all(is_reason) {
            return fault("windows left out for no reason of ours");
        }
        if self.samples.len() > MATERIAL_LIMIT || self.between.len() > MATERIAL_LIMIT {
            return fault("more windows than are kept");
        }
        let widths = |sample: &Sample| {
            // What an earlier version has heard has no texture.
            let Features { spectrum, envelope, burst, texture: _ } = &sample.features;
            [sample.embedding.len(), spectrum.len(), envelope.len(), burst.len()]
        };
        let first = self.all().next().map(widths);
        match self.all().all(|sample| Some(widths(sample)) == first) {
            true => Ok(()),
            false => Err(BaselineError::Mixed),
        }
    }

    pub fn settings(&self) -> &LearnSettings {
        &self.settings
    }

    /// Takes one window in, as the scorer gave it, whatever its verdict; those without an embedding and those in which
    /// the machine stood still are left out and counted.
    pub fn on_window(&mut self, scored: &Scored, end: DateTime<Utc>) -> LearnProgress {
        let assessment = &scored.assessment;
        match (&scored.embedding, &scored.features) {
            (Some(embedding), Some(features)) if assessment.reason != Some(Reason::MachineOff) => {
                let at_s = end.timestamp_millis() as f64 / 1000.0;
                self.take(at_s, assessment.level_dbfs, embedding, features);
            }
            _ => {
                let reason = assessment.reason.map_or("not_assessed".to_owned(), |reason| reason.to_string());
                self.count_left_out(&reason, 1);
            }
        }
        self.progress()
    }

    /// Takes in a window that ended so many seconds before the last one that was taken in, and begins between that and the
    /// one before: the same sound again, so that no more was heard.
    pub fn on_window_between(&mut self, scored: &Scored, back_s: f64) {
        let assessment = &scored.assessment;
        let (Some(embedding), Some(features), Some(last)) = (&scored.embedding, &scored.features, self.last_at_s)
        else {
            return;
        };
        if self.windows < BETWEEN_BELOW && assessment.reason != Some(Reason::MachineOff) {
            let (embedding, features) = (embedding.clone(), features.clone());
            let sample = Sample::new(0, last - back_s, assessment.level_dbfs, embedding, features);
            self.between.push(Arc::new(sample));
        }
    }

    /// How many seconds before the last window the windows end that are wanted between it and the one before, oldest
    /// first: none where there is enough without them, or where windows lie as close as that, or have gaps between them.
    pub fn wanted_between_s(&self) -> Vec<f64> {
        let LearnSettings { hop_s, ref origin, .. } = self.settings;
        let window_s = origin.front_end.window_s;
        if self.windows >= BETWEEN_BELOW || hop_s > window_s {
            return Vec::new();
        }
        let step_s = BETWEEN_S.max(window_s / 5.0);
        let parts = (hop_s / step_s + 1e-9).floor() as u32;
        (1..parts).rev().map(|number| f64::from(number) * hop_s / f64::from(parts)).collect()
    }

    /// Leaves one window out, whatever it is like.
    pub fn leave_out(&mut self, reason: &str) -> LearnProgress {
        self.count_left_out(reason, 1);
        self.progress()
    }

    /// Seconds of sound that were left out for this reason: what overlaps counts once.
    pub fn left_out_s(&self, reason: &str) -> f64 {
        self.left_out.get(reason).map_or(0.0, |windows| *windows as f64 * self.settings.hop_s)
    }

    /// Leaves out what was taken in last: so many windows, or as many as there are.
    pub fn take_back(&mut self, windows: u64, reason: &str) -> LearnProgress {
        let windows = windows.min(self.windows);
        let (Some(last), 1..) = (self.last_at_s, windows) else { return self.progress() };
        let LearnSettings { hop_s, ref origin, .. } = self.settings;
        let window_s = origin.front_end.window_s;
        self.windows -= windows;
        let kept = usize::try_from(self.windows / self.stride).unwrap_or(usize::MAX);
        let (heard_s, last) = if self.stride == 1 {
            // Each is there, so it is known what each has added, also where there are gaps between them.
            let added = |number: usize| {
                let before = number.checked_sub(1).map(|before| self.samples[before].at_s);
                before.map_or(window_s, |before| (self.samples[number].at_s - before).clamp(0.0, window_s))
            };
            let heard_s: f64 = (kept..self.samples.len()).map(added).sum();
            let last = kept.checked_sub(1).and_then(|last| self.samples.get(last)).map(|sample| sample.at_s);
            (heard_s, last)
        } else {
            (windows as f64 * self.counted_s(), Some(last - windows as f64 * hop_s))
        };
        self.samples.truncate(kept);
        self.last_at_s = last;
        // Those between share sound with what is taken back.
        self.between.retain(|sample| Some(sample.at_s) < self.last_at_s);
        self.heard_s = (self.heard_s - heard_s).max(0.0);
        self.count_left_out(reason, windows);
        self.progress()
    }

    fn count_left_out(&mut self, reason: &str, windows: u64) {
        let count = self.left_out.entry(reason.to_owned()).or_default();
        *count = count.saturating_add(windows);
    }

    /// Whether there is enough without the last so many windows.
    pub fn is_complete_without(&self, windows: u64) -> bool {
        self.heard_s - windows as f64 * self.counted_s() >= self.settings.wanted_s
    }

    /// What one of windows without gaps adds, s: what overlaps counts once.
    fn counted_s(&self) -> f64 {
        self.settings.hop_s.min(self.settings.origin.front_end.window_s)
    }

    pub fn progress(&self) -> LearnProgress {
        LearnProgress {
            heard_s: self.heard_s,
            wanted_s: self.settings.wanted_s,
            windows: self.windows,
            left_out: self.left_out.clone(),
            complete: self.is_complete_without(0),
        }
    }

    /// A baseline from the windows so far. Takes seconds for thousands of windows: not between two windows.
    ///
    /// # Errors
    /// What is missing.
    pub fn propose(&self) -> Result<Baseline, BaselineError> {
        let mut baseline = propose(self.all(), &self.settings)?;
        baseline.learned = self.began.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        for (reason, count) in &self.left_out {
            *baseline.left_out.entry(reason.clone()).or_default() += count;
        }
        Ok(baseline.keeping(self.all()))
    }

    /// A baseline from the windows so far, to judge by while learning goes on. Takes less than a second, and no window
    /// should wait for it.
    ///
    /// # Errors
    /// What is missing.
    pub fn provisional(&self) -> Result<Baseline, BaselineError> {
        let stride = (self.samples.len() + self.between.len()).div_ceil(PROVISIONAL_LIMIT).max(1);
        let mut baseline = propose(self.all().step_by(stride), &self.settings)?;
        baseline.learned = self.began.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        Ok(baseline)
    }

    /// All windows that are kept.
    fn all(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().chain(&self.between).map(|sample| &**sample)
    }

    fn take(&mut self, at_s: f64, level_dbfs: f64, embedding: &[f32], features: &Features) {
        let window_s = self.settings.origin.front_end.window_s;
        // Windows cannot follow each other faster than they are cut.
        let (at_s, since_last) = match self.last_at_s {
            Some(last) => {
                let at_s = at_s.max(last + self.settings.hop_s);
                (at_s, at_s - last)
            }
            None => (at_s, window_s),
        };
        self.last_at_s = Some(at_s);
        // What overlaps counts once; what was left out in between does not count.
        self.heard_s += since_last.clamp(0.0, window_s);
        self.windows += 1;
        if self.windows >= BETWEEN_BELOW {
            self.between = Vec::new();
        }
        if !self.windows.is_multiple_of(self.stride) {
            return;
        }
        let (embedding, features) = (embedding.to_vec(), features.clone());
        self.samples.push(Arc::new(Sample::new(0, at_s, level_dbfs, embedding, features)));
        if self.samples.len() > MATERIAL_LIMIT {
            let mut number = 0u64;
            self.samples.retain(|_| {
                number += 1;
                number.is_multiple_of(2)
            });
            self.stride *= 2;
        }
    }
}

fn write_samples<S: Serializer>(samples: &[Arc<Sample>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(samples.iter().map(|sample| &**sample))
}

fn read_samples<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Sample>>, D::Error> {
    let samples = Vec::<Sample>::deserialize(deserializer)?;
    Ok(samples.into_iter().map(Arc::new).collect())
}
