//! A real mosquitto for one test, and a subscriber that checks every message against its JSON Schema. Both end with the
//! test, also when it panics.

use std::collections::HashMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use auscult::mqtt::payload;
use auscult::mqtt::topics::{AgentPart, MachinePart, Topic};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, SubscribeFilter};
use serde_json::{Value, json};

use super::kill_on_drop::KillOnDrop;
use super::wait::{TIMEOUT, pace, wait_until};

/// A port that was free a moment ago, on both loopback addresses, and that nobody else is given, in this process or in
/// another one of the tests: a test whose broker is away must not find another's in its place. It lies below those that the
/// system gives to outgoing connections: one of them could take it while a broker is being restarted.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 15_000..32_000;
    const BLOCK: u16 = 1000;
    // Each process has a block of ports for itself while it listens on the first of them.
    static MINE: LazyLock<TcpListener> = LazyLock::new(|| {
        let blocks = (PORTS.end - PORTS.start) / BLOCK;
        let begin = rand::random_range(0..blocks);
        (0..blocks)
            .map(|number| PORTS.start + (begin + number) % blocks * BLOCK)
            .find_map(|first| TcpListener::bind(("127.0.0.1", first)).ok())
            .expect("a block of ports that nobody has")
    });
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = MINE.local_addr().expect("a listener has an address").port();
    let free = |address: &str, port: u16| match TcpListener::bind((address, port)) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
    };
    (0..BLOCK)
        .map(|_| first + 1 + NEXT.fetch_add(1, Ordering::Relaxed) % (BLOCK - 1))
        .find(|port| free("127.0.0.1", *port) && free("::1", *port))
        .expect("a free port")
}

/// How a broker is set up.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// Keeps sessions and retained messages over `kill -9`; slow.
    pub persistence: bool,
    /// Further lines of the configuration, for the only listener. `{dir}` is the broker's own directory, `{port}` its
    /// port, `{port2}` another free one.
    pub config: String,
    /// `config` is the whole configuration.
    pub bare: bool,
    /// Puts files into the broker's directory before it starts.
    pub prepare: Option<fn(&Path)>,
    /// No anonymous clients; users come from `config`.
    pub login_only: bool,
    /// Listens on `::1` as well.
    pub ipv6: bool,
}

/// A running mosquitto.
pub struct Broker {
    dir: tempfile::TempDir,
    port: u16,
    port2: u16,
    child: Option<(Child, KillOnDrop)>,
}

impl Broker {
    /// With anonymous clients, without persistence.
    pub fn start() -> Broker {
        Broker::start_with(&BrokerOptions::default())
    }

    pub fn start_with(options: &BrokerOptions) -> Broker {
        for _ in 0..10 {
            let dir = tempfile::Builder::new().prefix("auscult-broker-").tempdir().expect("a temporary directory");
            if let Some(prepare) = options.prepare {
                prepare(dir.path());
            }
            let mut broker = Broker { dir, port: free_port(), port2: free_port(), child: None };
            broker.configure(options);
            if broker.try_run() {
                return broker;
            }
            eprintln!("mosquitto did not start on port {}: {}", broker.port, broker.log());
        }
        panic!("mosquitto does not start");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn port2(&self) -> u16 {
        self.port2
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Where its configuration is; files for `config` may be put here.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some((mut child, leash)) = self.child.take() {
            drop(leash);
            child.kill().expect("our own process");
            child.wait().expect("our own process");
        }
    }

    /// SIGHUP: reads access rules and passwords again.
    pub fn reload(&self) {
        let pid = self.child.as_ref().expect("it runs").0.id();
        let done = Command::new("kill").args(["-HUP", &pid.to_string()]).status().expect("kill");
        assert!(done.success());
    }

    /// Runs it again on the same port.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        wait_until("mosquitto runs again", || self.try_run());
    }

