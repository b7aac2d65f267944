//! Machines that come, change and go while the agent runs, by `mosquitto_pub`, through a real broker and real microphones.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::publish;
use crate::common::agent_process::{Agent, Site};
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::disk::SmallDisk;
use crate::common::sound::Rig;
use crate::common::wait::{random_moment, wait_until};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// A broker, an agent `pi-1` and who commands it.
pub struct Plant {
    pub broker: Broker,
    pub heard: Subscriber,
    pub site: Site,
    sent: Cell<u32>,
}

impl Plant {
    pub fn new(more: &str) -> Plant {
        Plant::with_bundle(&demo(), more)
    }

    pub fn with_bundle(bundle: &Path, more: &str) -> Plant {
        let broker = Broker::start();
        let heard = Subscriber::of(&broker, &["auscult/#", "homeassistant/#"]);
        let site = Site::new(&broker.url(), bundle, more);
        Plant { broker, heard, site, sent: Cell::new(0) }
    }

    /// Starts the agent, which is online then.
    pub fn start(&self, change: impl FnOnce(&mut Command)) -> Agent {
        let before = self.heard.messages().iter().filter(|message| is_online(message)).count();
        let mut command = self.site.command("run");
        change(&mut command);
        let agent = self.site.start(&mut command);
        self.heard.wait_for_count("the agent is online", before + 1, is_online);
        agent
    }

    pub fn ask(&self, mut command: Value) -> Value {
        let id = format!("c{}", self.sent.replace(self.sent.get() + 1));
        command["id"] = id.as_str().into();
        publish(&self.broker, "auscult/pi-1/control", &command.to_string(), &[]);
        let is_reply = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id.as_str();
        self.heard.wait_for(&format!("the reply to {command}"), is_reply).json()
    }

    pub fn ok(&self, command: Value) -> Value {
        let reply = self.ask(command);
        assert_eq!(reply["status"], "ok", "{reply}");
        reply["data"].clone()
    }

    pub fn refused(&self, command: Value, code: &str) -> String {
        let reply = self.ask(command);
        assert_eq!(reply["error"]["code"], code, "{reply}");
        reply["error"]["message"].as_str().expect("a message").to_owned()
    }

    pub fn verdicts(&self, machine: &str) -> Vec<Value> {
        let messages = self.heard.messages();
        let of_machine = messages.iter().filter(|message| message.is_machine(machine, MachinePart::Verdict));
        of_machine.filter(|message| !message.retained && !message.payload.is_empty()).map(Message::json).collect()
    }

    /// Waits for so many more verdicts of a machine that were assessed.
    pub fn wait_assessed(&self, machine: &str, more: usize) {
        let assessed = || self.verdicts(machine).iter().filter(|verdict| verdict["verdict"] != "unknown").count();
        let before = assessed();
        wait_until(&format!("{more} windows of {machine}"), || assessed() >= before + more);
    }

    /// Every window of a machine has come, in order. MQTT may say one again after a start of the agent, with the same content.
    pub fn assert_no_hole(&self, machine: &str) {
        let mut verdicts = self.verdicts(machine);
        verdicts.dedup_by_key(|verdict| (verdict["seq"].clone(), verdict["ts"].clone(), verdict["distance"].clone()));
        let seqs: Vec<_> = verdicts.iter().filter_map(|verdict| verdict["seq"].as_u64()).collect();
        assert!(seqs.len() > 2, "{seqs:?}");
        assert!(seqs.is_sorted_by(|one, next| *next == one + 1), "{machine}: {seqs:?}");
    }

    pub fn info(&self) -> Value {
        self.heard.messages().iter().rfind(|message| message.is_agent(AgentPart::Info)).expect("an info").json()
    }

    /// What the broker keeps below the agent, by topic.
    pub fn retained(&self) -> Vec<String> {
        let late = Subscriber::of(&self.broker, &["auscult/#", "homeassistant/#"]);
        late.wait_for("the agent's status", |message| message.retained && message.is_agent(AgentPart::Status));
        late.wait_for("the agent's info", |message| message.retained && message.is_agent(AgentPart::Info));
        late.messages().iter().filter(|message| message.retained).map(|message| message.topic.clone()).collect()
    }

    pub fn list(&self) -> Vec<Value> {
        self.ok(json!({ "command": "machine.list" }))["machines"].as_array().expect("a list").clone()
    }
}

fn is_online(message: &Message) -> bool {
    message.is_agent(AgentPart::Status) && message.json()["state"] == "online"
}

