//! What the agent's handle and the client's driver share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::broker::BrokerLink;
use super::incoming::WeakIncomingSender;
use super::outbox::{Class, Draft, Outbox};
use super::payload::status::{AgentState, Status};
use super::payload::version::SchemaVersion;
use super::payload::{EventKind, EventMsg, encode};
use super::topics::{AgentPart, AgentTopics, MachinePart};
use super::version::Version;
use crate::clock::{Clock, Timestamp};

/// A message that is not stored: topic and payload.
pub type Unstored = (String, Vec<u8>);

/// Sees every message of this agent when it is published, whether there is a broker or not: topic and payload. It must not
/// wait, nor publish.
pub type Tap = Box<dyn Fn(&str, &[u8]) + Send + Sync>;

pub struct MqttShared {
    pub topics: AgentTopics,
    /// Id of this start.
    pub boot: String,
    pub clock: Clock,
    pub compat_topic: Option<String>,
    pub broker: Arc<BrokerLink>,
    pub outbox: Outbox,
    /// Retained state: the newest payload of each topic, and whether it still has to be published.
    pub states: Mutex<BTreeMap<String, StateSlot>>,
    /// The newest verdict of each topic. Locked after `states` and `retired`.
    pub verdicts: Mutex<BTreeMap<String, StateSlot>>,
    /// Topics of machines that were removed: what is still on its way to them is sent, but not retained. Locked with
    /// nothing else but `states`, and after it.
    pub retired: Mutex<BTreeSet<String>>,
    /// Messages that are worth sending only now.
    pub volatile: Mutex<VecDeque<Unstored>>,
    /// As `volatile`, but sent only after everything else that is live.
    pub evidence: Mutex<VecDeque<Unstored>>,
    /// Wakes the driver.
    pub wake: Notify,
    pub connected: AtomicBool,
    /// Number of the version of MQTT that the connection speaks; 0 without one.
    pub version: AtomicU8,
    /// Messages that the broker will never take and that were given up since this start.
    pub refused: AtomicU64,
    /// Topics and filters that it denies at present.
    pub denied: Mutex<Vec<String>>,
    pub reconnects: AtomicU64,
    pub incoming_dropped: AtomicU64,
    pub last_error: Mutex<Option<String>>,
    /// When the first of the certificates that the connection needs ends.
    pub certificate_until: Mutex<Option<Timestamp>>,
    pub tap: OnceLock<Tap>,
    /// Weak, so that the receiver knows when the driver has ended.
    pub deliver: WeakIncomingSender,
}

pub struct StateSlot {
    pub payload: Vec<u8>,
    /// Whether it still has to be published on this connection.
    pub due: bool,
}

impl MqttShared {
    pub fn new(
        topics: AgentTopics,
        clock: Clock,
        compat_topic: Option<String>,
        broker: BrokerLink,
        outbox: Outbox,
        deliver: WeakIncomingSender,
    ) -> MqttShared {
        MqttShared {
            topics,
            boot: format!("{:016x}", rand::random::<u64>()),
            clock,
            compat_topic,
            broker: Arc::new(broker),
            outbox,
            states: Mutex::default(),
            verdicts: Mutex::default(),
            retired: Mutex::default(),
            volatile: Mutex::default(),
            evidence: Mutex::default(),
            wake: Notify::new(),
            connected: AtomicBool::new(false),
            version: AtomicU8::new(0),
            refused: AtomicU64::new(0),
            denied: Mutex::default(),
            reconnects: AtomicU64::new(0),
            incoming_dropped: AtomicU64::new(0),
            last_error: Mutex::default(),
            certificate_until: Mutex::default(),
            tap: OnceLock::new(),
            deliver,
        }
    }

    /// There is a connection, of this version.
    pub fn connected(&self, version: Version) {
        self.version.store(version.number(), Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
    }

    pub fn disconnected(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.version.store(0, Ordering::Relaxed);
    }

    /// The payload of `<agent>/status`, now.
    pub fn status(&self, state: AgentState) -> Vec<u8> {
        encode(&Status {
            schema: SchemaVersion,
            state,
            boot: self.boot.clone(),
            ts: self.clock.now(),
            clock: self.clock.mark(),
        })
    }

    pub fn tap(&self, topic: &str, payload: &[u8]) {
        if let Some(tap) = self.tap.get() {
            tap(topic, payload);
        }
    }

    pub fn tap_status(&self, state: AgentState) {
        self.tap(&self.topics.of_agent(AgentPart::Status), &self.status(state));
    }

    /// Sets `online` as the agent's status, to be published.
    pub fn publish_online(&self) {
        let online = StateSlot { payload: self.status(AgentState::Online), due: true };
        self.states.lock().insert(self.topics.of_agent(AgentPart::Status), online);
    }

    /// Marks all retained state as due: the broker or Home Assistant has started anew.
    pub fn republish_all(&self) {
        for state in self.states.lock().values_mut() {
            state.due = true;
        }
    }

    /// Marks the retained state of these topics as due.
    pub fn republish(&self, topics: &[String]) {
        let mut states = self.states.lock();
        for topic in topics {
            if let Some(state) = states.get_mut(topic) {
                state.due = true;
            }
        }
    }

    /// Marks what is retained of this agent as due, the machines' last verdicts too; not pictures, which are large.
    pub fn announce(&self) {
        let own = format!("{}/{}/", self.topics.root(), self.topics.agent());
        let picture = format!("/{}", MachinePart::Picture.as_str());
        for (topic, state) in self.states.lock().iter_mut() {
            state.due |= topic.starts_with(&own) && !topic.ends_with(&picture);
        }
        for verdict in self.verdicts.lock().values_mut() {
            verdict.due = true;
        }
    }

    /// Keeps a verdict, in case somebody asks for the last one. The outbox publishes it.
    pub fn keep_verdict(&self, draft: &Draft) {
        let slot = StateSlot { payload: draft.payload.clone(), due: false };
        self.verdicts.lock().insert(draft.topic.clone(), slot);
    }

    /// A verdict that is due again, of a topic that `may` be sent to.
    pub fn verdict_due(&self, may: impl Fn(&str) -> bool) -> Option<Unstored> {
        let retired = self.retired.lock();
        let mut verdicts = self.verdicts.lock();
        let is_due =
            |topic: &String, verdict: &StateSlot| verdict.due && !retired.contains(topic) && may(topic.as_str());
        let (topic, verdict) = verdicts.iter_mut().find(|(topic, verdict)| is_due(topic, verdict))?;
        verdict.due = false;
        Some((topic.clone(), verdict.payload.clone()))
    }

    pub fn event_draft(&self, message: &EventMsg) -> Draft {
        let topic = match &message.machine {
            Some(machine) => self.topics.of_machine(machine, MachinePart::Event),
            None => self.topics.of_agent(AgentPart::Event),
        };
        Draft { class: Class::Event, retain: false, topic, payload: encode(message) }
    }

    /// Publishes an event of the whole agent.
    pub fn publish_event(&self, event: EventKind, detail: Option<String>) {
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
