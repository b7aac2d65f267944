//! Signal health of a window, before it is scored: a broken microphone must never count as a normal machine.
//!
//! Each criterion asks for something that no sound of a machine through a working microphone does, with a wide margin to
//! real recordings: these have 1200 to 2400 different values in 5 s of 16 bits, no offset, and a spectrum far from flat
//! (flatness at most 0.33).

mod clipping;
pub mod debounce;
mod spectrum;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::spectrum::Spectrum;
use crate::validate::override_fields;
use crate::window::{Reason, power_dbfs};
use auscult_signal::sums::sum_of_distances;
use auscult_signal::{Overview, longest_run};

/// Limits of what can be assessed. A window beyond one is `unknown`, with the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Mean absolute level below which a window is `silent`; full scale is 1. Default 0.0005.
    pub silent_below: f64,
    /// `flat`: so many different values or fewer; default 8. 0 turns it off.
    pub flat_values: usize,
    /// `flat`: one value that stays for this share of the window; default 0.2. Above 1 turns it off.
    pub flat_share: f64,
    /// `clipped`: share of samples that are cut off at one height; default 0.002. Above 1 turns it off.
    pub clipped_share: f64,
    /// `dc_offset`: mean of the samples, either way; full scale is 1. Default 0.03. Above 1 turns it off.
    pub dc_offset: f64,
    /// `noise`: flatness of the spectrum from which steady noise without a tone counts as hiss, where 1 is white
    /// noise; default 0.7. Above 1 turns it off.
    pub noise_flatness: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Gate {
            silent_below: 0.0005,
            flat_values: 8,
            flat_share: 0.2,
            clipped_share: 0.002,
            dc_offset: 0.03,
            noise_flatness: 0.7,
        }
    }
}

impl Gate {
    /// These limits with the fields of `over` in place of their own; checked.
    ///
    /// # Errors
    /// The first thing that is wrong: the field, what is expected, what was found.
    pub fn with(&self, over: &Map<String, Value>) -> Result<Gate, String> {
        let gate: Gate = override_fields(self, over)?;
        gate.check()?;
        Ok(gate)
    }

    /// # Errors
    /// The first thing that is wrong: the field, what is expected, what was found.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, most) in [
            ("silent_below", self.silent_below, 1.0),
            ("flat_share", self.flat_share, 10.0),
            ("clipped_share", self.clipped_share, 10.0),
            ("dc_offset", self.dc_offset, 10.0),
            ("noise_flatness", self.noise_flatness, 10.0),
        ] {
            // Written so that NaN fails.
            if !(0.0..=most).contains(&value) {
                return Err(format!("{name}: expected 0 to {most}, found {value}"));
            }
        }
        Ok(())
    }
}

/// What a window's samples say about the microphone.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalHealth {
    /// Root mean square level, dB of full scale, not below [`LEVEL_FLOOR_DBFS`](crate::window::LEVEL_FLOOR_DBFS).
    pub level_dbfs: f64,
    /// Why the window cannot be assessed, if so.
    pub fault: Option<Reason>,
    /// Mean of the samples.
    pub dc: f64,
    /// Largest absolute value.
    pub peak: f64,
    /// Share of the samples that are cut off: at the converter's rails, or at lower ones of an amplifier before it.
    pub clipped_share: f64,
    /// Longest run of one value, as a share of the window.
    pub held_share: f64,
    /// Flatness of the spectrum (geometric over arithmetic mean of the power), 1 for white noise; `None` where no
    /// spectrum was needed to decide.
    pub flatness: Option<f64>,
}

/// Looks at one window of mono samples.
pub fn inspect(window: &[f32], gate: &Gate) -> SignalHealth {
    let overview = Overview::of(window);
    let mut health = SignalHealth {
        level_dbfs: power_dbfs(overview.power),
        fault: Some(Reason::NotFinite),
        dc: 0.0,
        peak: 0.0,
        clipped_share: 0.0,
        held_share: 0.0,
        flatness: None,
    };
    let Overview { mean, mean_abs, .. } = overview;
    // It is not where one sample is not, or there is none.
    if !mean_abs.is_finite() {
        return health;
    }
    let count = window.len() as f64;
    health.dc = mean;
    health.peak = f64::from(overview.peak());
    health.clipped_share = clipping::share(window, &overview);
    health.held_share = longest_run(window) as f64 / count;
    // The mean distance from the mean is no less than this; where that is enough, it need not be known.
    let moves =
        mean_abs - mean.abs() >= gate.silent_below || sum_of_distances(window, mean) / count >= gate.silent_below;
    health.fault = if mean_abs < gate.silent_below {
        Some(Reason::Silent)
    } else if !moves || has_few_values(window, gate.flat_values) || health.held_share >= gate.flat_share {
        Some(Reason::Flat)
    } else if health.clipped_share >= gate.clipped_share {
        Some(Reason::Clipped)
    } else if health.dc.abs() >= gate.dc_offset {
        Some(Reason::DcOffset)
    } else {
        let spectrum = Spectrum::of(window);
        health.flatness = spectrum.as_ref().map(|spectrum| spectrum.flatness);
        let hiss = spectrum.is_some_and(|spectrum| spectrum.is_hiss(gate.noise_flatness));
        hiss.then_some(Reason::Noise)
    };
    health
}

