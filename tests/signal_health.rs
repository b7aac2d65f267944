//! Signal faults made from real recordings get their reason; the recordings themselves never do.

mod common;

use std::path::Path;

use auscult::audio::files::Windows;
use auscult::audio::health::{Gate, inspect};
use auscult::config::Channel;
use auscult::scoring::Reason;

/// All windows of a recording: every channel and the mean of all, at 16 kHz; 5 s, and 1 s every half a second.
fn windows(file: &Path) -> Vec<(String, Vec<f32>)> {
    let mut windows = Vec::new();
    for channel in (0..8).map(Channel::One).chain([Channel::Mix]) {
        let whole: Vec<f32> = Windows::open(file, channel, 16_000, 16_000)
            .expect("a recording")
            .flat_map(|window| window.expect("a whole recording"))
            .collect();
        for (length, step) in [(80_000, 40_000), (16_000, 32_000)] {
            for start in (0..=whole.len() - length).step_by(step) {
                let name = format!("{} {channel:?} {start}+{length}", file.display());
                windows.push((name, whole[start..start + length].to_vec()));
            }
        }
    }
    windows
}

fn recordings() -> Vec<(String, Vec<f32>)> {
    let Some(shared) = common::shared() else { return Vec::new() };
    let files = std::fs::read_dir(shared.join("audio")).expect("a directory");
    let mut recordings = Vec::new();
    for file in files {
        let file = file.expect("a directory").path();
        if file.extension().is_some_and(|extension| extension == "wav") {
            recordings.extend(windows(&file));
        }
    }
    assert!(recordings.len() > 100, "{}", recordings.len());
    recordings
}

#[test]
fn real_recordings_are_sound() {
    let mut flattest = 0.0_f64;
    for (name, window) in recordings() {
        // As recorded, quieter as far as the gate allows, and as loud as it gets.
        let peak = window.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        for gain in [1.0, 0.25, 0.9 / peak] {
            let window: Vec<f32> = window.iter().map(|sample| sample * gain).collect();
            let health = inspect(&window, &Gate::default());
            assert_eq!(health.fault, None, "{name} x {gain}: {health:?}");
            flattest = flattest.max(health.flatness.unwrap_or(0.0));
        }
    }
    eprintln!("flattest spectrum of a recording: {flattest:.3}");
}

#[test]
fn faults_made_from_real_recordings_get_their_reason() {
    let to_i16 = |sample: f32| (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) / 32_768.0;
    // Every third one: other channels, other places, both lengths.
    for (name, window) in recordings().into_iter().step_by(3) {
        let rms = (window.iter().map(|sample| sample * sample).sum::<f32>() / window.len() as f32).sqrt();
        let each = |change: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
            window.iter().enumerate().map(|(n, &sample)| to_i16(change(n, sample))).collect()
        };
        // The same samples in another order: same level and values, no structure left.
        let shuffled = {
            use rand::{SeedableRng, seq::SliceRandom};
            let mut samples = window.clone();
            samples.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(window.len() as u64));
            samples
        };
        let hiss = {
            use rand::SeedableRng;
            use rand_distr::{Distribution, Normal};
            let random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
            let normal = Normal::new(0.0, rms.max(0.002)).expect("a deviation above 0");
            normal.sample_iter(random).take(window.len()).map(to_i16).collect::<Vec<f32>>()
        };
        let half = window.len() / 2;
        for (fault, window, reason) in [
            ("turned down", each(&|_, sample| sample * 0.01), Reason::Silent),
            ("cable off", each(&|_, sample| sample * 0.001 + 0.0001), Reason::Silent),
            ("stuck", each(&|_, _| 0.01), Reason::Flat),
            ("stuck half way", each(&|n, sample| if n < half { sample } else { 0.005 }), Reason::Flat),
            ("two bits left", each(&|_, sample| (sample / rms / 2.0).round().clamp(-2.0, 2.0) * 0.1), Reason::Flat),
            ("stuck at an offset", each(&|_, sample| 0.2 + sample * 0.02), Reason::Flat),
            ("overdriven", each(&|_, sample| (sample / rms).clamp(-1.0, 1.0)), Reason::Clipped),
            ("overdriven a little", each(&|_, sample| sample / rms * 0.4), Reason::Clipped),
            ("amplifier overdriven", each(&|_, sample| (sample * 0.2 / rms).clamp(-0.3, 0.3)), Reason::Clipped),
            ("offset", each(&|_, sample| sample + 0.05), Reason::DcOffset),
            ("offset the other way", each(&|_, sample| sample - 0.2), Reason::DcOffset),
            ("shuffled", shuffled, Reason::Noise),
            ("hiss", hiss, Reason::Noise),
            ("broken", each(&|n, sample| if n == half { f32::NAN } else { sample }), Reason::NotFinite),
        ] {
            let health = inspect(&window, &Gate::default());
            assert_eq!(health.fault, Some(reason), "{name} {fault}: {health:?}");
        }
    }
}

#[test]
fn simulated_machines_are_sound() {
    use auscult::audio::synth::{FaultPlan, Kind, Machine};
    for kind in Kind::ALL {
        for seed in 0..4 {
            let plans = [FaultPlan::default()].into_iter().chain(kind.faults().map(|fault| FaultPlan::now(fault, 1.0)));
            for plan in plans {
                let mut window = vec![0.0; 80_000];
                Machine::with_fault(kind, seed, 0, plan).fill(&mut window);
                let health = inspect(&window, &Gate::default());
                assert_eq!(health.fault, None, "{} {seed} {plan:?}: {health:?}", kind.name());
            }
        }
    }
}
