//! All that was set and learned goes to a new SD card as one file, by `auscult ctl`, through a real broker. Whatever else
//! is brought instead is refused, and a process that is killed leaves the old state or the new one.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use auscult::config::Config;
use auscult::control::state_archive::import::Staged;
use auscult::control::state_archive::take::{self, TakeError};
use auscult::control::store::StateStore;
use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::common::broker::Message;
use crate::common::bundles::{noise_baseline, sha256};
use crate::common::wait::{random_moment, wait_until};
use crate::machines::Plant;
use crate::state_archives::{archive_of, archive_with, with};

/// `auscult ctl --agent pi-1 ...` at the plant's broker.
fn ctl(plant: &Plant, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["ctl", "--broker", &plant.broker.url(), "--agent", "pi-1", "--by", "ana"]).args(words);
    command.current_dir(plant.site.dir.path()).output().expect("auscult starts")
}

fn done(output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

fn fan(id: &str) -> Value {
    json!({ "command": "machine.add", "machine": id, "source": { "synth": "fan", "seed": 1 }, "model": "fan-a", "hop_s": 0.5 })
}

/// What must be the same on the new card.
fn kept(plant: &Plant) -> Value {
    let state = plant.ok(json!({ "command": "state.get" }));
    let of = |machine: &Value| {
        json!({
            "machine": machine["machine"], "threshold": machine["settings"]["threshold"],
            "source": machine["settings"]["source"], "by": machine["settings"]["by"], "alarm": machine["alarm"]["state"],
            "since": machine["alarm"]["since"], "learned": machine["baseline"]["in_use"]["learned"],
            "rows": machine["baseline"]["in_use"]["rows"],
        })
    };
    let machines: Vec<_> = state["machines"].as_array().expect("machines").iter().map(of).collect();
    json!({ "list": plant.list(), "machines": machines })
}

fn is_imported(message: &Message) -> bool {
    message.is_agent(AgentPart::Event) && message.json()["event"] == "state_imported"
}

fn seqs(plant: &Plant, machine: &str) -> Vec<u64> {
    plant.verdicts(machine).iter().filter_map(|verdict| verdict["seq"].as_u64()).collect()
}

/// The members of an archive, by their names.
fn members(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = std::fs::File::open(archive).expect("an archive");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let member = |entry: std::io::Result<tar::Entry<_>>| {
        let mut entry = entry.expect("a member");
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("its bytes");
        (name, bytes)
    };
    archive.entries().expect("members").map(member).collect()
}

#[test]
fn a_new_card_goes_on_where_the_old_one_stopped() {
    let plant = Plant::new("");
    let agent = plant.start(|_| {});
    // One that learns its normal by itself, forty times faster than in life; one that somebody retuned and shelved.
    plant.ok(json!({
        "command": "machine.add", "machine": "fan-1", "name": "Fan by the door", "hop_s": 5.0, "baseline": "auto",
        "baseline_minutes": 4.0, "source": { "synth": "fan", "seed": 1, "speed": 40.0 },
    }));
    plant.ok(fan("fan-2"));
    plant.ok(
        json!({ "command": "threshold.set", "machine": "fan-2", "threshold": 0.4, "by": "ana", "reason": "overhaul" }),
    );
    let until = (chrono::Utc::now() + chrono::TimeDelta::hours(8)).to_rfc3339();
    plant.ok(json!({ "command": "alarm.shelve", "machine": "fan-2", "until": until, "by": "ana" }));
    // Judged by what was learned, not by what it is judged by until then.
    plant.heard.wait_for("it is learned", |message| {
        message.is_machine("fan-1", MachinePart::Event) && message.json()["event"] == "baseline_applied"
    });
    plant.wait_assessed("fan-1", 2);
    plant.wait_assessed("fan-2", 2);
    let before = kept(&plant);
    assert_eq!(before["machines"][0]["source"], "baseline", "{before}");
    assert_eq!(before["machines"][1]["alarm"], "shelved", "{before}");

    let file = plant.site.dir.path().join("pi-1.tar.gz");
    let printed = done(&ctl(&plant, &["state.export", "-o", "pi-1.tar.gz"]));
    assert!(printed.contains("sha256"), "{printed}");
    let names: Vec<_> = members(&file).into_keys().collect();
    let in_use = names.iter().filter(|name| name.starts_with("baseline.fan-1.in-use-")).count();
    assert_eq!((in_use, names.len()), (1, 6), "{names:?}");
    drop(agent);
    let old: BTreeMap<_, _> = ["fan-1", "fan-2"].map(|machine| (machine, seqs(&plant, machine))).into();

    // A new card, on which somebody has already begun with another machine.
    std::fs::remove_dir_all(plant.site.dir.path().join("state")).expect("removed");
    let mut agent = plant.start(|_| {});
    assert_eq!(plant.list(), Vec::<Value>::new());
    plant.ok(fan("other"));
    plant.wait_assessed("other", 1);
    plant.heard.clear_but(|message| message.retained);
    let printed = done(&ctl(&plant, &["state.import", "--file", "pi-1.tar.gz"]));
    assert!(printed.contains("restarts") && printed.contains("fan-1"), "{printed}");
    let event = plant.heard.wait_for("it says so", is_imported).json();
    assert!(event["detail"].as_str().is_some_and(|detail| detail.starts_with("from pi-1, exported 2")), "{event}");
    assert!(agent.ended().is_none(), "the same process goes on");
    assert_eq!(kept(&plant), before);
    for machine in ["fan-1", "fan-2"] {
        plant.wait_assessed(machine, 3);
        let (old, new) = (&old[machine], seqs(&plant, machine));
        assert!(new.iter().all(|seq| old.iter().all(|old| *seq > old + 1_000_000)), "{machine}: {old:?}, {new:?}");
        plant.assert_no_hole(machine);
    }
    wait_until("nothing is retained of what was here", || {
        !plant.retained().iter().any(|topic| topic.contains("/other/"))
    });

    // The way back is there, for nobody else.
    let back = plant.site.dir.path().join("state/before-import.tar.gz");
    assert_eq!(std::fs::metadata(&back).expect("a file").permissions().mode() & 0o777, 0o600);
    let way_back = String::from_utf8(members(&back)["machines.json"].clone()).expect("text");
    assert!(way_back.contains("other"), "{way_back}");

    // It is the same after kill -9, and seq has no hole.
    drop(agent);
    let _agent = plant.start(|_| {});
    assert_eq!(kept(&plant), before);
    plant.wait_assessed("fan-2", 2);
    plant.assert_no_hole("fan-2");

    // What is no export changes nothing.
    let mut bytes = std::fs::read(&file).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, &bytes).expect("written");
    let output = ctl(&plant, &["state.import", "--file", "pi-1.tar.gz"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && printed.contains("nothing was changed"), "{printed}");
    let output = ctl(&plant, &["state.import", "--file", "/dev/null"]);
    assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(kept(&plant), before);
    let left: Vec<_> = std::fs::read_dir(plant.site.dir.path().join("state")).expect("a directory").flatten().collect();
    let left = left.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(
        !left.clone().any(|name| name == "import" || name.starts_with(".staging-")),
        "{:?}",
        left.collect::<Vec<_>>()
    );
}

#[test]
fn secrets_stay_and_the_broker_is_the_pages_business() {
    let plant = Plant::new("");
    let state = plant.site.dir.path().join("state");
    std::fs::create_dir_all(&state).expect("a directory");
    std::fs::write(
        state.join("broker.json"),
        json!({ "url": "mqtts://broker.plant", "username": "pi-1", "password": "s3cret-of-the-broker" }).to_string(),
    )
    .expect("written");
    let _agent = plant.start(|_| {});
    done(&ctl(&plant, &["state.export", "-o", "all.tar.gz"]));
    let members = members(&plant.site.dir.path().join("all.tar.gz"));
    for (name, bytes) in &members {
        assert!(!String::from_utf8_lossy(bytes).contains("s3cret"), "{name}");
    }
    let broker: Value = serde_json::from_slice(&members["broker.json"]).expect("JSON");
    assert_eq!(broker, json!({ "url": "mqtts://broker.plant:8883", "username": "pi-1", "needs_password": true }));

    // Over the broker nobody sends the agent to another one.
    let other = r#"{"url":"mqtt://elsewhere","username":null,"needs_password":false}"#;
    let archive = plant.site.dir.path().join("other.tar.gz");
    std::fs::write(&archive, archive_of(&with("broker.json", other))).expect("written");
    let printed = done(&ctl(&plant, &["state.import", "--file", "other.tar.gz"]));
    assert!(printed.contains("it can be changed on the agent's own page alone"), "{printed}");
    plant.heard.wait_for("it is taken", is_imported);
    let now = std::fs::read_to_string(state.join("broker.json")).expect("a file");
    assert!(now.contains("s3cret-of-the-broker") && !now.contains("elsewhere"));
}

/// What lies in a state directory but for what is written all the time, as text.
fn state_of(dir: &Path) -> Value {
    let now = chrono::Utc::now();
    let (store, lost) = StateStore::open(dir, now);
    assert_eq!(lost, None);
    let settings = store.settings().expect("readable");
    let thresholds: BTreeMap<_, _> =
        settings.into_iter().map(|(id, settings)| (id, settings.threshold.map(|over| over.threshold))).collect();
    let machines: Vec<_> = store.machines().expect("readable").added.into_keys().collect();
    let mut proposals = BTreeMap::new();
    for machine in ["fan-1", "fan-2"] {
        let file = dir.join("baselines").join(machine).join("proposal.json");
        proposals.insert(machine, std::fs::read(&file).ok().map(|bytes| sha256(&bytes)));
    }
    json!({ "thresholds": thresholds, "machines": machines, "proposals": proposals })
}

/// Lays what is in `from` into `to`.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn an_import_that_was_interrupted_is_taken_from_the_beginning() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, now) = (dir.path().join("state"), chrono::Utc::now());
    std::fs::create_dir(&state).expect("a directory");
    let mut config = Config::default();
    config.agent.state_dir.clone_from(&state);
    let stage = |id: &str, threshold: f64| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&archive_with(id, threshold, &noise_baseline())).expect("written");
        Staged::new(&mut file, &config, false).expect("an export").place().expect("placed");
    };
    let taken = || take::take(&config, &mut StateStore::open(&state, now).0, now);
    assert!(taken().expect("nothing to take").is_none());
    stage("fan-1", 0.3);
    assert!(taken().expect("taken").is_some());
    let old = state_of(&state);
    assert_eq!((&old["machines"], &old["thresholds"]), (&json!(["fan-1"]), &json!({ "fan-1": 0.3 })));

    stage("fan-2", 0.7);
    let import = dir.path().join("aside");
    copy(&state.join("import"), &import);
    assert_eq!(state_of(&state), old, "only a start takes it");
    taken().expect("taken");
    let new = state_of(&state);
    assert_eq!((&new["machines"], &new["thresholds"]), (&json!(["fan-2"]), &json!({ "fan-2": 0.7 })));
    assert!(new["proposals"]["fan-1"].is_null() && new["proposals"]["fan-2"].is_string(), "{new}");
    // As if power had gone before the last of it was in place.
    std::fs::remove_dir_all(state.join("baselines")).expect("removed");
    std::fs::write(state.join("alarms.json"), "{}").expect("written");
    copy(&import, &state.join("import"));
    taken().expect("taken once more");
    assert_eq!(state_of(&state), new);
    assert!(taken().expect("it is gone").is_none());

    // What is damaged meanwhile changes nothing and is set aside.
    copy(&import, &state.join("import"));
    std::fs::write(state.join("import/seq.json"), "{\"fan-2\":1}").expect("written");
    let error = taken().expect_err("damaged");
    assert!(matches!(error, TakeError::Damaged(_)) && error.to_string().contains("seq.json"), "{error}");
    assert_eq!(state_of(&state), new);
    assert!(taken().expect("it is set aside").is_none());
}

