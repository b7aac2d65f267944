//! Each parser of foreign bytes, given seeds that were mutated at random: the fuzz targets on any compiler, in every run
//! of the tests for a moment and as a heavy test a million times. What cargo-fuzz adds is to look at the branches taken.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use auscult::features::FrontEnd;
use auscult::scoring::baseline::{LearnSettings, Learner, Origin};
use flate2::{Compression, write::GzEncoder};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::bundles::{noise_baseline, sha256};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// A parser, by its name in `fuzz/`, with what to begin with.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: Vec<Vec<u8>>,
    /// What its inputs are made of; sprinkled over the seeds.
    words: &'static [&'static [u8]],
}

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder)
}

/// What lies in `fuzz/seeds/NAME` and `fuzz/findings/NAME`.
fn files(name: &str) -> Vec<Vec<u8>> {
    let folders = ["seeds", "findings"].map(|kind| fuzz(kind).join(name));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn target(name: &'static str, run: fn(&[u8]), more: Vec<Vec<u8>>, words: &'static [&'static [u8]]) -> Target {
    Target { name, run, seeds: files(name).into_iter().chain(more).collect(), words }
}

fn targets() -> Vec<Target> {
    let text = |all: &[&str]| all.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let json: &[&[u8]] = &[b"{", b"}", b"[", b"]", b":", b",", b"null", b"1e999", b"-0", b"\"\\ud800\"", b"[[[[[[[["];
    vec![
        target(
            "pickle",
            targets::pickle,
            vec![],
            &[b"\x8c\x01a", b"h\0", b"q\0", b"\x94", b"\x85", b"(", b"u", b"R", b"."],
        ),
        target(
            "npy",
            targets::npy,
            vec![],
            &[b"'<f4'", b"(3, )", b"True", b"999999999999", b"\xff\xff", b"((((", b"L"],
        ),
        target(
            "manifest",
            targets::manifest,
            vec![],
            &[b"[machine.\"a\"]\n", b"= 1e999\n", b"\"", b"[[golden]]\n", b"n_fft = 65536\n"],
        ),
        target(
            "signature",
            targets::signature,
            text(&["untrusted comment: signature from minisign secret key\n\
                    RWQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
                    trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
                    wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n"]),
            &[b"\n", b"RUQ", b"==", b"trusted comment: ", b"\0"],
        ),
        target(
            "archive",
            targets::archive,
            archives(),
            &[b"PK\x03\x04", b"PK\x05\x06", b"../", b"emb_train.npy", b"\xff\xff\xff\xff", b"ustar"],
        ),
        target(
            "control",
            targets::control,
            text(&[
                r#"{"id":"7f3a","command":"threshold.set","machine":"fan-1","threshold":0.31,"until":"+8h","by":"ana"}"#,
                r#"{"id":"a","command":"bundle.install","sha256":"00","size":12,"offset":0,"data":"AAAA","tag":"north"}"#,
                r#"{"command":"baseline.learn","machine":"*","minutes":30,"false_alarm_rate":0.001}"#,
                "0.25",
                "auscult/pi-7/fan-1/threshold/set",
            ]),
            json,
        ),
        target(
            "browser",
            targets::browser,
            text(&[
                r#"{"topic":"auscult/pi-7/control","payload":{"id":"1","command":"ping"}}"#,
                r#"{"watch":{"agent":"pi-7","machine":"fan-1"}}"#,
                r#"{"watch":null}"#,
            ]),
            json,
        ),
        target(
            "mdns",
            targets::mdns,
            vec![answer()],
            &[b"\xc0\x0c", b"\0", b"\x05_mqtt", b"\0\x21\0\x01", b"\xff\xff"],
        ),
        target(
            "wav",
            targets::wav,
            waves(),
            &[b"RIFF", b"RF64", b"ds64", b"fmt ", b"data", b"\xff\xff\xff\xff", b"\xfe\xff", b"LIST"],
        ),
        target(
            "compressed",
            targets::compressed,
            vec![tone("flac")],
            &[b"fLaC", b"\xff\xf8", b"\xff\xff\xff\xff", b"\0\0\0\0"],
        ),
        target(
            "compressed",
            targets::compressed,
            vec![tone("ogg")],
            &[b"OggS", b"\x03vorbis", b"\x05vorbis", b"BCV", b"\xff\xff"],
        ),
        target(
            "compressed",
            targets::compressed,
            vec![tone("mp3")],
            &[b"ID3", b"\xff\xf3", b"\xff\xfb", b"Info", b"Xing", b"LAME"],
        ),
        target("baseline", targets::baseline, vec![noise_baseline().into_bytes()], json),
        target(
            "state_archive",
            targets::state_archive,
            vec![export()],
            &[b"manifest.json", b"baseline.fan-1.", b"../", b"\xff\xff\xff\xff", b"ustar", b"\0"],
        ),
        target("state_files", targets::state_files, state_files(), json),
    ]
}

/// A second of two tones; of MP3 and FLAC a part with some whole frames is enough.
fn tone(ending: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sound");
    let mut bytes = fs::read(folder.join(format!("tone.{ending}"))).expect("a fixture");
    bytes.truncate(8000);
    bytes
}

fn archives() -> Vec<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    for name in ["fans/emb_train.npy", "fans/bundle.toml", "fans/id_to_int.pkl"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("a member");
        zip.write_all(&[7; 90]).expect("its content");
        let mut header = tar::Header::new_gnu();
        header.set_size(90);
        tar.append_data(&mut header, name, &[7; 90][..]).expect("a member");
    }
    let tar = tar.into_inner().and_then(|gz| gz.finish()).expect("an archive");
    vec![zip.finish().expect("an archive").into_inner(), tar]
}

/// What `state.export` makes, uncompressed, so that a mutation meets a file and not the packing.
fn export() -> Vec<u8> {
    let texts = state_files();
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    let mut sums = serde_json::Map::new();
    let mut add = |name: &str, text: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text).expect("a member");
    };
    for (text, name) in texts.iter().zip(["settings", "machines", "alarms", "seq", "broker"]) {
        let name = format!("{name}.json");
        let text = &text[text.iter().position(|byte| *byte == b'\n').expect("a line") + 1..];
        add(&name, text);
        sums.insert(name, sha256(text).into());
    }
    let manifest = serde_json::json!({
        "format": 1, "auscult": "0.2.0", "agent": "pi-9", "exported": "2026-11-28T12:00:00.000Z", "bundle": "b@1",
        "files": sums,
    });
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().and_then(|gz| gz.finish()).expect("an archive")
}

/// The files in it: the first line is the name.
fn state_files() -> Vec<Vec<u8>> {
    let texts = [
        r#"settings.json
{"fan-1":{"threshold":{"threshold":0.4,"until":null,"set_at":"2026-01-01T00:00:00Z","bundle":"b@1"},"maintenance":{"until":null,"by":"ana","reason":null,"set_at":"2026-01-01T00:00:00Z"},"revision":3,"changed":null}}"#,
        r#"machines.json
{"fan-1":{"id":"fan-1","name":"Fan","source":{"synth":"fan"},"hop_s":0.5,"alarm":{"k":3},"baseline":"auto"}}"#,
        "alarms.json\n{}",
        "seq.json\n{\"fan-1\":120}",
        r#"broker.json
{"url":"mqtts://broker:8883","username":"pi-1","needs_password":true}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain([learner()]).collect()
}

/// A learner that has just begun.
fn learner() -> Vec<u8> {
    let origin = Origin { bundle: "b@1".into(), encoder_sha256: "00".into(), index: 0, front_end: FrontEnd::default() };
    let settings = LearnSettings {
        machine: "fan-1".into(),
        origin,
        hop_s: 5.0,
        wanted_s: 60.0,
        false_alarm_rate: 0.05,
        previous_threshold: None,
    };
    let learner = Learner::new(settings, chrono::DateTime::UNIX_EPOCH).expect("a learner");
    let json = serde_json::to_string(&learner).expect("JSON");
    format!("baseline.fan-1.learning.json\n{json}").into_bytes()
}

fn waves() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let wave = |name: &str, channels: u16, bits: u16, float: bool| {
        let file = dir.path().join(name);
        crate::common::recordings::write_wav(&file, 16_000, channels, bits, float, &[0.5; 96]);
        fs::read(file).expect("a file")
    };
    vec![wave("a", 1, 16, false), wave("b", 2, 24, false), wave("c", 4, 32, true), wave("d", 1, 8, false)]
}

/// A broker that announces itself, with its place and address.
fn answer() -> Vec<u8> {
    let service = b"\x05_mqtt\x04_tcp\x05local\0".as_slice();
    let instance = [b"\x05plant".as_slice(), service].concat();
    let host = b"\x06broker\x05local\0".as_slice();
    let place = [&[0, 0, 0, 0, 7, 91], host].concat();
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 3, 0, 0, 0, 0];
    for (name, kind, data) in
        [(service, 12, instance.as_slice()), (&instance, 33, &place), (host, 1, [10, 0, 0, 7].as_slice())]
    {
        packet.extend(name);
        packet.extend([0, kind, 0, 1, 0, 0, 0, 120, 0, data.len() as u8]);
        packet.extend(data);
    }
    assert_eq!(auscult::mqtt::mdns::brokers_of(&packet).len(), 1);
    packet
}

