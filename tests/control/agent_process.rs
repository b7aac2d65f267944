//! One agent as a user runs it, with sound that never ends, and `mosquitto_pub` to send it commands.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use auscult::mqtt::topics::{AgentPart, MachinePart};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::Parts;
use crate::common::wait::wait_until;

pub const NORMAL: &str = "audio/mimii_fan_id_04_normal_00000126.wav";

/// An agent's own directory; the agent is killed with it.
pub struct Site {
    pub id: String,
    pub dir: tempfile::TempDir,
    config: PathBuf,
    child: Option<Child>,
}

impl Site {
    /// Machines `fan-1` and `fan-2` of the bundle `bundles/current`, on a recording that begins again and again; a window
    /// each half second. `more` is TOML in front of the machines.
    pub fn new(id: &str, tag: &str, broker: &Broker, wav: &Path, more: &str) -> Site {
        Site::with_models(id, tag, broker, wav, more, ["fan-1", "fan-2"])
    }

    /// As [`Site::new`], with the bundle's names of both machines.
    pub fn with_models(id: &str, tag: &str, broker: &Broker, wav: &Path, more: &str, models: [&str; 2]) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (state, bundle) = (dir.path().join("state"), dir.path().join("bundles/current"));
        let mut text = format!(
            "[agent]\nid = {id:?}\ntags = [{tag:?}]\nstate_dir = {state:?}\n[mqtt]\nurl = {:?}\n\
             [encoder]\nengine = \"tract\"\n[bundle]\npath = {bundle:?}\n{more}\n",
            broker.url()
        );
        for (machine, model) in ["fan-1", "fan-2"].iter().zip(models) {
            text += &format!(
                "[[machine]]\nid = {machine:?}\nmodel = {model:?}\nhop_s = 0.5\n\
                 source = {{ wav = {wav:?}, loop = true, realtime = true }}\n"
            );
        }
        let config = dir.path().join("agent.toml");
        std::fs::write(&config, text).expect("a writable file");
        Site { id: id.into(), dir, config, child: None }
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes its configuration anew.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.config).expect("its configuration");
        std::fs::write(&self.config, change(text)).expect("a writable file");
    }

    pub fn bundles(&self) -> PathBuf {
        self.dir.path().join("bundles")
    }

    /// Lays a bundle below the root, without taking it into use.
    pub fn lay(&self, name: &str, parts: &Parts) {
        parts.write(&self.bundles().join(name));
    }

    /// Makes the bundle of that name the one in use, as by hand.
    pub fn link(&self, name: &str) {
        std::os::unix::fs::symlink(name, self.bundles().join("current")).expect("a link");
    }

    /// Starts the agent and waits until it takes commands.
    pub fn start(&mut self, subscriber: &Subscriber) {
        assert!(self.child.is_none(), "it still runs");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let child = Command::new(env!("CARGO_BIN_EXE_auscult"))
            .args(["run", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a writable file"))
            .spawn();
        self.child = Some(child.expect("auscult starts"));
        let online = |message: &Message| {
            message.is_agent(AgentPart::Status)
                && message.topic.contains(&format!("/{}/", self.id))
                && message.json()["state"] == "online"
        };
        // The will of the run before and its `online` are history.
        let before = subscriber.messages().iter().filter(|message| online(message)).count();
        subscriber.wait_for_count("the agent is online", before + 1, online);
    }

    /// `kill -9`, at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own process");
            child.wait().expect("our own process");
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Resident memory, MB.
    pub fn memory_mb(&self) -> f64 {
        let pid = self.child.as_ref().expect("it runs").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }

    pub fn control(&self) -> String {
        format!("auscult/{}/control", self.id)
    }

    /// Sends a command and waits for its reply; `id` must be new.
    pub fn ask(&self, broker: &Broker, subscriber: &Subscriber, command: Value) -> Value {
        publish(broker, &self.control(), &command.to_string(), &[]);
        self.reply(subscriber, command["id"].as_str().expect("an id"))
    }

    pub fn reply(&self, subscriber: &Subscriber, id: &str) -> Value {
        subscriber.wait_for(&format!("the reply to {id}"), |message| self.is_reply(message, id)).json()
    }

    pub fn is_reply(&self, message: &Message, id: &str) -> bool {
        message.is_agent(AgentPart::Reply)
            && message.topic.contains(&format!("/{}/", self.id))
            && message.json()["id"] == id
    }

    /// As [`Site::ask`], where the answer must be ok; its data.
    pub fn ask_ok(&self, broker: &Broker, subscriber: &Subscriber, command: Value) -> Value {
        let reply = self.ask(broker, subscriber, command);
        assert_eq!(reply["status"], "ok", "{reply}");
        reply["data"].clone()
    }

    /// As [`Site::ask`], where the answer must be an error of this code; its message.
    pub fn ask_error(&self, broker: &Broker, subscriber: &Subscriber, command: Value, code: &str) -> String {
        let reply = self.ask(broker, subscriber, command);
        assert_eq!(reply["error"]["code"], code, "{reply}");
        reply["error"]["message"].as_str().expect("a message").to_owned()
    }

    /// The first verdict of a window that ends after now: judged with all that was replied until now.
    pub fn next_verdict(&self, subscriber: &Subscriber, machine: &str) -> Value {
        // A window that ends now was not judged before the reply came; one that ended after the moment that the reply was
        // dated at may have been.
        let asked = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let next = |message: &Message| {
            message.is_machine(machine, MachinePart::Verdict)
                && !message.retained
                && message.json()["ts"].as_str().is_some_and(|ts| *ts > *asked)
        };
        subscriber.wait_for("a verdict after the reply", next).json()
    }

    /// What the agent says of itself.
    pub fn state(&self, broker: &Broker, subscriber: &Subscriber) -> Value {
        self.ask_ok(broker, subscriber, json!({ "id": new_id(), "command": "state.get" }))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.id, self.log());
        }
    }
}

