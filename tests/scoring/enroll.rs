//! `auscult enroll`, `score` and `replay` from the outside: a machine learned from WAV files, judged, its faults found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use auscult::audio::synth::{Kind, SynthMachine};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::Value;

use crate::common::overlay::Overlay;

const WINDOW: usize = 80_000;

fn auscult(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auscult")).args(arguments).args(paths).output().expect("auscult starts")
}

fn rows(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Windows of a simulated fan, with what is laid over them.
fn sound(take: u64, windows: usize, fault: Option<(Overlay, f64)>) -> Vec<f32> {
    let mut samples = vec![0.0; windows * WINDOW];
    SynthMachine::new(Kind::Fan, 5, take).fill(&mut samples);
    if let Some((fault, strength)) = fault {
        let mut rng = StdRng::seed_from_u64(take);
        for window in samples.chunks_exact_mut(WINDOW) {
            fault.apply(window, 16_000.0, strength, &mut rng);
        }
    }
    samples
}

fn write(dir: &Path, name: &str, samples: &[f32]) -> PathBuf {
    let path = dir.join(name);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("a writable file");
    for sample in samples {
        writer.write_sample((sample.clamp(-1.0, 1.0) * 32_767.0) as i16).expect("a writable file");
    }
    writer.finalize().expect("a writable file");
    path
}

#[test]
fn an_enrolled_machine_is_judged_by_all_lanes() {
    let Some(shared) = crate::common::shared() else { return };
    let bundle = shared.join("escoita-bundle");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let train = write(dir.path(), "train.wav", &sound(0, 60, None));
    let out = dir.path().join("site-fans");
    let enroll = ["enroll", "--json", "--engine", "tract", "--machine", "fan-5"];
    let arguments = |out: &Path| {
        let paths = ["--bundle".into(), bundle.display().to_string(), "--out".into(), out.display().to_string()];
        enroll.iter().map(|word| (*word).to_owned()).chain(paths).collect::<Vec<_>>()
    };
    let words = arguments(&out);
    let printed = rows(&auscult(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[&train]));
    assert_eq!((&printed[0]["windows"], &printed[0]["lanes"]), (&60.into(), &true.into()), "{}", printed[0]);

    // A second time into the same directory is refused, and nothing is touched.
    let again = auscult(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[&train]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("expected a new or empty directory"));
    let inspected = auscult(&["bundle", "verify"], &[&out]);
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));

    let normal = write(dir.path(), "normal.wav", &sound(0, 72, None)[60 * WINDOW..]);
    let score = |file: &Path| {
        let out = out.display().to_string();
        rows(&auscult(&["score", "--json", "--engine", "tract", "--machine", "fan-5", "--bundle", &out], &[file]))
    };
    let scores = |rows: &[Value]| rows.iter().map(|row| row["score"].as_f64().expect("a score")).collect::<Vec<_>>();
    let healthy = score(&normal);
    assert_eq!(healthy.len(), 12);
    assert!(healthy.iter().all(|row| row["p_value"].is_number() && row["lane"].is_string()), "{healthy:?}");
    let most = scores(&healthy).into_iter().fold(0.0, f64::max);
    for fault in Overlay::ALL {
        let file = write(dir.path(), "faulty.wav", &sound(9, 4, Some((fault, 1.0))));
        let faulty = score(&file);
        assert!(scores(&faulty).iter().all(|score| *score > most), "{}: {faulty:?} against {most}", fault.name());
        assert!(faulty.iter().all(|row| row["verdict"] == "anomalous"), "{}: {faulty:?}", fault.name());
    }

    // Far below the level that was learned, the machine stands still: neither silent nor anomalous.
    let off: Vec<f32> = sound(0, 62, None)[60 * WINDOW..].iter().map(|sample| 0.05 * sample).collect();
    let off = score(&write(dir.path(), "off.wav", &off));
    assert!(off.iter().all(|row| row["verdict"] == "unknown" && row["reason"] == "machine_off"), "{off:?}");

    // The machines that were there before are as they were.
    let old = auscult(
        &["score", "--json", "--engine", "tract", "--machine", "id_04", "--bundle", &bundle.display().to_string()],
        &[&normal],
    );
    let new = auscult(
        &["score", "--json", "--engine", "tract", "--machine", "id_04", "--bundle", &out.display().to_string()],
        &[&normal],
    );
    assert_eq!(rows(&old), rows(&new));
}

