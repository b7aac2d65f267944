//! Bundles: the real one as it is, and what is wrong with others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auscult::bundle::Bundle;
use auscult::encoder::{EncoderConfig, EngineChoice};
use auscult::features::MelExtractor;
use ndarray::{Array1, Array2, ShapeBuilder};
use serde_json::Value;

use crate::common::bundles::*;
use crate::common::faults::{self, Change, Fault};
use crate::cost::{self, Cost};

#[test]
fn the_real_bundle_loads_unmodified() {
    let Some(shared) = crate::common::shared() else { return };
    let bundle = Bundle::read(&shared.join("escoita-bundle")).expect("a valid bundle");
    let found: Vec<_> = bundle.machines.iter().map(|m| (m.name.as_str(), m.index, m.bank.len())).collect();
    assert_eq!(
        found,
        [("id_00", 0, 2856), ("id_02", 1, 2925), ("id_04", 2, 3030), ("id_06", 3, 2950), ("id_08", 4, 320)]
    );
    let thresholds: Vec<_> = bundle.machines.iter().map(|m| m.threshold.expect("a threshold")).collect();
    for (threshold, expected) in thresholds.iter().zip([0.142695, 0.174972, 0.170548, 0.234855, 0.309586]) {
        assert!((threshold - expected).abs() < 1e-5, "{thresholds:?}");
    }
    assert_eq!(bundle.name, "escoita-bundle");
    assert_eq!(bundle.version, bundle.digest[..12]);
    assert!(bundle.machine("id_09").expect_err("no such machine").to_string().contains("id_08"));
}

fn verify(dir: &Path) -> Cost {
    auscult(&["bundle", "verify", "--engine", "tract"], dir)
}

fn auscult(arguments: &[&str], dir: &Path) -> Cost {
    cost::of(arguments.iter().map(OsStr::new).chain([dir.as_os_str()]))
}

#[test]
fn inspect_shows_the_shares_above_the_thresholds() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = shared.join("escoita-bundle");
    let run = auscult(&["bundle", "inspect", "--json", "--engine", "tract"], &dir);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let shown: Value = serde_json::from_str(&run.out).expect("one JSON object");
    let machines = shown["machines"].as_array().expect("machines");
    for (machine, percent) in machines.iter().zip([59.0, 20.0, 23.0, 9.5, 0.6]) {
        let share = 100.0 * machine["above_share"].as_f64().expect("a share");
        assert!((share - percent).abs() < 0.5, "{machine}: expected {percent} %");
    }
    assert_eq!(
        (shown["encoder"]["engine"].as_str(), shown["encoder"]["embedding"].as_u64()),
        (Some("tract"), Some(32))
    );

    let table = auscult(&["bundle", "inspect", "--engine", "tract"], &dir);
    assert_eq!(table.code, Some(0));
    for words in ["escoita-bundle", "id_08", "2856", "59.2 %", "0.1427", "tract: image 128 x 128"] {
        assert!(table.out.contains(words), "{words:?} in\n{}", table.out);
    }
    assert_eq!(verify(&dir).code, Some(0));
}

#[test]
fn small_bundles_of_every_legal_form_verify() {
    let Some(encoder) = encoder() else { return };
    let valid = Parts::valid(&encoder);
    let bank = Array2::from_shape_fn((10, 32), |(row, column)| (row * 32 + column) as f32 / 100.0);
    let big_endian: Vec<u8> = bank.iter().flat_map(|value| value.to_be_bytes()).collect();
    let fortran: Array2<f32> = Array2::from_shape_fn((10, 32).f(), |at| bank[at]);
    let cases: [(&str, Change); 6] = [
        ("as it is", Box::new(|_| {})),
        ("Fortran order", Box::new(move |p| p.set(BANK, npy(&fortran)))),
        (
            "big-endian",
            Box::new(move |p| {
                p.set(BANK, npy_of("{'descr': '>f4', 'fortran_order': False, 'shape': (10, 32)}", &big_endian))
            }),
        ),
        (
            "keys that are floats",
            Box::new(|p| p.set(THRESHOLDS, b"\x80\x02}q\0(G\0\0\0\0\0\0\0\0K\x01G\x40\x08\0\0\0\0\0\0K\x02u.")),
        ),
        ("no threshold for one", Box::new(|p| p.set(THRESHOLDS, pickle(&BTreeMap::from([(0, 0.5)]))))),
        (
            "a manifest",
            Box::new(|p| {
                p.manifest("fans", "1.0", "[machine.fan-2]\nfront_end = { fmax_hz = 2000 }\nencoder_index = 1\n")
            }),
        ),
    ];
    for (what, change) in cases {
        let mut parts = valid.clone();
        change(&mut parts);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let run = verify(&parts.write(&dir.path().join("fans")));
        assert_eq!(run.code, Some(0), "{what}: {}{}", run.out, run.err);
        let read = Bundle::read(&dir.path().join("fans")).expect("what was verified");
        let rows: Vec<_> = read.machines[1].bank.rows().column(0).to_vec();
        assert_eq!(rows, [0.96, 1.28, 2.56, 2.88], "{what}");
    }
}

