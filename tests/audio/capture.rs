//! Capture with real parts: PulseAudio's sinks through ALSA and cpal. Outages are in `microphones.rs`.

use std::time::{Duration, Instant};

use auscult::audio::device::offer::{Layout, Wish};
use auscult::audio::device::{self, DeviceRequest};
use auscult::audio::{self, Capture, CaptureEvent, Captured, MachineInput, Read, Source};
use auscult::config::{Channel, SourceConfig};
use auscult::window::{Reason, Window};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::sound::{Microphone, Rig, wait_for};
use crate::common::wait::wait_until;

/// A machine that listens to a microphone of the rig, at the microphone's own rate.
fn machine(number: usize, microphone: &Microphone, channel: Channel, hop_s: f64) -> MachineInput {
    let source = SourceConfig {
        device: Some(microphone.name.clone()),
        channel,
        rate_hz: Some(microphone.rate_hz),
        channels: Some(microphone.channels as u16),
        ..SourceConfig::default()
    };
    let window_samples = (f64::from(microphone.rate_hz) * hop_s) as usize;
    let rate_hz = microphone.rate_hz;
    MachineInput { machine: number, id: format!("rig{number}"), source, hop_s, rate_hz, window_samples }
}

/// Noise that occurs once: a piece of it is found again at one place only.
fn noise(seed: u64, samples: usize) -> Vec<i16> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..samples).map(|_| random.random_range(-12_000..12_000)).collect()
}

fn to_i16(samples: &[f32]) -> Vec<i16> {
    samples.iter().map(|sample| (sample * 32_768.0).round() as i16).collect()
}

/// Where `part` begins in `whole`.
fn find(whole: &[i16], part: &[i16]) -> Option<usize> {
    whole.windows(part.len()).position(|piece| piece == part)
}

/// A capture and all that it has told.
struct Listener {
    capture: Capture,
    windows: Vec<Vec<Window>>,
    events: Vec<(Instant, usize, CaptureEvent)>,
}

impl Listener {
    fn start(inputs: Vec<MachineInput>) -> Listener {
        let windows = vec![Vec::new(); inputs.len()];
        let capture = audio::start(inputs).expect("capture starts");
        Listener { capture, windows, events: Vec::new() }
    }

    /// Listens until `enough`, for `limit` at most.
    #[track_caller]
    fn until(&mut self, what: &str, limit: Duration, enough: impl Fn(&Listener) -> bool) {
        let begun = Instant::now();
        while !enough(self) {
            assert!(
                begun.elapsed() < limit,
                "{what}: not within {limit:?}: {:?} {:?}",
                self.events,
                self.capture.stats()
            );
            self.take(Duration::from_millis(50));
        }
    }

    fn take(&mut self, timeout: Duration) -> bool {
        match self.capture.next(timeout) {
            Some(Captured::Window(window)) => self.windows[window.machine].push(window),
            Some(Captured::Event { machine, event }) => self.events.push((Instant::now(), machine, event)),
            Some(Captured::End { machine }) => panic!("machine {machine} has ended"),
            None => return false,
        }
        true
    }

    /// Waits until each machine has heard something.
    #[track_caller]
    fn until_delivered(&mut self) {
        self.until("a first window of each", Duration::from_secs(20), |listener| {
            listener.windows.iter().all(|windows| windows.iter().any(|window| window.fault.is_none()))
        });
    }

    fn events_of(&self, machine: usize) -> Vec<&CaptureEvent> {
        self.events.iter().filter(|(_, of, _)| *of == machine).map(|(_, _, event)| event).collect()
    }

    /// What a machine has heard, faulty windows left out.
    fn samples_of(&self, machine: usize) -> Vec<i16> {
        self.windows[machine].iter().flat_map(|window| to_i16(&window.samples)).collect()
    }

    fn has_lost(&self, machine: usize) -> bool {
        matches!(self.events_of(machine).last(), Some(CaptureEvent::MicLost { .. }))
    }

    /// The latest windows of a machine are whole.
    fn hears(&self, machine: usize) -> bool {
        self.windows[machine].last().is_some_and(|window| window.fault.is_none()) && !self.has_lost(machine)
    }
}

