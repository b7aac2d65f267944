//! Simulated machines: the same by seed, at sensible levels, and each fault changes what it physically should.

use std::process::Command;

use auscult::audio::synth::{Cycle, Fault, FaultPlan, Kind, RATE_HZ, SynthMachine, SynthSource, seed_of};
use auscult::audio::{Read, Source};
use auscult::config::SourceConfig;
use auscult_signal::Real;

const RATE: f64 = RATE_HZ as f64;

fn listen(mut machine: SynthMachine, seconds: usize) -> Vec<f32> {
    let mut samples = vec![0.0; seconds * RATE_HZ as usize];
    machine.fill(&mut samples);
    samples
}

fn healthy(kind: Kind, seed: u64) -> Vec<f32> {
    listen(SynthMachine::new(kind, seed, 1), 10)
}

fn faulty(kind: Kind, seed: u64, fault: Fault, strength: f64) -> Vec<f32> {
    listen(SynthMachine::with_fault(kind, seed, 1, FaultPlan::now(fault, strength)), 10)
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / samples.len() as f64
}

/// Power spectrum of the whole signal under a Hann window; bins are `1 / seconds` Hz.
struct Spectrum {
    power: Vec<f64>,
    bin_hz: f64,
}

impl Spectrum {
    fn of(samples: &[f64], rate: f64) -> Spectrum {
        let count = samples.len();
        let fft = f64::forward(count);
        let mut input: Vec<f64> = samples
            .iter()
            .enumerate()
            .map(|(n, x)| x * (0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / count as f64).cos()))
            .collect();
        let mut output = fft.make_output_vec();
        fft.process(&mut input, &mut output).expect("buffers made for it");
        Spectrum { power: output.iter().map(|bin| bin.norm_sqr()).collect(), bin_hz: rate / count as f64 }
    }

    fn of_sound(samples: &[f32]) -> Spectrum {
        Spectrum::of(&samples.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), RATE)
    }

    /// Spectrum of the envelope of the highs (the size of the samples' differences, taken `order` times), in steps of 1 ms.
    fn of_envelope(samples: &[f32], order: usize) -> Spectrum {
        let mut highs: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
        for _ in 0..order {
            highs = highs.windows(2).map(|x| x[1] - x[0]).collect();
        }
        highs.iter_mut().for_each(|x| *x = x.abs());
        let envelope: Vec<f64> = highs.chunks_exact(16).map(|chunk| chunk.iter().sum::<f64>() / 16.0).collect();
        let mean = envelope.iter().sum::<f64>() / envelope.len() as f64;
        Spectrum::of(&envelope.iter().map(|x| x - mean).collect::<Vec<_>>(), RATE / 16.0)
    }

    fn band(&self, from_hz: f64, to_hz: f64) -> &[f64] {
        let bin = |hz: f64| ((hz / self.bin_hz).round() as usize).min(self.power.len() - 1);
        &self.power[bin(from_hz)..=bin(to_hz)]
    }

    fn sum(&self, from_hz: f64, to_hz: f64) -> f64 {
        self.band(from_hz, to_hz).iter().sum()
    }

    /// Strongest bin within 2.5 % of `hz` over the median of its neighbourhood, dB.
    fn line_db(&self, hz: f64) -> f64 {
        let peak = self.band(hz * 0.975, hz * 1.025).iter().fold(0.0_f64, |a, &b| a.max(b));
        let mut around = self.band(hz * 0.8, hz * 1.2).to_vec();
        around.sort_by(f64::total_cmp);
        decibels(peak / around[around.len() / 2])
    }
}

fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.log10()
}

/// Every kind with seeds enough to see that it is no accident.
fn machines() -> impl Iterator<Item = (Kind, u64)> {
    Kind::ALL.into_iter().flat_map(|kind| (1..=4).map(move |seed| (kind, seed)))
}

#[test]
fn the_same_seed_and_take_give_the_same_samples_however_asked() {
    let plan = FaultPlan { fault: Some(Fault::Rub), strength: 0.8, after_s: 0.5, grow_s: 0.5 };
    let whole = listen(SynthMachine::with_fault(Kind::Fan, 7, 3, plan), 2);
    let mut machine = SynthMachine::with_fault(Kind::Fan, 7, 3, plan);
    let mut pieces = Vec::new();
    for length in [1, 63, 64, 65, 1000].into_iter().cycle() {
        let mut piece = vec![0.0; length.min(whole.len() - pieces.len())];
        machine.fill(&mut piece);
        pieces.extend(piece);
        if pieces.len() == whole.len() {
            break;
        }
    }
    assert!(whole == pieces);
    for (seed, take) in [(8, 3), (7, 4)] {
        assert!(whole != listen(SynthMachine::with_fault(Kind::Fan, seed, take, plan), 2), "seed {seed}, take {take}");
    }
    assert_ne!(seed_of("fan-a"), seed_of("fan-b"));
}

