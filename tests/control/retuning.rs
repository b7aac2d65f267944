//! Remote retuning, as it is done: a real mosquitto, the real agent, `mosquitto_pub` and `auscult ctl`.

use std::path::PathBuf;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::{NORMAL, Site, new_id, publish};
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::{Parts, encoder};
use crate::common::wait::pace;

/// A broker, and an agent `pi-7` with the bundles `halls-1.0` (in use) and `halls-2.0`; `None` where `../shared` is missing.
pub fn plant(more: &str) -> Option<(Broker, Subscriber, Site)> {
    let (encoder, wav) = (encoder()?, recording()?);
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let mut site = Site::new("pi-7", "north", &broker, &wav, more);
    for version in ["1.0", "2.0"] {
        site.lay(&format!("halls-{version}"), &fans(&encoder, version));
    }
    site.link("halls-1.0");
    site.start(&subscriber);
    Some((broker, subscriber, site))
}

/// A small valid bundle of the machines `fan-1` and `fan-2`.
pub fn fans(encoder: &[u8], version: &str) -> Parts {
    let mut parts = Parts::valid(encoder);
    parts.manifest("halls", version, "");
    parts
}

pub fn recording() -> Option<PathBuf> {
    Some(crate::common::shared()?.join(NORMAL))
}

fn settings(subscriber: &Subscriber, machine: &str) -> Value {
    let all = subscriber.messages();
    let last = all.iter().rfind(|message| message.is_machine(machine, MachinePart::Settings));
    last.expect("settings are told at start").json()
}