    /// Rewrites the configuration for the next restart.
    pub fn configure(&self, options: &BrokerOptions) {
        let fill = |text: &str| {
            text.replace("{dir}", &self.dir.path().display().to_string())
                .replace("{port}", &self.port.to_string())
                .replace("{port2}", &self.port2.to_string())
        };
        fs::write(self.dir.path().join("mosquitto.conf"), fill(&config(options))).expect("a configuration");
    }

    fn try_run(&mut self) -> bool {
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let before = self.log().len();
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log file");
        let mut child = Command::new(program)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("mosquitto: run tests/setup.sh");
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if child.try_wait().expect("our own process").is_some() {
                return false;
            }
            // Its own word, and not only an answer on the port: that could be another's.
            if self.log().get(before..).is_some_and(|printed| printed.contains(" running"))
                && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            {
                let leash = KillOnDrop::new(child.id(), Some(self.dir.path()));
                self.child = Some((child, leash));
                return true;
            }
            pace(Duration::from_millis(5));
        }
        child.kill().expect("our own process");
        child.wait().expect("our own process");
        false
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn config(options: &BrokerOptions) -> String {
    if options.bare {
        return options.config.clone();
    }
    let mut config = format!(
        "user root\nper_listener_settings false\nallow_anonymous {}\nmax_inflight_messages 0\nmax_queued_messages 0\n\
         set_tcp_nodelay true\n",
        !options.login_only
    );
    if options.persistence {
        config += "persistence true\npersistence_location {dir}/\nautosave_on_changes true\nautosave_interval 1\n";
    }
    config += &format!("listener {{port}} 127.0.0.1\n{}\n", options.config);
    if options.ipv6 {
        config += &format!("listener {{port}} ::1\n{}\n", options.config);
    }
    config
}

/// A message as a subscriber got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// It was kept by the broker from before the subscription.
    pub retained: bool,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.topic, String::from_utf8_lossy(&self.payload)))
    }

    /// What it is, below the root `auscult`.
    pub fn kind(&self) -> Option<Topic> {
        Topic::parse("auscult", &self.topic)
    }

    pub fn is_machine(&self, machine: &str, part: MachinePart) -> bool {
        matches!(self.kind(), Some(Topic::Machine { machine: m, part: p, .. }) if m == machine && p == part)
    }

    pub fn is_agent(&self, part: AgentPart) -> bool {
        matches!(self.kind(), Some(Topic::Agent { part: p, .. }) if p == part)
    }
}

/// Fields that came after version 0.1: what waits in its outbox is sent as it wrote it.
const LATER: [(&str, &[&str]); 2] = [
    ("verdict", &["learning_share", "alarm_windows", "text", "provisional", "adapted"]),
    ("alarm", &["text", "journal", "like", "provisional", "raised", "at"]),
];

