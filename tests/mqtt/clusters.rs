//! A fleet on mosquitto and on one and three nodes of NATS and RabbitMQ, set up as `deploy/` has them: whole agents, commands,
//! and nodes that are killed. Each writes down what held; benches/brokers.py prints all of it as the table of docs/fleet.md.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use auscult::mqtt::tls::{TlsFiles, client_config};
use auscult::mqtt::topics::{AgentPart, MachinePart, Topic};
use rumqttc::{TlsConfiguration, Transport};
use serde_json::{Value, json};

use crate::common::broker::{Message, Subscriber};
use crate::common::bundles::{Parts, encoder};
use crate::common::cluster::{Cluster, Kind, readme};
use crate::common::program::{Program, done};
use crate::common::wait::{random_moment, wait_or_explain, wait_within};

const AGENTS: [&str; 3] = ["pi-1", "pi-2", "pi-3"];
/// A cluster without one of its nodes has found itself again by then.
const AGAIN: Duration = Duration::from_secs(120);
/// A command that is not answered by then is sent again.
const REPEATED_EVERY: Duration = Duration::from_secs(5);

/// A node of NATS that is busy with a new session's streams closes the connection: whoever it is comes again.
const NOT_YET: &str = "closed the connection before it accepted the login";

/// Runs a command until a node has taken its connection.
fn run(mut command: Command) -> Output {
    let mut output = None;
    wait_within(AGAIN, "a node takes the connection", || {
        let ended = command.output().expect("a program that starts");
        let taken = !String::from_utf8_lossy(&ended.stderr).contains(NOT_YET);
        output = taken.then_some(ended);
        taken
    });
    output.expect("it ended")
}

/// A running cluster with its fleet, and somebody who listens at each node. The cluster is dropped last: the agents' logs lie in
/// its directory, and are printed when a test fails.
struct Plant {
    agents: BTreeMap<&'static str, Program>,
    listeners: Vec<Subscriber>,
    cluster: Cluster,
    nodes: usize,
    wav: PathBuf,
    /// Commands that were sent, and those of them that had to be sent again.
    commands: (usize, usize),
    /// What was seen to hold, a line each.
    table: Vec<(String, String)>,
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn agent_of(message: &Message) -> Option<String> {
    match message.kind()? {
        Topic::Agent { agent, .. } | Topic::Machine { agent, .. } => Some(agent),
        Topic::FleetControl => None,
    }
}

/// A client of an operator or of an agent, whose certificate it shows where the broker wants one.
fn subscriber(cluster: &Cluster, id: &str, who: &str, node: usize, filter: &str) -> Subscriber {
    let by_password = cluster.kind.people_have_passwords() && !AGENTS.contains(&who);
    let port = if AGENTS.contains(&who) { cluster.port(node) } else { cluster.people_port(node) };
    let mut options = rumqttc::MqttOptions::new(id, "localhost", port);
    let pair = |ending: &str| (!by_password).then(|| cluster.file(&format!("{who}.{ending}")));
    let files = TlsFiles { ca: Some(cluster.file("ca.pem")), cert: pair("pem"), key: pair("key") };
    let config = client_config(&files).expect("certificates");
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    if by_password {
        options.set_credentials(who, format!("{who}-secret"));
    }
    Subscriber::start_with(options, &[filter])
}

/// The `url` of the README.md of these brokers: one for each node, on this machine.
fn urls(cluster: &Cluster, config: &str, nodes: impl Iterator<Item = usize>) -> String {
    let names = match cluster.kind {
        Kind::Mosquitto => vec!["mqtts://broker.plant.example:8883".to_owned()],
        Kind::Nats => (1..=3).map(|node| format!("mqtts://nats-{node}.plant.example:8883")).collect(),
        Kind::RabbitMq => (1..=3).map(|node| format!("mqtts://rabbit-{node}:8883")).collect(),
    };
    let line = config.lines().find(|line| line.starts_with("url = ")).expect("its brokers");
    assert!(names.iter().all(|name| line.contains(name)), "{line}");
    let urls: Vec<_> = nodes.map(|node| cluster.url(node)).collect();
    config.replace(line, &format!("url = {urls:?}"))
}

impl Plant {
    fn start(kind: Kind, nodes: usize) -> Option<Plant> {
        let wav = crate::common::shared()?.join("audio/mimii_fan_id_04_normal_00000126.wav");
        let cluster = Cluster::start(kind, nodes, &AGENTS);
        let listen = |node: usize| subscriber(&cluster, &format!("listener-{node}"), "operator", node, "auscult/#");
        let listeners = (0..nodes).map(listen).collect();
        let agents = BTreeMap::new();
        let mut plant = Plant { agents, listeners, cluster, nodes, wav, commands: (0, 0), table: Vec::new() };
        AGENTS.iter().for_each(|agent| plant.start_agent(agent));
        Some(plant)
    }

