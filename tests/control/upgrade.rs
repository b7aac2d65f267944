//! A state directory that version 0.1 wrote, opened by this version: settings, outbox, baselines and alarms stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::{new_id, publish};
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};

const MACHINES: [&str; 4] = ["fan-a", "fan-b", "fan-c", "fan-d"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-0.1").join(name)
}

/// An agent's directory as version 0.1 left it.
fn site(broker: &Broker) -> Site {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let site = Site::new(&broker.url(), &bundle, "");
    let text = std::fs::read_to_string(fixture("agent.toml")).expect("the fixture");
    let state = site.dir.path().join("state");
    let filled = [("\"URL\"", json!(broker.url())), ("\"STATE\"", json!(state)), ("\"BUNDLE\"", json!(bundle))];
    let text = filled.iter().fold(text, |text, (name, value)| text.replace(name, &value.to_string()));
    std::fs::write(&site.config, text).expect("a writable file");
    let unpacked = Command::new("tar")
        .args(["-xzf".as_ref(), fixture("state.tar.gz").as_os_str(), "-C".as_ref(), site.dir.path().as_os_str()])
        .status();
    assert!(unpacked.expect("tar starts").success());
    site
}

/// The verdicts that wait in the store: for each machine and `seq` the payload.
fn waiting(state: &Path) -> BTreeMap<(String, u64), Value> {
    let store = rusqlite::Connection::open(state.join("outbox.sqlite")).expect("the fixture's store");
    let mut query =
        store.prepare("SELECT payload FROM message WHERE topic LIKE '%/verdict'").expect("the layout of 0.1");
    let payloads = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("the layout of 0.1");
    let verdict = |payload: rusqlite::Result<Vec<u8>>| {
        let verdict: Value = serde_json::from_slice(&payload.expect("a payload")).expect("a verdict");
        (key(&verdict), verdict)
    };
    payloads.map(verdict).collect()
}

fn key(verdict: &Value) -> (String, u64) {
    (verdict["machine"].as_str().expect("a machine").into(), verdict["seq"].as_u64().expect("a number"))
}

#[test]
fn the_state_of_version_0_1_goes_on() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let site = site(&broker);
    let old = waiting(&site.dir.path().join("state"));
    assert_eq!(old.len(), 94);
    let last = |machine: &str| old.keys().filter(|(name, _)| name == machine).map(|(_, seq)| *seq).max();
    let agent = site.agent();

    // The outbox is sent as it was written, and what follows takes the next number.
    for machine in MACHINES {
        let next = last(machine).map(|seq| seq + 1);
        subscriber.wait_for(&format!("{machine}'s next verdict"), |message| {
            message.is_machine(machine, MachinePart::Verdict) && message.json()["seq"].as_u64() == next
        });
    }
    let verdicts = || {
        let messages = subscriber.messages();
        let is_verdict = |message: &&Message| MACHINES.iter().any(|id| message.is_machine(id, MachinePart::Verdict));
        messages.iter().filter(is_verdict).map(Message::json).collect::<Vec<_>>()
    };
    crate::common::wait::wait_until("the outbox is sent", || {
        let came: Vec<_> = verdicts().iter().map(key).collect();
        old.keys().all(|one| came.contains(one))
    });
    let mut seen = BTreeMap::new();
    for mut verdict in verdicts() {
        let key = key(&verdict);
        if let Some(before) = old.get(&key) {
            assert_eq!(verdict["late"], true, "{verdict}");
            verdict["late"] = before["late"].clone();
            assert_eq!(&verdict, before);
        }
        assert!(seen.insert(key, ()).is_none(), "twice: {verdict}");
    }

    // Settings, baselines, learners and alarms.
    let of = |machine: &'static str, part: MachinePart, what: &str, is: &dyn Fn(&Value) -> bool| {
        subscriber.wait_for(what, |message| message.is_machine(machine, part) && is(&message.json())).json()
    };
    let settings = of("fan-b", MachinePart::Settings, "settings", &|_| true);
    for (field, value) in
        [("threshold", json!(7.25)), ("source", json!("override")), ("by", json!("ana")), ("reason", json!("overhaul"))]
    {
        assert_eq!(settings[field], value, "{field}: {settings}");
    }
    let settings = of("fan-a", MachinePart::Settings, "settings", &|_| true);
    assert_eq!(settings["source"], "baseline", "{settings}");
    let alarm = of("fan-a", MachinePart::Alarm, "the alarm", &|_| true);
    for (field, value) in [
        ("state", json!("acknowledged")),
        ("by", json!("ana")),
        ("comment", json!("on my way")),
        ("since", json!("2026-11-28T10:03:24.042Z")),
    ] {
        assert_eq!(alarm[field], value, "{field}: {alarm}");
    }
    let learning = of("fan-c", MachinePart::Event, "the learner", &|event| {
        event["event"] == "baseline_learning" && event["late"] == false
    });
    assert!(learning["share"].as_f64() > Some(0.3), "it goes on where it was: {learning}");
    let id = new_id();
    let apply = json!({ "id": id, "command": "baseline.apply", "machine": "fan-d", "by": "ana" });
    publish(&broker, "auscult/pi-1/control", &apply.to_string(), &[]);
    let is_reply = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id;
    let reply = subscriber.wait_for("the reply", is_reply).json();
    assert_eq!(reply["status"], "ok", "the proposal is still there: {reply}");
    for machine in ["fan-a", "fan-d"] {
        let judged = of(machine, MachinePart::Verdict, "a verdict by what was learned", &|verdict| {
            verdict["seq"].as_u64() > last(machine) && verdict["p_value"].is_number()
        });
        assert!(judged["threshold"].is_number(), "{judged}");
    }

    // None of it counts as damaged.
    let complaints = ["outbox_corrupt", "state_corrupt", "seq_skipped", "baseline_failed", "alarms_corrupt"];
    for message in subscriber.messages() {
        let event = message.json();
        assert!(!complaints.iter().any(|name| event["event"] == *name), "{event}");
    }
    assert_eq!(agent.terminate(), Some(0));
}
