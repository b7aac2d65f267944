//! A bundle that is properly signed, and everything that somebody without the key can do to its directory: it is refused,
//! or what is read is what was signed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use auscult::bundle::{Bundle, TrustedKey};

use crate::common::bundles::*;

const SIGNATURE: &str = "bundle.toml.minisig";

/// A key, and a bundle that is signed with it.
struct Signed {
    dir: tempfile::TempDir,
    key: TrustedKey,
    parts: Parts,
}

impl Signed {
    fn new() -> Signed {
        let dir = tempfile::tempdir().expect("a temporary directory");
        minisign(&["-G", "-W", "-p"], &[("", &dir.path().join("pub")), ("-s", &dir.path().join("key"))]);
        let key = fs::read_to_string(dir.path().join("pub")).expect("a key").parse().expect("a public key");
        let mut signed = Signed { dir, key, parts: Parts(BTreeMap::new()) };
        signed.parts = signed.sign("1.0", 0.25);
        signed
    }

    /// A signed bundle of this version and threshold.
    fn sign(&self, version: &str, threshold: f64) -> Parts {
        let mut parts = Parts::valid(format!("the encoder of {version}").as_bytes());
        parts.set(THRESHOLDS, pickle(&BTreeMap::from([(0, threshold), (3, 0.5)])));
        parts.manifest("fans", version, "");
        self.sign_as_it_is(parts)
    }

    fn sign_as_it_is(&self, mut parts: Parts) -> Parts {
        let work = tempfile::tempdir().expect("a temporary directory");
        parts.0.remove(SIGNATURE);
        let manifest = parts.write(work.path()).join(MANIFEST);
        minisign(&["-S", "-W", "-s"], &[("", &self.dir.path().join("key")), ("-m", &manifest)]);
        parts.set(SIGNATURE, fs::read(work.path().join(SIGNATURE)).expect("a signature"));
        parts
    }

    /// Lays the bundle down, lets `change` at it, and reads it.
    fn read(&self, parts: &Parts, change: impl FnOnce(&Path)) -> Result<Bundle, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        change(&parts.write(dir.path()));
        Bundle::read_signed(dir.path(), &self.key).map_err(|error| error.to_string())
    }
}

