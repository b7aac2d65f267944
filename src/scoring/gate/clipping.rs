//! Clipping: peaks that are cut off at one height, at full scale or below it (an amplifier that clips before the
//! converter does). Loud is not clipped, and neither is a pure tone whose every peak reaches the same height.
//!
//! Cut peaks leave one of two marks at the window's extreme. In sound of many frequencies they pile up there: far more
//! samples at the extreme than just below it, while below it any height occurs. (A sine's density at its peak is 2.4
//! times that just below, whatever the width; one that repeats after a few samples has nothing just below, and is known
//! as a sine.) In slow sound they are flat tops that end abruptly, where a round peak would fall away gently.

use auscult_signal::{BLOCK, Overview};

/// Heights are distinguished by this share of the span from the lowest sample to the highest, or by the step between
/// values where that is larger.
const BAND: f32 = 0.002;
/// So far below the extreme, as a share of the span, it is looked for what lies beneath.
const ZONE: f32 = 0.25;
/// So many times more samples at the extreme than just below it are a pile.
const PILE: usize = 5;
/// With fewer bands below the extreme there is too little to compare it with.
const LEAST_BANDS: usize = 20;
/// A window of fewer different values is a test tone, or too coarse to judge.
const LEAST_VALUES: usize = 32;
/// Shorter runs at the extreme are no flat tops.
const FLAT_TOP: usize = 3;
/// Only filters that smooth out cut peaks take samples beyond full scale.
const BEYOND: f32 = 1.0005;

/// Share of the samples that are clipped; 0 for a window of few values.
pub fn share(window: &[f32], overview: &Overview) -> f64 {
    let is_beyond = |sample: &&f32| sample.abs() > BEYOND;
    let beyond = if overview.peak() > BEYOND { window.iter().filter(is_beyond).count() } else { 0 };
    let span = overview.span();
    let clipped = if span.is_finite() { clipped(window, overview, span) } else { 0 };
    clipped.max(beyond) as f64 / window.len().max(1) as f64
}

/// How many samples are clipped, at both extremes.
fn clipped(window: &[f32], overview: &Overview, span: f32) -> usize {
    // Nearly all sound has values that lie closer together than a band, and is no tone: that is seen without sorting any.
    let widest = BAND * span;
    let is_fine = has_values_within(window, overview.least, widest);
    let tone_below = |step: f32| 8.0 * f64::from(2.0 * step / span).powi(2) + 1e-6;
    let (band, tone) = if is_fine && rest_of_tone(window, overview, tone_below(widest)) >= tone_below(widest) {
        (widest, false)
    } else {
        let Some(step) = step(window) else { return 0 };
        // Rounding leaves `(step / amplitude)^2`.
        (step.max(widest), rest_of_tone(window, overview, f64::INFINITY) < tone_below(step))
    };
    let most = Side { window, extremes: &overview.highs, band, depth: |sample| overview.most - sample };
    let least = Side { window, extremes: &overview.lows, band, depth: |sample| sample - overview.least };
    most.clipped(span, tone) + least.clipped(span, tone)
}

/// Every so many-th sample shows which values there are.
const SHOWN: usize = 7;

/// Whether some different values lie within `width` of each other, and there are not few: `false` where it takes sorting to
/// say so.
fn has_values_within(window: &[f32], least: f32, width: f32) -> bool {
    // Of each stretch of that width the first value that was found in it; the span has one part in `BAND` of them.
    let mut found = [f32::NAN; 512];
    let (mut stretches, mut are_within) = (0, false);
    for &sample in window.iter().step_by(SHOWN) {
        let Some(first) = found.get_mut(((sample - least) / width) as usize) else { continue };
        if first.is_nan() {
            (*first, stretches) = (sample, stretches + 1);
        }
        are_within |= *first != sample;
        if are_within && stretches > LEAST_VALUES {
            return true;
        }
    }
    false
}

/// The step between neighbouring values, as far as one in seven samples show it; `None` where there are few values.
fn step(window: &[f32]) -> Option<f32> {
    // As whole numbers of the same order, which are sorted in half the time: of a negative number all bits but the sign count
    // the other way round. The same turns them back.
    let turned = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
    let mut values: Vec<i32> = window.iter().step_by(SHOWN).map(|sample| turned(sample.to_bits() as i32)).collect();
    values.sort_unstable();
    let value = |turned_bits: i32| f32::from_bits(turned(turned_bits) as u32);
    let steps = values.windows(2).map(|pair| value(pair[1]) - value(pair[0])).filter(|&step| step > 0.0);
    (steps.clone().count() >= LEAST_VALUES).then(|| steps.fold(f32::INFINITY, f32::min))
}

