//! The last minute of each machine's sound, for the clip of an alarm; in memory only.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::audio::wav::to_16_bits;

/// So much sound is kept, s: 1.9 MB of a machine at 16 kHz.
pub const RECENT_S: u32 = 60;
/// Times that differ by less are those of sound without a gap.
const JITTER: Duration = Duration::from_millis(250);

/// A piece of a machine's sound.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentSound {
    pub rate_hz: u32,
    pub samples: Vec<i16>,
    /// Time of the last sample.
    pub end: SystemTime,
}

/// Where a capture thread leaves all sound. Costs it a copy.
pub(super) struct RecentTap {
    rate_hz: u32,
    ring: Mutex<Ring>,
}

struct Ring {
    samples: VecDeque<i16>,
    end: SystemTime,
}

impl RecentTap {
    pub fn new(rate_hz: u32) -> RecentTap {
        RecentTap { rate_hz, ring: Mutex::new(Ring { samples: VecDeque::new(), end: SystemTime::UNIX_EPOCH }) }
    }

    fn capacity(&self) -> usize {
        (RECENT_S * self.rate_hz) as usize
    }

    /// Leaves sound, whose last sample was captured at `end`. Where some is missing before it, there is silence.
    pub fn leave(&self, samples: &[f32], end: SystemTime) {
        let capacity = self.capacity();
        let samples = &samples[samples.len().saturating_sub(capacity)..];
        let length = Duration::from_secs_f64(samples.len() as f64 / f64::from(self.rate_hz));
        let mut ring = self.ring.lock();
        if ring.samples.capacity() < capacity {
            ring.samples.reserve_exact(capacity);
        }
        let gap = end.duration_since(ring.end + length).unwrap_or_default();
        if gap > JITTER {
            let missing = (gap.as_secs_f64() * f64::from(self.rate_hz)).min(capacity as f64) as usize;
            // Of what is older than the ring is long nothing is left.
            match missing >= capacity {
                true => ring.samples.clear(),
                false => ring.make_room(capacity, missing).extend(std::iter::repeat_n(0, missing)),
            }
        }
        ring.make_room(capacity, samples.len()).extend(samples.iter().map(|sample| to_16_bits(*sample)));
        ring.end = end;
    }

    /// All that is kept; `None` before the first.
    pub fn sound(&self) -> Option<RecentSound> {
        let ring = self.ring.lock();
        let samples: Vec<i16> = ring.samples.iter().copied().collect();
        let (rate_hz, end) = (self.rate_hz, ring.end);
        (!samples.is_empty()).then_some(RecentSound { rate_hz, samples, end })
    }
}

impl Ring {
    fn make_room(&mut self, capacity: usize, samples: usize) -> &mut VecDeque<i16> {
        let surplus = (self.samples.len() + samples).saturating_sub(capacity);
        self.samples.drain(..surplus.min(self.samples.len()));
        &mut self.samples
    }
}

impl RecentSound {
    /// Time of the first sample.
    pub fn begin(&self) -> SystemTime {
        self.end - self.length(self.samples.len())
    }

    fn length(&self, samples: usize) -> Duration {
        Duration::from_secs_f64(samples as f64 / f64::from(self.rate_hz))
    }

    /// The part from one time to another; `None` where nothing of it is there.
    pub fn part(&self, from: SystemTime, to: SystemTime) -> Option<RecentSound> {
        let (first, last) = (self.number_of(from), self.number_of(to));
        (first < last).then(|| RecentSound {
            rate_hz: self.rate_hz,
            samples: self.samples[first..last].to_vec(),
            end: self.begin() + self.length(last),
        })
    }

    /// As [`RecentSound::part`], without a copy.
    pub fn into_part(mut self, from: SystemTime, to: SystemTime) -> Option<RecentSound> {
        let (first, last) = (self.number_of(from), self.number_of(to));
        let end = self.begin() + self.length(last);
        self.samples.truncate(last);
        self.samples.drain(..first.min(last));
        (first < last).then_some(RecentSound { end, ..self })
    }

    /// How many samples lie before a time.
    fn number_of(&self, time: SystemTime) -> usize {
        let after = time.duration_since(self.begin()).unwrap_or_default();
        ((after.as_secs_f64() * f64::from(self.rate_hz)).round() as usize).min(self.samples.len())
    }

    /// This and what `later` has beyond it, as one; `later` alone where the two do not meet.
    #[must_use]
    pub fn joined(mut self, later: RecentSound) -> RecentSound {
        let meets = later.rate_hz == self.rate_hz && later.begin() <= self.end + JITTER;
        let before = self.number_of(later.begin());
        if !meets || before == 0 {
            return later;
        }
        // Without a copy of what is kept of either.
        self.samples.truncate(before);
        self.samples.reserve_exact(later.samples.len());
        self.samples.extend(later.samples);
        RecentSound { end: later.end, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1000;

    fn at(seconds: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1e9 + seconds)
    }

    /// Sound of one value for each second, in blocks of a tenth.
    fn filled(seconds: std::ops::Range<u32>) -> RecentTap {
        let tap = RecentTap::new(RATE);
        leave(&tap, seconds);
        tap
    }

    fn leave(tap: &RecentTap, seconds: std::ops::Range<u32>) {
        for tenth in seconds.start * 10..seconds.end * 10 {
            tap.leave(&[(tenth / 10) as f32 / 32_768.0; 100], at(f64::from(tenth + 1) / 10.0));
        }
    }

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let sound = filled(0..100).sound().expect("sound");
        assert_eq!((sound.samples.len(), sound.end), (60_000, at(100.0)));
        assert_eq!((sound.samples[0], sound.samples[59_999]), (40, 99));
        assert_eq!(sound.begin(), at(40.0));
        let part = sound.part(at(55.0), at(65.0)).expect("a part");
        assert_eq!((part.samples.len(), part.samples[0], part.end), (10_000, 55, at(65.0)));
        assert_eq!(sound.part(at(10.0), at(40.0)), None);
        assert_eq!(RecentTap::new(RATE).sound(), None);
    }

    #[test]
    fn what_is_missing_is_silence_and_what_is_too_old_is_gone() {
        let tap = filled(10..20);
        leave(&tap, 25..30);
        let sound = tap.sound().expect("sound");
        assert_eq!((sound.samples.len(), sound.begin()), (20_000, at(10.0)));
        assert_eq!((sound.samples[9_999], sound.samples[12_000], sound.samples[15_500]), (19, 0, 25));
        leave(&tap, 1000..1001);
        assert_eq!(tap.sound().map(|sound| sound.samples), Some(vec![1000; 1000]));
        // The clock is set back: the sound goes on.
        leave(&tap, 500..501);
        assert_eq!(tap.sound().map(|sound| (sound.samples.len(), sound.end)), Some((2000, at(501.0))));
    }

    #[test]
    fn what_was_taken_early_completes_what_is_taken_late() {
        let tap = filled(0..60);
        let early = tap.sound().expect("sound");
        leave(&tap, 60..90);
        let late = tap.sound().expect("sound");
        let both = early.clone().joined(late.clone());
        assert_eq!((both.samples.len(), both.begin(), both.end), (90_000, at(0.0), at(90.0)));
        assert!(both.samples.iter().enumerate().all(|(n, sample)| *sample as usize == n / 1000));
        leave(&tap, 200..201);
        let apart = tap.sound().expect("sound");
        assert_eq!(early.joined(apart.clone()), apart);
    }
}