/// A bundle with golden cases: what this machine computes now, as expected values.
fn with_golden(encoder: &[u8]) -> Parts {
    let mut parts = Parts::valid(encoder);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = EncoderConfig { engine: EngineChoice::Tract, library: None };
    let (bundle, mut engine) = Bundle::open(&parts.write(dir.path()), &config).expect("a valid bundle");
    let windows = Array2::from_shape_fn((2, 80_000), |(case, t)| {
        (t as f32 * (0.05 + case as f32 * 0.1)).sin() * 0.1 + (t as f32 * 0.9).sin() * 0.01
    });
    let mut embeddings = Array2::zeros((2, 32));
    let mut manifest = String::new();
    for (case, machine) in bundle.machines.iter().enumerate() {
        let mut extractor = MelExtractor::new(&machine.front_end).expect("a valid front-end");
        let image = extractor.compute(windows.row(case).as_slice().expect("a row")).expect("a window").to_vec();
        let embedding = engine.embed(&image, machine.index).expect("an embedding");
        let distance = machine.bank.nearest(&embedding).expect("a distance").1;
        embeddings.row_mut(case).assign(&Array1::from(embedding));
        manifest +=
            &format!("[[golden]]\nname = \"tone {case}\"\nmachine = {:?}\ndistance = {distance:.6}\n", machine.name);
    }
    parts.set(GOLDEN_WINDOWS, npy(&windows));
    parts.set(GOLDEN_EMBEDDINGS, npy(&embeddings));
    parts.manifest("golden-fans", "1.0", &manifest);
    parts
}

#[test]
fn golden_cases_are_run_and_failures_named() {
    let Some(encoder) = encoder() else { return };
    let mut parts = with_golden(&encoder);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = verify(&parts.write(dir.path()));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert_eq!(run.out.matches("ok    golden").count(), 2, "{}", run.out);

    // Another front-end for one machine: its case fails, the other still passes.
    let manifest = String::from_utf8(parts.0[MANIFEST].clone()).expect("a text");
    parts.set(MANIFEST, format!("{manifest}[machine.fan-2]\nfront_end = {{ fmax_hz = 6000 }}\n"));
    let run = verify(&parts.write(dir.path()));
    assert_eq!(run.code, Some(65));
    assert!(run.out.contains("ok    golden    tone 0"), "{}", run.out);
    assert!(run.out.contains("FAIL  golden    tone 1: expected an embedding within 0.005, found"), "{}", run.out);
}

