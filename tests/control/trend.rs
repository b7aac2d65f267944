//! A machine's past, asked of real agents over a real broker: it adds up to what was published, over restarts and kills.

use std::os::unix::fs::symlink;
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::encoder;
use crate::common::wait::wait_until;
use crate::retuning::fans;

const MACHINES: &str = "[[machine]]\nid = \"fan-1\"\nsource = { synth = \"fan\", speed = 50.0 }\n\
                        [[machine]]\nid = \"fan-2\"\nsource = { synth = \"fan\", speed = 50.0 }\n\
                        [homeassistant]\ndiscovery = true\n";

/// A broker and an agent's directory; `None` where the encoder is missing.
fn plant() -> Option<(Broker, Subscriber, Site)> {
    let encoder = encoder()?;
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), std::path::Path::new("bundle"), MACHINES);
    fans(&encoder, "1.0").write(&site.dir.path().join("bundle"));
    Some((broker, subscriber, site))
}

fn ask(heard: &Subscriber, mut command: Value) -> Value {
    let id = new_id();
    command["id"] = json!(id);
    heard.publish("auscult/pi-1/control", false, command.to_string());
    heard.wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id).json()
}

/// The machine's last `seq` that was published, if any.
fn last_seq(heard: &Subscriber) -> Option<u64> {
    let verdicts = heard.messages().into_iter().filter(|message| message.is_machine("fan-1", MachinePart::Verdict));
    verdicts.filter_map(|message| message.json()["seq"].as_u64()).max()
}

fn past(heard: &Subscriber, more: &Value) -> Value {
    let mut command = json!({ "command": "trend.get", "machine": "fan-1" });
    command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let reply = ask(heard, command);
    assert_eq!(reply["status"], "ok", "{reply}");
    reply["data"].clone()
}

/// A field's sum over all points.
fn sum(past: &Value, field: &str) -> f64 {
    let fields = past["fields"].as_array().expect("fields");
    let place = fields.iter().position(|name| name == field).expect("a field");
    past["points"].as_array().expect("points").iter().filter_map(|point| point[place].as_f64()).sum()
}

/// The past has all windows that were published before it was asked for, and none that came after the answer.
fn adds_up(heard: &Subscriber, more: &Value) -> Value {
    let before = last_seq(heard).expect("verdicts") + 1;
    let past = past(heard, more);
    let windows = sum(&past, "windows");
    // What the agent had on its way to the broker when it answered is there a moment later.
    wait_until("its windows are published", || last_seq(heard).is_some_and(|seq| seq as f64 + 1.0 >= windows));
    assert!(windows >= before as f64, "{before} windows were published before {past}");
    past
}

fn events(heard: &Subscriber, name: &str) -> Vec<Value> {
    let events = heard.messages().into_iter().filter(|message| message.topic.ends_with("/event"));
    events.map(|message| message.json()).filter(|event| event["event"] == name).collect()
}

#[test]
fn the_past_adds_up_over_restarts_and_is_shown_in_eighty_columns() {
    let Some((broker, heard, site)) = plant() else { return };
    let mut agent = site.agent();
    let verdicts = |count: u64| {
        wait_until("verdicts", || last_seq(&heard) >= Some(count));
    };
    verdicts(30);
    let first = adds_up(&heard, &json!({}));
    assert_eq!((&first["step"], &first["step_s"], &first["machine"]), (&json!("minute"), &json!(60), &json!("fan-1")));
    assert!(sum(&first, "assessed") > 0.0, "{first}");
    for (stop, count) in [("a clean stop", 60), ("a clean stop", 90)] {
        assert_eq!(agent.terminate(), Some(0), "{stop}");
        agent = site.agent();
        verdicts(count);
        adds_up(&heard, &json!({}));
    }
    for step in ["minute", "10min", "hour", "day"] {
        adds_up(&heard, &json!({ "step": step }));
    }
    // Five minutes may be lost, and the file is whole.
    let stopped = sum(&adds_up(&heard, &json!({})), "windows");
    drop(agent);
    let agent = site.agent();
    heard.clear();
    heard.wait_for("a verdict", |message| {
        message.is_machine("fan-1", MachinePart::Verdict) && message.json()["late"] == false
    });
    let after = past(&heard, &json!({}));
    assert!(sum(&after, "windows") >= 60.0 && stopped >= 90.0, "{after}");
    assert_eq!(events(&heard, "trend_lost"), Vec::<Value>::new());

    // Running hours, wherever they are shown.
    let state = ask(&heard, json!({ "command": "state.get" }));
    let hours = &state["data"]["machines"][0]["hours"];
    let counted = ["running", "standing", "unheard"].iter().filter_map(|name| hours[name].as_f64()).sum::<f64>();
    assert!(counted > 0.05 && hours["since"].is_string(), "60 windows of 5 s and more: {hours}");
    ask(&heard, json!({ "command": "health.get" }));
    let health = heard.wait_for("health with hours", |message| {
        message.is_agent(AgentPart::Health) && message.json()["machines"][0]["running_h"].is_number()
    });
    assert!(health.json()["trend_error"].is_null(), "{health:?}");

    // What cannot be asked.
    for (arguments, words) in [
        (json!({ "machine": "*" }), "machine: expected one machine's id"),
        (json!({ "machine": "nobody" }), "machine: expected one of"),
        (json!({ "machine": "fan-1", "step": "minute", "from": "2026-01-01T00:00:00Z" }), "an answer has 1500 at most"),
        (json!({ "machine": "fan-1", "step": "week" }), "step"),
        (json!({ "machine": "fan-1", "from": "2999-01-01T00:00:00Z" }), "from: expected a time before `to`"),
    ] {
        let mut command = arguments;
        command["command"] = json!("trend.get");
        let reply = ask(&heard, command);
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(words)), "{words}: {reply}");
    }
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
    ctl.args(["ctl", "--broker", &broker.url(), "--agent", "pi-1", "trend.get", "--machine", "fan-1", "--from", "-2h"]);
    let output = ctl.output().expect("ctl starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("pi-1 fan-1, by minute") && text.lines().count() >= 3, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let sensor = heard.messages().into_iter().find(|message| message.topic.ends_with("/fan-1/config"));
    assert!(sensor.is_none_or(|message: Message| message.json()["components"]["running"].is_object()));
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_past_that_cannot_be_written_is_said_and_scoring_goes_on() {
    let Some((_broker, heard, site)) = plant() else { return };
    let state = site.dir.path().join("state");
    std::fs::create_dir_all(&state).expect("a directory");
    symlink("/nowhere/at/all", state.join("trend.db")).expect("a link");
    let agent = site.agent();
    wait_until("verdicts", || last_seq(&heard) >= Some(20));
    let failed = events(&heard, "trend_failed");
    assert!(failed[0]["detail"].as_str().is_some_and(|detail| detail.contains("cannot be opened")), "{failed:?}");
    ask(&heard, json!({ "command": "health.get" }));
    heard.wait_for("health that says so", |message| {
        message.is_agent(AgentPart::Health)
            && message.json()["trend_error"].as_str().is_some_and(|error| error.contains("trend.db"))
    });
    adds_up(&heard, &json!({}));
    let written = std::fs::remove_file(state.join("trend.db"));
    written.expect("our own link");
    assert_eq!(agent.terminate(), Some(0));

    // The end came to a disk that works again: nothing is lost.
    let agent = site.agent();
    wait_until("verdicts of the next start", || last_seq(&heard) >= Some(40));
    adds_up(&heard, &json!({}));
    assert_eq!(events(&heard, "trend_failed").len(), 1);
    assert_eq!(agent.terminate(), Some(0));
}
