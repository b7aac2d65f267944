//! What a machine looks like when nothing is wrong: spectrograms of normal windows, in memory only. Those that lie nearest to an
//! alarm's windows stand beside its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::clip::Clip;
use crate::audio::capture::RecentSound;
use crate::audio::wav::to_floats;
use crate::features::picture::Picture;
use crate::features::{FrontEnd, MelExtractor};
use crate::monitor::heard::HeardWindow;
use crate::scoring::Verdict;
use crate::scoring::baseline::Origin;
use crate::scoring::likeness::distance;

/// From one to the next that is kept of a machine, and how many are: 40 minutes, 160 kB of a machine at 16 kHz.
const EVERY: TimeDelta = TimeDelta::minutes(5);
const KEPT: usize = 8;
/// So many stand beside an alarm.
const SHOWN: usize = 3;
/// Empty columns between two.
const GAP: usize = 3;
/// A window of the ring begins a sample early or late.
const SLACK: Duration = Duration::from_millis(20);

/// A normal window, as it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalWindow {
    /// When it ended.
    pub at: DateTime<Utc>,
    embedding: Vec<f32>,
    /// `[n_mels, frames]`, and the dB that 0 and 255 stand for.
    image: Vec<u8>,
    range_db: (f32, f32),
}

/// Of each machine some of the last 40 minutes.
#[derive(Debug, Default)]
pub struct NormalWindows(BTreeMap<String, OfMachine>);

#[derive(Debug)]
struct OfMachine {
    origin: Origin,
    windows: VecDeque<NormalWindow>,
}

impl NormalWindows {
    /// Whether one that ended at this time should be kept.
    pub fn is_due(&self, machine: &str, origin: &Origin, at: DateTime<Utc>) -> bool {
        let newest = self.0.get(machine).filter(|own| own.origin == *origin).and_then(|own| own.windows.back());
        // Also of a clock that was set.
        newest.is_none_or(|newest| (at - newest.at).abs() >= EVERY)
    }

    /// Keeps one, in place of the oldest.
    pub fn keep(&mut self, machine: &str, origin: &Origin, sound: &RecentSound, window: &HeardWindow) {
        let Some(drawn) = Drawing::new(&origin.front_end).and_then(|mut drawing| drawing.draw(sound, window)) else {
            return;
        };
        let fresh = || OfMachine { origin: origin.clone(), windows: VecDeque::new() };
        let own = self.0.entry(machine.to_owned()).or_insert_with(fresh);
        if own.origin != *origin {
            *own = fresh();
        }
        own.windows.push_back(drawn);
        while own.windows.len() > KEPT {
            own.windows.pop_front();
        }
    }

    /// Those of machines that are gone go.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|machine, _| is_there(machine));
    }

    /// The normal windows before `since` nearest to the anomalous ones among `alarm`, of those that are kept and of `recent`,
    /// whose sound is there; nearest first. What comes later may be the fault below the threshold.
    pub fn nearest(
        &self,
        machine: &str,
        origin: &Origin,
        (since, alarm): (DateTime<Utc>, &[HeardWindow]),
        sound: &RecentSound,
        recent: &[HeardWindow],
    ) -> Vec<NormalWindow> {
        let Some(middle) = middle(alarm) else { return Vec::new() };
        let kept = self.0.get(machine).filter(|own| own.origin == *origin);
        let kept = kept.into_iter().flat_map(|own| &own.windows).map(Candidate::Kept);
        let recent = recent.iter().filter(|window| window.verdict == Verdict::Normal && window.sample.is_some());
        let mut all: Vec<(f64, Candidate)> = kept
            .chain(recent.map(Candidate::Recent))
            .filter(|candidate| candidate.at() < since)
            .filter_map(|candidate| Some((distance(candidate.embedding()?, &middle), candidate)))
            .filter(|(distance, _)| distance.is_finite())
            .collect();
        all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let mut drawing = Drawing::new(&origin.front_end);
        let mut nearest: Vec<NormalWindow> = Vec::new();
        for (_, candidate) in all {
            let drawn = match candidate {
                Candidate::Kept(window) => Some(window.clone()),
                Candidate::Recent(window) => drawing.as_mut().and_then(|drawing| drawing.draw(sound, window)),
            };
            let is_new = |one: &NormalWindow| nearest.iter().all(|other| other.at != one.at);
            nearest.extend(drawn.filter(is_new));
            if nearest.len() == SHOWN {
                break;
            }
        }
        nearest
    }
}