#[test]
fn a_file_that_the_manifest_does_not_name_is_a_line_of_verify() {
    let Some(encoder) = encoder() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut parts = Parts::valid(&encoder);
    parts.manifest("fans", "1.0", "");
    parts.set("notes.txt", b"of a person".to_vec());
    let run = verify(&parts.write(dir.path()));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert!(run.out.lines().any(|line| line.contains("unnamed") && line.contains("notes.txt")), "{}", run.out);

    // What training writes beside its bundle is no news, as in the demo's.
    let run = verify(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"));
    assert!(run.code == Some(0) && !run.out.contains("unnamed"), "{}{}", run.out, run.err);
    std::fs::remove_file(dir.path().join("notes.txt")).expect("removed");
    std::fs::create_dir(dir.path().join("report")).expect("a directory");
    assert!(!verify(dir.path()).out.contains("unnamed"));
    std::fs::write(dir.path().join("bundle.toml.minisig"), "signed").expect("written");
    assert!(verify(dir.path()).out.contains("unnamed"), "an agent with a key refuses it");
}

/// One clear line with exit code 65, within a second and 200 MB.
fn assert_refused(what: &str, file: &str, words: &str, run: &Cost) {
    let printed = format!("{what}: {}{}", run.out, run.err);
    assert_eq!(run.code, Some(65), "{printed}");
    let lines: Vec<_> = run.out.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(lines.len(), 1, "{printed}");
    assert!(lines[0].contains(file) && lines[0].contains(words) && lines[0].len() < 700, "{printed}expected {words:?}");
    println!("{what}: {:.0} ms, {} MB: {}", run.cpu.as_secs_f64() * 1e3, run.peak / 1_000_000, lines[0]);
    assert!(!run.err.contains("panicked"), "{printed}");
    // Processor time, not the clock's: this machine may be busy with other things.
    assert!(run.cpu < Duration::from_secs(1), "{what}: {:?}", run.cpu);
    assert!(run.peak < 200_000_000, "{what}: {} bytes", run.peak);
}

fn assert_all_refused(faults: Vec<Fault>, encoder: &[u8]) {
    let valid = Parts::valid(encoder);
    for Fault { what, file, words, change } in faults {
        let mut parts = valid.clone();
        change(&mut parts);
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_refused(what, file, words, &verify(&parts.write(dir.path())));
    }
}

#[test]
fn bad_arrays_are_refused() {
    let Some(encoder) = encoder() else { return };
    assert_all_refused(faults::arrays(), &encoder);
}

#[test]
fn bad_pickles_are_refused() {
    let Some(encoder) = encoder() else { return };
    assert_all_refused(faults::pickles(), &encoder);
}

#[test]
fn bad_encoders_are_refused() {
    let Some(encoder) = encoder() else { return };
    assert_all_refused(faults::encoders(&encoder), &encoder);
}

#[test]
fn bad_manifests_are_refused() {
    let Some(encoder) = encoder() else { return };
    assert_all_refused(faults::manifests(), &encoder);
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let Some(encoder) = encoder() else { return };
    type Place = fn(&Path);
    let cases: [(&str, &str, &str, Place); 7] = [
        ("a directory", BANK, "found a directory", |path| fs::create_dir(path).expect("a directory")),
        ("a link to itself", NAMES, "found: Too many levels", |path| symlink(path, path)),
        ("a link to nothing", ROW_IDS, "found none", |path| symlink(Path::new("/nowhere/at/all"), path)),
        ("an endless device", ENCODER, "found something else", |path| symlink(Path::new("/dev/zero"), path)),
        ("a named pipe", THRESHOLDS, "found something else", |path| {
            assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
        }),
        ("a terabyte of nothing", BANK, "expected at most 33554432 bytes, found 1099511627776", |path| {
            fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        }),
        ("a manifest that is a directory", MANIFEST, "found a directory", |path| {
            fs::create_dir(path).expect("a directory")
        }),
    ];
    for (what, file, words, place) in cases {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut parts = Parts::valid(&encoder);
        parts.0.remove(file);
        place(&parts.write(dir.path()).join(file));
        assert_refused(what, file, words, &verify(dir.path()));
    }
    let nowhere = Path::new("/nowhere/at/all");
    assert_refused("no directory", BANK, "no such directory", &verify(nowhere));
}

fn symlink(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).expect("a symlink");
}

/// What once made a fuzz target fail must not again.
#[test]
fn findings_of_the_fuzzers_stay_fixed() {
    use auscult::bundle::{Manifest, npy, pickle};
    let config = EncoderConfig { engine: EngineChoice::Tract, library: None };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut files = 0;
    // The seeds too: they are answered one way or the other.
    for kind in ["seeds", "findings"] {
        for target in ["pickle", "npy", "flatbuffer", "manifest"] {
            let Ok(entries) = fs::read_dir(folder.join(kind).join(target)) else { continue };
            for entry in entries {
                let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
                match target {
                    "pickle" => drop(pickle::read_dict(&bytes)),
                    "npy" => {
                        drop(npy::read::<f32, ndarray::Ix2>(&bytes));
                        drop(npy::read::<i64, ndarray::Ix1>(&bytes));
                    }
                    "manifest" => drop(Manifest::parse(&bytes)),
                    _ => {
                        if let Ok(mut engine) = auscult::encoder::load(bytes.into(), &config) {
                            let shape = engine.shape();
                            drop(engine.embed(&vec![0.5; shape.bands * shape.frames], 0));
                        }
                    }
                }
                files += 1;
            }
        }
    }
    assert!(files > 20, "expected the seeds at least, found {files} files");
}
