//! Windows that begin between two others, for what is being learned: the same sound, heard at other moments. They are
//! scored when nothing else waits, and nobody but the learner hears of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::monitor::Monitor;
use crate::monitor::machine::WantedBetween;
use crate::window::Window;

/// What is kept of the machines that learn.
#[derive(Default)]
pub(super) struct WindowsBetween {
    /// The last window of each that was taken in, by the machine's number.
    last: HashMap<usize, LastTaken>,
    waiting: VecDeque<Waiting>,
}

struct LastTaken {
    generation: u64,
    at: Instant,
    samples: Vec<f32>,
}

/// A window that is to be scored.
struct Waiting {
    machine: usize,
    generation: u64,
    back_s: f64,
    /// The sound of two windows, and the part of it that is meant.
    sound: Arc<Vec<f32>>,
    start: usize,
    length: usize,
}

impl WindowsBetween {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A window was judged at `now`; `wanted` where it was taken in. What still waits of the machine comes too late. Of sound
    /// that comes faster than in real time there is enough without.
    pub fn note(&mut self, window: &Window, wanted: Option<WantedBetween>, now: Instant) {
        let machine = window.machine;
        self.waiting.retain(|waiting| waiting.machine != machine);
        let last = self.last.remove(&machine);
        let Some(WantedBetween { generation, hop_s, back_s, rate_hz }) = wanted else { return };
        let length = window.samples.len();
        let is_live = |last: &LastTaken| now.duration_since(last.at) > Duration::from_secs_f64(0.5 * hop_s);
        let of = |seconds: f64| (seconds * f64::from(rate_hz)).round() as usize;
        if let Some(mut last) = last.filter(|last| window.follows && last.generation == generation && is_live(last))
            && let Some(new) = length.checked_sub(of(hop_s))
        {
            last.samples.extend_from_slice(&window.samples[new..]);
            let sound = Arc::new(last.samples);
            for back_s in back_s {
                let Some(start) = sound.len().checked_sub(of(back_s) + length) else { continue };
                self.waiting.push_back(Waiting { machine, generation, back_s, sound: sound.clone(), start, length });
            }
        }
        self.last.insert(machine, LastTaken { generation, at: now, samples: window.samples.clone() });
    }

    /// Forgets what waits: the agent stops.
    pub fn stop(&mut self) {
        self.waiting.clear();
    }

    /// Scores what has waited longest.
    pub fn score_next(&mut self, monitor: &Monitor) {
        let Some(Waiting { machine, generation, back_s, sound, start, length }) = self.waiting.pop_front() else {
            return;
        };
        monitor.learn_between(machine, generation, &sound[start..start + length], back_s);
    }

    /// Forgets machines that learn no more, or are gone.
    pub fn forget_idle(&mut self, monitor: &Monitor) {
        if !self.last.is_empty() {
            self.last.retain(|machine, last| monitor.learner_generation(*machine) == Some(last.generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn window(from: usize, follows: bool) -> Window {
        let samples = (from..from + 50).map(|number| number as f32).collect();
        Window { machine: 3, end: SystemTime::UNIX_EPOCH, samples, fault: None, follows }
    }

    fn wanted(generation: u64, hop_s: f64, back_s: &[f64]) -> Option<WantedBetween> {
        Some(WantedBetween { generation, hop_s, back_s: back_s.to_vec(), rate_hz: 10 })
    }

    fn first_samples(between: &WindowsBetween) -> Vec<f32> {
        between.waiting.iter().map(|one| one.sound[one.start..one.start + one.length][0]).collect()
    }

    /// One every five seconds.
    fn note(between: &mut WindowsBetween, windows: &[(Window, Option<WantedBetween>)], step_s: u64) {
        let begin = Instant::now();
        for (number, (window, wanted)) in (0u64..).zip(windows) {
            between.note(window, wanted.clone(), begin + Duration::from_secs(step_s * number));
        }
    }

    #[test]
    fn windows_between_two_are_cut_from_the_sound_of_both() {
        let mut between = WindowsBetween::default();
        let all = wanted(1, 5.0, &[4.0, 3.0, 2.0, 1.0]);
        note(&mut between, &[(window(0, false), all.clone())], 5);
        assert!(between.is_empty());
        note(&mut between, &[(window(0, false), all.clone()), (window(50, true), all.clone())], 5);
        assert_eq!(first_samples(&between), [10.0, 20.0, 30.0, 40.0]);
        let last = between.waiting.back().expect("a window");
        assert_eq!(last.sound[last.start..last.start + last.length][49], 89.0);
        // Windows that overlap already have less between them; what waited is dropped.
        let less = wanted(1, 2.0, &[1.0]);
        note(&mut between, &[(window(50, false), less.clone()), (window(70, true), less)], 2);
        assert_eq!(first_samples(&between), [60.0]);
        between.stop();
        assert!(between.is_empty());
        // Faster than in real time.
        note(&mut between, &[(window(0, false), all.clone()), (window(50, true), all)], 1);
        assert!(between.is_empty());
    }

    #[test]
    fn nothing_lies_between_windows_that_do_not_follow_each_other() {
        let one = |generation: u64| wanted(generation, 5.0, &[1.0]);
        for (windows, why) in [
            ([(window(0, false), one(1)), (window(90, false), one(1))], "sound is missing between the two"),
            ([(window(0, false), one(1)), (window(50, true), one(2))], "another learner"),
            ([(window(0, false), None), (window(50, true), one(1))], "the one before was left out"),
        ] {
            let mut between = WindowsBetween::default();
            note(&mut between, &windows, 5);
            assert!(between.is_empty(), "{why}");
        }
    }
}
