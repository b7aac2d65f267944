//! A fleet on one of the clusters of `common::cluster`: three agents as users run them, and somebody who listens at each node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use auscult::mqtt::tls::{TlsFiles, client_config};
use auscult::mqtt::topics::{AgentPart, Topic};
use rumqttc::{TlsConfiguration, Transport};
use serde_json::{Value, json};

use crate::common::broker::{Message, Subscriber};
use crate::common::cluster::{Cluster, Kind, readme};
use crate::common::program::Program;
use crate::common::wait::{wait_or_explain, wait_within};

pub const AGENTS: [&str; 3] = ["pi-1", "pi-2", "pi-3"];
/// A cluster without one of its nodes has found itself again by then.
pub const AGAIN: Duration = Duration::from_secs(120);
/// A command that is not answered by then is sent again.
pub const REPEATED_EVERY: Duration = Duration::from_secs(5);

/// A node of NATS that is busy with a new session's streams closes the connection: whoever it is comes again.
pub const NOT_YET: &str = "closed the connection before it accepted the login";

/// Runs a command until a node has taken its connection.
pub fn run(mut command: Command) -> Output {
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
pub struct Plant {
    pub agents: BTreeMap<&'static str, Program>,
    pub listeners: Vec<Subscriber>,
    pub cluster: Cluster,
    pub nodes: usize,
    pub wav: PathBuf,
    /// Commands that were sent, and those of them that had to be sent again.
    pub commands: (usize, usize),
    /// What was seen to hold, a line each.
    pub table: Vec<(String, String)>,
}

pub fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn agent_of(message: &Message) -> Option<String> {
    match message.kind()? {
        Topic::Agent { agent, .. } | Topic::Machine { agent, .. } => Some(agent),
        Topic::FleetControl => None,
    }
}

/// A client of an operator or of an agent, whose certificate it shows where the broker wants one.
pub fn subscriber(cluster: &Cluster, id: &str, who: &str, node: usize, filter: &str) -> Subscriber {
    let subscriber = Subscriber::begin(login(cluster, id, who, node), &[filter]);
    // Nodes that have just met take their time for a new session, as those that lack one of them do.
    let explain = || format!("{id} is subscribed to node {node}; it was connected {} times", subscriber.connected());
    wait_or_explain(AGAIN, explain, || subscriber.subscribed() > 0);
    subscriber
}

pub fn login(cluster: &Cluster, id: &str, who: &str, node: usize) -> rumqttc::MqttOptions {
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
    options
}

/// The `url` of the README.md of these brokers: one for each node, on this machine.
pub fn urls(cluster: &Cluster, config: &str, nodes: impl Iterator<Item = usize>) -> String {
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
    pub fn start(kind: Kind, nodes: usize) -> Option<Plant> {
        let wav = crate::common::shared()?.join("audio/mimii_fan_id_04_normal_00000126.wav");
        let cluster = Cluster::start(kind, nodes, &AGENTS);
        let listen = |node: usize| subscriber(&cluster, &format!("listener-{node}"), "operator", node, "auscult/#");
        let listeners = (0..nodes).map(listen).collect();
        let agents = BTreeMap::new();
        let mut plant = Plant { agents, listeners, cluster, nodes, wav, commands: (0, 0), table: Vec::new() };
        AGENTS.iter().for_each(|agent| plant.start_agent(agent));
        Some(plant)
    }

    pub fn dir(&self) -> &Path {
        self.cluster.dir()
    }

    pub fn saw(&mut self, what: &str, how: impl Into<String>) {
        self.table.push((what.into(), how.into()));
    }

    /// As the README.md has a Pi's configuration; each agent begins at another node.
    pub fn start_agent(&mut self, id: &'static str) {
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
    pub fn messages(&self) -> Vec<Message> {
        self.listeners.iter().flat_map(Subscriber::messages).collect()
    }

    pub fn wait_for(&self, what: &str, is: impl Fn(&Message) -> bool) {
        wait_within(AGAIN, what, || self.messages().iter().any(&is));
    }

    /// The arguments with which `who` reaches a node.
    pub fn login(&self, who: &str, node: usize) -> Vec<String> {
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

    pub fn ctl_as(&self, who: &str, node: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.arg("ctl").args(self.login(who, node)).args(arguments);
        run(command)
    }

    /// Types in a line of the docs that begins with `auscult ctl`, as the operator.
    pub fn type_in(&self, line: &str) {
        let typed =
            format!("auscult() {{ shift; \"$PROGRAM\" ctl \"${{LOGIN[@]}}\" \"$@\"; }}; LOGIN=(\"$@\"); {line}");
        let mut command = Command::new("bash");
        command.args(["-ec", &typed, "typed"]).args(self.login("operator", 0)).current_dir(self.dir());
        command.env("PROGRAM", env!("CARGO_BIN_EXE_auscult"));
        let output = run(command);
        assert!(output.status.success(), "{line}: {}", printed(&output));
    }

    /// Who answers a command.
    pub fn ctl(&self, node: usize, arguments: &[&str]) -> BTreeSet<String> {
        let output = self.ctl_as("operator", node, &[arguments, &["--json", "--timeout", "60"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", printed(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let agent =
            |line: &str| serde_json::from_str::<Value>(line).expect("a reply")["agent"].as_str().map(str::to_owned);
        text.lines().filter_map(agent).collect()
    }

    /// Sends a command from a node, and waits until all of these have answered it.
    pub fn ask(&mut self, node: usize, topic: &str, who: &[&str]) {
        let id = format!("{:016x}", rand::random::<u64>());
        let command = json!({ "id": id, "command": "ping" }).to_string();
        self.listeners[node].publish(topic, false, command.as_str());
        let again = self.answered(node, &id, &command, who);
        self.commands.0 += 1;
        self.commands.1 += usize::from(again > 0);
    }

    /// Waits until all of these have answered a command, and returns how often it had to be sent again. As `auscult ctl`
    /// that is done to those who have not: while nodes choose a leader nobody is served.
    pub fn answered(&self, node: usize, id: &str, command: &str, who: &[&str]) -> u32 {
        let is_answer = |message: &Message| message.is_agent(AgentPart::Reply) && message.json()["id"] == id;
        let (begin, mut again) = (Instant::now(), 0);
        wait_within(AGAIN, &format!("{who:?} answer {command}"), || {
            let answers = self.messages().into_iter().filter(is_answer);
            let answers = answers.inspect(|answer| assert_eq!(answer.json()["status"], "ok"));
            let answered: BTreeSet<_> = answers.filter_map(|message| agent_of(&message)).collect();
            let mut silent = who.iter().filter(|agent| !answered.contains(**agent)).peekable();
            let all = silent.peek().is_none();
            if !all && begin.elapsed() >= REPEATED_EVERY * (again + 1) {
                again += 1;
                silent.for_each(|agent| {
                    self.listeners[node].publish_fast(&format!("auscult/{agent}/control"), command);
                });
            }
            all
        });
        again
    }

    pub fn status_of(&self, agent: &str, state: &str) -> usize {
        let is = |message: &&Message| {
            message.is_agent(AgentPart::Status)
                && agent_of(message).as_deref() == Some(agent)
                && message.json()["state"] == state
        };
        self.messages().iter().filter(is).count()
    }

    /// `online` has come from it once more than `before` times.
    pub fn wait_online(&self, agent: &str, before: usize) {
        wait_within(AGAIN, &format!("{agent} is online"), || self.status_of(agent, "online") > before);
    }
}
