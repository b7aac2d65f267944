//! The brokers of a plant with the configurations that `deploy/` has for them: mosquitto, and one or three nodes of NATS and
//! RabbitMQ, as Debian packs them. All ends with the test, also when it panics.

use std::cell::RefCell;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::broker::free_port;
use super::network::http_get;
use super::program::{ProgramGroup, done};
use super::wait::wait_or_explain;

/// Three RabbitMQs that start at once take this long on two busy cores.
const START: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mosquitto,
    Nats,
    RabbitMq,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Kind::Mosquitto => "mosquitto",
            Kind::Nats => "nats",
            Kind::RabbitMq => "rabbitmq",
        }
    }

    /// The name of the broker and its version, where there are so many nodes.
    pub fn version(self, nodes: usize) -> String {
        let package = |name: &str| {
            let version = done(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]));
            version.split('-').next().unwrap_or_default().to_owned()
        };
        match self {
            Kind::Mosquitto => format!("mosquitto {}", package("mosquitto")),
            Kind::Nats => {
                done(Command::new(nats_server(nodes)).arg("--version")).trim().replace("nats-server: v", "NATS ")
            }
            Kind::RabbitMq => format!("RabbitMQ {}", package("rabbitmq-server")),
        }
    }

    /// Whether somebody who is no agent logs in with a password, and not with a certificate.
    pub fn people_have_passwords(self) -> bool {
        self != Kind::Nats
    }
}

/// A file of `deploy/`.
pub fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// One node or three.
pub struct Cluster {
    pub kind: Kind,
    nodes: Vec<Node>,
    /// Erlang's name server, of these nodes alone.
    _names: Option<ProgramGroup>,
    dir: tempfile::TempDir,
}

struct Node {
    port: u16,
    /// For those who are no agents.
    people: u16,
    /// Where NATS says whether it has caught up.
    health: Option<u16>,
    command: Box<dyn Fn() -> Command>,
    running: Option<ProgramGroup>,
}

impl Cluster {
    /// So many nodes, for these agents, an operator and a viewer.
    pub fn start(kind: Kind, nodes: usize, agents: &[&str]) -> Cluster {
        let dir = tempfile::Builder::new().prefix("auscult-cluster-").tempdir().expect("a temporary directory");
        let list: String = agents.iter().map(|agent| format!("127.0.0.1 {agent} hall\n")).collect();
        fs::write(dir.path().join("fleet.txt"), list).expect("a writable file");
        set_up(kind, dir.path());
        let (nodes, names) = match kind {
            Kind::Mosquitto => (vec![mosquitto(dir.path())], None),
            Kind::Nats => (nats(dir.path(), nodes), None),
            Kind::RabbitMq => rabbitmq(dir.path(), nodes),
        };
        let mut cluster = Cluster { kind, nodes, _names: names, dir };
        let all = 0..cluster.nodes.len();
        for node in all.clone() {
            cluster.run(node);
            // Started at once, nodes of RabbitMQ 3.10 may not agree who keeps the clients' ids, and then one takes nobody.
            if kind == Kind::RabbitMq {
                cluster.wait(node);
            }
        }
        all.for_each(|node| cluster.wait(node));
        cluster
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// For those who are no agents.
    pub fn people_port(&self, node: usize) -> u16 {
        self.nodes[node].people
    }

    pub fn url(&self, node: usize) -> String {
        format!("mqtts://localhost:{}", self.port(node))
    }

    pub fn people_url(&self, node: usize) -> String {
        format!("mqtts://localhost:{}", self.people_port(node))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("certs").join(name)
    }

    /// Waits until every node has caught up with the others, so that any one may go: a second one that goes before takes from NATS
    /// what only those two had.
    pub fn caught_up(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(port) = node.health else { continue };
            let said = RefCell::new(String::new());
            let explain = || format!("node {number} has caught up: {}", said.take());
            wait_or_explain(START, explain, || {
                let answer = http_get(&format!("127.0.0.1:{port}"), "/healthz");
                let is_well = answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
                said.replace(format!("{answer:?}"));
                is_well
            });
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        assert!(self.nodes[node].running.take().is_some(), "it runs");
    }

    /// Starts it again, and waits until it answers.
    pub fn restart(&mut self, node: usize) {
        self.run(node);
        self.wait(node);
    }

    fn run(&mut self, node: usize) {
        let log = self.log_file(node);
        let command = (self.nodes[node].command)();
        self.nodes[node].running = Some(ProgramGroup::start(command, &log, self.dir.path()));
    }

    fn wait(&self, node: usize) {
        let explain =
            || format!("node {node} answers: {}", fs::read_to_string(self.log_file(node)).unwrap_or_default());
        let port = self.port(node);
        wait_or_explain(START, explain, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("log-{node}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 0..self.nodes.len() {
                // RabbitMQ writes the more telling one by itself.
                let own = self.dir.path().join(format!("rabbitmq-log-{node}/node-{node}@localhost.log"));
                for file in [self.log_file(node), own] {
                    let log = fs::read_to_string(file).unwrap_or_default();
                    let from = log.lines().count().saturating_sub(40);
                    let end: Vec<_> = log.lines().skip(from).collect();
                    eprintln!("the end of node {node}'s log:\n{}", end.join("\n"));
                }
            }
        }
    }
}

/// The code blocks of the README.md in `deploy/`, of one language.
pub fn readme(kind: Kind, language: &str) -> Vec<String> {
    let text = fs::read_to_string(deployed(kind.folder()).join("README.md")).expect("the README");
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

/// Types in how the README.md makes certificates and rights, with this machine's name instead of the nodes'.
fn set_up(kind: Kind, dir: &Path) {
    let rights = (kind != Kind::Mosquitto).then(|| format!("{}/rights.sh", kind.folder()));
    for script in ["mosquitto/certificates.sh".to_owned()].into_iter().chain(rights) {
        let script = deployed(&script);
        fs::copy(&script, dir.join(script.file_name().expect("a script"))).expect("a copy");
    }
    let commands = readme(kind, "sh").swap_remove(0);
    let names = match kind {
        Kind::Mosquitto => "broker.plant.example 192.0.2.10",
        Kind::Nats => "$node.plant.example",
        Kind::RabbitMq => "$node rabbit.plant.example",
    };
    assert!(commands.contains(names), "{commands}");
    let mut commands = commands
        .replace(names, if kind == Kind::Mosquitto { "localhost 127.0.0.1" } else { "$node localhost 127.0.0.1" })
        .replace("the-operators-password", "operator-secret")
        .replace("the-viewers-password", "viewer-secret");
    if kind == Kind::Mosquitto {
        commands += "while read -r address id tags; do ./certificates.sh agent \"$id\"; done < fleet.txt\n\
                     for name in operator viewer; do touch passwords; mosquitto_passwd -b passwords $name $name-secret; done\n";
    }
    done(Command::new("bash").args(["-euc", &commands]).current_dir(dir));
}

/// The file of `deploy/` with other words; each must be there.
fn adapted(path: &str, words: &[(&str, String)]) -> String {
    let text = fs::read_to_string(deployed(path)).expect("a file of deploy/");
    words.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{path} has no {from:?}");
        text.replace(from, to)
    })
}