#[test]
fn every_command_is_answered_and_changes_the_next_verdict() {
    let Some((broker, subscriber, site)) = plant("") else { return };
    let ask = |command: Value| {
        let mut command = command;
        command["id"] = json!(new_id());
        command["by"] = json!("ana");
        site.ask(&broker, &subscriber, command)
    };
    let ok = |command: Value| {
        let reply = ask(command);
        assert_eq!(reply["status"], "ok", "{reply}");
        reply
    };

    let reply = ok(json!({ "command": "ping" }));
    assert_eq!((&reply["agent"], &reply["command"]), (&json!("pi-7"), &json!("ping")));
    let reply = ok(json!({ "command": "threshold.get", "machine": "*" }));
    assert_eq!(reply["data"]["machines"][0]["threshold"], 0.25);
    assert_eq!(reply["data"]["machines"][1]["source"], "bundle");

    ok(json!({ "command": "threshold.set", "machine": "fan-1", "threshold": 999.5, "reason": "overhaul" }));
    let verdict = site.next_verdict(&subscriber, "fan-1");
    assert_eq!((&verdict["threshold"], &verdict["verdict"]), (&json!(999.5), &json!("normal")), "{verdict}");
    let received = settings(&subscriber, "fan-1");
    assert_eq!(
        (&received["source"], &received["by"], &received["reason"]),
        (&json!("override"), &json!("ana"), &json!("overhaul"))
    );
    assert_eq!(received["bundle"], "halls@1.0");

    let reply = ok(json!({ "command": "threshold.preview", "machine": "fan-1", "threshold": 0.01 }));
    let preview = &reply["data"]["machines"][0];
    assert_eq!(preview["preview"]["anomalous"], preview["windows"], "{preview}");
    assert!(preview["windows"].as_u64() > Some(0), "{preview}");
    assert_eq!(site.next_verdict(&subscriber, "fan-1")["threshold"], 999.5, "a preview changes nothing");

    ok(json!({ "command": "threshold.reset", "machine": "*" }));
    let verdict = site.next_verdict(&subscriber, "fan-1");
    assert_eq!((&verdict["threshold"], &verdict["verdict"]), (&json!(0.25), &json!("anomalous")), "{verdict}");

    // A dashboard's slider knows no JSON; its reply has no id.
    publish(&broker, "auscult/pi-7/fan-2/threshold/set", "999", &[]);
    let reply = subscriber
        .wait_for("a reply without id", |message| message.is_agent(AgentPart::Reply) && message.json()["id"].is_null());
    assert_eq!(reply.json()["data"]["machines"][0]["threshold"], 999.0);
    assert_eq!(site.next_verdict(&subscriber, "fan-2")["threshold"], 999.0);

    ok(json!({ "command": "maintenance.set", "machine": "fan-2", "on": true }));
    assert_eq!(site.next_verdict(&subscriber, "fan-2")["reason"], "maintenance");
    ok(json!({ "command": "maintenance.set", "machine": "fan-2", "on": false }));
    assert_eq!(site.next_verdict(&subscriber, "fan-2")["verdict"], "normal");

    let reply = ok(json!({ "command": "bundle.reload", "path": "halls-2.0" }));
    assert_eq!(reply["data"]["bundle"], "halls@2.0");
    let verdict = site.next_verdict(&subscriber, "fan-2");
    assert_eq!((&verdict["bundle"], &verdict["threshold"]), (&json!("halls@2.0"), &json!(999.0)), "an override stays");
    let received = settings(&subscriber, "fan-2");
    assert_eq!((&received["bundle"], &received["made_for"]), (&json!("halls@2.0"), &json!("halls@1.0")));
    let info =
        subscriber.messages().into_iter().rfind(|message| message.is_agent(AgentPart::Info)).expect("an info").json();
    assert_eq!(info["bundle"], "halls@2.0");
    // The same once more is no news, and no step to go back from.
    let events = |kind: &str| subscriber.messages().iter().filter(|message| message.json()["event"] == kind).count();
    let changed = events("bundle_changed");
    let reply = ok(json!({ "command": "bundle.reload", "path": "halls-2.0" }));
    assert!(reply["data"]["note"].as_str().is_some_and(|note| note.starts_with("unchanged")), "{reply}");
    site.next_verdict(&subscriber, "fan-2");
    assert_eq!(events("bundle_changed"), changed);
    ok(json!({ "command": "bundle.rollback" }));
    assert_eq!(site.next_verdict(&subscriber, "fan-2")["bundle"], "halls@1.0");
    let reply = ok(json!({ "command": "bundle.reload", "path": "halls-1.0" }));
    assert!(reply["data"]["note"].as_str().is_some_and(|note| note.starts_with("unchanged")), "{reply}");
    assert_eq!(ok(json!({ "command": "state.get" }))["data"]["bundle"]["label"], "halls@1.0");

    // What is refused changes nothing and says what to do.
    for (command, code, words) in [
        (json!({ "command": "threshold.sett" }), "unknown_command", "did you mean \"threshold.set\"?"),
        (
            json!({ "command": "threshold.set", "machine": "fan-9", "threshold": 1 }),
            "unknown_machine",
            "expected one of fan-1, fan-2",
        ),
        (json!({ "command": "threshold.set", "machine": "fan-1", "threshold": "1" }), "bad_argument", "threshold: "),
        (json!({ "command": "bundle.reload", "path": "../state" }), "bad_argument", "below the bundles' own"),
        (json!({ "command": "bundle.rollback" }), "bad_argument", "expected a bundle installed before"),
        (json!({ "command": "ping", "expires": "2020-01-01T00:00:00Z" }), "expired", "expires: "),
    ] {
        let reply = ask(command);
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(reply["error"]["message"].as_str().is_some_and(|text| text.contains(words)), "{reply}");
    }
    publish(
        &broker,
        &site.control(),
        r#"{"id":"kept","command":"threshold.set","machine":"*","threshold":5}"#,
        &["-r"],
    );
    // With MQTT 5 it is known for what it is also by a subscriber that is there.
    let refused = site.reply(&subscriber, "kept");
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("retained")), "{refused}");
}

#[test]
fn a_retained_command_is_refused() {
    let Some((broker, subscriber, mut site)) = plant("") else { return };
    site.kill();
    publish(
        &broker,
        &site.control(),
        r#"{"id":"kept","command":"threshold.set","machine":"*","threshold":5}"#,
        &["-r"],
    );
    site.start(&subscriber);
    // The session kept it, and the topic: both are refused.
    let refused = subscriber
        .wait_for("the refusal", |message| site.is_reply(message, "kept") && message.json()["status"] == "error");
    assert!(refused.json()["error"]["message"].as_str().is_some_and(|text| text.contains("retained")), "{refused:?}");
    // The topic is cleared with an empty message, which asks for nothing.
    publish(&broker, &site.control(), "", &["-r"]);
    site.ask_ok(&broker, &subscriber, json!({ "id": new_id(), "command": "ping" }));
}

