//! Capture with real parts: PulseAudio's sinks through ALSA and cpal.

#[path = "common/sound.rs"]
mod sound;

use std::time::{Duration, Instant};

use auscult::audio::{self, Captured, MachineInput, Window};
use auscult::config::{Channel, SourceConfig};
use rand::{RngExt, SeedableRng};
use sound::Rig;

/// A machine that listens to a microphone of the rig.
fn machine(
    number: usize,
    microphone: &sound::Microphone,
    channel: Channel,
    window_samples: usize,
    hop_s: f64,
) -> MachineInput {
    let source = SourceConfig {
        device: Some(microphone.name.clone()),
        channel,
        rate_hz: Some(microphone.rate_hz),
        ..SourceConfig::default()
    };
    MachineInput {
        machine: number,
        id: format!("m{number}"),
        source,
        hop_s,
        rate_hz: microphone.rate_hz,
        window_samples,
    }
}

/// Noise that occurs once: each sample of it is found again at one place only.
fn noise(seed: u64, samples: usize) -> Vec<i16> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..samples).map(|_| random.random_range(-12_000..12_000)).collect()
}

fn to_i16(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

/// Takes windows of `machines` machines until `enough`.
fn windows_until(
    capture: &audio::Capture,
    machines: usize,
    limit: Duration,
    enough: impl Fn(&[Vec<Window>]) -> bool,
) -> Vec<Vec<Window>> {
    let begun = Instant::now();
    let mut windows = vec![Vec::new(); machines];
    while !enough(&windows) {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {:?}", capture.stats());
        if let Some(Captured::Window(window)) = capture.next(Duration::from_millis(200)) {
            windows[window.machine].push(window);
        }
    }
    windows
}

/// Noise played into a microphone comes back sample for sample.
fn comes_back_exactly(seconds: usize) {
    let rig = Rig::new(&[(16_000, 1)]);
    let microphone = &rig.microphones[0];
    let played = noise(1, 16_000 * seconds);
    let file = rig.dir().join("noise.wav");
    sound::write_wav(&file, 16_000, 1, &played);
    let capture = audio::start(vec![machine(0, microphone, Channel::One(0), 8000, 0.5)]).expect("capture starts");
    windows_until(&capture, 1, Duration::from_secs(10), |windows| !windows[0].is_empty());
    let _player = microphone.play(&file);
    let windows = windows_until(&capture, 1, Duration::from_secs(seconds as u64 * 2 + 20), |windows| {
        windows[0].len() > 2 * seconds + 2
            && windows[0].last().is_some_and(|window| window.samples.iter().all(|&s| s == 0.0))
    });
    let heard: Vec<i16> = windows[0].iter().flat_map(|window| window.samples.iter().map(|&s| to_i16(s))).collect();
    let begin = heard.windows(100).position(|part| part == &played[..100]).expect("the beginning is heard");
    assert!(heard[begin..].starts_with(&played), "it comes back changed");
    eprintln!("{:?}", capture.stats());
}

#[test]
fn noise_comes_back_sample_for_sample() {
    comes_back_exactly(5);
}