/// Debian's, which puts it where not every user looks, and for several nodes that of Debian 13, which `tests/nats.sh` fetches where
/// the system's is older; `NATS_SERVER` names another one to try.
pub fn nats_server(nodes: usize) -> String {
    let newer = concat!(env!("CARGO_MANIFEST_DIR"), "/target/nats/nats-server");
    let known = [newer, "/usr/sbin/nats-server"].into_iter().skip(usize::from(nodes == 1));
    let found = || known.into_iter().find(|path| Path::new(path).exists()).unwrap_or("nats-server").to_owned();
    std::env::var("NATS_SERVER").unwrap_or_else(|_| found())
}

fn mosquitto(dir: &Path) -> Node {
    let (port, people) = (free_port(), free_port());
    let words = [
        ("listener 8883", format!("listener {port} 127.0.0.1")),
        ("listener 8884", format!("listener {people} 127.0.0.1")),
        ("/etc/mosquitto/auscult/acl", deployed("mosquitto/acl").display().to_string()),
        ("/etc/mosquitto/auscult/passwords", dir.join("passwords").display().to_string()),
        ("/etc/mosquitto/auscult", dir.join("certs").display().to_string()),
        // What the file advises against a power cut: killed, it would forget who has subscribed in the last minute, and
        // acknowledge what comes before they are back without having anybody to give it to.
        ("autosave_interval 60", "autosave_on_changes true\nautosave_interval 1".to_owned()),
    ];
    let config = dir.join("mosquitto.conf");
    // As Debian's own configuration begins.
    let begin = format!("persistence true\npersistence_location {}/\nuser root\n", dir.display());
    fs::write(&config, begin + &adapted("mosquitto/auscult.conf", &words)).expect("a writable file");
    let command = move || {
        let packaged = "/usr/sbin/mosquitto";
        let mut command = Command::new(if Path::new(packaged).exists() { packaged } else { "mosquitto" });
        command.arg("-c").arg(&config);
        command
    };
    Node { port, people, health: None, command: Box::new(command), running: None }
}