enum Candidate<'a> {
    Kept(&'a NormalWindow),
    Recent(&'a HeardWindow),
}

impl Candidate<'_> {
    fn at(&self) -> DateTime<Utc> {
        match self {
            Candidate::Kept(window) => window.at,
            Candidate::Recent(window) => window.at,
        }
    }

    fn embedding(&self) -> Option<&[f32]> {
        Some(match self {
            Candidate::Kept(window) => &window.embedding,
            Candidate::Recent(window) => &window.sample.as_ref()?.embedding,
        })
    }
}

/// The middle of the anomalous windows, of all that were judged where none was.
fn middle(windows: &[HeardWindow]) -> Option<Vec<f32>> {
    let of = |wanted: Option<Verdict>| {
        let is_wanted = move |window: &&HeardWindow| wanted.is_none_or(|wanted| window.verdict == wanted);
        let embeddings = windows.iter().filter(is_wanted).filter_map(|one| Some(&one.sample.as_ref()?.embedding));
        let (mut sum, mut count) = (Vec::<f32>::new(), 0.0f32);
        for embedding in embeddings {
            if sum.is_empty() {
                sum = vec![0.0; embedding.len()];
            }
            if sum.len() == embedding.len() {
                sum.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += value);
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum.into_iter().map(|sum| sum / count).collect())
    };
    of(Some(Verdict::Anomalous)).or_else(|| of(None))
}

/// Draws windows of one front-end, all of their frames.
struct Drawing(MelExtractor);

impl Drawing {
    fn new(front_end: &FrontEnd) -> Option<Drawing> {
        MelExtractor::new(&whole(front_end)).ok().map(Drawing)
    }

    fn draw(&mut self, sound: &RecentSound, window: &HeardWindow) -> Option<NormalWindow> {
        let front_end = self.0.front_end();
        if sound.rate_hz != front_end.rate_hz {
            return None;
        }
        let count = front_end.window_samples();
        let length = TimeDelta::from_std(Duration::from_secs_f64(front_end.window_s) + SLACK).ok()?;
        let part = sound.part((window.at - length).into(), window.at.into())?;
        let first = part.samples.len().checked_sub(count)?;
        let image = self
            .0
            .compute(&to_floats(&part.samples[first..]))
            .ok()?
            .iter()
            .map(|value| (255.0 * value).round() as u8)
            .collect();
        let (at, embedding) = (window.at, window.sample.as_ref()?.embedding.clone());
        Some(NormalWindow { at, embedding, image, range_db: self.0.range_db() })
    }
}

fn whole(front_end: &FrontEnd) -> FrontEnd {
    FrontEnd { frames: front_end.frames_total(), ..front_end.clone() }
}