/// Noise of `seconds` played into each channel of each microphone comes back sample for sample, each on its machine.
/// On a machine that is so busy that sound was lost, that must at least have been told: then it is tried again.
fn comes_back_exactly(microphones: &[(u32, usize)], seconds: usize) {
    let rig = Rig::new(microphones);
    for attempt in 1..=3 {
        let mut inputs = Vec::new();
        let mut played = Vec::new();
        let mut players = Vec::new();
        for microphone in &rig.microphones {
            for channel in 0..microphone.channels {
                inputs.push(machine(inputs.len(), microphone, Channel::One(channel), 0.5));
                played.push(noise(inputs.len() as u64, microphone.rate_hz as usize * seconds));
            }
        }
        let mut listener = Listener::start(inputs);
        listener.until_delivered();
        assert_eq!(threads_named("capture-rig"), rig.microphones.len(), "one stream for each card");
        let mut of_machine = played.iter();
        for microphone in &rig.microphones {
            let channels: Vec<_> = of_machine.by_ref().take(microphone.channels).collect();
            let frames = (0..channels[0].len()).flat_map(|n| channels.iter().map(move |channel| channel[n]));
            let file = rig.dir().join(format!("{}.wav", microphone.name));
            crate::common::sound::write_wav(
                &file,
                microphone.rate_hz,
                microphone.channels,
                &frames.collect::<Vec<_>>(),
            );
            players.push(microphone.play(&file));
        }
        // It has begun once it is not silent, and is over once it is silent again.
        let silent = |window: &Window| window.samples.iter().all(|&sample| sample == 0.0);
        listener.until("the end of the noise", Duration::from_secs(seconds as u64 * 2 + 30), |listener| {
            listener.windows.iter().all(|windows| {
                let begin = windows.iter().position(|window| !silent(window));
                begin.is_some_and(|begin| windows.len() >= begin + 2 * seconds && silent(&windows[windows.len() - 1]))
            })
        });
        let lost: u64 = listener.capture.stats().iter().map(|stats| stats.gaps + stats.losses).sum();
        if lost > 0 {
            eprintln!("attempt {attempt}: sound was lost, and told: {:?}", listener.capture.stats());
            assert!(attempt < 3, "sound is lost again and again: is the machine too busy?");
            continue;
        }
        for (machine, played) in played.iter().enumerate() {
            let samples = listener.samples_of(machine);
            let begin = find(&samples, &played[..100]).expect("the beginning is recorded");
            assert!(samples[begin..].starts_with(played), "machine {machine}: it comes back changed");
        }
        for windows in &listener.windows {
            assert!(windows.windows(2).all(|pair| {
                let step = pair[1].end.duration_since(pair[0].end).expect("time goes on").as_secs_f64();
                (step - 0.5).abs() < 0.1
            }));
        }
        return;
    }
}

fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn noise_comes_back_sample_for_sample_on_each_channel_of_two_cards() {
    comes_back_exactly(&[(16_000, 4), (48_000, 1)], 4);
}

#[test]
#[ignore = "heavy: plays for a minute"]
fn noise_comes_back_sample_for_sample_for_a_minute() {
    comes_back_exactly(&[(16_000, 4), (16_000, 1)], 60);
}

