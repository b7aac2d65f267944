//! Training, on a tiny set: what it exports is a bundle that auscult takes.

use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

#[test]
#[ignore = "minutes: installs TensorFlow"]
fn a_tiny_training_makes_a_bundle_that_verifies() {
    let auscult = env!("CARGO_BIN_EXE_auscult");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(Command::new("tests/setup.sh").arg("train").current_dir(root));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let python = |script: &str| {
        let mut command = Command::new(root.join("target/train-venv/bin/python"));
        command.arg(root.join("models/train").join(script)).args(["--auscult", auscult]).current_dir(dir.path());
        command
    };
    let simulate = |machine: &str, abnormal: &str| {
        let mut command = python("simulate.py");
        command.args(["--out", "data", "--machines", machine, "--normal", "12", "--strengths", "0.9"]);
        run(command.args(["--abnormal", abnormal]));
    };
    simulate("fan-1", "2");
    // Nothing abnormal is known of the second one.
    simulate("pump-2", "0");
    let train = |epochs: &str| {
        let mut command = python("train.py");
        command.args(["--data", "data", "--work", "work", "--out", "tiny", "--batch", "4", "--epochs", epochs]);
        run(&mut command)
    };
    let printed = train("2");
    assert!(printed.contains("golden"), "the program verified golden cases: {printed}");
    let tiny = dir.path().join("tiny");
    let inspected = run(Command::new(auscult).args(["bundle", "inspect", "--json"]).arg(&tiny));
    assert!(inspected.contains("fan-1") && inspected.contains("pump-2"), "{inspected}");
    run(Command::new(auscult).args(["bundle", "verify"]).arg(&tiny));
    let report = std::fs::read_to_string(tiny.join("report/README.md")).expect("a report");
    assert!(report.contains("| fan-1 | 12 | 12 |") && report.contains("| pump-2 | 12 | 0 |"), "{report}");
    for picture in ["distances.png", "spectrograms.png", "training.png"] {
        assert!(tiny.join("report").join(picture).exists(), "{picture}");
    }
    // What is trained is not trained again: the checkpoint has it, and gives the same bundle.
    let encoder = |name: &str| std::fs::read(tiny.join(name)).expect("it is there");
    let before = (encoder("encoder.tflite"), encoder("emb_train.npy"));
    train("2");
    assert!(before == (encoder("encoder.tflite"), encoder("emb_train.npy")));
    // The faults of a machine that is not shipped teach to tell modes apart.
    let mut command = python("train.py");
    command.args(["--data", "data", "--work", "work-apart", "--out", "apart", "--batch", "4", "--epochs", "1"]);
    run(command.args(["--separate", "0.5", "--ship", "pump-2"]));
    let inspected = run(Command::new(auscult).args(["bundle", "inspect", "--json"]).arg(dir.path().join("apart")));
    assert!(inspected.contains("pump-2") && !inspected.contains("fan-1"), "{inspected}");
}
