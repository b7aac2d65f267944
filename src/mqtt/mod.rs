//! MQTT: topics and payloads as types, the outbox on disk, the client that sends from it.
//!
//! ```text
//! agent -> Mqtt -> outbox (disk) -> client's driver -> connection (rumqttc) -> broker
//! agent <- Incoming <- - - - - - - - - - - driver <- connection
//! ```
//! [`Mqtt`] is the agent's handle: cheap to clone, its methods return at once and may be called from any thread.

pub mod address;
mod client;
pub mod config;
pub(crate) mod connection;
pub mod discovery;
pub mod fault;
pub mod outbox;
pub mod payload;
pub mod plain;
pub mod tls;
pub mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use self::address::BrokerUrls;
use self::config::{CompatConfig, HomeAssistantConfig, MqttConfig, OutboxConfig};
pub use self::connection::MAX_CONTROL_BYTES;
use self::outbox::{Bounds, Class, Draft, Outbox, OutboxChange, OutboxOptions};
use self::payload::{
    AlarmMsg, CompatRecord, EventKind, EventMsg, EvidenceMsg, Health, Info, MqttHealth, SchemaVersion, SettingsMsg,
    State, Status, VerdictMsg,
};
use self::tls::TlsFiles;
use self::topics::{AgentPart, AgentTopics, MachinePart, Topic};
use crate::clock::{self, Clock, ClockChange};
use crate::secret::Secret;

/// Control messages that may wait for the agent; further ones are dropped and counted.
const INCOMING_MESSAGES: usize = 64;
const INCOMING_BYTES: usize = 4 << 20;

/// Health messages that may wait for the connection.
const VOLATILE_MESSAGES: usize = 4;

/// Parts of evidence that may wait for the connection: of a few windows.
const EVIDENCE_MESSAGES: usize = 64;

/// No message is larger than this; brokers refuse far smaller ones, and one that is refused must not block the rest.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// How the client is set up.
#[derive(Debug, Clone)]
pub struct MqttOptions {
    pub agent: String,
    pub root: String,
    /// Tried in turn.
    pub urls: BrokerUrls,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Read at each connection; its first line is the password.
    pub password_file: Option<PathBuf>,
    pub tls: TlsFiles,
    /// A silent connection is given up after one and a half of it.
    pub keep_alive: Duration,
    /// Shortest and longest pause between two attempts to connect.
    pub pause: (Duration, Duration),
    /// Most messages a second that are sent from before the connection.
    pub drain_per_s: f64,
    /// Topic that each verdict also goes to as the original wrote it.
    pub compat_topic: Option<String>,
    /// Topic where Home Assistant says `online` when it has started: then it is told everything again.
    pub homeassistant_status: Option<String>,
    /// Directory of the outbox.
    pub state_dir: PathBuf,
    pub bounds: Bounds,
}

impl MqttOptions {
    /// The options of agent `agent`, whose outbox lies in `state_dir`, from the sections of its configuration.
    pub fn from_config(
        agent: &str,
        state_dir: &Path,
        mqtt: &MqttConfig,
        outbox: &OutboxConfig,
        compat: &CompatConfig,
        homeassistant: &HomeAssistantConfig,
    ) -> Self {
        MqttOptions {
            agent: agent.to_owned(),
            root: mqtt.root.clone(),
            urls: mqtt.url.clone(),
            username: mqtt.username.clone(),
            password: mqtt.password.clone(),
            password_file: mqtt.password_file.clone(),
            tls: TlsFiles::from_config(mqtt),
            keep_alive: Duration::from_secs(mqtt.keep_alive_s),
            pause: (Duration::from_secs(1), Duration::from_secs(60)),
            drain_per_s: outbox.drain_per_s,
            compat_topic: compat.escoita_topic.clone(),
            homeassistant_status: homeassistant.status_topic(),
            state_dir: state_dir.to_owned(),
            bounds: Bounds { max_bytes: outbox.max_mb * 1_000_000, max_age_s: (outbox.max_age_days * 86_400.0) as i64 },
        }
    }
}

/// A message on one of the topics that the agent takes commands from.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// `<agent>/control`, `fleet/control` or `<agent>/<machine>/threshold/set`.
    pub topic: Topic,
    /// The payload, or only its length where it is over [`MAX_CONTROL_BYTES`].
    pub payload: Result<Vec<u8>, usize>,
    pub retained: bool,
}

/// Where the agent takes control messages from.
pub struct IncomingReceiver {
    receiver: mpsc::Receiver<Incoming>,
    bytes: Arc<AtomicUsize>,
}

