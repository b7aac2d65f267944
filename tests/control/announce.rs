//! `announce`, for brokers that keep retained messages and give nothing of them to a subscription with wildcards.

use std::collections::BTreeSet;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::{Site, ctl, new_id};
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::wait::wait_until;
use crate::retuning::recording;

/// The broker forgets what it keeps: from here on it gives as little as one that knows no retained wildcards.
fn forget_all(subscriber: &Subscriber, site: &Site) {
    let parts = ["status", "info", "fan-1/alarm", "fan-1/settings", "fan-2/alarm", "fan-2/settings"];
    for part in parts {
        subscriber.publish(&format!("auscult/{}/{part}", site.id), true, "");
    }
}

#[test]
fn a_fleet_is_found_where_the_broker_gives_nothing_that_it_keeps() {
    let (broker, Some(wav)) = (Broker::start(), recording()) else { return };
    let subscriber = Subscriber::start(&broker);
    let mut sites = ["north", "south"].map(|tag| Site::new(&format!("pi-{tag}"), tag, &broker, &wav, ""));
    sites.iter_mut().for_each(|site| site.start(&subscriber));
    for site in &sites {
        let topic = format!("auscult/{}/fan-1/verdict", site.id);
        subscriber.wait_for("a verdict", |message| message.topic == topic);
    }
    let who = |arguments: &[&str]| -> BTreeSet<String> {
        sites.iter().for_each(|site| forget_all(&subscriber, site));
        let output = ctl(&broker, &[arguments, &["ping", "--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let reply = |line: &str| serde_json::from_str::<Value>(line).expect("a reply")["agent"].to_string();
        text.lines().map(reply).collect()
    };
    assert_eq!(who(&["--fleet"]), BTreeSet::from(["\"pi-north\"".into(), "\"pi-south\"".into()]));
    assert_eq!(who(&["--fleet", "--tag", "south"]), BTreeSet::from(["\"pi-south\"".into()]));
    assert_eq!(who(&["--agent", "pi-north"]), BTreeSet::from(["\"pi-north\"".into()]));

    // What the broker keeps is whole again.
    sites.iter().for_each(|site| forget_all(&subscriber, site));
    let done = ctl(&broker, &["--fleet", "announce", "--within-s", "0"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    wait_until("all is retained again", || {
        let late = Subscriber::start(&broker);
        let expected = sites.iter().flat_map(|site| {
            let machine = |id: &'static str| {
                ["verdict", "alarm", "settings"].map(|part| format!("auscult/{}/{id}/{part}", site.id))
            };
            let own = ["status", "info"].map(|part| format!("auscult/{}/{part}", site.id));
            own.into_iter().chain(machine("fan-1")).chain(machine("fan-2"))
        });
        let kept: BTreeSet<_> = late.messages().into_iter().filter(|m| m.retained).map(|m| m.topic).collect();
        expected.into_iter().all(|topic| kept.contains(&topic))
    });
}

#[test]
fn a_flood_of_announces_is_answered_and_makes_few_announcements() {
    let (broker, Some(wav)) = (Broker::start(), recording()) else { return };
    let subscriber = Subscriber::start(&broker);
    let mut site = Site::new("pi-7", "north", &broker, &wav, "");
    site.start(&subscriber);
    subscriber.wait_for("a verdict", |message| message.is_machine("fan-1", MachinePart::Verdict));
    let infos = |messages: &[Message]| messages.iter().filter(|message| message.is_agent(AgentPart::Info)).count();
    let before = infos(&subscriber.messages());
    let ids: Vec<String> = (0..60).map(|_| new_id()).collect();
    for id in &ids {
        let command = json!({ "id": id, "command": "announce", "within_s": 0 });
        subscriber.publish_fast("auscult/fleet/control", command.to_string());
    }
    for id in &ids {
        assert_eq!(site.reply(&subscriber, id)["status"], "ok");
    }
    let wrong = json!({ "id": new_id(), "command": "announce", "within_s": 601 });
    site.ask_error(&broker, &subscriber, wrong, "bad_argument");
    wait_until("it announces itself", || infos(&subscriber.messages()) > before);
    let announced = infos(&subscriber.messages()) - before;
    assert!(announced <= 3, "{announced} times for 60 who asked");
    // The verdict that is said again is the newest one, under its own number.
    let seqs: Vec<u64> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("fan-1", MachinePart::Verdict))
        .map(|message| message.json()["seq"].as_u64().expect("a number"))
        .collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

/// An agent of before this command refuses it; that it answers shows that it is there.
#[test]
fn an_agent_that_does_not_know_the_command_is_found_by_its_refusal() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let old = |is: &'static str, error: Value| {
        let asked = subscriber.wait_for(is, |message| {
            message.topic == "auscult/fleet/control" && !message.payload.is_empty() && message.json()["command"] == is
        });
        let status = if error.is_null() { "ok" } else { "error" };
        let reply = json!({
            "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "id": asked.json()["id"], "command": is, "agent": "pi-old",
            "status": status, "error": error, "data": null, "late": false,
        });
        subscriber.publish("auscult/pi-old/reply", false, reply.to_string());
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ctl(&broker, &["--fleet", "ping", "--json"]));
        old(
            "announce",
            json!({ "code": "unknown_command", "message": "command: expected one of ping, found \"announce\"" }),
        );
        old("ping", Value::Null);
        let output = asking.join().expect("ctl ends");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("pi-old"));
    });
}
