//! What recurs daily, of a real agent: what it remembers outlasts a stop, hours that are widened show in every verdict and in
//! the settings, and a command forgets them at once.

use auscult::control::store::StateStore;
use auscult::mqtt::topics::{AgentPart, MachinePart};
use chrono::Utc;
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Subscriber};

const MACHINE: &str = "[[machine]]\nid = \"fan-1\"\nbaseline = \"auto\"\nbaseline_minutes = 3.0\nadapt = true\n\
                       source = { synth = \"fan\", speed = 40.0 }\n";

fn wait(heard: &Subscriber, part: MachinePart, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    heard.wait_for(what, |message| message.is_machine("fan-1", part) && is(&message.json())).json()
}

#[test]
fn hours_that_are_widened_outlast_a_restart_and_are_forgotten_by_command() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), MACHINE);
    let agent = site.agent();
    wait(&heard, MachinePart::Event, "the baseline in use", |event| event["event"] == "baseline_applied");
    let learned = wait(&heard, MachinePart::Settings, "its settings", |settings| settings["baseline"].is_string());
    assert_eq!(learned["adaptation"], json!({ "days": 0, "hours": [] }), "{learned}");
    heard.clear();
    let verdict = wait(&heard, MachinePart::Verdict, "a verdict by all lanes", |verdict| verdict["score"].is_number());
    assert_eq!(verdict["adapted"], Value::Null, "as learned: {verdict}");
    assert_eq!(agent.terminate(), Some(0));

    // As if every hour of the day had been widened in the days before.
    let state_dir = site.dir.path().join("state");
    let mut store = StateStore::open(&state_dir, Utc::now()).0;
    let mut kept: Value = serde_json::from_str(&store.adaptations().expect("readable")["fan-1"]).expect("JSON");
    let counted: u64 = kept["open"]["counts"].as_array().expect("counts").iter().filter_map(Value::as_u64).sum();
    assert!(kept["holds_for"]["baseline"] == learned["baseline"] && counted > 0, "{kept}");
    kept["widening"] = json!(vec![1.5; 24]);
    store.flush(&[], &[("fan-1".to_owned(), kept.to_string())], Utc::now()).expect("writable");
    drop(store);

    heard.clear();
    let _agent = site.agent();
    let settings =
        wait(&heard, MachinePart::Settings, "the widened hours", |settings| !settings["adaptation"].is_null());
    assert_eq!(settings["adaptation"]["hours"].as_array().map(Vec::len), Some(24), "{settings}");
    let verdict = wait(&heard, MachinePart::Verdict, "a verdict of the widened tail", |verdict| {
        let p_value = |value: &Value| value.as_f64().unwrap_or_default();
        p_value(&verdict["adapted"]["learned_p_value"]) < p_value(&verdict["p_value"])
    });
    assert_eq!(verdict["adapted"]["times"], 1.5, "{verdict}");

    heard.clear();
    let id = new_id();
    let command = json!({ "id": id, "command": "adaptation.reset", "machine": "fan-1", "by": "ana" });
    heard.publish("auscult/pi-1/control", false, command.to_string());
    let reply =
        heard.wait_for("the reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id);
    assert_eq!(reply.json()["status"], "ok", "{}", reply.json());
    let event = wait(&heard, MachinePart::Event, "that it is told", |event| event["event"] == "adaptation_changed");
    assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("forgotten by ana")), "{event}");
    wait(&heard, MachinePart::Settings, "the learned hours", |settings| settings["adaptation"]["hours"] == json!([]));
    heard.clear();
    wait(&heard, MachinePart::Verdict, "a verdict as learned", |verdict| {
        verdict["score"].is_number() && verdict["adapted"].is_null()
    });
}
