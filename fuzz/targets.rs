//! What each fuzz target does with any bytes: never a panic, never an endless loop, and what is accepted is what it must
//! be. Shared by the targets of cargo-fuzz and by the mutations of `tests/scoring/mutations.rs`, which run on any
//! compiler.

use std::io::Write;

use auscult::bundle::{Manifest, TrustedKey, npy};
use auscult::config::Config;
use auscult::control::state_archive::{self, Contents};
use auscult::mqtt::topics::Topic;
use auscult::scoring::Baseline;
use ndarray::{Ix1, Ix2};
use sha2::{Digest, Sha256};

/// Any bytes as a pickle: an answer or an error, quick and small.
pub fn pickle(bytes: &[u8]) {
    if let Ok(dict) = auscult::bundle::pickle::read_dict(bytes) {
        // An entry takes two references of two bytes at least.
        assert!(dict.len() <= bytes.len());
    }
}

/// As the two arrays: what is read has as many elements as the file has room for.
pub fn npy(bytes: &[u8]) {
    if let Ok(bank) = npy::read::<f32, Ix2>(bytes) {
        assert!(bank.len() * 4 < bytes.len());
    }
    if let Ok(ids) = npy::read::<i64, Ix1>(bytes) {
        assert!(ids.len() * 8 < bytes.len());
    }
}

/// As `bundle.toml`: what parses has a front-end for each of its machines.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        for name in manifest.machine.keys() {
            manifest.front_end(Some(name)).expect("checked when it was parsed");
        }
    }
}

/// A key nobody has the secret of.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// As a signature: none is right over what was never signed.
pub fn signature(bytes: &[u8]) {
    let key: TrustedKey = KEY.parse().expect("a key");
    assert!(key.verify(b"format = 1\n", bytes).is_err());
}

/// As an archive: what is unpacked are files of a bundle within their limits, in the directory and nowhere else.
pub fn archive(bytes: &[u8]) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("room in memory");
    let _ = auscult::bundle::unpack(&mut file, dir.path());
    for entry in dir.path().read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        let limit = auscult::bundle::files::limit(&entry.file_name().to_string_lossy()).expect("a bundle's file");
        let metadata = entry.metadata().expect("a file");
        assert!(metadata.is_file() && metadata.len() <= limit);
    }
}

/// As a command, and as the topic that it comes on.
pub fn control(bytes: &[u8]) {
    if let Ok(request) = auscult::control::request::Request::parse(bytes) {
        assert!(!request.command.name().is_empty());
    }
    let _ = auscult::control::request::Request::bare_threshold("fan-1", bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Topic::parse("auscult", text);
    }
}

/// As what a browser sends over the page's stream.
pub fn browser(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = auscult::web::Request::parse(text);
    }
}

/// As an answer of the local network to the question for brokers.
pub fn mdns(bytes: &[u8]) {
    for broker in auscult::mqtt::mdns::brokers_of(bytes) {
        assert!(broker.url.starts_with("mqtt"));
    }
}

/// As a WAV file: every sample that is read was there.
pub fn wav(bytes: &[u8]) {
    let mut file = tempfile::Builder::new().suffix(".wav").tempfile_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("room in memory");
    let Ok(mut reader) = auscult::audio::wav::WavReader::open(file.path()) else { return };
    let (mut samples, mut total) = (Vec::new(), 0);
    while let Ok(frames) = reader.read(&mut samples) {
        if frames == 0 {
            return;
        }
        total += samples.len();
        samples.clear();
        // The smallest samples have eight bits.
        assert!(total <= bytes.len());
    }
}

/// As FLAC, Ogg or MP3: what is read has whole frames of finite samples.
pub fn compressed(bytes: &[u8]) {
    use auscult::audio::compressed::{CompressedReader, Kind};
    let Some(kind) = Kind::of(bytes) else { return };
    let source = std::io::Cursor::new(bytes.to_vec());
    let Ok(mut reader) = CompressedReader::new(source, kind, std::path::Path::new("fuzz")) else { return };
    let (mut samples, mut total) = (Vec::new(), 0);
    while let Ok(frames) = reader.read(&mut samples) {
        assert_eq!(samples.len(), frames * reader.format().channels);
        total += samples.len();
        // A few bytes of FLAC may stand for much silence.
        if frames == 0 || total > 4_000_000 {
            return;
        }
        samples.clear();
    }
}

/// As a learned baseline, which comes out of a state directory or a bundle.
pub fn baseline(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(baseline) = Baseline::from_json(text)
    {
        baseline.check().expect("checked when it was read");
    }
}

/// As an export of an agent's state: what is unpacked are files of one within their limits, in the directory and nowhere
/// else; what is read of them holds together.
pub fn state_archive(bytes: &[u8]) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    file.write_all(bytes).expect("room in memory");
    let unpacked = state_archive::unpack(&mut file, dir.path());
    for entry in dir.path().read_dir().expect("a directory") {
        let entry = entry.expect("an entry");
        let limit = state_archive::limit(&entry.file_name().to_string_lossy()).expect("a file of an export");
        let metadata = entry.metadata().expect("a file");
        assert!(metadata.is_file() && metadata.len() <= limit);
    }
    if unpacked.is_ok() {
        let _ = Contents::read(dir.path(), &Config::default());
    }
}

/// As one file of an export, whose name is the first line, beside empty ones and a manifest that fits.
pub fn state_files(bytes: &[u8]) {
    let Some((name, text)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else { return };
    if state_archive::limit(name).is_none() || name == "manifest.json" {
        return;
    }
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let mut sums = Vec::new();
    let empty = ["settings.json", "machines.json", "alarms.json", "seq.json"].map(|name| (name, "{}"));
    for (name, text) in empty.into_iter().filter(|(other, _)| *other != name).chain([(name, text)]) {
        std::fs::write(dir.path().join(name), text).expect("room in memory");
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push(format!("{name:?}:{sum:?}"));
    }
    let manifest = format!(
        r#"{{"format":1,"auscult":"0","agent":"a","exported":"2026-11-28T12:00:00Z","bundle":null,"files":{{{}}}}}"#,
        sums.join(",")
    );
    std::fs::write(dir.path().join("manifest.json"), manifest).expect("room in memory");
    if let Ok(contents) = Contents::read(dir.path(), &Config::default()) {
        for (machine, file) in &contents.baselines {
            contents.baseline(dir.path(), machine, file).expect("checked when it was read");
        }
    }
}
