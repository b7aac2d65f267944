//! The spectra of a machine's last windows, to average: what is weak and stays is lost in the scatter of single windows, and
//! stands out of their mean.

use std::collections::VecDeque;

use auscult_signal::sums::add_each;

/// Lengths that are averaged over, as multiples of a window's, the longest first: a minute of windows of 5 s.
pub const LENGTHS: [f64; 4] = [12.0, 6.0, 4.0, 2.0];
/// After a longer pause, as a multiple of a window's length, what was before counts no more.
const LONGEST_PAUSE: f64 = 6.0;
/// Windows must reach back over this part of the length at least.
const REACHED: f64 = 0.8;
/// Windows kept at most, where they overlap much.
const MOST: usize = 1024;
/// Clocks drift: so far times may be off, as a part of a window's length.
const DRIFT: f64 = 0.1;

/// Windows of one sound, each with the time when it ended, s.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    windows: VecDeque<(f64, Vec<f32>)>,
    /// The way of running that the last of them is of, where several are known.
    mode: Option<usize>,
}

/// The mean spectrum of some windows, dB.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    pub spectrum: Vec<f32>,
    /// Length of the sound that they are of, s; what overlaps counts once.
    pub covered_s: f64,
}

impl Recent {
    /// Takes the mel spectrum in dB of a window in that ended at `end_s`. One that does not follow those before begins anew.
    pub fn note(&mut self, end_s: f64, window_s: f64, spectrum: &[f32]) {
        let follows = |(last_s, last): &(f64, Vec<f32>)| {
            end_s > *last_s && end_s - last_s <= LONGEST_PAUSE * window_s && last.len() == spectrum.len()
        };
        if !self.windows.back().is_some_and(follows) {
            self.windows.clear();
        }
        self.windows.push_back((end_s, spectrum.to_vec()));
        let first_s = end_s - (LENGTHS[0] - 1.0 + DRIFT) * window_s;
        while self.windows.len() > MOST || self.windows.front().is_some_and(|(at_s, _)| *at_s < first_s) {
            self.windows.pop_front();
        }
    }

    /// As [`Recent::note`], of a window in the way of running `mode`: another one begins anew.
    pub fn note_in(&mut self, mode: Option<usize>, end_s: f64, window_s: f64, spectrum: &[f32]) {
        if std::mem::replace(&mut self.mode, mode) != mode {
            self.windows.clear();
        }
        self.note(end_s, window_s, spectrum);
    }

    /// The mean of the last `length_s`; `None` where it does not reach back so far.
    pub fn mean(&self, length_s: f64, window_s: f64) -> Option<Average> {
        let (last_s, _) = self.windows.back()?;
        let first_s = last_s - length_s + (1.0 - DRIFT) * window_s;
        let within = self.windows.iter().filter(|(at_s, _)| *at_s >= first_s);
        let (oldest_s, _) = within.clone().next()?;
        let reaches_back = oldest_s - window_s <= last_s - REACHED * length_s + DRIFT * window_s;
        reaches_back.then(|| average(within, window_s)).flatten()
    }

    /// The mean of all that is kept.
    pub fn mean_so_far(&self, window_s: f64) -> Option<Average> {
        average(self.windows.iter(), window_s)
    }
}

fn average<'a>(windows: impl Iterator<Item = &'a (f64, Vec<f32>)>, window_s: f64) -> Option<Average> {
    let (mut sums, mut count, mut covered_s, mut last) = (Vec::new(), 0.0, 0.0, None);
    for (at_s, spectrum) in windows {
        sums.resize(spectrum.len(), 0.0);
        add_each(&mut sums, spectrum);
        count += 1.0;
        covered_s += last.replace(*at_s).map_or(window_s, |last: f64| (at_s - last).min(window_s));
    }
    (count > 0.0).then(|| Average { spectrum: sums.iter().map(|sum| (sum / count) as f32).collect(), covered_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(recent: &Recent, length_s: f64) -> Option<(Vec<f32>, f64)> {
        recent.mean(length_s, 5.0).map(|Average { spectrum, covered_s }| (spectrum, covered_s))
    }

    #[test]
    fn windows_that_follow_each_other_are_averaged() {
        let mut recent = Recent::default();
        assert_eq!(mean(&recent, 10.0), None);
        assert_eq!(recent.mean_so_far(5.0), None);
        for number in 1..=30_u8 {
            // A card whose clock is slow.
            recent.note(5.001 * f64::from(number), 5.0, &[f32::from(number), 1.0]);
        }
        assert_eq!(mean(&recent, 10.0), Some((vec![29.5, 1.0], 10.0)));
        assert_eq!(mean(&recent, 60.0).map(|(spectrum, _)| spectrum), Some(vec![24.5, 1.0]));
        // A window that is missing does not matter much, a pause does; and so does another time or front-end.
        recent.note(160.0, 5.0, &[0.0, 1.0]);
        assert_eq!(mean(&recent, 20.0).map(|(spectrum, _)| spectrum), Some(vec![(29.0 + 30.0) / 3.0, 1.0]));
        recent.note(191.0, 5.0, &[0.0, 1.0]);
        assert_eq!(mean(&recent, 10.0), None);
        recent.note(196.0, 5.0, &[4.0, 1.0]);
        assert_eq!(mean(&recent, 10.0), Some((vec![2.0, 1.0], 10.0)));
        recent.note_in(Some(1), 201.0, 5.0, &[0.0, 1.0]);
        assert_eq!(mean(&recent, 10.0), None, "another way of running");
        recent.note_in(Some(1), 206.0, 5.0, &[0.0, 1.0]);
        recent.note_in(Some(1), 205.0, 5.0, &[0.0, 1.0]);
        assert_eq!(mean(&recent, 10.0), None, "an earlier time");
        recent.note_in(Some(1), 210.0, 5.0, &[0.0]);
        assert_eq!((mean(&recent, 10.0), recent.mean_so_far(5.0).map(|mean| mean.covered_s)), (None, Some(5.0)));
    }

    #[test]
    fn what_overlaps_is_covered_once_and_what_is_apart_says_less() {
        let mut recent = Recent::default();
        for number in 0..6_u8 {
            recent.note(5.0 + f64::from(number), 5.0, &[f32::from(number)]);
            assert_eq!(mean(&recent, 10.0).is_some(), number >= 3, "{number}");
        }
        assert_eq!(mean(&recent, 10.0), Some((vec![2.5], 10.0)));
        (0..5000).for_each(|number| recent.note(10.0 + 0.01 * f64::from(number), 5.0, &[0.0]));
        assert!(recent.windows.len() <= MOST);
        (1..10).for_each(|number| recent.note(100.0 + 15.0 * f64::from(number), 5.0, &[0.0]));
        assert_eq!(mean(&recent, 60.0).map(|(_, covered_s)| covered_s), Some(20.0));
    }
}
