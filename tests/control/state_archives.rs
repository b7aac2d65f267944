//! Exports as they are made by hand: what is one is read, what is none is refused in words and written nowhere.

use std::collections::BTreeMap;
use std::io::Write;

use auscult::config::Config;
use auscult::control::state_archive::{self, Contents};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::common::bundles::sha256;

fn tar_gz<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As it is given, also where `tar` itself would not write it.
        header.as_gnu_mut().expect("a header").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes).expect("a member");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("an archive")
}

/// An archive of these files with a manifest that fits.
pub fn archive_of(files: &[(&str, &str)]) -> Vec<u8> {
    let sums: BTreeMap<_, _> = files.iter().map(|(name, text)| (*name, sha256(text.as_bytes()))).collect();
    let manifest = json!({
        "format": 1, "auscult": "0.2.0", "agent": "pi-9", "exported": "2026-11-28T12:00:00.000Z", "bundle": null,
        "files": sums,
    });
    let manifest = manifest.to_string();
    let all = files.iter().copied().chain([("manifest.json", manifest.as_str())]);
    tar_gz(all.map(|(name, text)| (name, text.as_bytes())))
}

const EMPTY: [(&str, &str); 4] =
    [("settings.json", "{}"), ("machines.json", "{}"), ("alarms.json", "{}"), ("seq.json", "{}")];

pub fn with<'a>(name: &'a str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    EMPTY.iter().copied().filter(|(other, _)| *other != name).chain([(name, text)]).collect()
}

/// An archive with a machine, its threshold and a proposal.
pub fn archive_with(id: &str, threshold: f64, proposal: &str) -> Vec<u8> {
    let settings = json!({ id: {
        "revision": 1, "maintenance": null, "changed": null,
        "threshold": { "threshold": threshold, "until": null, "set_at": "2026-01-01T00:00:00Z", "bundle": null },
    } });
    let machines = json!({ id: { "id": id, "source": { "synth": "fan" }, "model": "fan-a", "hop_s": 0.5 } });
    let (settings, machines) = (settings.to_string(), machines.to_string());
    let name = format!("baseline.{id}.proposal.json");
    archive_of(&[
        ("settings.json", &settings),
        ("machines.json", &machines),
        ("alarms.json", "{}"),
        ("seq.json", "{}"),
        (&name, proposal),
    ])
}

/// The archive is unpacked and read as `state.import` does it; what is wrong with it.
fn fault_of(archive: &[u8]) -> Option<String> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(archive).expect("written");
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("to");
    std::fs::create_dir(&dir).expect("a directory");
    let read = state_archive::unpack(&mut file, &dir).and_then(|()| Contents::read(&dir, &Config::default()));
    let beside: Vec<_> = std::fs::read_dir(parent.path()).expect("a directory").flatten().collect();
    assert_eq!(beside.len(), 1, "nothing is written elsewhere");
    for entry in std::fs::read_dir(&dir).expect("a directory").flatten() {
        assert!(entry.file_type().expect("a kind").is_file(), "{:?}", entry.path());
    }
    read.err()
}

