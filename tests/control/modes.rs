//! A machine with several speeds and a real agent: two are learned and shown, a third one is anomalous and says so, and is
//! normal once `baseline.learn` has added it.

use std::path::Path;
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Subscriber};

/// Recordings of 50 s of one fan, each at a share of its speed, in the order in which they are played.
fn record(dir: &Path, first_take: usize, speeds: &[&str]) {
    std::fs::create_dir_all(dir).expect("a directory");
    for (number, speed) in speeds.iter().enumerate() {
        let (take, file) = ((first_take + number).to_string(), dir.join(format!("{number:02}.wav")));
        let made = Command::new(env!("CARGO_BIN_EXE_auscult"))
            .args(["synth", "fan", "--seed", "7", "--snr", "30", "--minutes", "0.8333", "--take", &take])
            .args(["--shaft-speed", speed, "-o"])
            .arg(file)
            .output()
            .expect("auscult starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

fn wait(heard: &Subscriber, part: MachinePart, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    heard.wait_for(what, |message| message.is_machine("fan-1", part) && is(&message.json())).json()
}

fn ok(heard: &Subscriber, mut command: Value) -> Value {
    let id = new_id();
    (command["id"], command["machine"]) = (json!(id), json!("fan-1"));
    heard.publish("auscult/pi-1/control", false, command.to_string());
    let reply = heard.wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id);
    assert_eq!(reply.json()["status"], "ok", "{}", reply.json());
    reply.json()["data"].clone()
}

/// What is learned is taken into use.
fn apply(heard: &Subscriber) -> Value {
    let learned = wait(heard, MachinePart::Event, "what was learned", |event| event["event"] == "baseline_learned");
    ok(heard, json!({ "command": "baseline.apply" }));
    learned
}

#[test]
fn a_speed_that_was_never_heard_says_so_until_it_is_added() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let machine = "[[machine]]\nid = \"fan-1\"\nbaseline = \"manual\"\n\
                   source = { wav = \"playing\", loop = true, realtime = false }\n";
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), machine);
    let playing = site.dir.path().join("playing");
    record(&playing, 0, &["1", "0.7"].repeat(7));
    let agent = site.agent();
    wait(&heard, MachinePart::Verdict, "a verdict", |_| true);
    ok(&heard, json!({ "command": "baseline.learn", "minutes": 11.5 }));
    let learned = apply(&heard);
    let levels = learned["mode_levels"].as_array().expect("a list");
    assert_eq!((&learned["modes"], levels.len()), (&json!(2), 2), "{learned}");
    assert!(levels[1]["level_dbfs"].as_f64() > levels[0]["level_dbfs"].as_f64(), "the quietest first: {learned}");
    assert_eq!(agent.terminate(), Some(0));

    std::fs::rename(&playing, site.dir.path().join("played")).expect("renamed");
    record(&playing, 100, &["0.85"; 6]);
    heard.clear();
    let _agent = site.agent();
    let says = |verdict: &Value, words: &str| verdict["text"].as_str().is_some_and(|text| text.contains(words));
    wait(&heard, MachinePart::Alarm, "its alarm", |alarm| {
        alarm["state"] == "active" && says(alarm, "unlike any of 2 known modes")
    });
    ok(&heard, json!({ "command": "baseline.learn", "minutes": 1.5, "add": true }));
    let added = apply(&heard);
    assert_eq!(added["modes"], 3, "{added}");
    heard.clear();
    wait(&heard, MachinePart::Alarm, "that it is normal", |alarm| alarm["state"] == "normal");
}