impl IncomingReceiver {
    /// The next message; `None` when the client has stopped. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Incoming> {
        let incoming = self.receiver.recv().await?;
        Some(self.taken(incoming))
    }

    /// As [`IncomingReceiver::recv`], for a thread without a runtime.
    pub fn blocking_recv(&mut self) -> Option<Incoming> {
        let incoming = self.receiver.blocking_recv()?;
        Some(self.taken(incoming))
    }

    fn taken(&self, incoming: Incoming) -> Incoming {
        self.bytes.fetch_sub(payload_bytes(&incoming), Ordering::Relaxed);
        incoming
    }
}

fn payload_bytes(incoming: &Incoming) -> usize {
    incoming.payload.as_ref().map_or(0, Vec::len)
}

/// How a stop went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopReport {
    /// The broker has acknowledged `stopped`.
    pub said_stopped: bool,
    /// Messages that wait on disk for the next start.
    pub left: u64,
}

struct Stop {
    limit: Duration,
    done: std::sync::mpsc::Sender<StopReport>,
}

/// Sees every message of this agent when it is published, whether there is a broker or not: topic and payload. It must not
/// wait, nor publish.
pub type Tap = Box<dyn Fn(&str, &[u8]) + Send + Sync>;

/// What handle and driver share.
struct Shared {
    topics: AgentTopics,
    boot: String,
    clock: Clock,
    compat_topic: Option<String>,
    outbox: Outbox,
    /// Retained state: the newest payload of each topic, and whether the broker still has to get it.
    states: Mutex<BTreeMap<String, StateSlot>>,
    /// What is worth sending only now.
    volatile: Mutex<VecDeque<(String, Vec<u8>)>>,
    /// As that, but never before anything else that is news.
    evidence: Mutex<VecDeque<(String, Vec<u8>)>>,
    /// Wakes the driver.
    poke: Notify,
    connected: AtomicBool,
    reconnects: AtomicU64,
    incoming_dropped: AtomicU64,
    incoming_bytes: Arc<AtomicUsize>,
    last_error: Mutex<Option<String>>,
    tap: OnceLock<Tap>,
    /// Weak, so that the receiver knows when the driver has ended.
    deliver: mpsc::WeakSender<Incoming>,
}

struct StateSlot {
    payload: Vec<u8>,
    due: bool,
}

/// A panic while a lock was held leaves nothing half done here: single insertions and removals.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent's handle to the broker. Cheap to clone; when the last one goes without [`Mqtt::stop`], the connection is
/// dropped and the broker says `offline`.
#[derive(Clone)]
pub struct Mqtt {
    shared: Arc<Shared>,
    stop: mpsc::Sender<Stop>,
}

impl Mqtt {
    /// Opens the outbox and begins to connect, on threads of its own; goes on until [`Mqtt::stop`]. Also watches the
    /// system's clock through `clock`.
    ///
    /// # Errors
    /// A thread could not be started. Whatever is wrong with disk, files or broker is said, and tried again.
    pub fn start(options: MqttOptions, clock: Clock) -> std::io::Result<(Mqtt, IncomingReceiver)> {
        let (tell_change, changes) = mpsc::unbounded_channel::<OutboxChange>();
        let outbox_options =
            OutboxOptions { dir: options.state_dir.clone(), bounds: options.bounds, clock: clock.clone() };
        let outbox = Outbox::open(outbox_options, move |change| drop(tell_change.send(change)))?;
        let (stop, stopped) = mpsc::channel(1);
        let (deliver, receiver) = mpsc::channel(INCOMING_MESSAGES);
        let incoming_bytes = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new(Shared {
            topics: AgentTopics::new(&options.root, &options.agent),
            boot: format!("{:016x}", rand::random::<u64>()),
            clock,
            compat_topic: options.compat_topic.clone(),
            outbox,
            states: Mutex::default(),
            volatile: Mutex::default(),
            evidence: Mutex::default(),
            poke: Notify::new(),
            connected: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
            incoming_dropped: AtomicU64::new(0),
            incoming_bytes: Arc::clone(&incoming_bytes),
            last_error: Mutex::default(),
            tap: OnceLock::new(),
            deliver: deliver.downgrade(),
        });
        client::spawn(options, Arc::clone(&shared), deliver, changes, stopped)?;
        let mqtt = Mqtt { shared, stop };
        mqtt.watch_clock()?;
        Ok((mqtt, IncomingReceiver { receiver, bytes: incoming_bytes }))
    }