/// What a README.md says of one node alone: without the part that makes it one of three.
fn alone(text: &str, from: &str, to: &str) -> String {
    let (before, rest) = text.split_once(from).expect("the beginning of that part");
    let (_, after) = rest.split_once(to).expect("its end");
    format!("{before}{after}")
}

fn nats(dir: &Path, nodes: usize) -> Vec<Node> {
    let cluster: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
    let node = |number: usize| {
        let (port, health) = (free_port(), free_port());
        let (certs, store) = (dir.join("certs").display().to_string(), dir.join(format!("store-{number}")));
        let mut words = vec![
            ("/etc/nats/auscult/node", format!("{certs}/nats-{}", number + 1)),
            ("/etc/nats/auscult", certs),
            ("server_name: nats-1", format!("server_name: nats-{number}")),
            ("0.0.0.0:6222", format!("127.0.0.1:{}", cluster[number])),
            ("0.0.0.0:8883", format!("127.0.0.1:{port}")),
            ("127.0.0.1:4222", format!("127.0.0.1:{}", free_port())),
            ("127.0.0.1:8222", format!("127.0.0.1:{health}")),
            ("/var/lib/nats/auscult", store.display().to_string()),
        ];
        let routes = ["nats-1.plant.example:6222", "nats-2.plant.example:6222", "nats-3.plant.example:6222"];
        words.extend(routes.iter().zip(&cluster).map(|(name, port)| (*name, format!("localhost:{port}"))));
        let config = dir.join(format!("nats-{number}.conf"));
        let mut text = adapted("nats/auscult.conf", &words);
        if nodes == 1 {
            text = alone(&text, "cluster {", "\n}\n").replace("_replicas: 3", "_replicas: 1");
        }
        fs::write(&config, text).expect("a writable file");
        let command = move || {
            let mut command = Command::new(nats_server(nodes));
            command.arg("-c").arg(&config);
            command
        };
        Node { port, people: port, health: Some(health), command: Box::new(command), running: None }
    };
    (0..nodes).map(node).collect()
}

fn rabbitmq(dir: &Path, nodes: usize) -> (Vec<Node>, Option<ProgramGroup>) {
    // Nodes that share this know each other.
    fs::write(dir.join(".erlang.cookie"), "auscult-test").expect("a writable file");
    done(Command::new("chmod").arg("400").arg(dir.join(".erlang.cookie")));
    let names_port = free_port().to_string();
    let mut names = Command::new("epmd");
    names.args(["-port", &names_port, "-address", "127.0.0.1"]);
    let names = ProgramGroup::start(names, &dir.join("log-names"), dir);
    let node = |number: usize| {
        let port = free_port();
        let certs = dir.join("certs").display().to_string();
        let words = [
            ("/etc/rabbitmq/auscult/node", format!("{certs}/rabbit-{}", number + 1)),
            ("/etc/rabbitmq/auscult/definitions.json", dir.join("definitions.json").display().to_string()),
            ("/etc/rabbitmq/auscult/ca.pem", format!("{certs}/ca.pem")),
            ("rabbit@rabbit-1", "node-0@localhost".into()),
            ("rabbit@rabbit-2", "node-1@localhost".into()),
            ("rabbit@rabbit-3", "node-2@localhost".into()),
            ("mqtt.listeners.ssl.default = 8883", format!("mqtt.listeners.ssl.1 = 127.0.0.1:{port}")),
        ];
        let config = dir.join(format!("rabbitmq-{number}.conf"));
        let mut text = adapted("rabbitmq/rabbitmq.conf", &words);
        if nodes == 1 {
            text = alone(&text, "cluster_formation.", "cluster_partition_handling = pause_minority\n");
        }
        fs::write(&config, text).expect("a writable file");
        let (dir, names_port, distribution) = (dir.to_owned(), names_port.clone(), free_port().to_string());
        let command = move || {
            let own = |name: &str| dir.join(format!("{name}-{number}"));
            let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
            command
                .env("HOME", &dir)
                .env("ERL_EPMD_PORT", &names_port)
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_NODENAME", format!("node-{number}@localhost"))
                .env("RABBITMQ_DIST_PORT", &distribution)
                .env("RABBITMQ_CONFIG_FILE", &config)
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", deployed("rabbitmq/enabled_plugins"))
                .env("RABBITMQ_MNESIA_BASE", own("mnesia"))
                .env("RABBITMQ_LOG_BASE", own("rabbitmq-log"))
                .env("RABBITMQ_PID_FILE", own("pid"))
                // On the loopback alone, and without spinning: the cores are few.
                .env(
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
                );
            command
        };
        Node { port, people: port, health: None, command: Box::new(command), running: None }
    };
    ((0..nodes).map(node).collect(), Some(names))
}
