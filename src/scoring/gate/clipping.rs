//! Clipping: peaks that are cut off at one height, at full scale or below it (an amplifier that clips before the
//! converter does). Loud is not clipped, and neither is a pure tone whose every peak reaches the same height.
//!
//! Cut peaks leave one of two marks at the window's extreme. In sound of many frequencies they pile up there: far more
//! samples at the extreme than just below it, while below it any height occurs. (A sine's density at its peak is 2.4
//! times that just below, whatever the width; one that repeats after a few samples has nothing just below, and is known
//! as a sine.) In slow sound they are flat tops that end abruptly, where a round peak would fall away gently.

use crate::window::{range, sum};

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
pub fn share(window: &[f32]) -> f64 {
    let (least, most) = range(window);
    let is_beyond = |sample: &&f32| sample.abs() > BEYOND;
    let beyond = if most.max(-least) > BEYOND { window.iter().filter(is_beyond).count() } else { 0 };
    let span = most - least;
    let clipped = match step(window) {
        Some(step) if span.is_finite() => {
            let band = step.max(BAND * span);
            let tone = is_tone(window, step, span);
            clipped(window, band, span, tone, |sample| most - sample)
                + clipped(window, band, span, tone, |sample| sample - least)
        }
        _ => 0,
    };
    clipped.max(beyond) as f64 / window.len().max(1) as f64
}

/// The step between neighbouring values, as far as one in seven samples show it; `None` where there are few values.
fn step(window: &[f32]) -> Option<f32> {
    // As whole numbers of the same order, which are sorted in half the time: of a negative number all bits but the sign count
    // the other way round. The same turns them back.
    let turned = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
    let mut values: Vec<i32> = window.iter().step_by(7).map(|sample| turned(sample.to_bits() as i32)).collect();
    values.sort_unstable();
    let value = |turned_bits: i32| f32::from_bits(turned(turned_bits) as u32);
    let steps = values.windows(2).map(|pair| value(pair[1]) - value(pair[0])).filter(|&step| step > 0.0);
    (steps.clone().count() >= LEAST_VALUES).then(|| steps.fold(f32::INFINITY, f32::min))
}

/// A single sine and nothing else but its rounding: each sample and the one before give the next. Where it nearly repeats
/// after a few samples, its peaks pile up without being cut.
fn is_tone(window: &[f32], step: f32, span: f32) -> bool {
    let mean = sum(window, |sample| sample) / window.len() as f64;
    // Of each sample that has two neighbours, and of the sum of these: their powers and what they have in common.
    // In eight lanes, as in `window::sum`; up to seven samples at the end say nothing that the others do not.
    let [mut power, mut power_of_neighbours, mut common] = [[0.0f64; 8]; 3];
    for ten in window.windows(10).step_by(8) {
        for lane in 0..8 {
            let sample = f64::from(ten[lane + 1]) - mean;
            let neighbours = f64::from(ten[lane] + ten[lane + 2]) - 2.0 * mean;
            power[lane] += sample * sample;
            power_of_neighbours[lane] += neighbours * neighbours;
            common[lane] += neighbours * sample;
        }
    }
    let [power, power_of_neighbours, common] =
        [power, power_of_neighbours, common].map(|lanes| lanes.iter().sum::<f64>());
    // What the best factor leaves of the neighbours.
    let rest = (power_of_neighbours - common * common / power).max(0.0);
    // Rounding leaves `(step / amplitude)^2`.
    rest / power < 8.0 * f64::from(2.0 * step / span).powi(2) + 1e-6
}

/// How many samples are clipped at one extreme; `depth` is how far a sample lies from it.
fn clipped(window: &[f32], band: f32, span: f32, tone: bool, depth: impl Fn(f32) -> f32) -> usize {
    let tops = flat_tops(window, band, &depth);
    if tone {
        return tops;
    }
    let mut zone = Vec::new();
    for &sample in window {
        let depth = depth(sample);
        if depth < ZONE * span {
            zone.push(depth);
        }
    }
    zone.sort_unstable_by(f32::total_cmp);
    if piles_up(&zone, band, span) { tops.max(zone.partition_point(|&depth| depth < band)) } else { tops }
}

/// More samples at the extreme than sound leaves there, and a continuum below; `zone` is sorted.
fn piles_up(zone: &[f32], band: f32, span: f32) -> bool {
    let within = |depth: f32| zone.partition_point(|&other| other < depth);
    let (at_extreme, below) = (within(band), within(2.0 * band) - within(band));
    let bands = (ZONE * span / band) as usize;
    let occupied = zone.chunk_by(|a, b| (a / band) as usize == (b / band) as usize).count();
    bands >= LEAST_BANDS && at_extreme >= PILE * below.max(1) && occupied * 2 >= bands
}

/// Samples in runs at the extreme that end abruptly. A round peak of the same width is a parabola: `beside` samples further
/// it has fallen by `band * (1 + 2 * beside / run)^2`.
fn flat_tops(window: &[f32], band: f32, depth: impl Fn(f32) -> f32) -> usize {
    let at_extreme = |&sample: &f32| depth(sample) < band;
    let (mut samples, mut end) = (0, 0);
    // Few samples are at the extreme: what lies between is passed over quickly.
    while let Some(before) = window[end..].iter().position(at_extreme) {
        let start = end + before;
        let run = window[start..].iter().position(|sample| !at_extreme(sample)).unwrap_or(window.len() - start);
        end = start + run;
        if run >= FLAT_TOP {
            let beside = (run / 4).max(1);
            let round = band * (1.0 + 2.0 * beside as f32 / run as f32).powi(2);
            let sides = [start.checked_sub(beside), Some(end + beside - 1)];
            let falls = sides.into_iter().flatten().filter_map(|n| window.get(n)).map(|&sample| depth(sample));
            if falls.fold(0.0, f32::max) > 4.0 * round {
                samples += run;
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    const SAMPLES: usize = 40_000;

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