    /// Shows every message to `tap` from now on, beginning with `online`. The first call counts.
    pub fn set_tap(&self, tap: Tap) {
        if self.shared.tap.set(tap).is_ok() {
            self.shared.tap_status(State::Online);
        }
    }

    /// Hands a control message that did not come from the broker to the agent; false when too many wait.
    pub fn deliver(&self, incoming: Incoming) -> bool {
        self.shared.deliver.upgrade().is_some_and(|deliver| self.shared.take_in(&deliver, incoming))
    }

    /// Id of this start.
    pub fn boot(&self) -> &str {
        &self.shared.boot
    }

    pub fn topics(&self) -> &AgentTopics {
        &self.shared.topics
    }

    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Publishes a window's verdict and answers the `seq` that it got. Waits up to 5 s while the disk cannot keep up.
    pub fn verdict(&self, mut message: VerdictMsg) -> u64 {
        let shared = &self.shared;
        let (mut given, mut tapped) = (0, None);
        let machine = message.machine.clone();
        shared.outbox.push_window(&machine, |seq| {
            given = seq;
            message.seq = seq;
            let own = Draft {
                class: Class::Verdict,
                retain: true,
                topic: shared.topics.of_machine(&machine, MachinePart::Verdict),
                payload: payload::encode(&message),
            };
            tapped = shared.tap.get().map(|tap| (tap, own.topic.clone(), own.payload.clone()));
            let compat = shared.compat_topic.as_ref().zip(CompatRecord::of(&message));
            let compat = compat.map(|(topic, record)| Draft {
                class: Class::Verdict,
                retain: false,
                topic: topic.clone(),
                payload: payload::encode(&record),
            });
            std::iter::once(own).chain(compat).collect()
        });
        if let Some((tap, topic, payload)) = tapped {
            tap(&topic, &payload);
        }
        given
    }

    /// Publishes a change of a machine's alarm, and keeps it as the machine's state.
    pub fn alarm(&self, message: &AlarmMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Alarm);
        let payload = payload::encode(message);
        // Not due: this message tells it. It is told again with each connection.
        lock(&self.shared.states).insert(topic.clone(), StateSlot { payload: payload.clone(), due: false });
        self.store(Draft { class: Class::Last, retain: true, topic, payload });
    }

    /// Publishes an alarm's state as it was before the start: no change, so nothing for the record.
    pub fn alarm_state(&self, message: &AlarmMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Alarm);
        self.retained(topic, payload::encode(message));
    }

    pub fn event(&self, message: &EventMsg) {
        self.store(self.shared.event_draft(message));
    }

    /// An event of the whole agent, now.
    pub fn agent_event(&self, event: EventKind, detail: Option<String>) {
        self.shared.publish_event(event, detail);
    }

    /// Publishes an encoded [`payload::Reply`]: the same command twice gets the same bytes twice.
    pub fn reply(&self, encoded: Vec<u8>) {
        let topic = self.shared.topics.of_agent(AgentPart::Reply);
        self.store(Draft { class: Class::Last, retain: false, topic, payload: encoded });
    }

    pub fn settings(&self, message: &SettingsMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Settings);
        self.retained(topic, payload::encode(message));
    }

    pub fn info(&self, message: &Info) {
        self.retained(self.shared.topics.of_agent(AgentPart::Info), payload::encode(message));
    }

    /// Publishes health, unless there is no connection.
    pub fn health(&self, message: &Health) {
        let (topic, payload) = (self.shared.topics.of_agent(AgentPart::Health), payload::encode(message));
        self.shared.tap(&topic, &payload);
        if !self.is_connected() {
            return;
        }
        let mut volatile = lock(&self.shared.volatile);
        if volatile.len() >= VOLATILE_MESSAGES {
            volatile.pop_front();
        }
        volatile.push_back((topic, payload));
        drop(volatile);
        self.shared.poke.notify_one();
    }

    /// Publishes a part of the evidence that was asked for, unless there is no connection or too much waits already.
    pub fn evidence(&self, message: &EvidenceMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Evidence);
        let payload = payload::encode(message);
        self.shared.tap(&topic, &payload);
        let mut waiting = lock(&self.shared.evidence);
        if !self.is_connected() || waiting.len() >= EVIDENCE_MESSAGES {
            return;
        }
        waiting.push_back((topic, payload));
        drop(waiting);
        self.shared.poke.notify_one();
    }

    /// Publishes retained state on any topic, now and with each connection; an empty payload takes it back.
    pub fn retained(&self, topic: String, payload: Vec<u8>) {
        self.shared.tap(&topic, &payload);
        lock(&self.shared.states).insert(topic, StateSlot { payload, due: true });
        self.shared.poke.notify_one();
    }

    /// The part of a health message that the outbox and the connection know.
    pub fn stats(&self) -> MqttHealth {
        let shared = &self.shared;
        let outbox = shared.outbox.stats();
        MqttHealth {
            outbox_depth: outbox.depth,
            outbox_bytes: outbox.bytes,
            outbox_state: outbox.state,
            outbox_error: outbox.error,
            dropped: outbox.dropped,
            reconnects: shared.reconnects.load(Ordering::Relaxed),
            incoming_dropped: shared.incoming_dropped.load(Ordering::Relaxed),
            last_error: lock(&shared.last_error).clone(),
        }
    }

    /// Transactions with new messages since the start: each costs one fsync.
    pub fn commits(&self) -> u64 {
        self.shared.outbox.stats().commits
    }

    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Whether the client and the outbox do their work; without either, nothing is kept or sent any more.
    pub fn is_alive(&self) -> bool {
        !self.stop.is_closed() && self.shared.outbox.is_alive()
    }

    /// Sends what can be sent, says `stopped`, disconnects and closes the outbox, all within `limit`. Blocks; nothing may
    /// be published afterwards.
    pub fn stop(&self, limit: Duration) -> StopReport {
        self.shared.tap_status(State::Stopped);
        let (done, report) = std::sync::mpsc::channel();
        if self.stop.try_send(Stop { limit, done }).is_err() {
            return StopReport::default();
        }
        report.recv_timeout(limit).unwrap_or_default()
    }

    fn store(&self, draft: Draft) {
        if draft.payload.len() > MAX_MESSAGE_BYTES {
            let (topic, bytes) = (&draft.topic, draft.payload.len());
            tracing::error!("a message for {topic} has {bytes} bytes, more than {MAX_MESSAGE_BYTES}: not sent");
            return;
        }
        self.shared.tap(&draft.topic, &draft.payload);
        self.shared.outbox.push(draft);
    }

    fn watch_clock(&self) -> std::io::Result<()> {
        let shared = Arc::downgrade(&self.shared);
        clock::watch_system_clock(self.shared.clock.clone(), move |changes| {
            let Some(shared) = shared.upgrade() else { return false };
            for change in changes {
                let (event, detail) = match change {
                    ClockChange::Jumped { by_s } => {
                        (EventKind::ClockJumped, Some(format!("the system clock moved by {by_s:+.1} s")))
                    }
                    ClockChange::Synchronised => (EventKind::ClockSynchronised, None),
                };
                tracing::warn!(?event, detail, "the system clock changed");
                shared.publish_event(event, detail);
            }
            true
        })
    }
}