fn minisign(arguments: &[&str], paths: &[(&str, &PathBuf)]) {
    let mut command = Command::new("minisign");
    command.args(arguments);
    for (option, path) in paths {
        command.args([*option].iter().filter(|option| !option.is_empty())).arg(path);
    }
    let output = command.output().expect("minisign: run tests/setup.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_that_is_not_signed_is_named_and_refused_whatever_its_name() {
    let signed = Signed::new();
    signed.read(&signed.parts, |_| {}).expect("as it was signed");
    for name in [
        "baselines.json",
        "golden_windows.npy",
        "golden_embeddings.npy",
        "notes.txt",
        ".hidden",
        "Bundle.toml",
        "EMB_TRAIN.NPY",
        "emb_train.npy ",
        "emb_train.np\u{443}",
        "id_to_int.pkl\u{200b}",
        "bundle.toml.minisig.old",
        "thresholds_by_machine.pkl~",
    ] {
        let error = signed.read(&signed.parts, |dir| fs::write(dir.join(name), "{}").expect("a file")).map(drop);
        let error = error.expect_err(name);
        let shown = name.escape_debug().to_string();
        assert!(error.contains(&shown) && error.contains("signed bundle.toml names"), "{name}: {error}");
    }
    for place in [
        |dir: &Path| fs::create_dir(dir.join("more")).expect("a directory"),
        |dir: &Path| symlink("/nowhere/at/all", dir.join("more")).expect("a link"),
        |dir: &Path| symlink("emb_train.npy", dir.join("more")).expect("a link"),
    ] {
        let error = signed.read(&signed.parts, place).map(drop).expect_err("something beside the files");
        assert!(error.contains("more: expected a file that the signed"), "{error}");
    }
}

#[test]
fn a_signed_file_that_is_exchanged_removed_or_linked_elsewhere_is_refused() {
    let signed = Signed::new();
    let other = signed.sign("0.9", 900.0);
    let names: Vec<&String> = signed.parts.0.keys().collect();
    for name in &names {
        for (what, bytes) in [
            ("of another signed bundle", other.0[*name].clone()),
            (
                "of another name",
                signed.parts.0[names[(names.iter().position(|n| n == name).expect("it") + 1) % names.len()]].clone(),
            ),
            ("nothing", Vec::new()),
            ("one byte more", [signed.parts.0[*name].as_slice(), b"\n"].concat()),
        ] {
            // The parts of both versions that are the same prove nothing.
            let same = bytes == signed.parts.0[*name];
            let read = signed.read(&signed.parts, |dir| fs::write(dir.join(name), bytes).expect("a file"));
            assert_eq!(read.is_ok(), same || is_comment_alone(name, what), "{name}, {what}: {:?}", read.map(drop));
        }
        let elsewhere = signed.dir.path().join("elsewhere");
        fs::write(&elsewhere, "anything").expect("a file");
        for gone in [true, false] {
            let read = signed.read(&signed.parts, |dir| {
                fs::remove_file(dir.join(name)).expect("our own file");
                if !gone {
                    symlink(&elsewhere, dir.join(name)).expect("a link");
                }
            });
            assert!(read.is_err(), "{name}: removed {gone}");
        }
    }
    // The signature of another manifest with the manifest of this one, and the other way round.
    for name in [SIGNATURE, MANIFEST] {
        let mut mixed = other.clone();
        mixed.set(name, signed.parts.0[name].clone());
        let error = signed.read(&mixed, |_| {}).map(drop).expect_err(name);
        assert!(error.contains("expected a signature of bundle.public_key"), "{error}");
    }
}

/// A line feed after the last line of a signature changes nothing that is signed.
fn is_comment_alone(name: &str, what: &str) -> bool {
    name == SIGNATURE && what == "one byte more"
}

/// Names that lead elsewhere or look like others are refused in a manifest even where it is signed.
#[test]
fn a_signed_manifest_names_the_files_of_a_bundle_and_nothing_else() {
    let signed = Signed::new();
    let manifest = String::from_utf8(signed.parts.0[MANIFEST].clone()).expect("a text");
    let hash = sha256(b"{}");
    for (line, words) in [
        (format!("\"../baselines.json\" = \"{hash}\"\n"), "found \"../baselines.json\""),
        (format!("\"/etc/passwd\" = \"{hash}\"\n"), "found \"/etc/passwd\""),
        (format!("\"Baselines.json\" = \"{hash}\"\n"), "found \"Baselines.json\""),
        (format!("\"b\\u0430selines.json\" = \"{hash}\"\n"), "found \"b\u{430}selines.json\""),
        (format!("\"bundle.toml\" = \"{hash}\"\n"), "found \"bundle.toml\""),
        (format!("\"emb_train.npy\" = \"{hash}\"\n"), "duplicate key"),
        (format!("\"emb\\u005ftrain.npy\" = \"{hash}\"\n"), "duplicate key"),
        (format!("baselines.json = \"{hash}\"\n"), "line"),
    ] {
        let mut parts = signed.parts.clone();
        parts.set(MANIFEST, manifest.replacen("[files]\n", &format!("[files]\n{line}"), 1));
        let error = signed.read(&signed.sign_as_it_is(parts), |_| {}).map(drop).expect_err(&line);
        assert!(error.contains(words), "{line}: {error}");
    }
}

/// Between the comparison of a hash and the reading of the content nobody can exchange a file: both are one read.
#[test]
fn what_was_compared_is_what_is_read() {
    let signed = Signed::new();
    let other = signed.sign("0.9", 900.0);
    let dir = tempfile::tempdir().expect("a temporary directory");
    signed.parts.write(dir.path());
    let end = AtomicBool::new(false);
    let (mut whole, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = dir.path().join(THRESHOLDS);
            let aside = dir.path().with_extension("aside");
            while !end.load(Ordering::Relaxed) {
                for bytes in [&other.0[THRESHOLDS], &signed.parts.0[THRESHOLDS]] {
                    fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, &file)).expect("our own file");
                }
            }
        });
        while whole < 20 || refused < 20 {
            match Bundle::read_signed(dir.path(), &signed.key) {
                Ok(bundle) => {
                    assert_eq!(bundle.machines[0].threshold, Some(0.25));
                    whole += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("expected sha256"), "{error}");
                    refused += 1;
                }
            }
        }
        end.store(true, Ordering::Relaxed);
    });
}
