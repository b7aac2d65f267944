//! A fleet on mosquitto and on one and three nodes of NATS and RabbitMQ, set up as `deploy/` has them: whole agents, commands,
//! and nodes that are killed. Each writes down what held; benches/brokers.py prints all of it as the table of docs/fleet.md.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::json;

use crate::common::broker::{Message, Subscriber};
use crate::common::bundles::{Parts, encoder};
use crate::common::cluster::Kind;
use crate::common::program::{Program, done};
use crate::common::wait::{random_moment, wait_or_explain, wait_within};
use crate::plant::{AGAIN, AGENTS, NOT_YET, Plant, agent_of, login, printed, subscriber};

/// Retained messages, commands by agent, tag and fleet, `watch`, and rights.
fn commands_and_rights(plant: &mut Plant) {
    for agent in AGENTS {
        plant.wait_online(agent, 0);
        plant.wait_for("a verdict", |message| {
            message.is_machine("fan-1", MachinePart::Verdict) && agent_of(message).as_deref() == Some(agent)
        });
    }
    plant.ctl(0, &["--fleet", "health.get"]);
    let mut versions = BTreeSet::new();
    wait_within(AGAIN, "health", || {
        let health = plant.messages().into_iter().filter(|message| message.is_agent(AgentPart::Health));
        versions = health.filter_map(|message| message.json()["mqtt_version"].as_u64()).collect();
        !versions.is_empty()
    });
    let expected = if plant.cluster.kind == Kind::Mosquitto { 5 } else { 4 };
    assert_eq!(versions, BTreeSet::from([expected]));
    plant.saw("MQTT", if expected == 5 { "5" } else { "3.1.1" });

    let late = subscriber(&plant.cluster, "late", "operator", plant.nodes - 1, "auscult/+/status");
    // What it was not sent by now does not come: an answer of its own node came after it.
    plant.ask(plant.nodes - 1, "auscult/fleet/control", &AGENTS);
    let kept = late.messages().iter().filter(|message| message.retained).count();
    let expected = if plant.cluster.kind == Kind::RabbitMq { 0 } else { 3 };
    assert_eq!(kept, expected, "retained messages for a subscription with wildcards");
    plant.saw("retained, for a subscription with wildcards", format!("{kept} of 3"));

    let all: BTreeSet<String> = AGENTS.map(str::to_owned).into();
    for node in 0..plant.nodes {
        assert_eq!(plant.ctl(node, &["--fleet", "ping"]), all);
        assert_eq!(plant.ctl(node, &["--agent", "pi-2", "ping"]), BTreeSet::from(["pi-2".into()]));
    }
    let last = plant.nodes - 1;
    assert_eq!(plant.ctl(last, &["--fleet", "--tag", "south", "ping"]), BTreeSet::from(["pi-2".into()]));
    plant.saw("commands by agent, tag and fleet", "work");

    let mut watch = Command::new(env!("CARGO_BIN_EXE_auscult"));
    watch.args(["watch", "--json"]).args(plant.login("operator", last));
    let log = plant.dir().join("watch");
    let mut watching = Program::start(&mut watch, log.clone());
    wait_within(AGAIN, "watch knows every agent", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains(NOT_YET) {
            watching = Program::start(&mut watch, log.clone());
        }
        AGENTS.iter().all(|agent| {
            let has = |part: &str| text.contains(&format!("\"topic\":\"auscult/{agent}/{part}\""));
            has("info") && has("fan-1/settings") && has("fan-1/alarm")
        })
    });
    drop(watching);
    plant.saw("`ctl` and `watch` know all agents", if expected == 0 { "by `announce`" } else { "at once" });

    // A viewer sees and does not command; an agent writes below its own id only.
    let viewer = plant.ctl_as("viewer", 0, &["--agent", "pi-1", "--timeout", "8", "ping"]);
    assert_eq!(viewer.status.code(), Some(1), "{}", printed(&viewer));
    // A broker of MQTT 5 says so itself.
    let why = if plant.cluster.kind == Kind::Mosquitto { "not authorised" } else { "access rules" };
    assert!(printed(&viewer).contains(why), "{}", printed(&viewer));
    let stranger = subscriber(&plant.cluster, "auscult-check-0", "pi-3", 0, "auscult/pi-3/status");
    stranger.publish_fast("auscult/pi-1/fan-1/event", "{}");
    plant.ask(0, "auscult/fleet/control", &AGENTS);
    let forged = plant.messages().into_iter().find(|message| message.payload == b"{}");
    assert_eq!(forged, None, "pi-3 writes as pi-1");
    plant.saw("an agent writes below its own id only, a viewer commands nothing", "holds");
}

