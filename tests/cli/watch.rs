//! `auscult watch` in a terminal (tmux's), with a real broker and agents' messages.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::broker::{Broker, Subscriber};
use crate::common::wait::wait_until;

/// A terminal of 100 x 30 with `auscult watch` in it, in a tmux server of its own.
struct Terminal {
    server: String,
    dir: tempfile::TempDir,
}

impl Terminal {
    fn start(broker: &Broker) -> Terminal {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = format!("auscult-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let terminal = Terminal { server, dir: tempfile::tempdir().expect("a temporary directory") };
        let (program, code) = (env!("CARGO_BIN_EXE_auscult"), terminal.code());
        let command = format!("USER=ana {program} watch --broker {}; echo $? > {}", broker.url(), code.display());
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "30", &command]);
        terminal
    }

    /// What the exit code is written to.
    fn code(&self) -> PathBuf {
        self.dir.path().join("code")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-L", &self.server]).args(arguments);
        let output = command.env("LC_ALL", "C.UTF-8").output().expect("tmux: run tests/setup.sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Keys as tmux names them.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait_for(&self, words: &str) {
        wait_until(words, || self.screen().contains(words));
    }

    fn end(self) -> Option<i32> {
        wait_until("the end of watch", || self.code().exists());
        let mut code = None;
        wait_until("its exit code", || {
            code = std::fs::read_to_string(self.code()).ok().and_then(|text| text.trim().parse().ok());
            code.is_some()
        });
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen:\n{}", self.screen());
        }
        self.tmux(&["kill-server"]);
    }
}

const TS: &str = "2026-03-01T12:00:00.000Z";

fn publish(subscriber: &Subscriber, topic: &str, retain: bool, payload: &Value) {
    subscriber.publish(&format!("auscult/{topic}"), retain, payload.to_string());
}

fn agent(subscriber: &Subscriber, id: &str, machines: &[String]) {
    publish(
        subscriber,
        &format!("{id}/status"),
        true,
        &json!({ "schema": 1, "state": "online", "boot": "1", "ts": TS }),
    );
    let info = json!({
        "schema": 1, "ts": TS, "agent": id, "version": "0.1.0", "boot": "1", "bundle": "demo@1", "machines": machines,
        "tags": ["north"], "commands": ["ping"], "demo_bundle": false, "names": {},
    });
    publish(subscriber, &format!("{id}/info"), true, &info);
}

fn verdict(agent: &str, machine: &str, seq: u64, distance: f64) -> Value {
    json!({
        "schema": 1, "ts": TS, "seq": seq, "agent": agent, "machine": machine, "verdict": "normal", "reason": null,
        "distance": distance, "threshold": 0.3, "ratio": distance / 0.3, "score": null, "p_value": null, "lane": null, "text": null, "alarm_windows": null, "provisional": false, "adapted": null, "level_dbfs": -31.5, "bundle": "demo@1", "alarm": null, "learning_share": null, "late": false,
    })
}

#[test]
fn keys_set_a_threshold_and_acknowledge_and_replies_are_shown() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    agent(&subscriber, "pi-1", &["fan-a".into(), "fan-b".into()]);
    for machine in ["fan-a", "fan-b"] {
        publish(&subscriber, &format!("pi-1/{machine}/verdict"), true, &verdict("pi-1", machine, 0, 0.123));
    }
    let alarm = json!({
        "schema": 1, "ts": TS, "agent": "pi-1", "machine": "fan-b", "state": "active", "kind": "fault", "since": TS, "count": 5,
        "ratio": null, "percentile": null, "lane": null, "text": null, "journal": null, "like": null, "provisional": false, "bands": [], "by": null, "comment": null, "until": null, "raised": TS, "at": null, "late": false,
    });
    publish(&subscriber, "pi-1/fan-b/alarm", true, &alarm);
    let terminal = Terminal::start(&broker);
    terminal.wait_for("pi-1/fan-b");
    terminal.wait_for("1 alarm");

    // The machine in alarm comes first.
    terminal.press(&["a", "belt slips", "Enter"]);
    let command = subscriber.wait_for("a command", |message| message.topic == "auscult/pi-1/control").json();
    assert_eq!(command["command"], "alarm.acknowledge");
    assert_eq!(
        (&command["machine"], &command["comment"], &command["by"]),
        (&json!("fan-b"), &json!("belt slips"), &json!("ana"))
    );
    subscriber.clear();
    terminal.press(&["t", "BSpace", "BSpace", "BSpace", "0.42", "Enter"]);
    let command = subscriber.wait_for("a command", |message| message.topic == "auscult/pi-1/control").json();
    assert_eq!((&command["command"], &command["threshold"]), (&json!("threshold.set"), &json!(0.42)));
    let reply = json!({
        "schema": 1, "ts": TS, "agent": "pi-1", "id": command["id"], "command": "threshold.set", "status": "error",
        "error": { "code": "bad_argument", "message": "NO-SUCH-THING" }, "data": null, "late": false,
    });
    publish(&subscriber, "pi-1/reply", false, &reply);
    terminal.wait_for("NO-SUCH-THING");
    terminal.press(&["q"]);
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn the_broker_may_go_and_come_back() {
    let mut broker = Broker::start();
    let terminal = Terminal::start(&broker);
    terminal.wait_for("No machine has been heard of yet");
    broker.kill();
    terminal.wait_for("connection refused");
    broker.restart();
    let subscriber = Subscriber::start(&broker);
    agent(&subscriber, "pi-9", &["pump".into()]);
    terminal.wait_for("pi-9/pump");
    terminal.press(&["C-c"]);
    assert_eq!(terminal.end(), Some(0));
}

/// 500 machines that all speak at once, and keys are still obeyed: measured against the messages' own time.
#[test]
fn five_hundred_machines_do_not_hold_the_keys_up() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let machines: Vec<String> = (0..10).map(|number| format!("m-{number}")).collect();
    for number in 0..50 {
        agent(&subscriber, &format!("pi-{number:02}"), &machines);
    }
    let terminal = Terminal::start(&broker);
    terminal.wait_for("machines 500");
    for seq in 0..10 {
        for number in 0..50 {
            for machine in &machines {
                let id = format!("pi-{number:02}");
                let payload = verdict(&id, machine, seq, 0.1 + seq as f64 / 100.0).to_string();
                subscriber.publish_fast(&format!("auscult/{id}/{machine}/verdict"), payload);
            }
        }
        terminal.press(&["j"]);
    }
    let begun = Instant::now();
    terminal.press(&["/", "zzz"]);
    terminal.wait_for("No machine fits the filter");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    terminal.press(&["C-c"]);
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["watch", "--broker", "mqtt://127.0.0.1:9"])
        .stdin(Stdio::null())
        .output()
        .expect("auscult starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"));
}