#[test]
fn a_replay_finds_the_fault_and_draws_it() {
    let Some(shared) = crate::common::shared() else { return };
    let bundle = shared.join("escoita-bundle").display().to_string();
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), "1.wav", &sound(0, 60, None));
    write(dir.path(), "2.wav", &sound(0, 80, None)[60 * WINDOW..]);
    write(dir.path(), "3.wav", &sound(0, 100, Some((Overlay::NoiseBursts, 1.0)))[80 * WINDOW..]);
    let png = dir.path().join("week.png");
    let picture = png.display().to_string();
    let arguments = [
        "replay",
        "--json",
        "--engine",
        "tract",
        "--bundle",
        &bundle,
        "--machine",
        "fan-5",
        "--learn",
        "5",
        "--fault-at",
        "400",
        "--png",
        &picture,
    ];
    let printed = rows(&auscult(&arguments, &[dir.path()]));
    let sums = printed.last().expect("sums");
    assert_eq!((&sums["windows"], &sums["unknown"]), (&100.into(), &60.into()), "{sums}");
    // Five of eight windows of 5 s, and twelve more, as bursts come and go.
    assert!(sums["detection_delay_s"].as_f64().is_some_and(|delay_s| delay_s <= 90.0), "{printed:?}");
    assert_eq!(printed[printed.len() - 2]["false_alarm"], false, "{printed:?}");
    let decoded = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&png).expect("a picture")));
    assert_eq!(decoded.read_info().expect("a PNG").info().size(), (1200, 620));

    let wrong = auscult(&["replay", "--bundle", &bundle, "--machine", "id_04", "--alarm", "k=9"], &[dir.path()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("k: expected 1 to 8, found 9"));
}

fn power_db(sound: &[f32]) -> f64 {
    10.0 * (sound.iter().map(|s| f64::from(s * s)).sum::<f64>() / sound.len() as f64).log10()
}

#[test]
fn each_fault_changes_what_it_says() {
    let rng = &mut StdRng::seed_from_u64(1);
    let noise: Vec<f32> = (0..80_000).map(|_| 0.02 * Distribution::<f32>::sample(&StandardNormal, rng)).collect();
    for fault in Overlay::ALL {
        let mut nothing = noise.clone();
        fault.apply(&mut nothing, 16_000.0, 0.0, rng);
        assert!(nothing.iter().zip(&noise).all(|(a, b)| (a - b).abs() < 1e-4), "{}", fault.name());
        let mut sound = noise.clone();
        fault.apply(&mut sound, 16_000.0, 1.0, rng);
        let change = power_db(&sound) - power_db(&noise);
        let expected = match fault {
            Overlay::Rubbing | Overlay::NoiseBursts => 3.0..14.0,
            Overlay::BlockedFlow => -0.6..-0.1,
            Overlay::Unbalance => 0.1..0.3,
        };
        assert!(expected.contains(&change), "{}: {change}", fault.name());
    }
}

/// Forty seconds in four recordings are enough for the lanes, and a list says how well they tell a fault.
#[test]
fn a_list_of_recordings_is_evaluated() {
    let Some(shared) = crate::common::shared() else { return };
    let bundle = shared.join("escoita-bundle");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut list = "file,label,block,role\n".to_owned();
    for take in 0..9 {
        let (label, role, fault) = match take {
            0..4 => ("normal", "learn", None),
            4..7 => ("normal", "test", None),
            _ => ("bursts", "test", Some((Overlay::NoiseBursts, 1.0))),
        };
        write(dir.path(), &format!("{take}.wav"), &sound(take, 2, fault));
        list += &format!("{take}.wav,{label},day {take},{role}\n");
    }
    let path = dir.path().join("list.csv");
    std::fs::write(&path, &list).expect("a writable file");
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (bundle, path) = (text(&bundle), text(&path));
    let command = ["replay", "--bundle", &bundle, "--machine", "fan-5", "--evaluate", &path];
    let table = auscult(&command, &[]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("texture") && table.contains("bursts"), "{table}");

    let found = &rows(&auscult(&[&command[..], &["--json"]].concat(), &[]))[0];
    let number = |value: &Value| value.as_f64().expect("a number");
    // Two windows side by side in each, and four between them.
    assert_eq!((number(&found["learned_s"]), number(&found["learned_windows"])), (40.0, 24.0));
    assert_eq!((number(&found["normal_windows"]), number(&found["faulty_windows"])), (6.0, 4.0));
    let lanes = found["lanes"].as_array().expect("lanes");
    assert_eq!(lanes.len(), 7, "{lanes:?}");
    let auc = &lanes[0]["auc"];
    assert!(number(&auc["value"]) > 0.95 && number(&auc["to"]) >= number(&auc["from"]), "{found}");
    assert_eq!(number(&found["faults"][0]["recordings"]), 2.0);

    // What cannot be written is said, without a panic.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let unwritten = std::process::Command::new(env!("CARGO_BIN_EXE_auscult")).args(command).stdout(full).output();
    let unwritten = unwritten.expect("it starts");
    let words = String::from_utf8_lossy(&unwritten.stderr).into_owned();
    assert!(unwritten.status.code() == Some(1) && words.contains("No space left"), "{words}");

    std::fs::write(dir.path().join("list.csv"), list.replace("normal,day 0", "bursts,day 0")).expect("a writable file");
    let refused = auscult(&command, &[]);
    assert_eq!(refused.status.code(), Some(65));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("line 2: only what is labelled normal can be learned"), "{words}");
}