#[test]
fn levels_are_sensible_and_nothing_clips() {
    for (kind, seed) in machines() {
        let level = decibels(power(&healthy(kind, seed)));
        assert!((-27.0..-18.0).contains(&level), "{kind} {seed}: {level:.1} dBFS");
        for fault in kind.faults() {
            let samples = faulty(kind, seed, fault, 1.0);
            let level = decibels(power(&samples));
            assert!((-27.0..-10.0).contains(&level), "{kind} {seed} {fault}: {level:.1} dBFS");
            let peak = samples.iter().fold(0f32, |a, b| a.max(b.abs()));
            assert!(peak < 0.999, "{kind} {seed} {fault}: {peak}");
        }
    }
}

#[test]
fn the_blades_sound_where_they_should_be() {
    for (kind, seed) in machines() {
        let machine = SynthMachine::new(kind, seed, 1);
        let blade_pass_hz = machine.design().shaft_hz * machine.design().blades as f64;
        let spectrum = Spectrum::of_sound(&listen(machine, 10));
        let line = spectrum.line_db(blade_pass_hz);
        assert!(line > 12.0, "{kind} {seed}: {line:.1} dB at {blade_pass_hz:.1} Hz");
        assert!(spectrum.line_db(100.0) > 10.0, "{kind} {seed}: hum of {:.1} dB", spectrum.line_db(100.0));
    }
}

#[test]
fn an_outer_race_fault_knocks_at_its_ball_pass_rate() {
    for (kind, seed) in machines() {
        let design = SynthMachine::new(kind, seed, 1).design().clone();
        let rate_hz = design.shaft_hz * design.outer_race_order;
        let before = Spectrum::of_envelope(&healthy(kind, seed), 2).line_db(rate_hz);
        let after = Spectrum::of_envelope(&faulty(kind, seed, Fault::Bearing, 0.8), 2).line_db(rate_hz);
        assert!(after > before + 6.0, "{kind} {seed}: {before:.1} -> {after:.1} dB at {rate_hz:.1} Hz");
    }
}

#[test]
fn rubbing_and_looseness_follow_the_turn() {
    for (kind, seed) in machines() {
        let shaft_hz = SynthMachine::new(kind, seed, 1).design().shaft_hz;
        let line = |samples: &[f32], hz| Spectrum::of_envelope(samples, 2).line_db(hz);
        let (before, after) =
            (line(&healthy(kind, seed), shaft_hz), line(&faulty(kind, seed, Fault::Rub, 0.8), shaft_hz));
        assert!(after > before + 6.0, "{kind} {seed} rub: {before:.1} -> {after:.1} dB at {shaft_hz:.1} Hz");
        // Knocks fall about every second turn, scattered, so the energy of the envelope lies around half the turn.
        let slow = |samples: &[f32]| Spectrum::of_envelope(samples, 1).sum(0.35 * shaft_hz, 0.65 * shaft_hz);
        let rise = decibels(slow(&faulty(kind, seed, Fault::Loose, 0.8)) / slow(&healthy(kind, seed)));
        assert!(rise > 5.0, "{kind} {seed} loose: {rise:.1} dB");
    }
}

#[test]
fn unbalance_raises_the_turns_own_tone() {
    for (kind, seed) in machines() {
        let shaft_hz = SynthMachine::new(kind, seed, 1).design().shaft_hz;
        let tone = |samples: &[f32]| Spectrum::of_sound(samples).sum(shaft_hz * 0.97, shaft_hz * 1.03);
        let rise = decibels(tone(&faulty(kind, seed, Fault::Unbalance, 0.8)) / tone(&healthy(kind, seed)));
        assert!(rise > 6.0, "{kind} {seed}: {rise:.1} dB");
    }
}

#[test]
fn a_blocked_flow_rumbles_and_hisses_less() {
    for (kind, seed) in machines() {
        let (before, after) = (healthy(kind, seed), faulty(kind, seed, Fault::Blocked, 0.9));
        let (before, after) = (Spectrum::of_sound(&before), Spectrum::of_sound(&after));
        let rumble = decibels(after.sum(5.0, 90.0) / before.sum(5.0, 90.0));
        let hiss = decibels(after.sum(5500.0, 7900.0) / before.sum(5500.0, 7900.0));
        assert!(rumble > 5.0 && hiss < 0.0, "{kind} {seed}: rumble {rumble:.1} dB, hiss {hiss:.1} dB");
    }
}

#[test]
fn cavitation_crackles_in_the_highs() {
    for seed in 1..=4 {
        let highs = |samples: &[f32]| Spectrum::of_sound(samples).sum(3000.0, 7900.0);
        let rise =
            decibels(highs(&faulty(Kind::Pump, seed, Fault::Cavitation, 0.6)) / highs(&healthy(Kind::Pump, seed)));
        assert!(rise > 6.0, "pump {seed}: {rise:.1} dB");
    }
}

