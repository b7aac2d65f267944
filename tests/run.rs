//! `auscult run` from the outside: real WAV files, a real bundle, a real broker.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use auscult::mqtt::topics::{AgentPart, MachinePart};
use common::broker::{Broker, Message, Subscriber, wait_until};
use serde_json::Value;

/// A directory with a configuration, for one agent.
struct Site {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Site {
    /// `machines` is the TOML of the `[[machine]]` tables.
    fn new(url: &str, bundle: &Path, machines: &str) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("agent.toml");
        let state = dir.path().join("state");
        let text = format!(
            "[agent]\nid = \"pi-1\"\nstate_dir = {state:?}\n[mqtt]\nurl = {url:?}\n[bundle]\npath = {bundle:?}\n\
             [encoder]\nengine = \"tract\"\n{machines}"
        );
        std::fs::write(&config, text).expect("a writable file");
        Site { dir, config }
    }

    fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_auscult"));
        program.arg(command).arg("--config").arg(&self.config).current_dir(self.dir.path());
        program
    }

    fn output(&self, command: &str) -> Output {
        self.command(command).output().expect("auscult starts")
    }

    fn agent(&self) -> Agent {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a writable file");
        let child = self.command("run").stderr(log).stdout(Stdio::null()).spawn().expect("auscult starts");
        Agent { child, log: self.dir.path().join("log") }
    }
}

/// A running agent; killed when dropped.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// As systemd stops it; the exit code.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill starts");
        assert!(sent.success());
        let mut code = None;
        wait_until("the agent's end", || {
            code = self.child.try_wait().expect("a child");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

fn wav_machine(id: &str, model: &str, wav: &Path, rest: &str) -> String {
    format!("[[machine]]\nid = {id:?}\nmodel = {model:?}\nsource = {{ wav = {wav:?}, realtime = false }}\n{rest}\n")
}

fn verdicts(messages: &[Message], machine: &str) -> Vec<Value> {
    messages.iter().filter(|message| message.is_machine(machine, MachinePart::Verdict)).map(Message::json).collect()
}

const NORMAL: &str = "audio/mimii_fan_id_04_normal_00000126.wav";
const ABNORMAL: &str = "audio/mimii_fan_id_02_abnormal_00000055.wav";

#[test]
fn verdicts_of_several_machines_are_those_of_score_without_a_gap() {
    let Some(shared) = common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let bundle = shared.join("escoita-bundle");
    let (normal, abnormal) = (shared.join(NORMAL), shared.join(ABNORMAL));
    let machines = wav_machine("fan-4", "id_04", &normal, "")
        + &wav_machine("fan-2", "id_02", &abnormal, "hop_s = 1.0\n")
        + &wav_machine("fan-0", "id_00", &normal, "threshold = 0.75\n");
    let site = Site::new(&broker.url(), &bundle, &machines);
    let agent = site.agent();

    // 10 s make 2 windows without overlap, and 6 with a hop of 1 s.
    let is_verdict = |message: &Message| {
        ["fan-4", "fan-2", "fan-0"].iter().any(|machine| message.is_machine(machine, MachinePart::Verdict))
    };
    let messages = subscriber.wait_for_count("verdicts", 10, is_verdict);
    for (machine, model, file, step, count) in
        [("fan-4", "id_04", &normal, 1, 2), ("fan-2", "id_02", &abnormal, 5, 6), ("fan-0", "id_00", &normal, 1, 2)]
    {
        let live = verdicts(&messages, machine);
        let seqs: Vec<_> = live.iter().map(|verdict| verdict["seq"].as_u64()).collect();
        assert_eq!(seqs, (0..count).map(Some).collect::<Vec<_>>(), "{machine}");
        let scored = score(&bundle, model, file);
        for (window, verdict) in live.iter().step_by(step).enumerate() {
            let (found, expected) = (verdict["distance"].as_f64(), scored[window]["distance"].as_f64());
            let difference = (found.expect("a distance") - expected.expect("a distance")).abs();
            assert!(difference < 1e-6, "{machine} window {window}: {found:?} instead of {expected:?}");
        }
    }
    assert!(verdicts(&messages, "fan-0").iter().all(|verdict| verdict["threshold"] == 0.75));

    assert_eq!(agent.terminate(), Some(0));
    let status = subscriber
        .wait_for("stopped", |message| message.is_agent(AgentPart::Status) && message.json()["state"] == "stopped");
    let boot = status.json()["boot"].clone();
    let online = |message: &&Message| message.is_agent(AgentPart::Status) && message.json()["state"] == "online";
    let messages = subscriber.messages();
    let birth = messages.iter().find(online).expect("a birth");
    assert_eq!(birth.json()["boot"], boot);
}

/// The rows of `auscult score --json`.
fn score(bundle: &Path, model: &str, file: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["score", "--json", "--engine", "tract", "--machine", model, "--bundle"])
        .args([bundle, file])
        .output()
        .expect("auscult starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn seq_goes_on_after_a_restart_and_after_a_kill() {
    let Some(shared) = common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), &machines);
    let is_verdict = |message: &Message| message.is_machine("fan-4", MachinePart::Verdict);
    for (round, kill) in [(1, false), (2, true), (3, false)] {
        let agent = site.agent();
        subscriber.wait_for_count("verdicts of this run", 2 * round, is_verdict);
        if kill {
            drop(agent);
        } else {
            assert_eq!(agent.terminate(), Some(0));
        }
    }
    let all = verdicts(&subscriber.messages(), "fan-4");
    let mut seqs: Vec<_> = all.iter().filter_map(|verdict| verdict["seq"].as_u64()).collect();
    // What was sent but not yet acknowledged when the agent was killed may come twice.
    seqs.dedup();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs, (0..6).collect::<Vec<_>>());
}