fn has_few_values(window: &[f32], few: usize) -> bool {
    let mut seen: Vec<f32> = Vec::with_capacity(few + 1);
    for &sample in window {
        if !seen.contains(&sample) {
            if seen.len() == few {
                return false;
            }
            seen.push(sample);
        }
    }
    few > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn noise(level: f32, seed: u64) -> Vec<f32> {
        let random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let normal: Vec<f32> = StandardNormal.sample_iter(random).take(80_000).collect();
        normal.iter().map(|sample| (sample * level * 32_768.0).round().clamp(-32_768.0, 32_767.0) / 32_768.0).collect()
    }

    fn sine(amplitude: f32, hz: f32) -> Vec<f32> {
        let step = std::f32::consts::TAU * hz / 16_000.0;
        (0..80_000).map(|n| ((step * n as f32).sin() * amplitude * 32_767.0).round() / 32_768.0).collect()
    }

    fn fault(window: &[f32]) -> Option<Reason> {
        inspect(window, &Gate::default()).fault
    }

    #[test]
    fn faults_get_their_reason() {
        for (window, reason) in [
            (vec![], Reason::NotFinite),
            (vec![0.1, f32::NAN, 0.1], Reason::NotFinite),
            (vec![0.0; 80_000], Reason::Silent),
            (noise(0.0003, 1), Reason::Silent),
            (vec![0.25; 80_000], Reason::Flat),
            ((0..80_000).map(|n| 0.1 * (n % 7) as f32).collect(), Reason::Flat),
            (noise(0.001, 1).iter().map(|s| 0.2 + s * 0.1).collect(), Reason::Flat),
            ([noise(0.01, 1)[..60_000].to_vec(), vec![0.003; 20_000]].concat(), Reason::Flat),
            (sine(2.0, 440.0).iter().map(|s| s.clamp(-1.0, 1.0)).collect(), Reason::Clipped),
            (noise(0.05, 1).iter().map(|s| s.clamp(-0.08, 0.08)).collect(), Reason::Clipped),
            (sine(0.1, 440.0).iter().map(|s| s + 0.05).collect(), Reason::DcOffset),
            (noise(0.005, 1), Reason::Noise),
            (noise(0.1, 2), Reason::Noise),
        ] {
            assert_eq!(fault(&window), Some(reason), "{:?}", inspect(&window, &Gate::default()));
        }
    }

    #[test]
    fn sounds_are_no_faults() {
        let hiss = noise(0.01, 3);
        let with = |other: &[f32]| hiss.iter().zip(other).map(|(a, b)| a + b).collect::<Vec<f32>>();
        let brown = |leak: f32| {
            let mut last = 0.0;
            hiss.iter()
                .map(|sample| {
                    last = last * leak + sample;
                    last
                })
                .collect::<Vec<f32>>()
        };
        for (name, window) in [
            ("tones", sine(0.5, 100.0)),
            ("a tone that repeats each 16 samples", sine(0.5, 1000.0)),
            ("a faint tone", sine(0.004, 50.0)),
            ("noise with a tone", with(&sine(0.005, 1000.0))),
            ("noise that falls off", brown(0.7)),
            ("bursts", hiss.iter().enumerate().map(|(n, s)| if n % 4000 < 400 { s * 8.0 } else { *s }).collect()),
        ] {
            assert_eq!(fault(&window), None, "{name}: {:?}", inspect(&window, &Gate::default()));
        }
    }

    #[test]
    fn figures_are_right() {
        let health = inspect(&sine(0.5, 1000.0).iter().map(|s| s + 0.01).collect::<Vec<f32>>(), &Gate::default());
        assert!((health.level_dbfs + 9.03).abs() < 0.02 && (health.dc - 0.01).abs() < 1e-4, "{health:?}");
        assert!((health.peak - 0.51).abs() < 1e-3 && health.clipped_share == 0.0, "{health:?}");
        assert!(inspect(&noise(0.01, 5), &Gate::default()).flatness.is_some_and(|flatness| flatness > 0.98));
    }

    #[test]
    fn every_check_can_be_turned_off() {
        let off = Gate {
            silent_below: 0.0,
            flat_values: 0,
            flat_share: 2.0,
            clipped_share: 2.0,
            dc_offset: 2.0,
            noise_flatness: 2.0,
        };
        for window in [vec![0.0; 80_000], vec![1.0; 80_000], noise(0.01, 1)] {
            assert_eq!(inspect(&window, &off).fault, None);
        }
    }
}