/// The archive of a bundle of this version.
fn pack(plant: &Plant, encoder: &[u8], version: &str) -> String {
    let (export, archive) = (plant.dir().join("export"), plant.dir().join(format!("fans-{version}.tar.gz")));
    let mut parts = Parts::valid(encoder);
    parts.manifest("fans", version, "");
    parts.write(&export);
    let mut pack = Command::new(env!("CARGO_BIN_EXE_auscult"));
    pack.args(["bundle", "pack", "--engine", "tract", "--name", "fans", "--bundle-version", version, "--out"]);
    done(pack.arg(&archive).arg(&export));
    archive.display().to_string()
}

/// The lines of a page that call `auscult ctl`, with those commands.
fn lines_of(page: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("the page");
    let lines = page.lines().filter(|line| line.starts_with("auscult ctl "));
    lines.filter(|line| is_wanted(line)).map(str::to_owned).collect()
}

/// What a person at a desk does with one agent, as docs/retuning.md has it.
fn retuning(plant: &mut Plant) {
    let commands = [
        " state.get",
        " health.get",
        " alarm.list ",
        " threshold.preview ",
        " threshold.set ",
        " threshold.get ",
        " threshold.reset ",
        " maintenance.set ",
    ];
    let is_wanted =
        |line: &str| line.contains("--agent pi-7 ") && commands.iter().any(|it| format!("{line} ").contains(it));
    let lines = lines_of("docs/retuning.md", is_wanted);
    assert!(commands.iter().all(|it| lines.iter().any(|line| format!("{line} ").contains(it))), "{lines:?}");
    for line in &lines {
        plant.type_in(&line.replace("pi-7", "pi-2").replace("blower-1", "fan-1"));
    }
    plant.saw("retuning one agent, as typed in docs/retuning.md", "works");
}

/// A bundle in pieces, to the whole fleet; then another one in stages, with the lines of docs/fleet.md.
fn bundles(plant: &mut Plant, encoder: &[u8]) {
    let all: BTreeSet<String> = AGENTS.map(str::to_owned).into();
    let first = pack(plant, encoder, "1.0");
    assert_eq!(plant.ctl(plant.nodes - 1, &["--fleet", "bundle.install", "--file", &first]), all);
    plant.saw("a bundle in pieces to the fleet", "works");

    let second = pack(plant, encoder, "1.1");
    let lines = lines_of("docs/fleet.md", |_| true);
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let file = format!("--file '{second}'");
        plant.type_in(&line.replace("--url https://files.plant.example/bundle.tar.gz --sha256 SUM", &file));
    }
    let bundle = |agent: &str| {
        let mut newest: Vec<_> = plant.messages();
        newest.retain(|message| message.is_agent(AgentPart::Info) && agent_of(message).as_deref() == Some(agent));
        let newest = newest.iter().map(Message::json).max_by_key(|info| info["ts"].as_str().map(str::to_owned));
        newest.map(|info| info["bundle"].clone())
    };
    wait_within(AGAIN, "the canary has the bundle before, the others the new one", || {
        bundle("pi-1") == Some("fans@1.0".into()) && bundle("pi-2") == Some("fans@1.1".into())
    });
    plant.saw("a bundle in stages, as typed in docs/fleet.md", "works");
}

/// The will, and a command for one that is away.
fn one_is_away(plant: &mut Plant) {
    let (online, offline) = (plant.status_of("pi-3", "online"), plant.status_of("pi-3", "offline"));
    plant.agents.remove("pi-3");
    wait_within(AGAIN, "the will", || plant.status_of("pi-3", "offline") > offline);
    plant.saw("will", "works");
    let id = "while-away";
    let command = json!({ "id": id, "command": "ping" }).to_string();
    plant.listeners[0].publish("auscult/pi-3/control", false, command.as_str());
    plant.start_agent("pi-3");
    plant.wait_online("pi-3", online);
    let again = plant.answered(0, id, &command, &["pi-3"]);
    assert_eq!(again, 0, "sent again");
    plant.saw("command while away", "done on return");
}