fn fan(id: &str) -> Value {
    json!({ "command": "machine.add", "machine": id, "source": { "synth": "fan", "seed": 1 }, "model": "fan-a", "hop_s": 0.5 })
}

#[test]
fn machines_come_and_go_and_the_others_lose_no_window() {
    let plant = Plant::new("[homeassistant]\ndiscovery = true\n");
    let agent = plant.start(|_| {});
    assert_eq!(plant.info()["machines"], json!([]));
    assert_eq!(plant.list(), Vec::<Value>::new());

    let mut first = fan("fan-1");
    first["name"] = "Fan by the door".into();
    let added = plant.ok(first.clone());
    assert_eq!((&added["machines"][0]["machine"], &added["machines"][0]["from"]), (&json!("fan-1"), &json!("command")));
    plant.wait_assessed("fan-1", 2);
    assert_eq!(
        (&plant.info()["machines"], &plant.info()["names"]["fan-1"]),
        (&json!(["fan-1"]), &json!("Fan by the door"))
    );
    let description = "homeassistant/device/auscult-pi-1/fan-1/config";
    let told = plant.heard.wait_for("its description", |message| message.topic == description).json();
    assert_eq!(told["device"]["name"], "Fan by the door");

    // Others join; the first loses nothing.
    plant.ok(fan("fan-2"));
    plant.wait_assessed("fan-2", 2);
    assert!(plant.refused(fan("fan-2"), "bad_argument").contains("machine.set"));

    // One goes: nothing of it is left, and the first goes on.
    plant.ok(json!({ "command": "machine.remove", "machine": "fan-2", "by": "ana" }));
    plant.wait_assessed("fan-1", 3);
    wait_until("nothing is retained of it", || !plant.retained().iter().any(|topic| topic.contains("fan-2")));
    assert_eq!(plant.info()["machines"], json!(["fan-1"]));
    let events = plant.heard.messages();
    let removed = events.iter().filter(|m| m.is_machine("fan-2", MachinePart::Event)).map(Message::json);
    let removed: Vec<_> = removed.filter(|event| event["event"] == "machine_removed").collect();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0]["detail"], "by ana");
    plant.refused(json!({ "command": "threshold.get", "machine": "fan-2" }), "unknown_machine");

    // It comes back as a new one; its windows are counted on.
    plant.ok(fan("fan-2"));
    plant.wait_assessed("fan-2", 2);
    plant.assert_no_hole("fan-2");
    wait_until("it is retained again", || plant.retained().contains(&"auscult/pi-1/fan-2/verdict".to_owned()));
    plant.assert_no_hole("fan-1");

    // After kill -9 everything is as it was.
    let before = plant.list();
    drop(agent);
    let _agent = plant.start(|_| {});
    assert_eq!(plant.list(), before);
    plant.wait_assessed("fan-1", 2);
    plant.wait_assessed("fan-2", 2);
}

