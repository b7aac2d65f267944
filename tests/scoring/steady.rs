//! What is weak and stays: no window tells it, a minute of them does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn auscult(arguments: &[&str], paths: &[&Path]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_auscult")).args(arguments).args(paths).output().expect("auscult starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Minutes of a simulated fan.
fn sound(dir: &Path, name: &str, take: &str, minutes: &str, more: &[&str]) -> PathBuf {
    let file = dir.join(name);
    let what = ["synth", "fan", "--seed", "52", "--take", take, "--minutes", minutes];
    auscult(&[&what[..], more, &["-o"]].concat(), &[&file]);
    file
}

#[test]
fn a_weak_fault_that_stays_is_told_by_a_minute_and_by_no_window() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo").display().to_string();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let learned = sound(dir.path(), "learned.wav", "0", "20", &[]);
    let normal = sound(dir.path(), "normal.wav", "1000", "8", &[]);
    let faulty = sound(dir.path(), "faulty.wav", "2000", "8", &["--fault", "blocked", "--strength", "0.1"]);
    let site = dir.path().join("site");
    auscult(&["enroll", "--bundle", &bundle, "--machine", "any", "--out"], &[&site, &learned]);
    let site = site.display().to_string();
    let anomalous = |file: &Path| -> Vec<String> {
        let output = auscult(&["score", "--bundle", &site, "--machine", "any", "--json"], &[file]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows.len(), 96);
        let told = rows.iter().filter(|row| row["verdict"] == "anomalous");
        told.map(|row| row["lane"].as_str().expect("a lane").to_owned()).collect()
    };
    let of_normal = anomalous(&normal);
    assert!(of_normal.len() <= 3, "{of_normal:?}");
    let by_a_minute = |lanes: &[String]| lanes.iter().filter(|lane| *lane == "steady").count();
    let of_faulty = anomalous(&faulty);
    assert!(by_a_minute(&of_faulty) >= 50, "{of_faulty:?}");
    assert!(of_faulty.len() - by_a_minute(&of_faulty) <= 20, "{of_faulty:?}");
}