/// A '.' in a topic's part, and a subscription that two clients share.
fn dots_and_shares(plant: &mut Plant) {
    let kind = plant.cluster.kind;
    // The rights of RabbitMQ take it for the '/' that it becomes.
    let topic = if kind == Kind::RabbitMq { "auscult/pi-1.fan-1/threshold/set" } else { "auscult/pi.9/control" };
    let dots = subscriber(&plant.cluster, "dots", "operator", 0, "auscult/fleet/control");
    dots.publish_fast(topic, "0.3");
    let mut became = None;
    wait_within(AGAIN, "it comes, or the connection ends", || {
        let messages = plant.messages();
        let came = messages.iter().find(|message| message.payload == b"0.3");
        became = came.map(|message| message.topic.clone());
        became.is_some() || dots.connected() > 1
    });
    drop(dots);
    plant.saw(
        "`.` in `agent.id`",
        match became.as_deref() {
            None => "the connection is closed".to_owned(),
            Some(same) if same == topic => "works".to_owned(),
            Some(_) => "another topic: nothing arrives".to_owned(),
        },
    );
    if kind == Kind::Mosquitto {
        assert_eq!(became.as_deref(), Some(topic));
    } else if kind == Kind::RabbitMq {
        assert_eq!(became.as_deref(), Some("auscult/pi-1/fan-1/threshold/set"));
    }

    let filter = "$share/databases/auscult/+/+/verdict";
    let begin = |id: &str| Subscriber::begin(login(&plant.cluster, id, "operator", 0), &[filter]);
    let sharing = ["share-1", "share-2"].map(begin);
    let ended = || sharing.iter().any(|client| client.connected() > 1);
    let answered = || sharing.iter().all(|client| client.subscribed() > 0);
    wait_within(AGAIN, "the subscription is answered, or ends the connection", || ended() || answered());
    let verdicts = |messages: &[Message]| {
        let verdicts = messages.iter().filter(|message| message.is_machine("fan-1", MachinePart::Verdict));
        verdicts.filter(|message| !message.retained).count()
    };
    let before = verdicts(&plant.listeners[0].messages());
    wait_within(AGAIN, "verdicts come to others", || verdicts(&plant.listeners[0].messages()) >= before + 20);
    let shared: usize = sharing.iter().map(|client| verdicts(&client.messages())).sum();
    match kind {
        Kind::Mosquitto => assert!(shared >= 18 && sharing.iter().all(|client| verdicts(&client.messages()) > 0)),
        Kind::Nats | Kind::RabbitMq => assert_eq!(shared, 0, "docs/fleet.md says that it does not work"),
    }
    let how = match (shared > 0, ended()) {
        (true, _) => "works",
        (false, true) => "the connection is ended",
        (false, false) => "nothing is delivered",
    };
    drop(sharing);
    plant.saw("`$share/...`", how);
}

/// Every node is killed and comes back, `times` in all; meanwhile the fleet answers.
fn nodes_die(plant: &mut Plant, times: usize) {
    plant.commands = (0, 0);
    for time in 0..times {
        let node = time % plant.nodes;
        plant.cluster.caught_up();
        random_moment(Duration::ZERO..Duration::from_millis(800));
        let subscribed = plant.listeners[node].subscribed();
        plant.cluster.kill(node);
        if plant.nodes > 1 {
            plant.ask((node + 1) % plant.nodes, "auscult/fleet/control", &AGENTS);
        } else {
            // What is heard meanwhile waits with the agents.
            random_moment(Duration::from_millis(500)..Duration::from_millis(1500));
        }
        plant.cluster.restart(node);
        wait_within(AGAIN, "the node serves again", || plant.listeners[node].subscribed() > subscribed);
        plant.ask(node, "auscult/pi-2/control", &["pi-2"]);
    }
    let (sent, again) = plant.commands;
    plant.saw("nodes killed and back", times.to_string());
    plant.saw("commands then that were answered", format!("{sent} of {sent}, {again} only when sent again"));
}