/// `mosquitto_pub`, as a user would; the payload goes through its stdin.
pub fn publish(broker: &Broker, topic: &str, payload: &str, more: &[&str]) {
    let mut child = Command::new("mosquitto_pub")
        .args(["-p", &broker.port().to_string(), "-q", "1", "-t", topic, if payload.is_empty() { "-n" } else { "-s" }])
        .args(more)
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub: run tests/setup.sh");
    child.stdin.take().expect("a pipe").write_all(payload.as_bytes()).expect("it reads");
    assert!(child.wait().expect("our own process").success());
}

pub fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// `auscult ctl` against this broker, to its end.
pub fn ctl(broker: &Broker, arguments: &[&str]) -> Output {
    let url = broker.url();
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["ctl", "--broker", &url]).args(arguments).stdin(Stdio::null());
    command.output().expect("auscult starts")
}

/// The `.tar.gz` of a bundle.
pub fn tar_gz(parts: &Parts) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in &parts.0 {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).expect("a member");
    }
    archive.into_inner().and_then(|gz| gz.finish()).expect("an archive")
}

/// Serves one archive after the other over HTTP.
pub struct Shelf {
    pub address: String,
    archive: Arc<Mutex<Vec<u8>>>,
}

impl Shelf {
    pub fn new() -> Shelf {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let archive = Arc::new(Mutex::new(Vec::new()));
        let shelf = Shelf { address, archive: archive.clone() };
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    request.push(byte[0]);
                }
                let body: Vec<u8> = archive.lock().expect("no panic").clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // An agent that is killed meanwhile hangs up.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        shelf
    }

    /// Puts an archive there; where it is now, and its sha256.
    pub fn put(&self, archive: &[u8]) -> (String, String) {
        *self.archive.lock().expect("no panic") = archive.to_vec();
        (format!("http://{}/bundle.tar.gz", self.address), crate::common::bundles::sha256(archive))
    }

    /// The configuration that lets an agent download from here.
    pub fn allowed(&self) -> String {
        format!("allow_from = [{:?}]", self.address)
    }
}

/// Waits until the agent judges.
pub fn wait_judging(subscriber: &Subscriber, machine: &str) {
    let before = subscriber.messages().len();
    wait_until("verdicts come", || {
        subscriber.messages()[before..].iter().any(|message| message.is_machine(machine, MachinePart::Verdict))
    });
}
