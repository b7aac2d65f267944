//! What a baseline's windows are like on average, over as long as was heard without a break often enough.

use super::sample::Sample;
use crate::scoring::lanes::SteadyLane;
use crate::scoring::recent::{Average, LENGTHS, Recent};

/// Fewest averages that share no sound.
const APART_LEAST: usize = 10;
/// Averages that are learned from, at most, of what was heard and of what somebody has confirmed: they differ less than windows do.
const LEARNED_LIMIT: usize = 512;
/// An average is of this part of its length at least: of what is learned for days, not every window is kept.
const COVERED: f64 = 0.4;

/// The mean spectrum of each window with those before it.
pub(super) struct Averages<'a> {
    windows: &'a [&'a Sample],
    length_s: f64,
    /// `None` where too little lies before a window.
    means: Vec<Option<Average>>,
}

impl<'a> Averages<'a> {
    /// Over the longest time of which there are enough; `None` where there are too few of any. `windows` are sorted by recording and time.
    pub fn of(windows: &'a [&'a Sample], window_s: f64) -> Option<Averages<'a>> {
        let lengths = LENGTHS.iter().map(|windows_long| windows_long * window_s);
        lengths
            .map(|length_s| Averages::over(windows, length_s, window_s))
            .find(|averages| averages.apart() >= APART_LEAST)
    }

    fn over(windows: &'a [&'a Sample], length_s: f64, window_s: f64) -> Averages<'a> {
        // What somebody has confirmed was added later, and may lie at the same times as the rest.
        let mut heard = [(0, Recent::default()), (0, Recent::default())];
        let mean = |window: &&Sample| {
            let (recording, recent) = &mut heard[usize::from(window.confirmed)];
            if std::mem::replace(recording, window.recording) != window.recording {
                *recent = Recent::default();
            }
            recent.note(window.at_s, window_s, &window.features.spectrum);
            match window.confirmed {
                // As long as it was heard: the clip of an alarm is shorter.
                true => recent.mean_so_far(window_s),
                false => recent.mean(length_s, window_s).filter(|average| average.covered_s >= COVERED * length_s),
            }
        };
        Averages { windows, length_s, means: windows.iter().map(mean).collect() }
    }

    /// How many of them share no sound.
    fn apart(&self) -> usize {
        let (mut last, mut count) = (None, 0);
        let known = self.windows.iter().zip(&self.means).filter(|(window, mean)| mean.is_some() && !window.confirmed);
        for (window, _) in known {
            let shares = |(recording, at_s)| window.recording == recording && window.at_s - at_s < self.length_s - 1e-3;
            if !last.is_some_and(shares) {
                last = Some((window.recording, window.at_s));
                count += 1;
            }
        }
        count
    }

    pub fn mean(&self, number: usize) -> Option<&Average> {
        self.means[number].as_ref()
    }

    /// What is normal for these windows' averages, all of which lie `guard_s` apart, without sharing sound, from those of the
    /// windows `but`, which stand side by side.
    pub fn lane(&self, numbers: &[usize], but: Option<(usize, usize)>, guard_s: f64) -> Option<SteadyLane> {
        let apart_s = self.length_s + guard_s - 1e-3;
        let near = |a: usize, b: usize| {
            let (a, b) = (self.windows[a], self.windows[b]);
            a.recording == b.recording && (a.at_s - b.at_s).abs() < apart_s
        };
        let is_apart = |number: usize| but.is_none_or(|(first, last)| !near(first, number) && !near(last, number));
        let known = numbers.iter().copied().filter(|number| is_apart(*number) && self.means[*number].is_some());
        let (confirmed, heard): (Vec<usize>, Vec<usize>) = known.partition(|number| self.windows[*number].confirmed);
        let thinned = [heard, confirmed].into_iter().flat_map(|part| {
            let step = part.len().div_ceil(LEARNED_LIMIT).max(1);
            part.into_iter().step_by(step)
        });
        let (numbers, means): (Vec<usize>, Vec<&Average>) =
            thinned.filter_map(|number| Some((number, self.mean(number)?))).unzip();
        SteadyLane::fit(self.length_s, &means, |a, b| near(numbers[a], numbers[b]))
    }
}