/// Normal windows side by side, in the colours that the picture of the alarm has: `range_db` is its. `None` without any.
pub fn picture(clip: &Clip, windows: &[NormalWindow], (least_db, most_db): (f32, f32)) -> Option<Vec<u8>> {
    let one = whole(&clip.origin.as_ref()?.front_end);
    let columns = windows.len() * one.frames + windows.len().checked_sub(1)? * GAP;
    let mut image = vec![0.0; one.n_mels * columns];
    let range_db = (most_db - least_db).max(f32::MIN_POSITIVE);
    for (number, window) in windows.iter().enumerate() {
        let (least, most) = window.range_db;
        let rows = window.image.chunks_exact(one.frames).zip(image.chunks_exact_mut(columns));
        for (from, to) in rows {
            for (value, out) in from.iter().zip(&mut to[number * (one.frames + GAP)..]) {
                let db = least + f32::from(*value) / 255.0 * (most - least);
                *out = ((db - least_db) / range_db).clamp(0.0, 1.0);
            }
        }
    }
    let times: Vec<String> = windows.iter().map(|window| window.at.format("%H:%M:%S").to_string()).collect();
    let title = format!("{}   normal, nearest to the alarm: until {} UTC", clip.machine, times.join(", "));
    let front_end = FrontEnd { frames: columns, ..one };
    Picture { title: &title, front_end: &front_end, image: &image, range_db: most_db - least_db }.to_png().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::baseline::Sample;
    use crate::scoring::lanes::Features;
    use std::time::SystemTime;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
    }

    fn origin() -> Origin {
        Origin { bundle: "b@1".into(), encoder_sha256: "00".into(), index: 0, front_end: FrontEnd::default() }
    }

    /// A minute until second 0.
    fn sound() -> RecentSound {
        let samples = (0..960_000).map(|n| (8000.0 * (n as f64 * 0.3).sin()) as i16).collect();
        RecentSound { rate_hz: 16_000, samples, end: SystemTime::from(at(0)) }
    }

    fn window(seconds: i64, place: f32, verdict: Verdict) -> HeardWindow {
        let (distance, threshold, score) = (None, None, None);
        let sample = Some(Sample::new(0, 0.0, -20.0, vec![place; 4], Features::default()));
        HeardWindow {
            at: at(seconds),
            verdict,
            lingering: false,
            distance,
            threshold,
            score,
            level_dbfs: -20.0,
            sample,
        }
    }

    #[test]
    fn the_nearest_normal_windows_are_shown_of_those_that_were_kept_and_of_the_last_minute() {
        let (mut normal, sound) = (NormalWindows::default(), sound());
        for (seconds, place) in [(-50, 5.0), (-40, 2.0), (-1, 0.0)] {
            normal.keep("fan-1", &origin(), &sound, &window(seconds, place, Verdict::Normal));
        }
        let alarm = [window(-2, 0.0, Verdict::Anomalous), window(-30, 9.0, Verdict::Normal)];
        let recent = [
            window(-30, 9.0, Verdict::Normal),
            window(-20, 1.0, Verdict::Normal),
            window(-10, 0.5, Verdict::Unknown),
            window(-58, 0.1, Verdict::Normal),
        ];
        let nearest = normal.nearest("fan-1", &origin(), (at(-2), &alarm), &sound, &recent);
        let seconds: Vec<_> = nearest.iter().map(|window| (window.at - at(0)).num_seconds()).collect();
        assert_eq!(seconds, [-20, -40, -50], "of the one before the minute no sound is left");
        assert_eq!(normal.nearest("fan-2", &origin(), (at(-2), &alarm), &sound, &[]), []);
        let other = Origin { bundle: "b@2".into(), ..origin() };
        assert_eq!(normal.nearest("fan-1", &other, (at(-2), &alarm), &sound, &[]), []);
    }

    #[test]
    fn one_in_five_minutes_is_kept_and_eight_at_most() {
        let (mut normal, mut sound) = (NormalWindows::default(), sound());
        for minute in 0..60 {
            sound.end = SystemTime::from(at(60 * minute));
            let window = window(60 * minute, 0.0, Verdict::Normal);
            if normal.is_due("fan-1", &origin(), window.at) {
                normal.keep("fan-1", &origin(), &sound, &window);
            }
        }
        let kept: Vec<_> = normal.0["fan-1"].windows.iter().map(|window| (window.at - at(0)).num_minutes()).collect();
        assert_eq!(kept, [20, 25, 30, 35, 40, 45, 50, 55]);
        assert!(normal.is_due("fan-1", &origin(), at(-3600)), "the clock was set back");
        normal.retain(|machine| machine != "fan-1");
        assert!(normal.0.is_empty());
    }
}