#[test]
fn what_was_answered_ok_survives_a_kill_and_is_done_once() {
    let shelf = crate::agent_process::Shelf::new();
    let Some((broker, subscriber, mut site)) = plant(&shelf.allowed()) else { return };
    let (url, sha256) = shelf.put(&crate::agent_process::tar_gz(&fans(&encoder().expect("it is there"), "3.0")));
    let steps = [
        (json!({ "command": "threshold.set", "machine": "fan-1", "threshold": 0.5 }), "threshold", json!(0.5)),
        (json!({ "command": "maintenance.set", "machine": "fan-1", "on": true }), "reason", json!("maintenance")),
        (json!({ "command": "maintenance.set", "machine": "fan-1", "on": false }), "reason", Value::Null),
        (json!({ "command": "threshold.reset", "machine": "*" }), "threshold", json!(0.25)),
        (json!({ "command": "bundle.reload", "path": "halls-2.0" }), "bundle", json!("halls@2.0")),
        (json!({ "command": "bundle.install", "url": url, "sha256": sha256 }), "bundle", json!("halls@3.0")),
        (json!({ "command": "bundle.rollback" }), "bundle", json!("halls@1.0")),
    ];
    for (mut command, field, expected) in steps {
        command["id"] = json!(new_id());
        let reply = site.ask(&broker, &subscriber, command.clone());
        site.kill();
        assert_eq!(reply["status"], "ok", "{reply}");
        let switched = site.log().matches("bundle switched").count();
        subscriber.clear();
        site.start(&subscriber);
        let verdict = site.next_verdict(&subscriber, "fan-1");
        assert_eq!(verdict[field], expected, "after {command}: {verdict}");
        // The same id again: the same answer, and nothing is done.
        let before = settings(&subscriber, "fan-1");
        let mut again = site.ask(&broker, &subscriber, command.clone());
        // What the agent could not see acknowledged before it was killed comes once more, as late.
        again["late"] = json!(false);
        assert_eq!(again, reply);
        site.ask_ok(&broker, &subscriber, json!({ "id": new_id(), "command": "ping" }));
        assert_eq!(settings(&subscriber, "fan-1")["revision"], before["revision"]);
        let switches = site.log().matches("bundle switched").count();
        assert!(switches <= switched, "{command} was done again");
    }
}

#[test]
fn a_flood_of_commands_does_not_starve_scoring() {
    let Some((broker, subscriber, site)) = plant("") else { return };
    crate::agent_process::wait_judging(&subscriber, "fan-1");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let begin = std::time::Instant::now();
    for round in 0..3000 {
        subscriber.publish_fast(&site.control(), r#"{"command":"state.get"}"#);
        match round % 100 {
            0 => subscriber.publish_fast(&site.control(), "x".repeat(1 << 20)),
            1 => subscriber.publish_fast(&site.control(), deep.clone()),
            2 => subscriber.publish_fast("auscult/fleet/control", "{\"a\":".repeat(1000)),
            3 => subscriber.publish_fast("auscult/pi-7/fan-1/threshold/set", vec![0xff; 200_000]),
            _ => {}
        }
    }
    // The next command gets through, and the windows of the meantime are all there.
    let mut sent = Vec::new();
    let answered = || {
        let id = new_id();
        publish(&broker, &site.control(), &json!({ "id": id, "command": "ping" }).to_string(), &[]);
        sent.push(id);
        pace(std::time::Duration::from_millis(500));
        subscriber.messages().iter().any(|message| sent.iter().any(|id| site.is_reply(message, id)))
    };
    crate::common::wait::wait_until("a ping is answered after the flood", answered);
    let lasted = begin.elapsed().as_secs_f64();
    let verdicts: Vec<(Message, std::time::Instant)> = subscriber
        .messages_with_times()
        .into_iter()
        .filter(|(message, came)| message.is_machine("fan-1", MachinePart::Verdict) && *came >= begin)
        .collect();
    let seqs: Vec<u64> = verdicts.iter().filter_map(|(message, _)| message.json()["seq"].as_u64()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    println!("{} windows in the {lasted:.1} s of a flood", seqs.len());
    // A window each half second; half of them at least are assessed, on whatever this runs on. What the processor had no
    // time for says so.
    let jsons: Vec<_> = verdicts.iter().map(|(message, _)| message.json()).collect();
    let (unknown, assessed): (Vec<_>, Vec<_>) = jsons.iter().partition(|verdict| verdict["verdict"] == "unknown");
    assert!(assessed.len() as f64 >= lasted, "{} windows in {lasted:.1} s", assessed.len());
    assert!(unknown.iter().all(|verdict| verdict["reason"] == "overload"), "{unknown:?}");
}