impl Shared {
    /// Hands a control message to the agent; false where it cannot keep up.
    fn take_in(&self, deliver: &mpsc::Sender<Incoming>, incoming: Incoming) -> bool {
        let bytes = payload_bytes(&incoming);
        let room = self.incoming_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= INCOMING_BYTES;
        if room && deliver.try_send(incoming).is_ok() {
            return true;
        }
        self.incoming_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    fn status(&self, state: State) -> Vec<u8> {
        payload::encode(&Status {
            schema: SchemaVersion,
            state,
            boot: self.boot.clone(),
            ts: self.clock.now(),
            clock: self.clock.mark(),
        })
    }

    fn tap(&self, topic: &str, payload: &[u8]) {
        if let Some(tap) = self.tap.get() {
            tap(topic, payload);
        }
    }

    fn tap_status(&self, state: State) {
        self.tap(&self.topics.of_agent(AgentPart::Status), &self.status(state));
    }

    fn event_draft(&self, message: &EventMsg) -> Draft {
        let topic = match &message.machine {
            Some(machine) => self.topics.of_machine(machine, MachinePart::Event),
            None => self.topics.of_agent(AgentPart::Event),
        };
        Draft { class: Class::Event, retain: false, topic, payload: payload::encode(message) }
    }

    /// An event of the whole agent.
    fn publish_event(&self, event: EventKind, detail: Option<String>) {
        let message = EventMsg {
            schema: SchemaVersion,
            ts: self.clock.now(),
            agent: self.topics.agent().to_owned(),
            machine: None,
            event,
            detail,
            facts: serde_json::Map::new(),
            clock: self.clock.mark(),
            late: false,
        };
        let draft = self.event_draft(&message);
        self.tap(&draft.topic, &draft.payload);
        self.outbox.push_now(draft);
    }
}