#[test]
fn what_is_no_export_is_refused_in_words() {
    assert_eq!(fault_of(&archive_of(&EMPTY)), None);
    let machine = |text: &str| archive_of(&with("machines.json", text));
    let good = r#"{"fan-1":{"id":"fan-1","source":{"synth":"fan"}}}"#;
    assert_eq!(fault_of(&machine(good)), None);

    let manifest = |change: &dyn Fn(&mut Value)| {
        let sums: BTreeMap<_, _> = EMPTY.iter().map(|(name, text)| (*name, sha256(text.as_bytes()))).collect();
        let mut manifest = json!({
            "format": 1, "auscult": "0.2.0", "agent": "pi-9", "exported": "2026-11-28T12:00:00.000Z", "bundle": null,
            "files": sums,
        });
        change(&mut manifest);
        let manifest = manifest.to_string();
        tar_gz(EMPTY.iter().copied().chain([("manifest.json", manifest.as_str())]).map(|(n, t)| (n, t.as_bytes())))
    };
    let empty = archive_of(&EMPTY);
    let link = {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "alarms.json", "/etc/passwd").expect("a link");
        tar.into_inner().and_then(GzEncoder::finish).expect("an archive")
    };
    let bomb = vec![b' '; 5 << 20];
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"no archive at all".to_vec(), "expected a .tar.gz or .zip archive"),
        (empty[..empty.len() / 2].to_vec(), "incomplete deflate stream"),
        (tar_gz([("settings.json", b"{}".as_slice())]), "manifest.json: expected this file in the archive, found none"),
        (tar_gz([("../seq.json", b"{}".as_slice())]), "expected a path inside the archive"),
        (tar_gz([("/etc/seq.json", b"{}".as_slice())]), "expected a path inside the archive"),
        (tar_gz([("a/b/seq.json", b"{}".as_slice())]), "expected a file of an export"),
        (tar_gz([("page-password", b"x".as_slice())]), "expected only the files of an export, found \"page-password\""),
        (tar_gz([("baseline.Fan.proposal.json", b"{}".as_slice())]), "expected only the files of an export"),
        (tar_gz([("baseline.fan-1.other.json", b"{}".as_slice())]), "expected only the files of an export"),
        (tar_gz([("seq.json", b"{}".as_slice()), ("seq.json", b"{}".as_slice())]), "expected each file once"),
        (tar_gz([("seq.json", bomb.as_slice())]), "seq.json: expected at most 4194304 bytes"),
        (link, "expected plain files, found a member of another kind"),
        (manifest(&|m| m["format"] = json!(2)), "expected format 1, found 2 of auscult 0.2.0"),
        (manifest(&|m| m["files"]["seq.json"] = json!("00")), "seq.json: its SHA-256 is not the manifest's"),
        (
            manifest(&|m| drop(m["files"].as_object_mut().map(|f| f.remove("seq.json")))),
            "seq.json: expected only files",
        ),
        (manifest(&|m| m["files"]["broker.json"] = json!("00")), "broker.json: expected this file in the archive"),
        (manifest(&|m| m["files"]["../x"] = json!("00")), "expected files of an export"),
        (manifest(&|m| m["exported"] = json!("yesterday")), "expected a time"),
        (manifest(&|m| m["agent"] = json!("a\nb")), "agent: expected a line"),
        (machine(r#"{"fan-2":{"id":"fan-1","source":{"synth":"fan"}}}"#), "expected a machine of this id"),
        (machine(r#"{"fan-1":{"id":"fan-1","source":{"synth":"fam"}}}"#), "expected one of fan, blower, pump"),
        (machine(r#"{"fan-1":{"id":"fan-1","hop_s":0.0,"source":{"synth":"fan"}}}"#), "hop_s: expected 0.5"),
        (archive_of(&with("seq.json", r#"{"fan-1":-1}"#)), "seq.json: "),
        (archive_of(&with("seq.json", r#"{"fan-1":18446744073709551615}"#)), "seq.json: fan-1: expected at most"),
        (archive_of(&with("seq.json", r#"{"../fan":1}"#)), "seq.json: expected [a-z0-9]"),
        (archive_of(&with("alarms.json", r#"{"fan-1":{}}"#)), "alarms.json: missing field"),
        (
            archive_of(&with("alarms.json", r#"{"fan-1":{"seen":"+262142-12-31T23:59:59Z"}}"#)),
            "alarms.json: expected a time of the years 1970 to 9999, found +262142-12-31T23:59:59Z",
        ),
        (
            archive_of(&with("alarms.json", r#"{"fan-1":{"last_count":18446744073709551615}}"#)),
            "alarms.json: expected a count of at most",
        ),
        (archive_of(&with("alarms.json", r#"{"fan-1":{"by":"a\nb"}}"#)), "alarms.json: expected a line of at most"),
        (archive_of(&with("settings.json", r#"{"fan-1":{"revision":4294967295}}"#)), "settings.json: expected a count"),
        (
            archive_of(&with(
                "settings.json",
                r#"{"fan-1":{"revision":1,"threshold":{"threshold":-1.0,"until":null,"set_at":"2026-01-01T00:00:00Z","bundle":null},"maintenance":null,"changed":null}}"#,
            )),
            "settings.json: fan-1: expected",
        ),
        (archive_of(&with("baseline.fan-1.proposal.json", "{}")), "baseline.fan-1.proposal.json: "),
        (archive_of(&with("baseline.fan-1.learning.json", "[]")), "baseline.fan-1.learning.json: "),
        (
            archive_of(&with("broker.json", r#"{"url":"http://x","username":null,"needs_password":false}"#)),
            "broker.json: ",
        ),
    ];
    for (archive, words) in cases {
        let fault = fault_of(&archive).unwrap_or_else(|| panic!("taken, though: {words}"));
        assert!(fault.contains(words) && !fault.contains('\n'), "expected {words:?}, found {fault:?}");
    }
}