/// A seed with some places overwritten, cut out, doubled or spliced with another seed.
fn mutated(target: &Target, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = target.seeds[random.random_range(0..target.seeds.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..32)).min(bytes.len());
        match random.random_range(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = &target.seeds[random.random_range(0..target.seeds.len())];
                let from = random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            6 => {
                let value = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, u32::MAX][random.random_range(0..8)];
                let length = bytes[at..].len().min(4);
                bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
            }
            _ => {
                let word = target.words[random.random_range(0..target.words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
        bytes.truncate(1 << 14);
    }
    bytes
}

/// Runs so many mutations of every target, or of those that AUSCULT_FUZZ names; what makes one fail is kept in
/// `fuzz/findings`.
fn run(count: usize) {
    let wanted = std::env::var("AUSCULT_FUZZ").ok();
    for target in targets().into_iter().filter(|target| wanted.as_ref().is_none_or(|name| name == target.name)) {
        let mut random = ChaCha8Rng::seed_from_u64(rand::random());
        // Each is unpacked onto the disk, which takes a millisecond.
        let count = if target.name == "state_archive" { count.min(50_000) } else { count };
        let begun = std::time::Instant::now();
        for seed in &target.seeds {
            (target.run)(seed);
        }
        for _ in 0..count {
            let bytes = mutated(&target, &mut random);
            let input = bytes.clone();
            if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&bytes)) {
                let folder = fuzz("findings").join(target.name);
                let file = folder.join(&sha256(&input)[..12]);
                fs::create_dir_all(folder).and_then(|()| fs::write(&file, &input)).expect("kept");
                eprintln!("{}: the input is in {}", target.name, file.display());
                std::panic::resume_unwind(panic);
            }
        }
        println!("{}: {count} inputs, {:.1} s", target.name, begun.elapsed().as_secs_f64());
    }
}

#[test]
fn mutated_inputs_do_no_harm() {
    run(2000);
}

#[test]
#[ignore = "heavy: a million inputs for each parser, some minutes"]
fn a_million_mutated_inputs_do_no_harm() {
    run(1_000_000);
}
