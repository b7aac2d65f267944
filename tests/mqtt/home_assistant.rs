//! Home Assistant's discovery, through a real broker: what is said, that it is said again and taken back, and that the
//! topics it names do what they are named for.

use std::path::Path;
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::program::Program;

fn agent(broker: &Broker, dir: &Path, machines: &[&str], discovery: bool) -> Program {
    let tables: String = machines
        .iter()
        .map(|id| {
            format!("[[machine]]\nid = {id:?}\nmodel = \"fan\"\nthreshold = 0.3\nsource = {{ synth = \"fan\" }}\n")
        })
        .collect();
    let text = format!(
        "[agent]\nid = \"pi.7\"\nstate_dir = {:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = \"nowhere\"\n\
         [homeassistant]\ndiscovery = {discovery}\n{tables}",
        dir.join("state"),
        broker.url()
    );
    let config = dir.join("agent.toml");
    std::fs::write(&config, text).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    Program::start(command.arg("run").arg("--config").arg(config), dir.join("log"))
}

fn description(subscriber: &Subscriber, topic: &str) -> Value {
    subscriber.wait_for(topic, |message| message.topic == topic && !message.payload.is_empty()).json()
}

/// A template as Home Assistant would fill it in, as far as the agent cares.
fn filled(template: &Value, id: &str) -> String {
    let template = template.as_str().expect("a template");
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after.split_once("}}").expect("a template that ends");
        text += before;
        text += if expression.contains("isoformat") { "2099-01-01T00:00:00.123456+00:00" } else { id };
        rest = after;
    }
    text + rest
}

const AGENT: &str = "homeassistant/device/auscult-pi_7/config";
const FAN_1: &str = "homeassistant/device/auscult-pi_7/fan-1/config";
const FAN_2: &str = "homeassistant/device/auscult-pi_7/fan-2/config";

#[test]
fn what_is_described_is_there_and_works() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let subscriber = Subscriber::start(&broker);
    let agent = agent(&broker, dir.path(), &["fan-1", "fan-2"], true);

    let described = [AGENT, FAN_1, FAN_2].map(|topic| description(&subscriber, topic));
    let names = |device: &Value| -> Vec<String> {
        device["components"].as_object().expect("components").keys().cloned().collect()
    };
    assert_eq!(names(&described[0]), ["bundle", "connectivity", "reload", "temperature", "waiting"]);
    assert_eq!(
        names(&described[1]),
        ["acknowledge", "answer", "distance", "level", "picture", "problem", "running", "threshold", "verdict"]
    );
    assert_eq!(described[1]["device"]["via_device"], described[0]["device"]["identifiers"][0]);

    // Every entity is of a platform, has an id that no other has, and shows a topic on which the agent speaks.
    let verdict = subscriber.wait_for("a verdict", |message| message.is_machine("fan-2", MachinePart::Verdict));
    assert_eq!(verdict.json()["alarm"], "normal");
    let messages = subscriber.messages();
    let mut ids = std::collections::BTreeSet::new();
    for entity in described.iter().flat_map(|device| device["components"].as_object().expect("components").values()) {
        assert!(ids.insert(entity["unique_id"].to_string()), "{entity}");
        assert!(!entity["platform"].is_null() && !entity["name"].is_null(), "{entity}");
        let Some(topic) = entity["state_topic"].as_str() else {
            let shows = entity["image_topic"] == "auscult/pi.7/fan-1/picture"
                || entity["image_topic"] == "auscult/pi.7/fan-2/picture";
            assert!(entity["platform"] == "button" || (entity["platform"] == "image" && shows), "{entity}");
            continue;
        };
        let spoken = messages.iter().any(|message| message.topic == topic);
        // Health comes once a minute.
        assert!(spoken || topic.ends_with("/health"), "{topic}: nobody speaks there");
    }

    // What is pressed and set, arrives.
    let press = |device: &Value, entity: &str, id: &str| {
        let entity = &device["components"][entity];
        let topic = entity["command_topic"].as_str().expect("a topic");
        subscriber.publish(topic, false, filled(&entity["command_template"], id));
        let id = format!("ha-{id}");
        subscriber.wait_for(&id, |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id).json()
    };
    // There is no bundle and no alarm: what counts is that the commands were understood.
    assert_eq!(press(&described[0], "reload", "1")["error"]["code"], "bundle_invalid");
    let code = press(&described[1], "acknowledge", "2")["error"]["code"].clone();
    assert!(code != "bad_json" && code != "unknown_machine" && code != "expired", "{code}");
    for (chosen, outcome, name) in [("normal", "normal", ""), ("loose part", "fault", "\"name\":\"loose part\",")] {
        let answer = &described[1]["components"]["answer"];
        assert!(answer["options"].as_array().is_some_and(|options| options.contains(&json!(chosen))), "{answer}");
        let template = answer["command_template"].as_str().expect("a template");
        let [of_outcome, of_name] = ["value if ", "'' if "].map(|start| {
            let found = template.split("{{").find(|part| part.trim_start().starts_with(start)).expect("an expression");
            format!("{{{{{}}}}}", found.split("}}").next().expect("it ends"))
        });
        let template = template.replace(&of_outcome, outcome).replace(&of_name, name);
        let id = format!("answer-{outcome}");
        subscriber.publish(answer["command_topic"].as_str().expect("a topic"), false, filled(&json!(template), &id));
        let is = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == format!("ha-{id}");
        let reply = subscriber.wait_for("a reply", is).json();
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(reply["command"] == "alarm.confirm" && message.contains("fan-1 had no alarm"), "{reply}");
    }
    let threshold = &described[1]["components"]["threshold"];
    subscriber.publish(threshold["command_topic"].as_str().expect("a topic"), false, "0.42");
    subscriber.wait_for("the new threshold", |message| {
        message.topic == threshold["state_topic"].as_str().expect("a topic") && message.json()["threshold"] == 0.42
    });
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn it_is_republished_when_home_assistant_starts_and_taken_back_when_a_machine_goes() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let subscriber = Subscriber::start(&broker);
    let first = agent(&broker, dir.path(), &["fan-1", "fan-2"], true);
    description(&subscriber, FAN_2);
    let published = |topic: &'static str| move |message: &Message| message.topic == topic;
    subscriber.publish("homeassistant/status", false, "online");
    subscriber.wait_for_count("the machine again", 2, published(FAN_2));
    subscriber.wait_for_count("the agent again", 2, published(AGENT));
    assert_eq!(first.terminate(), Some(0));

    let kept = || {
        let late = Subscriber::start(&broker);
        // The broker sends what it keeps in order, and this last.
        late.publish("end", false, "");
        late.wait_for("the end", |message| message.topic == "end");
        let is = |message: &Message| message.topic.starts_with("homeassistant/device/");
        let mut topics: Vec<_> = late.messages().into_iter().filter(is).map(|message| message.topic).collect();
        topics.sort();
        topics
    };
    assert_eq!(kept(), [AGENT, FAN_1, FAN_2]);
    for (machines, discovery, expected) in [
        (&["fan-1"][..], true, &[AGENT, FAN_1][..]),
        (&["fan-1", "fan-2"], true, &[AGENT, FAN_1, FAN_2]),
        (&["fan-1"], false, &[]),
    ] {
        subscriber.clear();
        let agent = agent(&broker, dir.path(), machines, discovery);
        let online = |message: &Message| message.is_machine("fan-1", MachinePart::Verdict);
        subscriber.wait_for("a verdict", online);
        assert_eq!(agent.terminate(), Some(0));
        assert_eq!(kept(), expected);
    }
}