    fn dir(&self) -> &Path {
        self.cluster.dir()
    }

    fn saw(&mut self, what: &str, how: impl Into<String>) {
        self.table.push((what.into(), how.into()));
    }

    /// As the README.md has a Pi's configuration; each agent begins at another node.
    fn start_agent(&mut self, id: &'static str) {
        let number = AGENTS.iter().position(|agent| *agent == id).expect("one of them");
        let (dir, wav, kind) = (self.dir().join(id), &self.wav, self.cluster.kind);
        std::fs::create_dir_all(dir.join("bundles")).expect("a directory");
        let config = readme(kind, "toml").swap_remove(0);
        let config = urls(&self.cluster, &config, (0..self.nodes).map(|node| (number + node) % self.nodes));
        let tags = [&["north", "canary"][..], &["south"], &["north"]][number];
        let agent = format!("id = {id:?}\ntags = {tags:?}\nstate_dir = {:?}", dir.join("state"));
        let config = config
            .replace("id = \"pi-7\"", &agent)
            .replace("/etc/auscult/pi-7", &self.cluster.file(id).display().to_string())
            .replace("/etc/auscult/ca", &self.cluster.file("ca").display().to_string());
        let config = format!(
            "{config}keep_alive_s = 5\nwill_delay_s = 0\n[bundle]\npath = {:?}\n[encoder]\nengine = \"tract\"\n[[machine]]\nid = \"fan-1\"\n\
             hop_s = 0.5\nsource = {{ wav = {wav:?}, loop = true, realtime = true }}\n",
            dir.join("bundles/current"),
        );
        std::fs::write(dir.join("agent.toml"), config).expect("a writable file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.args(["run", "--config"]).arg(dir.join("agent.toml"));
        let log = dir.join(format!("log-{:08x}", rand::random::<u32>()));
        self.agents.insert(id, Program::start(&mut command, log));
    }

    /// Everything that came to anybody.
    fn messages(&self) -> Vec<Message> {
        self.listeners.iter().flat_map(Subscriber::messages).collect()
    }

    fn wait_for(&self, what: &str, is: impl Fn(&Message) -> bool) {
        wait_within(AGAIN, what, || self.messages().iter().any(&is));
    }

    /// The arguments with which `who` reaches a node.
    fn login(&self, who: &str, node: usize) -> Vec<String> {
        let file = |name: &str| self.cluster.file(name).display().to_string();
        let url = self.cluster.people_url(node);
        let mut arguments = vec!["--broker".into(), url, "--ca-file".into(), file("ca.pem")];
        if self.cluster.kind.people_have_passwords() {
            let password = self.dir().join(format!("{who}.password"));
            std::fs::write(&password, format!("{who}-secret\n")).expect("a writable file");
            let password = password.display().to_string();
            arguments.extend(["--username".into(), who.into(), "--password-file".into(), password]);
        } else {
            let (cert, key) = (file(&format!("{who}.pem")), file(&format!("{who}.key")));
            arguments.extend(["--cert-file".into(), cert, "--key-file".into(), key]);
        }
        arguments
    }

    fn ctl_as(&self, who: &str, node: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.arg("ctl").args(self.login(who, node)).args(arguments);
        run(command)
    }

    /// Who answers a command.
    fn ctl(&self, node: usize, arguments: &[&str]) -> BTreeSet<String> {
        let output = self.ctl_as("operator", node, &[arguments, &["--json", "--timeout", "60"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", printed(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let agent =
            |line: &str| serde_json::from_str::<Value>(line).expect("a reply")["agent"].as_str().map(str::to_owned);
        text.lines().filter_map(agent).collect()
    }

    /// Sends a command from a node, and waits until all of these have answered it. As `auscult ctl` it sends it again to those
    /// who have not: NATS 2.9 loses messages (docs/fleet.md).
    fn ask(&mut self, node: usize, topic: &str, who: &[&str]) {
        let id = format!("{:016x}", rand::random::<u64>());
        let command = json!({ "id": id, "command": "ping" }).to_string();
        let is_answer = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id;
        self.listeners[node].publish(topic, false, command.as_str());
        let (begin, mut again) = (Instant::now(), 0);
        wait_within(AGAIN, &format!("{who:?} answer a command on {topic}"), || {
            let answers = self.messages().into_iter().filter(is_answer);
            let answers = answers.inspect(|answer| assert_eq!(answer.json()["status"], "ok"));
            let answered: BTreeSet<_> = answers.filter_map(|message| agent_of(&message)).collect();
            let mut silent = who.iter().filter(|agent| !answered.contains(**agent)).peekable();
            let all = silent.peek().is_none();
            if !all && begin.elapsed() >= REPEATED_EVERY * (again + 1) {
                again += 1;
                silent.for_each(|agent| {
                    self.listeners[node].publish_fast(&format!("auscult/{agent}/control"), command.as_str());
                });
            }
            all
        });
        self.commands.0 += 1;
        self.commands.1 += usize::from(again > 0);
    }

    fn status_of(&self, agent: &str, state: &str) -> usize {
        let is = |message: &&Message| {
            message.is_agent(AgentPart::Status)
                && agent_of(message).as_deref() == Some(agent)
                && message.json()["state"] == state
        };
        self.messages().iter().filter(is).count()
    }

    /// `online` has come from it once more than `before` times.
    fn wait_online(&self, agent: &str, before: usize) {
        wait_within(AGAIN, &format!("{agent} is online"), || self.status_of(agent, "online") > before);
    }
}

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

/// A bundle in pieces, to the whole fleet; then another one in stages, with the lines of docs/fleet.md.
fn bundles(plant: &mut Plant, encoder: &[u8]) {
    let all: BTreeSet<String> = AGENTS.map(str::to_owned).into();
    let first = pack(plant, encoder, "1.0");
    assert_eq!(plant.ctl(plant.nodes - 1, &["--fleet", "bundle.install", "--file", &first]), all);
    plant.saw("a bundle in pieces to the fleet", "works");

    let second = pack(plant, encoder, "1.1");
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fleet.md")).expect("the page");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("auscult ctl ")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let line = line.replace("--url https://files.plant.example/bundle.tar.gz --sha256 SUM", "--file \"$ARCHIVE\"");
        let typed =
            format!("auscult() {{ shift; \"$PROGRAM\" ctl \"${{LOGIN[@]}}\" \"$@\"; }}; LOGIN=(\"$@\"); {line}");
        let mut command = Command::new("bash");
        command.args(["-ec", &typed, "typed"]).args(plant.login("operator", 0));
        command.env("PROGRAM", env!("CARGO_BIN_EXE_auscult")).env("ARCHIVE", &second);
        let output = run(command);
        assert!(output.status.success(), "{line}: {}", printed(&output));
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
    plant.listeners[0].publish("auscult/pi-3/control", false, json!({ "id": id, "command": "ping" }).to_string());
    plant.start_agent("pi-3");
    plant.wait_online("pi-3", online);
    plant.wait_for("the reply to a command from before", |message| {
        message.is_agent(AgentPart::Reply) && message.json()["id"] == id
    });
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
    let sharing = ["share-1", "share-2"].map(|id| subscriber(&plant.cluster, id, "operator", 0, filter));
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
    plant.saw("`$share/...`", if shared > 0 { "works" } else { "nothing is delivered" });
}

/// Every node is killed and comes back, `times` in all; meanwhile the fleet answers.
fn nodes_die(plant: &mut Plant, times: usize) {
    plant.commands = (0, 0);
    for time in 0..times {
        let node = time % plant.nodes;
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
    let what = format!("nodes killed and back: {times}; commands then that were answered");
    plant.saw(&what, format!("{sent} of {sent}, {again} of them only when sent again"));
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
    plant.saw("of them to each listener", each.join(", "));
}

/// A column of the table.
fn write_down(plant: &Plant) {
    let nodes = if plant.nodes == 1 { "one" } else { "three nodes" };
    let column = format!("{}, {nodes}", plant.cluster.kind.version());
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
    let (Some(encoder), Some(mut plant)) = (encoder(), Plant::start(kind, nodes)) else { return };
    commands_and_rights(&mut plant);
    bundles(&mut plant, &encoder);
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
