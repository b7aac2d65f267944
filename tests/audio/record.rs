//! `auscult devices` and `auscult record` with a real microphone.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::sound::{Rig, wait_for};

fn auscult(rig: &Rig) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.env("ALSA_CONFIG_PATH", rig.alsa_config()).stdin(Stdio::null());
    command
}

fn json_lines(output: &[u8]) -> Vec<serde_json::Value> {
    let text = String::from_utf8(output.to_vec()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

fn write_config(rig: &Rig, source: &str) -> std::path::PathBuf {
    let file = rig.dir().join("agent.toml");
    std::fs::write(&file, format!("[[machine]]\nid = \"fan-1\"\nsource = {source}\n")).expect("a writable file");
    file
}

#[test]
fn devices_are_listed_with_the_line_to_configure() {
    let rig = Rig::for_others(&[(16_000, 1), (48_000, 2)]);
    let output = auscult(&rig).args(["devices", "--json"]).output().expect("auscult runs");
    assert!(output.status.success(), "{output:?}");
    let devices = json_lines(&output.stdout);
    assert_eq!(devices.len(), 2, "{devices:?}");
    assert_eq!(devices[1]["device"], "mic1");
    assert_eq!(devices[1]["name"], "Test microphone 1");
    assert_eq!(devices[1]["line"], "source = { device = \"mic1\", channel = \"mix\" }");
    assert!(devices[1]["formats"].as_array().is_some_and(|formats| formats.iter().any(|format| format == "i16")));
    let output = auscult(&rig).arg("devices").output().expect("auscult runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("DEVICE") && text.contains("  source = { device = \"mic0\", channel = \"mix\" }"), "{text}");
    let output = auscult(&rig).args(["devices", "--device", "card:None"]).output().expect("auscult runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("card:None: no such capture device"), "{output:?}");
}

#[test]
fn the_level_meter_follows_the_sound() {
    let rig = Rig::for_others(&[(48_000, 1)]);
    let tone = |n: usize| ((n as f64 * 0.1).sin() * 16_384.0) as i16;
    let file = rig.dir().join("tone.wav");
    crate::common::sound::write_wav(&file, 48_000, 1, &(0..48_000 * 30).map(tone).collect::<Vec<_>>());
    let _player = rig.microphones[0].play(&file);
    let output = auscult(&rig)
        .args(["devices", "--watch", "--json", "--seconds", "5", "--device", "mic0"])
        .output()
        .expect("auscult runs");
    let levels: Vec<f64> = json_lines(&output.stdout).iter().filter_map(|line| line["level_dbfs"].as_f64()).collect();
    // -6 dB at the peak, 3 dB less as root mean square.
    assert!(levels.iter().any(|level| (level + 9.0).abs() < 0.2), "{levels:?}");
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn wav_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

#[test]
fn a_recording_holds_what_was_played_and_survives_an_unplugged_microphone() {
    let mut rig = Rig::for_others(&[(16_000, 1)]);
    let config = write_config(&rig, "{ device = \"mic0\", rate_hz = 16000 }");
    let clips = rig.dir().join("clips");
    let log = std::fs::File::create(rig.dir().join("record.log")).expect("a writable file");
    let recording = auscult(&rig)
        .args(["record", "--machine", "fan-1", "--keep-free", "1", "--file-minutes", "0.1", "--config"])
        .arg(&config)
        .arg("-o")
        .arg(&clips)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("auscult runs");
    let mut recording = Ended(recording);
    wait_for("a first file", Duration::from_secs(20), || !wav_files(&clips).is_empty());
    let played: Vec<i16> = (0..16_000 * 4).map(|n: i32| (n % 20_011 - 10_000) as i16).collect();
    let file = rig.dir().join("ramp.wav");
    crate::common::sound::write_wav(&file, 16_000, 1, &played);
    rig.microphones[0].play(&file).finish();
    // What was played is still on its way; the same time again has to be recorded after it.
    let recorded =
        || wav_files(&clips).iter().filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum::<u64>();
    let at_its_end = recorded();
    wait_for("what was played is recorded", Duration::from_secs(20), || recorded() >= at_its_end + 2 * 16_000 * 2);
    rig.microphones[0].unplug();
    let before = wav_files(&clips).len();
    wait_for("the loss", Duration::from_secs(10), || {
        std::fs::read_to_string(rig.dir().join("record.log")).is_ok_and(|log| log.contains("lost: "))
    });
    rig.microphones[0].plug_in();
    wait_for("a file after the return", Duration::from_secs(30), || wav_files(&clips).len() > before);
    // A clean stop completes the last file.
    let pid = recording.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    assert!(recording.0.wait().expect("our own child").success());
    let mut recorded = Vec::new();
    for file in wav_files(&clips) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        assert!(name.starts_with("fan-1_2") && name.ends_with("Z.wav"), "{name}");
        let mut reader = hound::WavReader::open(&file).expect("a whole file");
        assert!(reader.duration() <= 6 * 16_000, "no file is longer than asked for");
        recorded.extend(reader.samples::<i16>().map(|sample| sample.expect("a whole file")));
    }
    let found = recorded.windows(played.len()).any(|piece| piece == played);
    let log = std::fs::read_to_string(rig.dir().join("record.log")).unwrap_or_default();
    // On a machine that is so busy that sound is lost, that must have been told.
    assert!(found || log.contains("sound was lost"), "what was played is not in the recording: {log}");
}

#[test]
fn a_wav_source_is_recorded_to_its_end_and_faults_have_their_exit_codes() {
    let rig = Rig::for_others(&[]);
    let file = rig.dir().join("ramp.wav");
    crate::common::sound::write_wav(
        &file,
        16_000,
        1,
        &(0..16_000 * 3).map(|n: i32| (n % 20_011) as i16).collect::<Vec<_>>(),
    );
    let config = write_config(&rig, &format!("{{ wav = {file:?}, realtime = false }}"));
    let record = |machine: &str, dir: &str, more: &[&str]| {
        let mut command = auscult(&rig);
        command
            .args(["record", "--json", "--machine", machine, "--config"])
            .arg(&config)
            .arg("-o")
            .arg(rig.dir().join(dir));
        command.args(more).output().expect("auscult runs")
    };
    let output = record("fan-1", "a", &["--keep-free", "1"]);
    assert!(output.status.success(), "{output:?}");
    let files = json_lines(&output.stdout);
    assert_eq!((files.len(), files[0]["seconds"].as_f64()), (1, Some(3.0)), "{files:?}");
    let recorded = hound::WavReader::open(files[0]["file"].as_str().expect("a name")).expect("a whole file");
    assert!(
        recorded
            .into_samples::<i16>()
            .map(|sample| sample.expect("whole"))
            .eq((0..48_000).map(|n| (n % 20_011) as i16))
    );

    let output = record("fan-2", "b", &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("machine: expected one of fan-1, found \"fan-2\""),
        "{output:?}"
    );
    let output = record("fan-1", "c", &["--keep-free", "999999999999"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("must stay so"), "{output:?}");
    std::fs::remove_file(&file).expect("our own file");
    let output = record("fan-1", "d", &[]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}
