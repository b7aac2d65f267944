//! The spectra of a machine's last windows, to average: what is weak and stays is lost in the scatter of single windows, and
//! stands out of their mean.

use std::collections::VecDeque;

use auscult_signal::sums::add_each;

/// Lengths that are averaged over, as multiples of a window's, the longest first: a minute of windows of 5 s.
pub const LENGTHS: [f64; 4] = [12.0, 6.0, 4.0, 2.0];
/// After a longer pause, as a multiple of a window's length, what was before counts no more.
const LONGEST_PAUSE: f64 = 6.0;
/// Windows must reach back over this part of the length at least.
const COVERED: f64 = 0.8;
/// Windows kept at most, where they overlap much.
const MOST: usize = 1024;
/// Times are rounded, s.
const ROUNDING_S: f64 = 1e-3;

/// Windows of one sound, each with the time when it ended, s.
#[derive(Debug, Clone, Default)]
pub struct Recent(VecDeque<(f64, Vec<f32>)>);

impl Recent {
    /// Takes the mel spectrum in dB of a window in that ended at `end_s`. One that does not follow those before begins anew.
    pub fn note(&mut self, end_s: f64, window_s: f64, spectrum: &[f32]) {
        let follows = |(last_s, last): &(f64, Vec<f32>)| {
            end_s > *last_s && end_s - last_s <= LONGEST_PAUSE * window_s && last.len() == spectrum.len()
        };
        if !self.0.back().is_some_and(follows) {
            self.0.clear();
        }
        self.0.push_back((end_s, spectrum.to_vec()));
        let first_s = end_s - (LENGTHS[0] - 1.0) * window_s - ROUNDING_S;
        while self.0.len() > MOST || self.0.front().is_some_and(|(at_s, _)| *at_s < first_s) {
            self.0.pop_front();
        }
    }

    /// The mean spectrum of the last `length_s`, dB; `None` where it does not reach back so far.
    pub fn mean(&self, length_s: f64, window_s: f64) -> Option<Vec<f32>> {
        let (last_s, last) = self.0.back()?;
        let first_s = last_s - length_s + window_s - ROUNDING_S;
        let within = self.0.iter().filter(|(at_s, _)| *at_s >= first_s);
        let (oldest_s, _) = within.clone().next()?;
        if oldest_s - window_s > last_s - COVERED * length_s {
            return None;
        }
        let mut sums = vec![0.0; last.len()];
        let mut count = 0.0;
        for (_, spectrum) in within {
            add_each(&mut sums, spectrum);
            count += 1.0;
        }
        Some(sums.iter().map(|sum| (sum / count) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_follow_each_other_are_averaged() {
        let mut recent = Recent::default();
        assert_eq!(recent.mean(10.0, 5.0), None);
        for number in 1..=30_u8 {
            recent.note(5.0 * f64::from(number), 5.0, &[f32::from(number), 1.0]);
        }
        assert_eq!(recent.mean(10.0, 5.0), Some(vec![29.5, 1.0]));
        assert_eq!(recent.mean(60.0, 5.0), Some(vec![24.5, 1.0]));
        // A window that is missing does not matter, a pause does; and so does another time or front-end.
        recent.note(165.0, 5.0, &[0.0, 1.0]);
        assert_eq!(recent.mean(20.0, 5.0), Some(vec![15.0, 1.0]));
        recent.note(196.0, 5.0, &[0.0, 1.0]);
        assert_eq!(recent.mean(10.0, 5.0), None);
        recent.note(201.0, 5.0, &[4.0, 1.0]);
        assert_eq!(recent.mean(10.0, 5.0), Some(vec![2.0, 1.0]));
        recent.note(200.0, 5.0, &[0.0, 1.0]);
        assert_eq!(recent.mean(10.0, 5.0), None);
        recent.note(205.0, 5.0, &[0.0]);
        assert_eq!(recent.mean(10.0, 5.0), None);
    }

    #[test]
    fn overlapping_windows_reach_no_further() {
        let mut recent = Recent::default();
        for number in 0..6_u8 {
            recent.note(5.0 + f64::from(number), 5.0, &[f32::from(number)]);
            assert_eq!(recent.mean(10.0, 5.0).is_some(), number >= 3, "{number}");
        }
        assert_eq!(recent.mean(10.0, 5.0), Some(vec![2.5]));
        (0..5000).for_each(|number| recent.note(10.0 + 0.01 * f64::from(number), 5.0, &[0.0]));
        assert!(recent.0.len() <= MOST);
    }
}