/// What a single sine would leave: in it each sample and the one before give the next, so that a sample tells the sum of its
/// neighbours. The part of that sum that it does not tell, as a share of the window's power; next to nothing for a sine and
/// its rounding. Where a sine nearly repeats after a few samples, its peaks pile up without being cut.
///
/// What is at least `enough` is answered as soon as that is sure: the rest only grows.
fn rest_of_tone(window: &[f32], overview: &Overview, enough: f64) -> f64 {
    /// Steps of eight samples between two looks at what has come together.
    const LOOK_EVERY: usize = 128;
    let mean = overview.mean;
    let power_of_all = (overview.power - mean * mean) * window.len() as f64;
    // Of each sample that has two neighbours, and of the sum of these: their powers and what they have in common.
    // In eight lanes; up to seven samples at the end say nothing that the others do not.
    let [mut power, mut power_of_neighbours, mut common] = [[0.0f64; 8]; 3];
    let rest = |power: &[f64; 8], power_of_neighbours: &[f64; 8], common: &[f64; 8]| {
        let [power, power_of_neighbours, common] =
            [power, power_of_neighbours, common].map(|lanes| lanes.iter().sum::<f64>());
        // What the best factor leaves of the neighbours.
        ((power_of_neighbours - common * common / power).max(0.0), power)
    };
    for (number, ten) in window.windows(10).step_by(8).enumerate() {
        for lane in 0..8 {
            let sample = f64::from(ten[lane + 1]) - mean;
            let neighbours = f64::from(ten[lane] + ten[lane + 2]) - 2.0 * mean;
            power[lane] += sample * sample;
            power_of_neighbours[lane] += neighbours * neighbours;
            common[lane] += neighbours * sample;
        }
        if number % LOOK_EVERY == LOOK_EVERY - 1 {
            let least = rest(&power, &power_of_neighbours, &common).0 / power_of_all;
            if least >= enough {
                return least;
            }
        }
    }
    let (rest, power) = rest(&power, &power_of_neighbours, &common);
    rest / power
}

/// One extreme of a window.
struct Side<'a, Depth> {
    window: &'a [f32],
    /// The sample of each block that lies nearest to the extreme.
    extremes: &'a [f32],
    /// So near to the extreme a sample is at it.
    band: f32,
    /// How far a sample lies from the extreme.
    depth: Depth,
}

