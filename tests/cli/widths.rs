//! What a person reads fits a terminal of 80 columns. A path or an id that no line can hold may be longer.

use std::path::Path;
use std::process::Command;

use crate::common::agent_process::Site;
use crate::common::broker::Broker;
use crate::common::program::too_wide;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn auscult(dir: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(arguments.split_whitespace()).current_dir(dir).env("COLUMNS", "80");
    let output = command.output().expect("auscult starts");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {printed}{errors}");
    assert_eq!(too_wide(&printed, 80), [""; 0], "{arguments}:\n{printed}");
    printed
}

#[test]
fn commands_on_recordings_and_bundles_fit_eighty_columns() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let auscult = |arguments: &str| auscult(dir.path(), arguments);
    let demo = format!("{ROOT}/models/demo");
    let ill = format!("{ROOT}/examples/ill.flac");
    // The name of no recording fits beside the figures.
    let long = "recordings-of-the-ventilator-in-the-northern-hall/normal-running-in-november";
    std::fs::create_dir(dir.path().join("recordings-of-the-ventilator-in-the-northern-hall")).expect("a directory");
    auscult(&format!("synth fan --seed 3 --minutes 1 -o {long}.wav"));
    let learned = auscult(&format!("enroll --bundle {demo} --machine ventilator-north --out fans {long}.wav"));
    assert!(learned.contains("1 recording\n") && learned.contains("lanes       yes"), "{learned}");
    assert!(learned.split_whitespace().collect::<Vec<_>>().join(" ").contains("(1 stretch);"), "{learned}");
    let scored = auscult(&format!("score --bundle fans --machine ventilator-north {long}.wav {ill}"));
    assert!(scored.contains("november.wav") && scored.contains("score\n"), "{scored}");
    auscult(&format!("score --bundle {demo} --machine fan-a {ill}"));
    auscult(&format!("replay --bundle fans --machine ventilator-north {long}.wav {ill}"));
    auscult(&format!("spectrogram {long}.wav"));
    for bundle in ["fans", &demo] {
        auscult(&format!("bundle inspect {bundle}"));
        auscult(&format!("bundle verify {bundle}"));
    }
}

#[test]
fn check_fits_eighty_columns() {
    let broker = Broker::start();
    let machines =
        "[[machine]]\nid = \"ventilator-in-the-northern-hall\"\nsource = { synth = \"fan\" }\nbaseline = \"auto\"\n";
    let site = Site::new(&broker.url(), &Path::new(ROOT).join("models/demo"), machines);
    let printed = auscult(site.dir.path(), "check --config agent.toml");
    assert!(printed.contains("\n                     ") && printed.contains("1 machine\n"), "{printed}");
}
