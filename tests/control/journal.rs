//! The journal of alarms, of a real agent over a real broker: alarms come and go, somebody answers, the agent is killed in
//! between; every alarm is there once, with its end and its answer.

use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::encoder;
use crate::retuning::fans;

fn ask(heard: &Subscriber, mut command: Value) -> Value {
    let id = new_id();
    command["id"] = json!(id);
    heard.publish("auscult/pi-1/control", false, command.to_string());
    heard.wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id).json()
}

fn ok(heard: &Subscriber, command: Value) -> Value {
    let reply = ask(heard, command);
    assert_eq!(reply["status"], "ok", "{reply}");
    reply["data"].clone()
}

/// The machine's next alarm of this state that comes now.
fn alarm(heard: &Subscriber, state: &str) -> Value {
    let is = |message: &Message| message.is_machine("fan-1", MachinePart::Alarm) && message.json()["state"] == state;
    heard.wait_for(&format!("the alarm as {state}"), is).json()
}

#[test]
fn every_alarm_is_in_the_journal_once_over_kills() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let machine =
        "[alarm]\nclear_after_s = 0.0\n[[machine]]\nid = \"fan-1\"\nsource = { synth = \"fan\", speed = 50.0 }\n";
    let site = Site::new(&broker.url(), std::path::Path::new("bundle"), machine);
    fans(&encoder, "1.0").write(&site.dir.path().join("bundle"));
    let mut agent = site.agent();
    heard.wait_for("a verdict", |message| message.is_machine("fan-1", MachinePart::Verdict));
    // The threshold makes alarms come and go.
    let set = |threshold: f64| json!({ "command": "threshold.set", "machine": "fan-1", "threshold": threshold });
    let mut numbers = Vec::new();
    for round in 0..6 {
        heard.clear();
        ok(&heard, set(1e-6));
        let active = alarm(&heard, "active");
        numbers.push(active["journal"].as_i64().expect("its number"));
        if round % 2 == 0 {
            ok(&heard, json!({ "command": "alarm.acknowledge", "machine": "fan-1", "by": "ana", "comment": "heard" }));
        }
        if round % 3 == 1 {
            drop(agent);
            agent = site.agent();
            heard.wait_for("a verdict of the next start", |message| {
                message.is_machine("fan-1", MachinePart::Verdict) && message.json()["late"] == false
            });
        }
        ok(&heard, set(900.0));
        alarm(&heard, "normal");
    }
    let listed = ok(&heard, json!({ "command": "alarm.list", "machine": "fan-1" }));
    let alarms = listed["alarms"].as_array().expect("alarms");
    let found: Vec<i64> = alarms.iter().rev().map(|alarm| alarm["alarm"].as_i64().expect("a number")).collect();
    assert_eq!((found, &listed["more"]), (numbers.clone(), &json!(false)), "{listed}");
    for (round, alarm) in alarms.iter().rev().enumerate() {
        assert!(
            alarm["ended"].is_string() && alarm["kind"] == "fault" && alarm["windows"].as_u64() >= Some(5),
            "{alarm}"
        );
        assert!(alarm["text"].as_str().is_some_and(|text| text.contains("x threshold")), "{alarm}");
        assert_eq!(alarm["by"] == "ana" && alarm["acknowledged"].is_string(), round % 2 == 0, "{round}: {alarm}");
    }

    // Pages, one alarm, and what is not there.
    let page = ok(&heard, json!({ "command": "alarm.list", "limit": 2 }));
    let after = page["alarms"][1]["alarm"].clone();
    assert_eq!((page["alarms"].as_array().map(Vec::len), &page["more"]), (Some(2), &json!(true)));
    let next = ok(&heard, json!({ "command": "alarm.list", "limit": 4, "after": after }));
    assert_eq!((next["alarms"].as_array().map(Vec::len), &next["more"]), (Some(4), &json!(false)));
    let one = ok(&heard, json!({ "command": "alarm.get", "alarm": numbers[0] }));
    assert_eq!(one["alarms"][0], alarms[5]);
    for (command, words) in [
        (json!({ "command": "alarm.get", "alarm": 9999 }), "alarm: expected the number of an alarm"),
        (
            json!({ "command": "alarm.get", "alarm": -1 }),
            "alarm: expected the number of an alarm in the journal, found -1",
        ),
        (json!({ "command": "alarm.list", "machine": "fan-9" }), "machine: expected one of fan-1"),
        (json!({ "command": "alarm.list", "limit": 0 }), "limit: expected a number from 1 to 200"),
    ] {
        let reply = ask(&heard, command);
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(words)), "{reply}");
    }
    let none = ok(&heard, json!({ "command": "alarm.list", "machine": "fan-1", "to": "2020-01-01T00:00:00Z" }));
    assert_eq!(none["alarms"], json!([]), "a machine that is there, without an alarm then");
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
    let refused =
        ctl.args(["ctl", "--broker", &broker.url(), "alarm.get", "--alarm", "-1"]).output().expect("ctl starts");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && text.contains("-1 is not in 1.."), "{text}");
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
    ctl.args(["ctl", "--broker", &broker.url(), "--agent", "pi-1", "alarm.list", "--from", "-1d", "--limit", "3"]);
    let text = String::from_utf8(ctl.output().expect("ctl starts").stdout).expect("UTF-8");
    assert!(text.contains("pi-1/fan-1, lasted") && text.contains("older ones: --after"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(agent.terminate(), Some(0));
}