impl<Depth: Fn(f32) -> f32> Side<'_, Depth> {
    /// How many samples are clipped here.
    fn clipped(&self, span: f32, tone: bool) -> usize {
        let tops = self.flat_tops();
        if tone { tops } else { tops.max(self.pile(span)) }
    }

    /// Depths of all samples that lie within `depth` of the extreme.
    fn within(&self, depth: f32) -> impl Iterator<Item = f32> {
        let blocks = self.window.chunks(BLOCK).zip(self.extremes);
        let near = blocks.filter(move |(_, extreme)| (self.depth)(**extreme) < depth);
        near.flat_map(|(block, _)| block).map(|&sample| (self.depth)(sample)).filter(move |found| *found < depth)
    }

    /// The samples at the extreme, where they are more than sound leaves there and below them is a continuum.
    fn pile(&self, span: f32) -> usize {
        let (zone, bands) = (ZONE * span, (ZONE * span / self.band) as usize);
        if bands < LEAST_BANDS {
            return 0;
        }
        let (mut at_extreme, mut below) = (0, 0);
        for depth in self.within(2.0 * self.band) {
            *(if depth < self.band { &mut at_extreme } else { &mut below }) += 1;
        }
        if at_extreme < PILE * below.max(1) {
            return 0;
        }
        let mut occupied = vec![false; bands + 1];
        for depth in self.within(zone) {
            occupied[((depth / self.band) as usize).min(bands)] = true;
        }
        let occupied = occupied.into_iter().filter(|occupied| *occupied).count();
        if occupied * 2 >= bands { at_extreme } else { 0 }
    }

    /// Samples in runs at the extreme that end abruptly. A round peak of the same width is a parabola: `beside` samples
    /// further it has fallen by `band * (1 + 2 * beside / run)^2`.
    fn flat_tops(&self) -> usize {
        let is_at_extreme = |&sample: &f32| (self.depth)(sample) < self.band;
        let (mut samples, mut end) = (0, 0);
        while let Some(start) = self.next_at_extreme(end) {
            let run = self.window[start..].iter().position(|sample| !is_at_extreme(sample));
            let run = run.unwrap_or(self.window.len() - start);
            end = start + run;
            if run >= FLAT_TOP {
                let beside = (run / 4).max(1);
                let round = self.band * (1.0 + 2.0 * beside as f32 / run as f32).powi(2);
                let sides = [start.checked_sub(beside), Some(end + beside - 1)];
                let beside = sides.into_iter().flatten().filter_map(|n| self.window.get(n));
                if beside.map(|&sample| (self.depth)(sample)).fold(0.0, f32::max) > 4.0 * round {
                    samples += run;
                }
            }
        }
        samples
    }

    /// The first sample at the extreme from `start` on; blocks without one are passed over.
    fn next_at_extreme(&self, start: usize) -> Option<usize> {
        let first = start / BLOCK;
        for (block, &extreme) in self.extremes.iter().enumerate().skip(first) {
            if (self.depth)(extreme) < self.band {
                let begin = start.max(block * BLOCK);
                let end = self.window.len().min((block + 1) * BLOCK);
                let found = self.window[begin..end].iter().position(|&sample| (self.depth)(sample) < self.band);
                if let Some(found) = found {
                    return Some(begin + found);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    const SAMPLES: usize = 40_000;

    fn share(window: &[f32]) -> f64 {
        super::share(window, &Overview::of(window))
    }

    fn noise(level: f32) -> Vec<f32> {
        let random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        StandardNormal.sample_iter(random).take(SAMPLES).map(|sample: f32| sample * level).collect()
    }

    fn tone(amplitude: f64, hz: f64, phase: f64) -> Vec<f32> {
        let turn = std::f64::consts::TAU * hz / 16_000.0;
        (0..SAMPLES).map(|n| ((turn * n as f64 + phase).sin() * amplitude) as f32).collect()
    }

    /// As a converter of so many bits gives it, and clips it.
    fn converted(sound: &[f32], bits: i32, limit: f32) -> Vec<f32> {
        let scale = 2.0_f32.powi(bits - 1);
        sound.iter().map(|s| (s.clamp(-limit, limit) * scale).round().clamp(-scale, scale - 1.0) / scale).collect()
    }

    #[test]
    fn tones_are_not_clipped_however_loud() {
        for amplitude in [1.0, 0.5, 0.05, 0.0008] {
            // From a slow wave to tones that repeat each 16, 8, 4, 3 samples, and some close to those.
            for hz in
                [5.0, 20.0, 50.0, 100.0, 440.0, 999.9, 999.99, 1000.0, 1000.3, 2000.0, 3200.0, 4000.0, 5333.33, 7900.0]
            {
                for phase in [0.0, 0.1, 1.0] {
                    for bits in [8, 16, 24] {
                        let share = share(&converted(&tone(amplitude, hz, phase), bits, 1.0));
                        assert_eq!(share, 0.0, "{amplitude} {hz} Hz, phase {phase}, {bits} bits");
                    }
                }
            }
        }
    }

    #[test]
    fn loud_sound_is_not_clipped() {
        let chord: Vec<f32> = [100.0, 200.0, 300.0, 1000.0, 2500.0]
            .into_iter()
            .map(|hz| tone(0.2, hz, hz))
            .reduce(|sum, tone| sum.iter().zip(tone).map(|(a, b)| a + b).collect())
            .expect("five tones");
        for (name, sound) in [("noise", noise(0.2)), ("chord", chord)] {
            let peak = sound.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
            for bits in [8, 16, 24] {
                for level in [0.02, 0.3, 1.0] {
                    let sound: Vec<f32> = sound.iter().map(|sample| sample * level / peak).collect();
                    let share = share(&converted(&sound, bits, 1.0));
                    assert!(share < 1e-4, "{name} {bits} bits {level}: {share}");
                }
            }
        }
    }

    #[test]
    fn clipping_is_found_at_full_scale_and_below() {
        for limit in [1.0, 0.6, 0.1, 0.02] {
            for (name, sound, expected) in [
                ("noise", noise(limit), 0.317),
                ("noise, a little", noise(limit * 0.4), 0.0124),
                ("noise, hardly", noise(limit / 3.0), 0.0027),
                ("tone", tone(f64::from(limit) * 2.0, 440.0, 0.3), 0.667),
                ("tone that nearly repeats", tone(f64::from(limit) * 2.0, 1000.7, 0.3), 0.667),
                ("slow tone", tone(f64::from(limit) * 1.5, 50.0, 0.3), 0.535),
            ] {
                for bits in [16, 24] {
                    let share = share(&converted(&sound, bits, limit));
                    let off = (share / expected - 1.0).abs();
                    assert!(off < 0.25, "{name} at {limit}, {bits} bits: {share}, expected {expected}");
                }
            }
        }
        // On one side only, as an amplifier with a shifted operating point clips.
        let sound: Vec<f32> = noise(0.1).iter().map(|sample| sample.min(0.12)).collect();
        assert!((share(&sound) - 0.115).abs() < 0.01, "{}", share(&sound));
    }

    #[test]
    fn peaks_that_touch_the_rail_count_as_what_they_are() {
        let sound = converted(&noise(0.3), 16, 1.0);
        let share = share(&sound);
        let touching = sound.iter().filter(|sample| sample.abs() > 0.9999).count() as f64 / SAMPLES as f64;
        assert!(share <= touching * 1.5 && touching < 0.002, "{share} of {touching}");
    }

    #[test]
    fn odd_windows_are_no_trouble() {
        for window in [vec![], vec![0.3], vec![0.5; 100], vec![0.0, 1.0], vec![1.0; 2], vec![-1.0, 1.0, -1.0, 1.0]] {
            assert_eq!(share(&window), 0.0, "{window:?}");
        }
    }
}