#[test]
fn a_machine_is_changed_and_the_files_are_left_alone() {
    let file = "[[machine]]\nid = \"pump-1\"\nmodel = \"pump-a\"\nhop_s = 0.5\nsource = { synth = \"pump\" }\n";
    let plant = Plant::new(file);
    let agent = plant.start(|_| {});
    plant.ok(fan("fan-1"));
    plant.wait_assessed("fan-1", 2);
    plant.ok(json!({ "command": "threshold.set", "machine": "fan-1", "threshold": 0.4 }));

    // Nothing that is heard changes: the next window follows.
    let changed = plant.ok(json!({
        "command": "machine.set", "machine": "fan-1", "name": "Fan", "notes": "call Ana", "alarm": { "k": 3 },
    }));
    assert_eq!(changed["machines"][0]["alarm"], json!({ "k": 3 }));
    plant.wait_assessed("fan-1", 2);
    // Another hop: it is heard anew, and counted on.
    plant.ok(json!({ "command": "machine.set", "machine": "fan-1", "hop_s": 1.0, "alarm": { "n": 6 } }));
    plant.wait_assessed("fan-1", 2);
    plant.assert_no_hole("fan-1");
    plant.assert_no_hole("pump-1");
    let list = plant.list();
    let froms: Vec<_> = list.iter().map(|machine| (machine["machine"].as_str(), machine["from"].as_str())).collect();
    assert_eq!(froms, [(Some("pump-1"), Some("file")), (Some("fan-1"), Some("command"))]);
    assert_eq!((&list[1]["alarm"], &list[1]["hop_s"]), (&json!({ "k": 3, "n": 6 }), &json!(1.0)));
    assert_eq!(plant.ok(json!({ "command": "threshold.get", "machine": "fan-1" }))["machines"][0]["threshold"], 0.4);
    plant.ok(json!({ "command": "machine.set", "machine": "fan-1", "unset": ["alarm", "notes"] }));
    assert!(plant.list()[1].get("alarm").is_none() && plant.list()[1].get("notes").is_none());

    // The file's stay the file's.
    for command in ["machine.set", "machine.remove"] {
        let message = plant.refused(json!({ "command": command, "machine": "pump-1" }), "not_allowed");
        assert!(message.contains("pump-1 stands in the configuration's file"), "{message}");
    }
    // What cannot be is refused by name, and nothing is half done.
    for (wrong, code, words) in [
        (json!({ "machine": "Fan 9" }), "bad_argument", "machine: expected [a-z0-9]"),
        (json!({ "machine": "fleet" }), "bad_argument", "machine: expected [a-z0-9]"),
        (json!({ "machine": "fan-9", "source": null }), "bad_argument", "source: expected"),
        (
            json!({ "machine": "fan-9", "source": { "synth": "fam" } }),
            "bad_argument",
            "expected one of fan, blower, pump",
        ),
        (json!({ "machine": "fan-9", "source": { "wav": "/nowhere.wav" } }), "bad_argument", "/nowhere.wav"),
        (
            json!({ "machine": "fan-9", "source": { "wav": "/dev/zero" } }),
            "bad_argument",
            "expected a file or a directory",
        ),
        (json!({ "machine": "fan-9", "source": "usb-path:x" }), "bad_argument", "source.device: expected usb-path"),
        (json!({ "machine": "fan-9", "hop_s": 0.1 }), "bad_argument", "hop_s: expected 0.5"),
        (json!({ "machine": "fan-9", "model": "fan-z" }), "bad_argument", "fan-z"),
        (json!({ "machine": "fan-9", "alarm": { "kk": 1 } }), "bad_argument", "kk"),
        (json!({ "machine": "fan-9", "channel": -1 }), "bad_argument", "channel"),
    ] {
        let mut command = fan("fan-9");
        for (key, value) in wrong.as_object().expect("an object") {
            command[key] = value.clone();
        }
        let message = plant.refused(command, code);
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(plant.list().len(), 2);

    // The file gets a machine of the same id: it counts, and that is told.
    drop(agent);
    let text = std::fs::read_to_string(&plant.site.config).expect("a file");
    let other = "[[machine]]\nid = \"fan-1\"\nmodel = \"fan-b\"\nhop_s = 0.5\nsource = { synth = \"fan\" }\n";
    std::fs::write(&plant.site.config, format!("{text}{other}")).expect("a writable file");
    let _agent = plant.start(|_| {});
    let ignored =
        |message: &Message| message.is_agent(AgentPart::Event) && message.json()["event"] == "machine_ignored";
    let event = plant.heard.wait_for("the machine that is ignored", ignored).json();
    assert!(event["detail"].as_str().is_some_and(|detail| detail.starts_with("fan-1 was added remotely")), "{event}");
    let listed = plant.ok(json!({ "command": "machine.list" }));
    assert_eq!((&listed["machines"][1]["model"], &listed["ignored"]), (&json!("fan-b"), &json!(["fan-1"])));
}

/// One microphone of two channels: machines join and leave its open stream.
#[test]
fn machines_share_a_microphone_and_none_loses_a_window() {
    let rig = Rig::for_others(&[(48_000, 2)]);
    let plant = Plant::new("");
    let agent = plant.start(|command| {
        command.env("ALSA_CONFIG_PATH", rig.alsa_config());
    });
    let mic = |id: &str, channel: Value| {
        json!({
            "command": "machine.add", "machine": id, "source": "mic0", "channel": channel, "baseline": "auto", "hop_s": 0.5,
        })
    };
    let wait = |machine: &str, more: usize| {
        let before = plant.verdicts(machine).len();
        wait_until(&format!("{more} windows of {machine}"), || plant.verdicts(machine).len() >= before + more);
    };
    let opened = || agent.log().matches("hearing").count();
    plant.ok(mic("left", json!(1)));
    wait("left", 3);
    for (id, channel) in [("right", json!(0)), ("both", json!("mix")), ("same", json!(1))] {
        plant.ok(mic(id, channel));
        wait(id, 2);
        wait("left", 1);
    }
    plant.ok(json!({ "command": "machine.remove", "machine": "right" }));
    plant.ok(json!({ "command": "machine.set", "machine": "both", "channel": 1 }));
    wait("left", 3);
    wait("both", 2);
    assert_eq!(opened(), 1, "the microphone was opened once");
    // More channels than the stream is open with: it is opened beside it.
    plant.ok(mic("third", json!(2)));
    wait("third", 2);
    wait("left", 2);
    wait("third", 1);
    assert_eq!(opened(), 2);
    for machine in ["left", "both", "same", "third"] {
        plant.assert_no_hole(machine);
    }
    // Silence is no gap: no window of the first says that sound was lost.
    let reasons: Vec<_> = plant.verdicts("left").iter().map(|verdict| verdict["reason"].clone()).collect();
    assert!(!reasons.iter().any(|reason| ["gap", "no_signal"].map(Value::from).contains(reason)), "{reasons:?}");

    // A microphone that is not there is waited for, as the file's would be.
    plant.ok(json!({ "command": "machine.add", "machine": "gone", "source": "usb-path:9-9", "baseline": "auto", "hop_s": 0.5 }));
    let deaf = |verdict: &Value| verdict["reason"] == "no_signal";
    wait_until("it is unknown", || plant.verdicts("gone").iter().any(deaf));
}

/// A machine that costs next to nothing.
fn slow_fan(id: &str) -> Value {
    let mut command = fan(id);
    command["hop_s"] = json!(3600.0);
    command
}

/// In the order of their ids: after a restart it is another one than that in which they came.
fn ids(plant: &Plant) -> Vec<String> {
    let list = plant.list();
    let mut ids: Vec<_> = list.iter().map(|machine| machine["machine"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// Also where a machine of that id was once added and removed by a command.
#[test]
fn what_is_learned_of_a_machine_of_the_file_outlives_a_start_without_it() {
    let plant = Plant::new("");
    let agent = plant.start(|_| {});
    plant.ok(slow_fan("fan-x"));
    plant.ok(json!({ "command": "machine.remove", "machine": "fan-x" }));
    drop(agent);
    let without = std::fs::read_to_string(&plant.site.config).expect("a configuration");
    let machine = "[[machine]]\nid = \"fan-x\"\nmodel = \"fan-a\"\nsource = { synth = \"fan\" }\n";
    std::fs::write(&plant.site.config, format!("{without}{machine}")).expect("a writable file");
    let agent = plant.start(|_| {});
    let learner = plant.site.dir.path().join("state/baselines/fan-x/learning.json");
    plant.ok(json!({ "command": "baseline.learn", "machine": "fan-x", "minutes": 60 }));
    assert!(learner.exists(), "it is on disk before the reply");
    drop(agent);
    std::fs::write(&plant.site.config, without).expect("a writable file");
    drop(plant.start(|_| {}));
    assert!(learner.exists(), "it is for when the machine is back in the file");
}

#[test]
fn on_a_full_disk_machines_stay_as_they_were_answered() {
    let plant = Plant::new("");
    let state = plant.site.dir.path().join("state");
    std::fs::create_dir(&state).expect("a directory");
    let Some(disk) = SmallDisk::mount(&state, 8) else { return };
    let agent = plant.start(|_| {});
    plant.ok(fan("fan-0"));
    plant.wait_assessed("fan-0", 1);
    disk.fill();
    // What is there already has some room for changes; then nothing can be kept any more.
    let mut there = vec!["fan-0".to_owned()];
    let refused = loop {
        let reply = plant.ask(slow_fan(&format!("fan-{}", there.len())));
        if reply["status"] == "error" {
            break reply;
        }
        there.push(format!("fan-{}", there.len()));
        assert!(there.len() < 60, "a full disk takes everything");
    };
    there.sort();
    assert_eq!(refused["error"]["code"], "failed", "{refused}");
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("nothing was changed")), "{refused}");
    assert_eq!(ids(&plant), there);
    plant.refused(json!({ "command": "machine.remove", "machine": "fan-0" }), "failed");
    plant.refused(json!({ "command": "machine.set", "machine": "fan-0", "name": "Fan" }), "failed");
    assert_eq!(ids(&plant), there);
    plant.wait_assessed("fan-0", 2);
    // With room again all is well, also after kill -9.
    disk.free();
    plant.ok(slow_fan("late"));
    plant.ok(json!({ "command": "machine.remove", "machine": "fan-0" }));
    there.retain(|id| id != "fan-0");
    there.push("late".to_owned());
    drop(agent);
    let _agent = plant.start(|_| {});
    assert_eq!(ids(&plant), there);
}

#[test]
#[ignore = "heavy: forty commands that are killed, two minutes"]
fn a_kill_inside_a_command_leaves_the_machines_before_or_after_it() {
    let plant = Plant::new("");
    let mut there: Vec<String> = Vec::new();
    let mut done_before = 0;
    for round in 0..40u64 {
        let agent = plant.start(|_| {});
        assert_eq!(ids(&plant), there, "round {round}");
        let (mut command, after) = match there.len() {
            0 | 1 => {
                let id = format!("fan-{round}");
                let mut after = [there.clone(), vec![id.clone()]].concat();
                after.sort();
                (slow_fan(&id), after)
            }
            _ => (json!({ "command": "machine.remove", "machine": there[0] }), there[1..].to_vec()),
        };
        command["id"] = format!("k{round}").into();
        publish(&plant.broker, "auscult/pi-1/control", &command.to_string(), &[]);
        random_moment(Duration::ZERO..Duration::from_millis(36));
        drop(agent);
        let agent = plant.start(|_| {});
        let found = ids(&plant);
        assert!(found == there || found == after, "round {round}: {there:?} became {found:?}, not {after:?}");
        done_before += usize::from(found == after);
        // The same command again is answered, and done once.
        publish(&plant.broker, "auscult/pi-1/control", &command.to_string(), &[]);
        let is_reply = |message: &Message| {
            message.is_agent(AgentPart::Reply)
                && message.json()["id"] == command["id"]
                && message.json()["status"] == "ok"
        };
        plant.heard.wait_for("the reply", is_reply);
        assert_eq!(ids(&plant), after, "round {round}");
        there = after;
        drop(agent);
    }
    println!("{done_before} of 40 commands were done before the kill");
}

#[test]
fn the_fleet_topic_adds_and_removes_machines_where_a_tag_fits() {
    let plant = Plant::new("");
    let _agent = plant.start(|command| {
        command.env("AUSCULT__AGENT__TAGS", "north");
    });
    let send = |id: &str, tag: Option<&str>, mut command: Value| {
        command["id"] = id.into();
        tag.inspect(|tag| command["tag"] = (*tag).into());
        publish(&plant.broker, "auscult/fleet/control", &command.to_string(), &[]);
    };
    let reply = |id: &str| {
        let is_reply = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id;
        plant.heard.wait_for("the reply", is_reply).json()
    };
    send("f1", Some("south"), fan("fan-1"));
    send("f2", Some("north"), fan("fan-2"));
    assert_eq!(reply("f2")["status"], "ok");
    send("f3", None, json!({ "command": "machine.list" }));
    let list = reply("f3");
    assert_eq!(list["data"]["machines"].as_array().map(Vec::len), Some(1), "{list}");
    plant.wait_assessed("fan-2", 1);
    send("f4", None, json!({ "command": "machine.remove", "machine": "fan-2" }));
    assert_eq!(reply("f4")["status"], "ok");
    assert_eq!(ids(&plant), Vec::<String>::new());
    assert!(
        !plant
            .heard
            .messages()
            .iter()
            .any(|message| message.is_agent(AgentPart::Reply) && message.json()["id"] == "f1")
    );
}

#[test]
fn check_knows_the_machines_that_were_added() {
    let plant = Plant::new("");
    let agent = plant.start(|_| {});
    plant.ok(fan("fan-1"));
    plant.ok(json!({ "command": "machine.add", "machine": "fan-2", "source": { "synth": "fan" }, "baseline": "auto" }));
    // Also while the agent is at the file, and without writing beside it.
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()).collect();
        names.sort();
        names
    };
    let state = plant.site.dir.path().join("state");
    let before = names(&state);
    let output = plant.site.output("check");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    for words in ["2 added while the agent ran: fan-1, fan-2", "fan-1: simulated fan, -", "fan-2: simulated fan, -"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert_eq!(names(&state), before);
    drop(agent);
    let text = std::fs::read_to_string(&plant.site.config).expect("a file");
    let other = "[[machine]]\nid = \"fan-1\"\nmodel = \"fan-b\"\nsource = { synth = \"fan\" }\n";
    std::fs::write(&plant.site.config, format!("{text}{other}")).expect("a writable file");
    let output = plant.site.output("check");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && printed.contains("1 added while the agent ran: fan-2"), "{printed}");
    assert!(printed.contains("FAIL  machines       fan-1 was added remotely and will not be there"), "{printed}");
}