/// What was given a number came to somebody, whatever died.
fn every_verdict_is_there(plant: &mut Plant) {
    for (id, agent) in std::mem::take(&mut plant.agents) {
        let log = agent.log();
        assert_eq!(agent.terminate(), Some(0));
        let log = std::fs::read_to_string(log).expect("its log");
        assert!(!log.contains("messages are kept on disk"), "{id} has messages that no broker took: {log}");
    }
    let of = |messages: &[Message]| {
        let mut seqs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for message in messages {
            if let (Some(agent), true) = (agent_of(message), message.is_machine("fan-1", MachinePart::Verdict)) {
                seqs.entry(agent).or_default().insert(message.json()["seq"].as_u64().expect("a number"));
            }
        }
        seqs
    };
    let missing = |seqs: &BTreeSet<u64>| {
        let last = seqs.last().copied().unwrap_or_default();
        (0..=last).filter(|seq| !seqs.contains(seq)).collect::<Vec<_>>()
    };
    let mut all = BTreeMap::new();
    let explain = Cell::new(String::new());
    wait_or_explain(
        AGAIN,
        || explain.take(),
        || {
            all = of(&plant.messages());
            explain.set(all.iter().map(|(agent, seqs)| format!("{agent} lacks {:?}; ", missing(seqs))).collect());
            all.len() == AGENTS.len() && all.values().all(|seqs| missing(seqs).is_empty())
        },
    );
    let count: usize = all.values().map(BTreeSet::len).sum();
    let late = |message: &Message| message.is_machine("fan-1", MachinePart::Verdict) && message.json()["late"] == true;
    assert!(plant.messages().iter().any(late), "what was heard without a connection comes late");
    plant.saw("verdicts that came, of all with a number", format!("{count} of {count}"));
    plant.saw("late delivery", "works");
    let each =
        plant.listeners.iter().map(|listener| of(&listener.messages()).values().map(BTreeSet::len).sum::<usize>());
    let each: Vec<_> = each.map(|came| came.to_string()).collect();
    plant.saw("of them to each subscriber of all nodes", each.join(", "));
}

/// A column of the table.
fn write_down(plant: &Plant) {
    let nodes = if plant.nodes == 1 { "one" } else { "three nodes" };
    let column = format!("{}, {nodes}", plant.cluster.kind.version(plant.nodes));
    println!("| | {column} |\n|---|---|");
    plant.table.iter().for_each(|(what, how)| println!("| {what} | {how} |"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("brokers");
    std::fs::create_dir_all(&folder).expect("a directory");
    let rows = json!({ "column": column, "rows": plant.table });
    std::fs::write(folder.join(format!("{column}.json")), rows.to_string()).expect("a writable file");
}

/// One node alone is killed less often than three: an agent whose connection is lost again and again waits longer and longer before
/// the next. `faults.rs` kills a mosquitto twenty times.
fn fleet_on(kind: Kind, nodes: usize, kills: usize) {
    // Two clusters at once are more than two cores bear: beside RabbitMQ, a NATS without one node once took more than two minutes.
    static THREE_NODES: Mutex<()> = Mutex::new(());
    let _alone = (nodes > 1).then(|| THREE_NODES.lock().unwrap_or_else(PoisonError::into_inner));
    let (Some(encoder), Some(mut plant)) = (encoder(), Plant::start(kind, nodes)) else { return };
    commands_and_rights(&mut plant);
    bundles(&mut plant, &encoder);
    retuning(&mut plant);
    one_is_away(&mut plant);
    dots_and_shares(&mut plant);
    nodes_die(&mut plant, kills);
    every_verdict_is_there(&mut plant);
    write_down(&plant);
}

#[test]
#[ignore = "heavy: a fleet, and a mosquitto that is killed"]
fn a_fleet_on_mosquitto_loses_nothing() {
    fleet_on(Kind::Mosquitto, 1, 3);
}

#[test]
#[ignore = "heavy: a NATS server that is killed"]
fn a_fleet_on_one_nats_server_loses_nothing() {
    fleet_on(Kind::Nats, 1, 1);
}

#[test]
#[ignore = "heavy: three NATS servers that are killed ten times"]
fn a_fleet_on_three_nats_servers_loses_nothing() {
    fleet_on(Kind::Nats, 3, 10);
}

#[test]
#[ignore = "heavy: a RabbitMQ broker that is killed"]
fn a_fleet_on_one_rabbitmq_broker_loses_nothing() {
    fleet_on(Kind::RabbitMq, 1, 1);
}

#[test]
#[ignore = "heavy: three RabbitMQ brokers that are killed ten times"]
fn a_fleet_on_three_rabbitmq_brokers_loses_nothing() {
    fleet_on(Kind::RabbitMq, 3, 10);
}