#[test]
fn without_a_bundle_the_agent_runs_and_says_so() {
    let Some(shared) = common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), Path::new("nowhere"), &machines);
    let agent = site.agent();
    let verdict = subscriber.wait_for("a verdict", |message| message.is_machine("fan-4", MachinePart::Verdict)).json();
    assert_eq!((&verdict["verdict"], &verdict["reason"]), (&"unknown".into(), &"no_bundle".into()));
    assert!(verdict["distance"].is_null() && verdict["bundle"].is_null());
    assert!(agent.log().contains("nowhere"), "{}", agent.log());
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn what_waiting_does_not_mend_ends_the_agent_with_78_and_one_line() {
    let Some(shared) = common::shared() else { return };
    let (bundle, normal) = (shared.join("escoita-bundle"), shared.join(NORMAL));
    for (machines, words) in [
        (wav_machine("fan-4", "id_99", &normal, ""), "id_99"),
        (wav_machine("fan-4", "id_04", Path::new("nowhere.wav"), ""), "nowhere.wav"),
        (wav_machine("fan-4", "id_04", &normal, "fmax_hz = 9000.0"), "9000"),
        (wav_machine("fan-4", "id_04", &normal, "thresold = 0.2"), "did you mean `threshold`?"),
    ] {
        let site = Site::new("mqtt://127.0.0.1:9", &bundle, &machines);
        let output = site.output("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{words}: {said}");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(words), "{words}: {said}");
    }
}

#[test]
fn check_tells_each_part_and_changes_nothing() {
    let Some(shared) = common::shared() else { return };
    let broker = Broker::start();
    let machines = wav_machine("fan-4", "id_04", &shared.join(NORMAL), "");
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), &machines);
    let output = site.output("check");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok")).count(), 4, "{said}");
    assert!(!site.dir.path().join("state").exists());

    let gone = Site::new("mqtt://127.0.0.1:9", Path::new("nowhere"), &machines);
    let output = gone.output("check");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("FAIL")).count(), 2, "{said}");
}

#[test]
fn logs_are_json_where_configured_and_never_tell_the_password() {
    let Some(shared) = common::shared() else { return };
    let machines =
        wav_machine("fan-4", "id_04", &shared.join(NORMAL), "") + "[log]\nformat = \"json\"\nlevel = \"trace\"\n";
    let site = Site::new("mqtt://127.0.0.1:9", &shared.join("escoita-bundle"), &machines);
    let mut config = std::fs::OpenOptions::new().append(true).open(&site.config).expect("a writable file");
    writeln!(config, "[gate]\nsilent_below = 0.0005").expect("a writable file");
    let log = site.dir.path().join("log");
    let child = site
        .command("run")
        .env("AUSCULT__MQTT__USERNAME", "pi-1")
        .env("AUSCULT__MQTT__PASSWORD", "correct-horse")
        .stderr(std::fs::File::create(&log).expect("a writable file"))
        .spawn()
        .expect("auscult starts");
    let agent = Agent { child, log };
    wait_until("a word about the broker", || agent.log().contains("127.0.0.1:9"));
    let log = agent.log();
    assert_eq!(agent.terminate(), Some(0));
    assert!(!log.contains("correct-horse"));
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
