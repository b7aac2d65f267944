//! Cuts a stream of samples into windows, by sample count alone. Lost samples keep their place in time, and mark just
//! the windows that they touch.

use crate::window::Reason;

/// A window as it leaves the cutter.
#[derive(Debug, PartialEq)]
pub struct Cut {
    /// Samples since the cutter was made or restarted, up to and with the window's last one.
    pub end: u64,
    /// The window's samples; empty where `fault` is set.
    pub samples: Vec<f32>,
    /// `Gap`: some of its samples are missing. `NoSignal`: all of them.
    pub fault: Option<Reason>,
}

/// Windows of `window` samples, one every `hop` samples.
#[derive(Debug)]
pub struct Cutter {
    window: usize,
    hop: usize,
    /// Samples from position `first` on.
    held: Vec<f32>,
    first: u64,
    next_start: u64,
    /// The latest run of missing samples, `from..to`.
    hole: Option<(u64, u64)>,
}

impl Cutter {
    /// Both in samples; at least 1.
    pub fn new(window: usize, hop: usize) -> Self {
        Cutter { window: window.max(1), hop: hop.max(1), held: Vec::new(), first: 0, next_start: 0, hole: None }
    }

    /// Begins anew: the next sample is the first of a window.
    pub fn restart(&mut self) {
        *self = Cutter::new(self.window, self.hop);
    }

    /// Samples seen or lost so far.
    pub fn position(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// Takes the next samples in; `emit` gets each window that is complete.
    pub fn push(&mut self, mut samples: &[f32], emit: &mut impl FnMut(Cut)) {
        while !samples.is_empty() {
            let skip = self.next_start.saturating_sub(self.position()).min(samples.len() as u64);
            if skip > 0 {
                // With a hop above the window, what lies between two windows is not kept.
                samples = &samples[skip as usize..];
                self.first += skip;
                continue;
            }
            let end = self.next_start + self.window as u64;
            let take = ((end - self.position()) as usize).min(samples.len());
            self.held.extend_from_slice(&samples[..take]);
            samples = &samples[take..];
            if self.position() == end {
                self.emit(emit);
            }
        }
    }

    /// The next `count` samples are missing.
    pub fn lose(&mut self, count: u64, emit: &mut impl FnMut(Cut)) {
        let (from, to) = (self.position(), self.position() + count);
        self.hole = match self.hole {
            Some((earlier, end)) if end == from => Some((earlier, to)),
            _ => Some((from, to)),
        };
        const BLOCK: [f32; 4096] = [0.0; 4096];
        let mut left = count;
        while left > 0 {
            let block = left.min(BLOCK.len() as u64);
            self.push(&BLOCK[..block as usize], emit);
            left -= block;
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(Cut)) {
        let (start, end) = (self.next_start, self.next_start + self.window as u64);
        let fault = match self.hole {
            Some((from, to)) if from <= start && to >= end => Some(Reason::NoSignal),
            Some((from, to)) if from < end && to > start => Some(Reason::Gap),
            _ => None,
        };
        let samples = if fault.is_none() { self.held.clone() } else { Vec::new() };
        emit(Cut { end, samples, fault });
        self.next_start += self.hop as u64;
        let drop = ((self.next_start - self.first) as usize).min(self.held.len());
        self.held.drain(..drop);
        self.first += drop as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(from: u64, to: u64) -> Vec<f32> {
        (from..to).map(|n| n as f32).collect()
    }

    /// Feeds 0, 1, 2... in blocks of `sizes`; a negative size is a loss.
    fn cut(window: usize, hop: usize, sizes: &[i64]) -> Vec<Cut> {
        let (mut cutter, mut cuts) = (Cutter::new(window, hop), Vec::new());
        for &size in sizes {
            let at = cutter.position();
            if size >= 0 {
                cutter.push(&ramp(at, at + size as u64), &mut |cut| cuts.push(cut));
            } else {
                cutter.lose(size.unsigned_abs(), &mut |cut| cuts.push(cut));
            }
        }
        cuts
    }

    proptest! {
        #[test]
        fn windows_hold_what_came_however_it_is_chopped(
            window in 1_usize..50, hop in 1_usize..80, sizes in prop::collection::vec(-30_i64..60, 1..40),
        ) {
            let cuts = cut(window, hop, &sizes);
            let mut lost = Vec::new();
            for &size in &sizes {
                lost.extend(std::iter::repeat_n(size < 0, size.unsigned_abs() as usize));
            }
            let expected = if lost.len() < window { 0 } else { (lost.len() - window) / hop + 1 };
            prop_assert_eq!(cuts.len(), expected);
            for (number, cut) in cuts.iter().enumerate() {
                let (start, end) = (number * hop, number * hop + window);
                let missing = lost[start..end].iter().filter(|&&lost| lost).count();
                // A hole is remembered until the next one; windows are only judged by holes that lie inside them.
                let fault = match missing {
                    0 => None,
                    all if all == window => Some(Reason::NoSignal),
                    _ => Some(Reason::Gap),
                };
                prop_assert_eq!(cut.end, end as u64);
                prop_assert_eq!(cut.fault, fault);
                if fault.is_none() {
                    prop_assert_eq!(&cut.samples, &ramp(start as u64, end as u64));
                } else {
                    prop_assert!(cut.samples.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_restart_begins_a_window_at_once() {
        let (mut cutter, mut cuts) = (Cutter::new(4, 4), Vec::new());
        cutter.push(&ramp(0, 3), &mut |cut| cuts.push(cut));
        cutter.restart();
        cutter.push(&ramp(10, 14), &mut |cut| cuts.push(cut));
        assert_eq!(cuts, [Cut { end: 4, samples: ramp(10, 14), fault: None }]);
    }
}
