//! A machine's normal learned where it stands, and the life of its alarm: all by `mosquitto_pub`, through a real broker,
//! over restarts and kills. The machines are simulated and run many times faster than real ones.

use std::process::Command;
use std::time::Duration;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::wait::{TIMEOUT, wait_until, wait_within};

/// What people have: a broker, and its command-line clients.
struct Desk {
    broker: Broker,
    subscriber: Subscriber,
    sent: std::cell::Cell<u32>,
}

impl Desk {
    fn new() -> Desk {
        let broker = Broker::start();
        let subscriber = Subscriber::start(&broker);
        Desk { broker, subscriber, sent: std::cell::Cell::new(0) }
    }

    /// Sends a command with `mosquitto_pub` and waits for its reply.
    fn ask(&self, mut command: Value) -> Value {
        let id = format!("c{}", self.sent.replace(self.sent.get() + 1));
        command["id"] = id.as_str().into();
        let sent = Command::new("mosquitto_pub")
            .args(["-p", &self.broker.port().to_string(), "-q", "1", "-t", "auscult/pi-1/control", "-m"])
            .arg(command.to_string())
            .status()
            .expect("mosquitto_pub starts");
        assert!(sent.success());
        let is_reply = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id.as_str();
        self.subscriber.wait_for(&format!("the reply to {command}"), is_reply).json()
    }

    fn ok(&self, command: Value) -> Value {
        let reply = self.ask(command);
        assert_eq!(reply["status"], "ok", "{reply}");
        reply["data"].clone()
    }

    /// Waits for a machine's message after the first `from` messages of all.
    fn wait_after(
        &self,
        from: usize,
        machine: &str,
        part: MachinePart,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_within(TIMEOUT, from, (machine, part), what, is)
    }

    /// As `wait_after`, for another time at most.
    fn wait_within(
        &self,
        limit: Duration,
        from: usize,
        (machine, part): (&str, MachinePart),
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut found = None;
        wait_within(limit, what, || {
            let messages = self.subscriber.messages();
            let of_machine = messages.iter().skip(from).filter(|message| message.is_machine(machine, part));
            found = of_machine.map(Message::json).find(|json| is(json));
            found.is_some()
        });
        found.expect("it was waited for")
    }

    fn now(&self) -> usize {
        self.subscriber.messages().len()
    }

    /// What a client that comes now gets.
    /// What the broker keeps, once it is of this state: a reply may come before the alarm that it is about.
    fn retained_alarm(&self, machine: &str, state: &str) -> Value {
        let topic = format!("auscult/pi-1/{machine}/alarm");
        let port = self.broker.port().to_string();
        let mut alarm = Value::Null;
        wait_until(&format!("{machine} kept as {state}"), || {
            let output =
                Command::new("mosquitto_sub").args(["-p", &port, "-C", "1", "-W", "20", "-t", &topic]).output();
            alarm = serde_json::from_slice(&output.expect("mosquitto_sub starts").stdout).expect("a retained alarm");
            alarm["state"] == state
        });
        alarm
    }
}

fn machine(id: &str, rest: &str, source: &str) -> String {
    format!("[[machine]]\nid = {id:?}\n{rest}\nsource = {{ synth = \"fan\", speed = 40.0{source} }}\n")
}

