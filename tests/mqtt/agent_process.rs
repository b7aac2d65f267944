//! `auscult run` as a whole, with simulated machines that run fast, and what is asked of it over MQTT.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use auscult::mqtt::payload::Health;
use auscult::mqtt::topics::AgentPart;
use serde_json::{Value, json};

use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::kill_on_drop::KillOnDrop;
use crate::common::wait::wait_until;
use crate::rig::{AGENT, state_dir};

/// A configuration in a directory of its own.
pub struct Site {
    pub dir: tempfile::TempDir,
    config: PathBuf,
    log: PathBuf,
}

impl Site {
    /// Machines `m0`, `m1`, ...: each has a window every 5 s / `speed`.
    pub fn new(url: &str, bundle: &Path, machines: usize, speed: f64) -> Site {
        let dir = state_dir();
        let state = dir.path().join("state");
        fs::create_dir(&state).expect("a directory");
        let mut text = format!(
            "[agent]\nid = {AGENT:?}\nstate_dir = {state:?}\n[mqtt]\nurl = {url:?}\nkeep_alive_s = 2\n\
             [bundle]\npath = {bundle:?}\n[encoder]\nengine = \"tract\"\n"
        );
        for number in 0..machines {
            text += &format!(
                "[[machine]]\nid = \"m{number}\"\nmodel = \"id_00\"\nthreshold = 0.5\n\
                 source = {{ synth = \"fan\", speed = {speed:?} }}\n"
            );
        }
        let (config, log) = (dir.path().join("agent.toml"), dir.path().join("log"));
        fs::write(&config, text).expect("a writable file");
        Site { dir, config, log }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn start(&self) -> Agent {
        self.start_with(|_| {})
    }

    /// With other surroundings.
    pub fn start_with(&self, change: impl FnOnce(&mut Command)) -> Agent {
        let log = File::create(&self.log).expect("a writable file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.args(["run", "--config"]).arg(&self.config).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        change(&mut command);
        let child = command.spawn().expect("auscult starts");
        let leash = KillOnDrop::new(child.id(), Some(self.dir.path()));
        Agent { leash: Some(leash), child, log: self.log.clone() }
    }

    /// What the agent, now stopped, keeps: the next `seq` of each machine and the messages that wait.
    pub fn kept(&self) -> (Vec<(String, u64)>, u64) {
        let store = rusqlite::Connection::open(self.state().join("outbox.sqlite")).expect("the outbox");
        let mut counters = store.prepare("SELECT name, value FROM counter WHERE name GLOB 'seq/*'").expect("a table");
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        let next = counters.query_map([], row).expect("counters").map(|row| row.expect("a row"));
        let next = next.map(|(name, next)| (name.trim_start_matches("seq/").to_owned(), next)).collect();
        let waiting: i64 = store.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).expect("a count");
        (next, waiting.unsigned_abs())
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    leash: Option<KillOnDrop>,
    child: Child,
    log: PathBuf,
}

impl Agent {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// It has heard itself over the broker, so it hears commands too.
    pub fn wait_connected(&self) {
        wait_until("the agent is connected", || self.log().contains("connected to mqtt"));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.leash = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, as from systemd; how it ended and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let mut ended = None;
        wait_until("the agent ends", || {
            ended = self.child.try_wait().expect("our own process");
            ended.is_some()
        });
        (ended.expect("it has ended"), begun.elapsed())
    }

    /// A clean stop.
    pub fn stop(self) {
        let (status, _) = self.terminate();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

/// What systemd would hear of an agent; read as it comes, for the socket holds only a few messages.
pub struct Notified {
    pub socket: PathBuf,
    received: Arc<Mutex<Vec<String>>>,
}

impl Notified {
    pub fn new(site: &Site) -> Notified {
        let path = site.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let received = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&received);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                tell.lock().expect("no panic").push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        Notified { socket: path, received }
    }

    /// Waits until so many messages with these words have come since [`Notified::forget`].
    pub fn wait_for(&self, words: &str, times: usize) {
        let count =
            || self.received.lock().expect("no panic").iter().filter(|received| received.contains(words)).count();
        wait_until(words, || count() >= times);
    }

    pub fn forget(&self) {
        self.received.lock().expect("no panic").clear();
    }
}

/// Sends a command; the reply.
pub fn ask(subscriber: &Subscriber, command: &str, arguments: Value) -> Value {
    let id = send(subscriber, command, arguments);
    subscriber.wait_for(command, |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id).json()
}

/// Waits until the agent takes commands again after a flood, of which it drops what its queue cannot hold.
pub fn wait_until_it_answers(subscriber: &Subscriber) {
    let mut sent = Vec::new();
    wait_until("an answer after the flood", || {
        sent.push(json!(send(subscriber, "ping", json!({}))));
        crate::common::wait::pace(Duration::from_millis(500));
        let all = subscriber.messages();
        all.iter().any(|message| message.is_agent(AgentPart::Reply) && sent.contains(&message.json()["id"]))
    });
}

fn send(subscriber: &Subscriber, command: &str, mut arguments: Value) -> String {
    let id = next_id();
    arguments["id"] = json!(id);
    arguments["command"] = json!(command);
    subscriber.publish(&format!("auscult/{AGENT}/control"), false, arguments.to_string());
    id
}

/// The agent's health, asked for.
pub fn health(subscriber: &Subscriber) -> Health {
    let reply = ask(subscriber, "health.get", json!({}));
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(reply["data"]["topic"], format!("auscult/{AGENT}/health"));
    // It goes out before the reply.
    let all = subscriber.messages();
    let of_reply = all.iter().position(|message| message.is_agent(AgentPart::Reply) && message.json() == reply);
    let before = &all[..of_reply.expect("it came")];
    read_health(before.iter().rfind(|message| message.is_agent(AgentPart::Health)).expect("health before its reply"))
}

pub fn read_health(message: &Message) -> Health {
    serde_json::from_slice(&message.payload).expect("health")
}

fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A subscriber to what the agent says, apart from what is said to it.
pub fn listener(broker: &Broker) -> Subscriber {
    let settings = rumqttc::MqttOptions::new(format!("listener-{}", next_id()), "127.0.0.1", broker.port());
    Subscriber::start_with(settings, &["auscult/+/health", "auscult/+/reply", "auscult/+/event", "auscult/+/+/+"])
}

/// Debian's libfaketime, as `tests/setup.sh` installs it.
pub fn faketime() -> PathBuf {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).is_file(), "{library} is missing: run tests/setup.sh");
    library.into()
}