#[test]
#[ignore = "heavy: forty imports that are killed, two minutes"]
fn a_kill_during_an_import_leaves_the_old_state_or_the_new_one() {
    let plant = Plant::new("");
    let state = plant.site.dir.path().join("state");
    let proposal = noise_baseline();
    let archives = [("fan-1", 0.3), ("fan-2", 0.7)];
    let archives = archives.map(|(id, threshold)| (id, archive_with(id, threshold, &proposal)));
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(plant.site.dir.path().join(format!("{name}.tar.gz")), bytes).expect("written");
    };
    archives.iter().for_each(|(id, bytes)| write(id, bytes));
    let agent = plant.start(|_| {});
    done(&ctl(&plant, &["state.import", "--file", "fan-1.tar.gz"]));
    plant.heard.wait_for("it is taken", is_imported);
    drop(agent);
    let mut states = [state_of(&state), Value::Null];
    let mut seen = [0, 0];
    let mut now = 0;
    for round in 0..40u64 {
        let (id, bytes) = &archives[1 - now];
        let agent = plant.start(|_| {});
        let command = json!({
            "command": "state.import", "id": format!("k{round}"), "sha256": sha256(bytes), "size": bytes.len(),
        });
        let mut piece = command.clone();
        piece["id"] = format!("p{round}").into();
        piece["offset"] = 0.into();
        piece["data"] = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes).into();
        plant.ok(piece);
        crate::agent_process::publish(&plant.broker, "auscult/pi-1/control", &command.to_string(), &[]);
        // Anywhere between the command's arrival and the agent's new beginning.
        random_moment(Duration::ZERO..Duration::from_millis(1700));
        drop(agent);
        let placed = state.join("import").exists();
        let _agent = plant.start(|_| {});
        drop(_agent);
        assert!(!state.join("import").exists());
        let found = state_of(&state);
        if found == states[now] {
            assert!(!placed, "what was in its place is taken at the next start");
            seen[0] += 1;
        } else {
            if states[1 - now].is_null() {
                assert!(found["machines"] == json!([id]) && found["thresholds"] == json!({ *id: 0.7 }), "{found}");
                assert!(found["proposals"][*id].is_string() && found["proposals"]["fan-1"].is_null(), "{found}");
                states[1 - now] = found.clone();
            }
            assert_eq!(found, states[1 - now], "never a mix");
            now = 1 - now;
            seen[1] += 1;
        }
    }
    println!("{} imports were lost with the process, {} were taken", seen[0], seen[1]);
    assert!(seen[1] > 0);
}
