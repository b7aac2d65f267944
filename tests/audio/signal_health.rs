//! Signal faults made from real recordings get their reason; the recordings themselves never do.

use std::path::Path;

use auscult::audio::wav::files::Windows;
use auscult::config::Channel;
use auscult::scoring::Reason;
use auscult::scoring::gate::{Gate, inspect};

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
    let Some(shared) = crate::common::shared() else { return Vec::new() };
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

/// As a converter of so many bits would have it at that gain.
fn as_converted(window: &[f32], gain: f32, bits: i32) -> Vec<f32> {
    let scale = 2.0_f32.powi(bits - 1);
    window.iter().map(|sample| (sample * gain * scale).round().clamp(-scale, scale - 1.0) / scale).collect()
}

#[test]
fn real_recordings_are_sound() {
    let mut flattest = 0.0_f64;
    for (name, window) in recordings() {
        // As recorded, quieter as far as the gate allows, and as loud as it gets.
        let peak = window.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let loudness = window.iter().map(|sample| sample.abs()).sum::<f32>() / window.len() as f32;
        let hardly_loud_enough = 0.0006 / loudness;
        for gain in [1.0, 0.25, 0.9 / peak, 1.0 / peak, hardly_loud_enough] {
            for bits in [16, 24] {
                let window = as_converted(&window, gain, bits);
                let health = inspect(&window, &Gate::default());
                assert_eq!(health.fault, None, "{name} x {gain}, {bits} bits: {health:?}");
                flattest = flattest.max(health.flatness.unwrap_or(0.0));
            }
        }
        // Peaks of a loud machine that touch the rails now and then, at 16 bits and as coarse as 8.
        for (level, bits) in [(0.28, 16), (0.2, 8), (0.05, 8)] {
            let rms = (window.iter().map(|sample| sample * sample).sum::<f32>() / window.len() as f32).sqrt();
            let window = as_converted(&window, level / rms, bits);
            let touching = window.iter().filter(|sample| sample.abs() > 0.99).count() as f64 / window.len() as f64;
            let health = inspect(&window, &Gate::default());
            let fault = (touching > 0.002).then_some(Reason::Clipped);
            assert!(health.fault.is_none() || health.fault == fault, "{name} at {level}, {bits} bits: {health:?}");
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
    use auscult::audio::synth::{FaultPlan, Kind, SynthMachine};
    for kind in Kind::ALL {
        for seed in 0..4 {
            let plans = [FaultPlan::default()].into_iter().chain(kind.faults().map(|fault| FaultPlan::now(fault, 1.0)));
            for plan in plans {
                let mut window = vec![0.0; 80_000];
                SynthMachine::with_fault(kind, seed, 0, plan).fill(&mut window);
                let health = inspect(&window, &Gate::default());
                assert_eq!(health.fault, None, "{} {seed} {plan:?}: {health:?}", kind.name());
            }
        }
    }
}

/// Sound that was clipped in the converter and then taken to another rate, or averaged with other channels, has no rails
/// any more; where much was clipped, that is still found.
#[test]
fn clipping_is_found_behind_the_resampler_and_the_mix() {
    use auscult::audio::resample::Resampler;
    let Some(shared) = crate::common::shared() else { return };
    for clip in crate::common::recordings::clips(&shared) {
        let channel = |number| -> Vec<f32> {
            let windows = Windows::open(&clip, Channel::One(number), 16_000, 80_000).expect("a recording");
            windows.flat_map(|window| window.expect("a whole recording")).collect()
        };
        let channels: Vec<_> = (0..8).map(channel).collect();
        let rms = (channels[0].iter().map(|sample| sample * sample).sum::<f32>() / channels[0].len() as f32).sqrt();
        for overdrive in [1.0, 0.7] {
            let clipped = |sound: &[f32]| as_converted(sound, overdrive / rms, 16);
            let mix: Vec<f32> = {
                let clipped: Vec<_> = channels.iter().map(|channel| clipped(channel)).collect();
                (0..80_000).map(|n| clipped.iter().map(|channel| channel[n]).sum::<f32>() / 8.0).collect()
            };
            let mut fast = Vec::new();
            let mut up = Resampler::new(16_000, 48_000).expect("rates");
            up.push(&channels[0], &mut fast);
            let mut slow = Vec::new();
            let mut down = Resampler::new(48_000, 16_000).expect("rates");
            down.push(&clipped(&fast), &mut slow);
            for (name, window) in [("mix", &mix[..]), ("resampled", &slow[2000..82_000])] {
                let health = inspect(window, &Gate::default());
                assert_eq!(health.fault, Some(Reason::Clipped), "{name} x {overdrive} {}: {health:?}", clip.display());
            }
        }
    }
}

/// The hiss of a dead preamplifier is white, or nearly so; a machine's noise is far from it.
#[test]
fn hiss_is_found_white_and_slightly_coloured() {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let white: Vec<f32> = StandardNormal.sample_iter(random).take(80_000).collect();
    // A first-order filter: the level at 8 kHz against that at 0 Hz is ((1 - c) / (1 + c))^2.
    let coloured = |c: f32| -> Vec<f32> {
        let mut last = 0.0;
        white
            .iter()
            .map(|sample| {
                last = c * last + sample;
                last
            })
            .collect()
    };
    for (colour, expected) in [
        (0.0, Some(Reason::Noise)),
        // 3.5 dB and 7 dB from one end to the other, falling or rising.
        (0.2, Some(Reason::Noise)),
        (-0.2, Some(Reason::Noise)),
        (0.38, Some(Reason::Noise)),
        (-0.38, Some(Reason::Noise)),
        // 17 dB.
        (0.75, None),
        (0.95, None),
    ] {
        let sound = coloured(colour);
        let rms = (sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32).sqrt();
        for (level, bits) in [(0.001, 16), (0.01, 16), (0.01, 24), (0.1, 16), (0.1, 8)] {
            let health = inspect(&as_converted(&sound, level / rms, bits), &Gate::default());
            assert_eq!(health.fault, expected, "colour {colour}, level {level}, {bits} bits: {health:?}");
        }
    }
}
