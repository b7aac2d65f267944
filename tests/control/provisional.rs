//! A machine that is still being learned is judged from 40 windows on: real agents over a real broker, with simulated
//! machines that run forty times faster than real ones.

use std::path::Path;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::wait::wait_until;

struct Plant {
    _broker: Broker,
    heard: Subscriber,
    site: Site,
}

impl Plant {
    /// `fault`: what the source has beside the machine.
    fn new(fault: &str) -> Plant {
        let broker = Broker::start();
        let heard = Subscriber::start(&broker);
        let machine = format!(
            "[[machine]]\nid = \"fan-1\"\nbaseline = \"auto\"\nsource = {{ synth = \"fan\", seed = 5, speed = 40.0{fault} }}\n"
        );
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        let site = Site::new(&broker.url(), &bundle, &machine);
        Plant { _broker: broker, heard, site }
    }

    /// Another line of the machine's configuration.
    fn set(&self, line: &str) {
        let text = std::fs::read_to_string(&self.site.config).expect("the configuration");
        let text = text.replace("baseline = \"auto\"", &format!("baseline = \"auto\"\n{line}"));
        std::fs::write(&self.site.config, text).expect("a writable file");
    }

    fn all(&self, part: MachinePart) -> Vec<Value> {
        let messages = self.heard.messages().into_iter();
        messages.filter(|message| message.is_machine("fan-1", part)).map(|message| message.json()).collect()
    }

    /// Waits for a message of the machine.
    fn wait(&self, part: MachinePart, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.heard.wait_for(what, |message| message.is_machine("fan-1", part) && is(&message.json())).json()
    }

    fn ask(&self, mut command: Value) -> Value {
        let id = new_id();
        command["id"] = json!(id);
        self.heard.publish("auscult/pi-1/control", false, command.to_string());
        let is_reply = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id;
        self.heard.wait_for("a reply", is_reply).json()
    }

    fn baseline(&self) -> Value {
        self.ask(json!({ "command": "state.get" }))["data"]["machines"][0]["baseline"].clone()
    }
}

fn is_fault(alarm: &Value) -> bool {
    alarm["state"] == "active" && alarm["kind"] == "fault"
}

fn is_provisional(verdict: &Value) -> bool {
    verdict["provisional"] == true
}

#[test]
fn a_fault_in_the_first_hour_is_told_provisionally_and_not_learned() {
    let plant = Plant::new(", fault = \"bursts\", fault_after_s = 700.0, strength = 0.9");
    let agent = plant.site.agent();
    // Nobody says `normal` before forty windows.
    plant.wait(MachinePart::Verdict, "a provisional verdict", is_provisional);
    let verdicts = plant.all(MachinePart::Verdict);
    let first = verdicts.iter().position(is_provisional).expect("it was waited for");
    assert!(first >= 40, "after {first} windows");
    for verdict in &verdicts[..first] {
        assert_eq!((&verdict["verdict"], &verdict["provisional"]), (&json!("unknown"), &json!(false)), "{verdict}");
    }
    let event = plant.wait(MachinePart::Event, "the event", |event| event["event"] == "baseline_provisional");
    assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("of 60 minutes")), "{event}");
    let settings = plant.wait(MachinePart::Settings, "settings", |settings| settings["provisional"].is_object());
    assert!(settings["provisional"]["windows"].as_u64() >= Some(40), "{settings}");
    assert_eq!((&settings["source"], &settings["baseline"]), (&json!("baseline"), &Value::Null), "{settings}");

    // A restart in the middle goes on: no forty windows again.
    let learned = plant.baseline()["learning"]["windows"].as_u64().expect("windows");
    assert_eq!(agent.terminate(), Some(0));
    let of_first_run = plant.all(MachinePart::Verdict).len() as u64;
    plant.heard.clear();
    let agent = plant.site.agent();
    plant.wait(MachinePart::Verdict, "a provisional verdict after the restart", is_provisional);
    let before = plant.all(MachinePart::Verdict).iter().filter(|verdict| verdict["late"] == false).count();
    assert!(before < 40, "{before} windows after the restart");
    let goes_on = plant.baseline()["learning"]["windows"].as_u64().expect("windows");
    assert!(goes_on >= learned, "{goes_on} after {learned}");

    // The fault: told as provisional, with the sentence; what raised it is taken back, what follows is left out.
    let active = plant.wait(MachinePart::Alarm, "the alarm", is_fault);
    assert_eq!(active["provisional"], true, "{active}");
    let text = active["text"].as_str().expect("a sentence");
    assert!(text.contains("threshold") && text.contains("provisional") && text.contains("windows"), "{text}");
    let standing =
        plant.wait(MachinePart::Verdict, "more windows", |verdict| verdict["alarm_windows"].as_u64() >= Some(12));
    assert!(
        standing["text"].as_str().is_some_and(|text| text.contains(&format!("{} windows", standing["alarm_windows"])))
    );
    let learned = plant.baseline()["learning"].clone();
    // The machine begins anew with each run, and its fault after 140 windows.
    assert!(learned["windows"].as_u64() <= Some(of_first_run + 140), "{of_first_run} before: {learned}");
    plant.wait(MachinePart::Verdict, "more windows", |verdict| verdict["alarm_windows"].as_u64() >= Some(24));
    let later = plant.baseline();
    assert_eq!(later["learning"]["windows"], learned["windows"], "none of the fault's windows are learned");
    assert!(later["learning"]["left_out"].as_u64() >= Some(24), "{later}");
    assert!(later["in_use"].is_null() && later["provisional"]["windows"].is_u64(), "{later}");

    // Somebody knows better: all that comes is normal, and nothing judges until it is learned.
    let reply = plant.ask(json!({ "command": "baseline.learn", "machine": "fan-1", "minutes": 4, "by": "ana" }));
    assert_eq!(reply["status"], "ok", "{reply}");
    plant.heard.clear();
    let learning = plant.wait(MachinePart::Verdict, "learning again", |verdict| verdict["reason"] == "learning");
    let applied = plant.wait(MachinePart::Event, "the baseline", |event| event["event"] == "baseline_applied");
    assert!(applied["windows"].as_u64() >= Some(40), "{applied}");
    let is_later = |verdict: &Value| verdict["seq"].as_u64() > learning["seq"].as_u64();
    let judged =
        plant.wait(MachinePart::Verdict, "a verdict", |verdict| verdict["verdict"] != "unknown" && is_later(verdict));
    assert_eq!((&judged["provisional"], judged["p_value"].is_number()), (&json!(false), true), "{judged}");
    assert_eq!(agent.terminate(), Some(0));
}