/// JSON Schema of every payload, ready to check with.
pub struct Schemas(HashMap<&'static str, jsonschema::Validator>);

impl Schemas {
    pub fn new() -> Schemas {
        let compile = |(name, schema): (&'static str, schemars::Schema)| {
            (name, jsonschema::validator_for(schema.as_value()).expect("a valid schema"))
        };
        Schemas(payload::schemas().into_iter().map(compile).collect())
    }

    /// What is wrong with a message that auscult has sent; commands are others' words and may be anything.
    pub fn fault(&self, message: &Message) -> Option<String> {
        let name = match message.kind() {
            // Each topic's last part is its payload's name, but for `threshold/set`.
            Some(_) => match message.topic.rsplit('/').next().unwrap_or_default() {
                "set" => "threshold_set",
                name => name,
            },
            None if message.topic.starts_with("auscult/") => {
                return Some(format!("{}: no topic of ours", message.topic));
            }
            None if message.topic == "logs/app" => "compat",
            None => return None,
        };
        if matches!(name, "control" | "threshold_set") || message.payload.is_empty() {
            return None;
        }
        if name == "picture" {
            let is_png = message.payload.starts_with(b"\x89PNG\r\n\x1a\n");
            return (!is_png).then(|| format!("{}: no picture", message.topic));
        }
        let fault = self.fault_as(name, &message.payload)?;
        Some(format!("{}: {}: {fault}", message.topic, String::from_utf8_lossy(&message.payload)))
    }

    /// What is wrong with a payload of this name.
    pub fn fault_as(&self, name: &str, payload: &[u8]) -> Option<String> {
        match serde_json::from_slice::<Value>(payload) {
            Ok(mut json) => {
                let later = LATER.iter().find(|(of, _)| *of == name && json["late"] == true);
                for field in later.into_iter().flat_map(|(_, fields)| *fields) {
                    let none = if *field == "provisional" { Value::Bool(false) } else { Value::Null };
                    if let Some(fields) = json.as_object_mut() {
                        fields.entry(*field).or_insert(none);
                    }
                }
                self.0[name].validate(&json).err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

struct Heard {
    messages: Mutex<Vec<(Message, Instant)>>,
    faults: Mutex<Vec<String>>,
    news: Condvar,
    /// Times that the broker accepted the connection, and answered the subscription.
    connected: AtomicU64,
    subscribed: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    ending: AtomicBool,
}

/// Collects what goes over a broker, through its restarts, and checks every message against its schema.
pub struct Subscriber {
    client: Client,
    received: Arc<Heard>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Subscriber {
    /// Everything.
    pub fn start(broker: &Broker) -> Subscriber {
        Subscriber::of(broker, &["#"])
    }

    /// Some topics only.
    pub fn of(broker: &Broker, filters: &[&str]) -> Subscriber {
        Subscriber::start_with(MqttOptions::new(client_id(), "127.0.0.1", broker.port()), filters)
    }

    /// As another client, to other topics. The session is persistent.
    pub fn start_with(options: MqttOptions, filters: &[&str]) -> Subscriber {
        let subscriber = Subscriber::begin(options, filters);
        subscriber.wait_subscribed(1);
        subscriber
    }

    /// As [`Subscriber::start_with`], for a subscription that the broker may refuse.
    pub fn begin(mut options: MqttOptions, filters: &[&str]) -> Subscriber {
        options.set_clean_session(false).set_max_packet_size(64 << 20, 64 << 20).set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 100);
        let received = Arc::new(Heard {
            messages: Mutex::default(),
            faults: Mutex::default(),
            news: Condvar::new(),
            connected: AtomicU64::new(0),
            subscribed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        });
        let filters: Vec<_> =
            filters.iter().map(|filter| SubscribeFilter::new((*filter).to_owned(), QoS::AtLeastOnce)).collect();
        let thread = thread::spawn({
            let received = Arc::clone(&received);
            let client = client.clone();
            move || {
                let schemas = Schemas::new();
                for event in connection.iter() {
                    match event {
                        Ok(Event::Incoming(Packet::ConnAck(_))) => {
                            received.connected.fetch_add(1, Ordering::SeqCst);
                            client.try_subscribe_many(filters.clone()).expect("room for a subscription");
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => {
                            received.subscribed.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(Event::Incoming(Packet::PubAck(_))) => {
                            received.acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            let message = Message {
                                topic: publish.topic,
                                payload: publish.payload.to_vec(),
                                retained: publish.retain,
                            };
                            received.faults.lock().expect("no panic").extend(schemas.fault(&message));
                            received.messages.lock().expect("no panic").push((message, Instant::now()));
                            received.news.notify_all();
                        }
                        Ok(_) => {}
                        Err(_) if received.ending.load(Ordering::SeqCst) => return,
                        Err(_) => pace(Duration::from_millis(20)),
                    }
                }
            }
        });
        Subscriber { client, received, thread: Some(thread) }
    }

    /// Waits until the subscription was accepted so many times: after each restart of the broker once more.
    pub fn wait_subscribed(&self, times: u64) {
        wait_until("the subscription is accepted", || self.subscribed() >= times);
    }

    pub fn connected(&self) -> u64 {
        self.received.connected.load(Ordering::SeqCst)
    }

    pub fn subscribed(&self) -> u64 {
        self.received.subscribed.load(Ordering::SeqCst)
    }

    /// Publishes and waits for the acknowledgement.
    pub fn publish(&self, topic: &str, retain: bool, payload: impl Into<Vec<u8>>) {
        let before = self.received.acknowledged.load(Ordering::SeqCst);
        self.received.sent.fetch_add(1, Ordering::SeqCst);
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).expect("the client runs");
        wait_until("a message is acknowledged", || self.received.acknowledged.load(Ordering::SeqCst) > before);
    }

    /// What an agent that lost its connection leaves on the broker: `pi-3` with the machine `fan-d`.
    pub fn publish_gone_agent(&self) {
        let (ts, boot) = ("2026-03-01T12:00:00.000Z", "1");
        let status = json!({ "schema": 1, "state": "offline", "boot": boot, "ts": ts });
        let info = json!({
            "schema": 1, "ts": ts, "agent": "pi-3", "version": "0.1.0", "boot": boot, "bundle": null,
            "machines": ["fan-d"], "tags": [], "commands": [], "demo_bundle": false, "names": {},
        });
        self.publish("auscult/pi-3/status", true, status.to_string());
        self.publish("auscult/pi-3/info", true, info.to_string());
    }

    /// Publishes as fast as it can; waits for nothing.
    pub fn publish_fast(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.received.sent.fetch_add(1, Ordering::SeqCst);
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).expect("the client runs");
    }

    /// Messages that were published and not yet acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.received.sent.load(Ordering::SeqCst) - self.received.acknowledged.load(Ordering::SeqCst)
    }

    /// Everything so far; panics when a message does not fit its schema.
    pub fn messages(&self) -> Vec<Message> {
        self.messages_with_times().into_iter().map(|(message, _)| message).collect()
    }

    /// As [`Subscriber::messages`], with the moment at which each came.
    pub fn messages_with_times(&self) -> Vec<(Message, Instant)> {
        self.check();
        self.received.messages.lock().expect("no panic").clone()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        self.clear_but(|_| false);
    }

    /// Forgets everything so far but what `keep` accepts.
    pub fn clear_but(&self, keep: impl Fn(&Message) -> bool) {
        self.check();
        self.received.messages.lock().expect("no panic").retain(|(message, _)| keep(message));
    }

    /// Waits for the first message that `is` accepts, among those so far and those to come.
    pub fn wait_for(&self, what: &str, is: impl Fn(&Message) -> bool) -> Message {
        self.wait_for_count(what, 1, is).remove(0)
    }

    /// Waits until `count` messages are there that `is` accepts; answers them.
    pub fn wait_for_count(&self, what: &str, count: usize, is: impl Fn(&Message) -> bool) -> Vec<Message> {
        let deadline = Instant::now() + TIMEOUT;
        let mut messages = self.received.messages.lock().expect("no panic");
        loop {
            let all = messages.iter().map(|(message, _)| message);
            let found: Vec<Message> = all.filter(|message| is(message)).cloned().collect();
            if found.len() >= count {
                drop(messages);
                self.check();
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: {} of {count} came; {} messages in all", found.len(), messages.len());
            // Not at each single message: the search costs.
            messages = self.received.news.wait_timeout(messages, left).expect("no panic").0;
            drop(messages);
            pace(Duration::from_millis(5));
            messages = self.received.messages.lock().expect("no panic");
        }
    }

    fn check(&self) {
        let faults = self.received.faults.lock().expect("no panic");
        assert!(faults.is_empty(), "{} messages do not fit their schema, first {}", faults.len(), faults[0]);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.received.ending.store(true, Ordering::SeqCst);
        let _ = self.client.try_disconnect();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if !thread::panicking() {
            self.check();
        }
    }
}

fn client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