#[test]
fn bursts_make_the_level_jump() {
    for (kind, seed) in machines() {
        let spread = |samples: &[f32]| {
            let mut levels: Vec<f64> = samples.chunks_exact(800).map(power).collect();
            levels.sort_by(f64::total_cmp);
            decibels(levels[levels.len() * 9 / 10] / levels[levels.len() / 4])
        };
        let (before, after) = (spread(&healthy(kind, seed)), spread(&faulty(kind, seed, Fault::Bursts, 0.7)));
        assert!(after > before + 2.0, "{kind} {seed}: {before:.1} -> {after:.1} dB");
    }
}

#[test]
fn a_fault_begins_when_asked_and_grows() {
    let plan = FaultPlan { fault: Some(Fault::Bearing), strength: 1.0, after_s: 4.0, grow_s: 6.0 };
    let grown = listen(SynthMachine::with_fault(Kind::Fan, 5, 1, plan), 10);
    let never = listen(SynthMachine::new(Kind::Fan, 5, 1), 10);
    let second = |from: usize| {
        let range = from * RATE_HZ as usize..(from + 1) * RATE_HZ as usize;
        let added: Vec<f32> = grown[range.clone()].iter().zip(&never[range]).map(|(a, b)| a - b).collect();
        power(&added)
    };
    assert_eq!((second(0), second(3)), (0.0, 0.0));
    assert!(second(5) > 0.0 && second(9) > 4.0 * second(5), "{} {}", second(5), second(9));
}

#[test]
fn a_stopped_machine_is_quiet_and_starts_again() {
    let machine = SynthMachine::new(Kind::Blower, 2, 1).with_cycle(Cycle { run_s: 20.0, stop_s: 20.0 });
    let samples = listen(machine, 60);
    let level = |second: usize| decibels(power(&samples[second * RATE_HZ as usize..][..RATE_HZ as usize]));
    assert!(level(38) < level(18) - 8.0, "running {:.1}, standing {:.1}", level(18), level(38));
    assert!((level(58) - level(18)).abs() < 3.0, "running {:.1}, again {:.1}", level(18), level(58));
}

#[test]
fn a_source_gives_what_the_machine_sounds_like() {
    let config = SourceConfig {
        synth: Some("pump".into()),
        fault: Some("cavitation".into()),
        realtime: Some(false),
        ..SourceConfig::default()
    };
    let mut source = SynthSource::new(&config, "pump-9").expect("a valid source");
    assert_eq!((source.format().rate_hz, source.format().channels), (RATE_HZ, 1));
    let mut played = Vec::new();
    while played.len() < RATE_HZ as usize {
        assert!(matches!(source.read(&mut played), Ok(Read::Frames { .. })));
    }
    let plan = FaultPlan::now(Fault::Cavitation, FaultPlan::STRENGTH);
    let mut expected = vec![0.0; played.len()];
    SynthMachine::with_fault(Kind::Pump, seed_of("pump-9"), 0, plan).fill(&mut expected);
    assert!(played == expected);

    let unknown = SourceConfig { synth: Some("fam".into()), ..SourceConfig::default() };
    let error = SynthSource::new(&unknown, "x").err().expect("no such machine").to_string();
    assert!(error.contains("fan, blower, pump") && error.contains("fam"), "{error}");
}

#[test]
fn the_command_writes_files_and_names_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let auscult = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_auscult")).current_dir(dir.path()).args(args).output().expect("it runs")
    };
    for output in ["a.wav", "b.wav"] {
        let done = auscult(&["synth", "fan", "--id", "fan-a", "--fault", "rub", "--minutes", "0.1", "-o", output]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let bytes = |name: &str| std::fs::read(dir.path().join(name)).expect("a file was written");
    assert!(bytes("a.wav") == bytes("b.wav"));
    let reader = hound::WavReader::open(dir.path().join("a.wav")).expect("a WAV file");
    assert_eq!((reader.spec().sample_rate, reader.spec().channels, reader.duration()), (RATE_HZ, 1, 96_000));

    let done = auscult(&["synth", "pump", "--minutes", "0.1", "--clip", "2", "--take", "5", "-o", "clips"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("clips"))
        .expect("a directory was made")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    assert_eq!(names, ["00000005.wav", "00000006.wav", "00000007.wav"]);
    assert!(bytes("clips/00000005.wav") != bytes("clips/00000006.wav"));

    for (args, words) in [
        (vec!["synth", "fam", "-o", "x.wav"], "fan, blower, pump"),
        (
            vec!["synth", "fan", "--fault", "cavitation", "-o", "x.wav"],
            "rub, blocked, unbalance, bearing, loose, bursts",
        ),
        (vec!["synth", "fan", "--strength", "2", "-o", "x.wav"], "expected 0 to 1"),
    ] {
        let done = auscult(&args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && said.contains(words), "{said}");
    }
}

#[test]
fn a_file_that_is_not_wav_is_refused_and_no_directory_is_made_of_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = dir.path().join("fan.mp3");
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["synth", "fan", "--minutes", "0.1", "-o"])
        .arg(&output)
        .output()
        .expect("auscult starts");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(2) && said.contains("expected a file that ends in .wav"), "{said}");
    assert!(!output.exists());
}