/// Twelve windows before all is heard: the fault is not told yet, and must not be learned.
#[test]
fn a_fault_that_begins_as_learning_ends_is_not_learned() {
    let plant = Plant::new(", fault = \"bursts\", fault_after_s = 540.0, strength = 0.9");
    plant.set("baseline_minutes = 10");
    let agent = plant.site.agent();
    plant.wait(MachinePart::Alarm, "the alarm", is_fault);
    let standing = |windows: u64| {
        plant.wait(MachinePart::Verdict, "more windows", |verdict| verdict["alarm_windows"].as_u64() >= Some(windows))
    };
    standing(12);
    let learned = plant.baseline();
    assert!(learned["learning"]["windows"].as_u64() <= Some(108) && learned["in_use"].is_null(), "{learned}");
    let later = standing(40);
    assert_eq!((&later["verdict"], &later["provisional"]), (&json!("anomalous"), &json!(true)), "{later}");
    assert_eq!(agent.terminate(), Some(0));
}

/// A person who hears it too switches maintenance on, and off again.
#[test]
fn maintenance_as_a_fault_begins_does_not_have_it_learned() {
    let plant = Plant::new(", fault = \"bursts\", fault_after_s = 500.0, strength = 0.9");
    let agent = plant.site.agent();
    let later = |verdict: &Value| verdict["seq"].as_u64() >= Some(108);
    plant.wait(MachinePart::Verdict, "the fault's first windows", later);
    for on in [true, false] {
        let reply = plant.ask(json!({ "command": "maintenance.set", "machine": "fan-1", "on": on, "by": "ana" }));
        assert_eq!(reply["status"], "ok", "{reply}");
        let wanted = if on { "maintenance" } else { "" };
        plant.heard.clear();
        plant
            .wait(MachinePart::Verdict, "a window of it", |verdict| verdict["reason"].as_str().unwrap_or("") == wanted);
    }
    plant.wait(MachinePart::Alarm, "the alarm", is_fault);
    let learned = plant.baseline();
    assert!(learned["learning"]["windows"].as_u64() <= Some(100), "{learned}");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn the_whole_baseline_takes_its_place_without_losing_a_window() {
    let plant = Plant::new("");
    plant.set("baseline_minutes = 6");
    let agent = plant.site.agent();
    plant.wait(MachinePart::Event, "the baseline", |event| event["event"] == "baseline_applied");
    let is_whole = |verdict: &Value| verdict["p_value"].is_number() && verdict["provisional"] == false;
    plant.wait(MachinePart::Verdict, "a verdict by it", is_whole);
    let settings = || plant.all(MachinePart::Settings).last().cloned().expect("settings");
    wait_until("the settings say so", || settings()["provisional"].is_null() && settings()["baseline"].is_string());
    assert_eq!(agent.terminate(), Some(0));
    let verdicts = plant.all(MachinePart::Verdict);
    let seqs: Vec<u64> = verdicts.iter().map(|verdict| verdict["seq"].as_u64().expect("a number")).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "none is missing");
    // Unknown, then provisional, then whole; nothing in between.
    let assessed: Vec<_> = verdicts.iter().filter(|verdict| verdict["verdict"] != "unknown").collect();
    let provisional = assessed.iter().take_while(|verdict| is_provisional(verdict)).count();
    assert!(provisional > 10 && assessed[provisional..].iter().all(|verdict| is_whole(verdict)), "{provisional}");
    let first = verdicts.iter().position(is_provisional).expect("provisional verdicts");
    let gaps = verdicts[first..].iter().filter(|verdict| verdict["reason"] == "learning").count();
    assert_eq!(gaps, 0, "judged all the time");
}