#[test]
fn a_machine_is_learned_and_its_alarm_lives_through_restarts() {
    let Some(shared) = crate::common::shared() else { return };
    let desk = Desk::new();
    // 8 minutes of sound are 12 s here. Neither of the first two is in the bundle.
    let machines = machine(
        "fan-a",
        "baseline = \"manual\"\nalarm = { clear_after_s = 0.0 }",
        ", fault = \"bursts\", fault_after_s = 1000.0",
    ) + &machine("fan-b", "baseline = \"auto\"\nbaseline_minutes = 8.0", "")
        + &machine("fan-c", "model = \"id_00\"", "");
    let site = Site::new(&desk.broker.url(), &shared.join("escoita-bundle"), &machines);
    let agent = site.agent();
    let verdict = |from, machine: &str, what: &str, is: &dyn Fn(&Value) -> bool| {
        // A busy machine may not keep up with forty times real time.
        let in_time = |verdict: &Value| verdict["reason"] != "overload" && is(verdict);
        desk.wait_after(from, machine, MachinePart::Verdict, what, in_time)
    };
    let event = |from, machine: &str, what: &str| {
        desk.wait_after(from, machine, MachinePart::Event, what, |event| event["event"] == what)
    };

    // What is not learned yet is unknown, and needs no alarm acknowledged.
    for machine in ["fan-a", "fan-b"] {
        let first = verdict(0, machine, "a verdict", &|_| true);
        assert_eq!((&first["verdict"], &first["reason"]), (&json!("unknown"), &json!("learning")), "{first}");
        assert!(first["threshold"].is_null() && first["distance"].is_null(), "{first}");
    }
    let refused = desk.ask(json!({ "command": "alarm.acknowledge", "machine": "fan-a", "by": "ana" }));
    assert_eq!(refused["error"]["code"], "bad_argument", "{refused}");
    for (command, words) in [
        (json!({ "command": "baseline.apply", "machine": "fan-a" }), "baseline.learn makes one"),
        (json!({ "command": "baseline.learn", "machine": "fan-a", "minutes": 0 }), "minutes: expected a number"),
        (json!({ "command": "baseline.discard", "machine": "fan-a" }), "nothing to discard"),
        (json!({ "command": "rate.set", "machine": "fan-a", "false_alarm_rate": 0.1 }), "judged by its distance"),
    ] {
        let refused = desk.ask(command);
        assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains(words)), "{refused}");
    }

    // Learning goes on after a stop.
    for machine in ["fan-a", "fan-c"] {
        desk.ok(json!({ "command": "baseline.learn", "machine": machine, "minutes": 8, "by": "ana" }));
    }
    let busy = desk.ask(json!({ "command": "baseline.learn", "machine": "fan-a", "minutes": 8 }));
    assert_eq!(busy["error"]["code"], "busy", "{busy}");
    desk.wait_after(0, "fan-a", MachinePart::Event, "progress", |event| event["share"].as_f64() > Some(0.25));
    assert_eq!(agent.terminate(), Some(0));
    let from = desk.now();
    let agent = site.agent();
    let progress =
        desk.wait_after(from, "fan-a", MachinePart::Event, "progress", |event| event["event"] == "baseline_learning");
    assert!(progress["share"].as_f64() > Some(0.25), "{progress}");
    let proposal = event(from, "fan-a", "baseline_learned");
    assert!(proposal["threshold"].as_f64() > Some(0.0) && proposal["lanes"] == true, "{proposal}");
    assert!(proposal["distance_share"].as_f64().is_some_and(|share| share < 0.1), "{proposal}");
    let still = verdict(desk.now(), "fan-a", "a verdict", &|_| true);
    assert_eq!(still["reason"], "learning", "a proposal is not in use: {still}");

    // Applied: what was proposed is what judges.
    desk.ok(json!({ "command": "baseline.apply", "machine": "fan-a", "by": "ana" }));
    let judged = verdict(desk.now(), "fan-a", "a verdict", &|verdict| verdict["verdict"] != "unknown");
    assert_eq!(judged["threshold"], proposal["threshold"]);
    assert!(judged["p_value"].is_number() && judged["score"].is_number() && judged["lane"].is_string(), "{judged}");
    let settings = desk.wait_after(from, "fan-a", MachinePart::Settings, "settings", |it| it["source"] == "baseline");
    assert_eq!((&settings["judge"], &settings["threshold"]), (&json!("combined"), &proposal["threshold"]));
    // All lanes together have a limit of their own, and it is told when a threshold switches them off.
    assert_eq!(settings["false_alarm_rate"], 0.01, "{settings}");
    let command = json!({ "command": "rate.set", "machine": "fan-a", "false_alarm_rate": 0.001, "by": "ana" });
    let moved = desk.ok(command)["machines"][0].clone();
    assert_eq!(
        (&moved["judge"], &moved["false_alarm_rate"], &moved["by"]),
        (&json!("combined"), &json!(0.001), &json!("ana"))
    );
    let over = desk.ok(json!({ "command": "threshold.set", "machine": "fan-a", "threshold": 500 }));
    assert!(over["note"].as_str().is_some_and(|note| note.contains("fan-a: the distance decides alone now")), "{over}");
    assert_eq!(
        (&over["machines"][0]["judge"], &over["machines"][0]["false_alarm_rate"]),
        (&json!("distance"), &Value::Null)
    );
    let again = desk.ok(json!({ "command": "threshold.set", "machine": "fan-a", "threshold": 400 }));
    assert!(again["note"].is_null(), "nothing is switched off any more: {again}");
    // It also takes the threshold back.
    let moved = desk.ok(json!({ "command": "rate.set", "machine": "fan-a", "false_alarm_rate": 0.02 }));
    assert_eq!(
        (&moved["machines"][0]["judge"], &moved["machines"][0]["source"]),
        (&json!("combined"), &json!("baseline"))
    );
    let back = desk.ok(json!({ "command": "threshold.reset", "machine": "fan-a" }));
    assert_eq!(back["machines"][0]["false_alarm_rate"], 0.01, "{back}");
    // By itself, where that is configured.
    event(from, "fan-b", "baseline_applied");

    // Where the bundle knows the machine, there is a way back, and forth again.
    let bundled = desk.ok(json!({ "command": "threshold.get", "machine": "fan-c" }))["machines"][0].clone();
    event(from, "fan-c", "baseline_learned");
    desk.ok(json!({ "command": "baseline.apply", "machine": "fan-c" }));
    // Nothing more to apply is an error that changes nothing.
    desk.ok(json!({ "command": "threshold.set", "machine": "fan-c", "threshold": 0.3 }));
    for machine in ["fan-c", "*"] {
        let refused = desk.ask(json!({ "command": "baseline.apply", "machine": machine }));
        assert_eq!(refused["error"]["code"], "bad_argument", "{refused}");
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("proposal")), "{refused}");
        let now = desk.ok(json!({ "command": "threshold.get", "machine": "fan-c" }))["machines"][0].clone();
        assert_eq!((&now["source"], &now["threshold"]), (&json!("override"), &json!(0.3)), "{now}");
    }
    desk.ok(json!({ "command": "threshold.reset", "machine": "fan-c" }));
    for (command, source) in
        [("threshold.reset", "bundle"), ("baseline.apply", "baseline"), ("baseline.discard", "bundle")]
    {
        desk.ok(json!({ "command": command, "machine": "fan-c" }));
        let now = desk.ok(json!({ "command": "threshold.get", "machine": "fan-c" }))["machines"][0].clone();
        assert_eq!(now["source"], source, "{command}: {now}");
        assert_eq!(now["threshold"] == bundled["threshold"], source == "bundle", "{command}: {now}");
    }

    // The fault comes; somebody answers; the agent is killed.
    // A thousand seconds of the machine's time, which a busy computer does not pass in 25 of its own.
    let (limit, alarm) = (4 * TIMEOUT, ("fan-a", MachinePart::Alarm));
    let active = desk.wait_within(limit, from, alarm, "an alarm", |alarm| alarm["state"] == "active");
    assert_eq!(active["kind"], "fault");
    assert!(active["ratio"].is_number() && active["percentile"].as_f64() <= Some(100.0), "{active}");
    assert!(
        active["lane"].is_string() && active["bands"].as_array().is_some_and(|bands| !bands.is_empty()),
        "{active}"
    );
    let answer = json!({ "command": "alarm.acknowledge", "machine": "fan-a", "by": "ana", "comment": "on my way" });
    assert_eq!(desk.ok(answer)["machines"][0]["state"], "acknowledged");
    let before = desk.retained_alarm("fan-a", "acknowledged");
    assert_eq!(before["raised"], active["since"], "{before}");
    assert!(before["at"].as_str() > before["raised"].as_str(), "{before}");
    assert_eq!(
        (&before["state"], &before["by"], &before["comment"]),
        (&json!("acknowledged"), &json!("ana"), &json!("on my way"))
    );
    drop(agent);
    let from = desk.now();
    let agent = site.agent();
    let first = desk.wait_after(from, "fan-a", MachinePart::Alarm, "the alarm again", |_| true);
    for field in
        ["state", "kind", "since", "ratio", "percentile", "lane", "bands", "by", "comment", "until", "raised", "at"]
    {
        assert_eq!(first[field], before[field], "{field}: {first}");
    }
    // After the restart the simulated machine is healthy again, and what was learned is still there.
    let judged = verdict(from, "fan-b", "a verdict", &|_| true);
    assert!(judged["verdict"] != "unknown" && judged["p_value"].is_number(), "{judged}");
    desk.wait_after(from, "fan-a", MachinePart::Alarm, "calm", |alarm| alarm["state"] == "normal");

    // Shelved, also after a restart, until somebody ends it.
    let until = "2099-01-01T00:00:00Z";
    let refused = desk.ask(json!({ "command": "alarm.shelve", "machine": "fan-a", "until": until, "by": "bob" }));
    assert_eq!(refused["error"]["code"], "bad_argument", "longer than a week: {refused}");
    let shelved =
        desk.ok(json!({ "command": "alarm.shelve", "machine": "fan-a", "by": "bob", "comment": "roof works" }));
    assert_eq!(shelved["machines"][0]["state"], "shelved");
    drop(agent);
    let from = desk.now();
    let agent = site.agent();
    let again = desk.wait_after(from, "fan-a", MachinePart::Alarm, "the alarm again", |_| true);
    assert_eq!((&again["state"], &again["by"]), (&json!("shelved"), &json!("bob")));
    assert_eq!(again["until"], shelved["machines"][0]["until"]);
    desk.ok(json!({ "command": "alarm.unshelve", "machine": "fan-a" }));
    desk.retained_alarm("fan-a", "normal");
    assert_eq!(agent.terminate(), Some(0));

    // A baseline of another encoder does not count, and that is said; it waits for its own.
    let kept = site.dir.path().join("state/baselines/fan-a");
    let in_use = std::fs::read_dir(&kept).expect("a directory").flatten().map(|entry| entry.path());
    let in_use = in_use.into_iter().next().expect("the baseline in use");
    let foreign = kept.join("in-use-0123456789ab.json");
    std::fs::rename(&in_use, &foreign).expect("a writable directory");
    // What the inventory has and is gone would be a loss.
    std::fs::remove_file(site.dir.path().join("state/inventory.json")).expect("an inventory");
    let from = desk.now();
    let agent = site.agent();
    let failed = event(from, "fan-a", "baseline_failed");
    assert!(failed["detail"].as_str().is_some_and(|said| said.contains("another encoder")), "{failed}");
    let unknown = verdict(from, "fan-a", "a verdict", &|_| true);
    assert_eq!(unknown["reason"], "learning", "{unknown}");
    assert_eq!(agent.terminate(), Some(0));
    std::fs::rename(&foreign, &in_use).expect("a writable directory");
    let from = desk.now();
    let agent = site.agent();
    let judged = verdict(from, "fan-a", "a verdict", &|_| true);
    assert!(judged["p_value"].is_number(), "{judged}");
    assert_eq!(agent.terminate(), Some(0));
}