#[test]
fn every_format_brings_the_same_samples() {
    let rig = Rig::new(&[(48_000, 2)]);
    let microphone = &rig.microphones[0];
    let played = noise(7, 2 * 48_000 * 2);
    let file = rig.dir().join("noise.wav");
    crate::common::sound::write_wav(&file, 48_000, 2, &played);
    for format in [Layout::I16, Layout::I24, Layout::I32, Layout::F32] {
        let wish = Wish { rate_hz: Some(48_000), channels: Some(2), format: Some(format), ..Wish::default() };
        let device = microphone.name.parse().expect("a device's name");
        let mut source = device::open(&DeviceRequest { device, wish, sysfs: "/sys".into() })
            .unwrap_or_else(|error| panic!("{error}"));
        let mut frames = Vec::new();
        let hear = |source: &mut device::DeviceSource, frames: &mut Vec<f32>| {
            assert!(!matches!(source.read(frames).expect("it is there"), Read::End));
        };
        wait_for("sound", Duration::from_secs(10), || {
            hear(&mut source, &mut frames);
            !frames.is_empty()
        });
        let _player = microphone.play(&file);
        let begun = Instant::now();
        let begin = loop {
            hear(&mut source, &mut frames);
            if let Some(begin) = find(&to_i16(&frames), &played[..64]) {
                break begin;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{format}: nothing is heard");
        };
        while frames.len() < begin + 48_000 {
            hear(&mut source, &mut frames);
        }
        assert!(begin % 2 == 0, "the channels change places");
        assert!(to_i16(&frames[begin..]) == played[..frames.len() - begin], "{format}");
    }
    let wish = Wish { channels: Some(99), ..Wish::default() };
    let device = microphone.name.parse().expect("a device's name");
    let error = device::open(&DeviceRequest { device, wish, sysfs: "/sys".into() }).err().expect("no 99 channels");
    assert!(error.to_string().contains("expected 99 channels; the device offers 1 to 32 channels"), "{error}");
}

#[test]
fn another_rate_is_resampled() {
    let rig = Rig::new(&[(44_100, 1)]);
    let microphone = &rig.microphones[0];
    let mut input = machine(0, microphone, Channel::Mix, 1.0);
    (input.rate_hz, input.window_samples) = (16_000, 16_000);
    let mut listener = Listener::start(vec![input]);
    listener.until_delivered();
    // 1 kHz for 5 s.
    let tone = |n: usize| ((n as f64 * std::f64::consts::TAU * 1000.0 / 44_100.0).sin() * 16_384.0) as i16;
    let file = rig.dir().join("tone.wav");
    crate::common::sound::write_wav(&file, 44_100, 1, &(0..44_100 * 5).map(tone).collect::<Vec<_>>());
    let _player = microphone.play(&file);
    // Each sample of a tone is 2 cos(w) times the last minus the one before.
    let factor = 2.0 * (std::f32::consts::TAU / 16.0).cos();
    let is_tone = |samples: &[f32]| {
        let loud = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let off = samples.windows(3).map(|s| (s[2] - (factor * s[1] - s[0])).abs()).fold(0.0, f32::max);
        (loud - 0.5).abs() < 0.01 && off < 0.001
    };
    listener.until("a second of the tone", Duration::from_secs(20), |listener| {
        listener.windows[0].iter().any(|window| window.samples.len() == 16_000 && is_tone(&window.samples))
    });
}

#[test]
fn a_device_that_is_not_there_is_reported_once_and_waited_for() {
    let mut rig = Rig::new(&[(16_000, 1)]);
    rig.microphones[0].unplug();
    let mut listener = Listener::start(vec![machine(0, &rig.microphones[0], Channel::Mix, 0.5)]);
    listener.until("six windows without sound", Duration::from_secs(20), |listener| listener.windows[0].len() >= 6);
    assert!(
        listener.windows[0].iter().all(|window| window.fault == Some(Reason::NoSignal) && window.samples.is_empty())
    );
    assert!(matches!(listener.events_of(0).as_slice(), [CaptureEvent::MicLost { .. }]), "{:?}", listener.events);
    rig.microphones[0].plug_in();
    listener.until("sound", Duration::from_secs(30), |listener| listener.hears(0));
    assert!(matches!(listener.events_of(0).as_slice(), [_, CaptureEvent::MicBack]), "{:?}", listener.events);
}

#[test]
fn capture_stops_within_a_second_even_when_the_sound_server_hangs() {
    let rig = Rig::new(&[(16_000, 1), (16_000, 1)]);
    let inputs = rig.microphones.iter().enumerate().map(|(n, mic)| machine(n, mic, Channel::Mix, 0.5)).collect();
    let mut listener = Listener::start(inputs);
    listener.until_delivered();
    listener.until("some more windows", Duration::from_secs(10), |listener| listener.windows[1].len() >= 3);
    rig.microphones[0].freeze(true);
    let before = listener.windows[1].len();
    listener.until("the other goes on", Duration::from_secs(10), |listener| listener.windows[1].len() >= before + 2);
    // One window waits to be taken when the capture is stopped.
    let waits = || listener.capture.stats()[1].windows > listener.windows[1].len() as u64;
    wait_until("a window that waits", waits);
    let begun = Instant::now();
    listener.capture.stop();
    let took = begun.elapsed();
    rig.microphones[0].freeze(false);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let had = listener.windows[1].len();
    while listener.take(Duration::from_secs(60)) {}
    assert!(listener.windows[1].len() > had, "what was captured is still delivered");
}

#[test]
fn a_name_that_alsa_does_not_know_is_an_error() {
    let _rig = Rig::new(&[]);
    let device = "no-such-microphone".parse().expect("a device's name");
    let request = DeviceRequest { device, wish: Wish::default(), sysfs: "/sys".into() };
    let error = device::open(&request).err().expect("it is not there").to_string();
    assert!(error.contains("no-such-microphone: no such capture device"), "{error}");
}
