//! The agent's handle: what it publishes, and how a message reaches the outbox.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::broker::BrokerLink;
use super::client;
use super::client::stop::{Stop, StopReport};
use super::connection::MAX_MESSAGE_BYTES;
use super::incoming::{self, Incoming, IncomingReceiver};
use super::options::MqttOptions;
use super::outbox::{Class, Draft, Outbox, OutboxChange, OutboxOptions};
use super::payload::{
    AgentState, AlarmMsg, CompatRecord, EventKind, EventMsg, EvidenceMsg, Health, Info, MqttHealth, SettingsMsg,
    VerdictMsg, encode,
};
use super::shared::{MqttShared, StateSlot, Tap};
use super::topics::{AgentPart, AgentTopics, MachinePart};
use crate::clock::{self, Clock, ClockChange};

/// Health messages that may wait for the connection.
const VOLATILE_MESSAGES: usize = 4;

/// Parts of evidence that may wait for the connection: those of a few windows.
const EVIDENCE_MESSAGES: usize = 64;

/// The agent's handle to the broker. Cheap to clone; when the last one is dropped without [`Mqtt::stop`], the connection
/// is dropped too and the broker publishes `offline`.
#[derive(Clone)]
pub struct Mqtt {
    shared: Arc<MqttShared>,
    stop: mpsc::Sender<Stop>,
}

impl Mqtt {
    /// Opens the outbox and starts to connect, on its own threads, until [`Mqtt::stop`]. Also watches the system's
    /// clock through `clock`.
    ///
    /// # Errors
    /// A thread could not be started. A problem with disk, files or broker is logged, and tried again.
    pub fn start(options: MqttOptions, clock: Clock) -> std::io::Result<(Mqtt, IncomingReceiver)> {
        let (report, changes) = mpsc::unbounded_channel::<OutboxChange>();
        let outbox_options = OutboxOptions {
            dir: options.state_dir.clone(),
            bounds: options.bounds,
            clock: clock.clone(),
            least_seqs: options.least_seqs.clone(),
        };
        let outbox = Outbox::open(outbox_options, move |change| drop(report.send(change)))?;
        let (stop, stopped) = mpsc::channel(1);
        let (deliver, receiver) = incoming::channel();
        let topics = AgentTopics::new(&options.root, &options.agent);
        let (broker, brokers) = BrokerLink::new(options.broker.clone());
        let compat = options.compat_topic.clone();
        let shared = Arc::new(MqttShared::new(topics, clock, compat, broker, outbox, deliver.downgrade()));
        client::spawn(options, Arc::clone(&shared), deliver, changes, brokers, stopped)?;
        let mqtt = Mqtt { shared, stop };
        mqtt.watch_clock()?;
        Ok((mqtt, receiver))
    }

    /// Shows every message to `tap` from now on, beginning with `online`. Only the first call has an effect.
    pub fn set_tap(&self, tap: Tap) {
        if self.shared.tap.set(tap).is_ok() {
            self.shared.tap_status(AgentState::Online);
        }
    }

    /// Hands a control message that did not come from the broker to the agent; false when too many wait.
    pub fn deliver(&self, incoming: Incoming) -> bool {
        self.shared.deliver.try_send(incoming)
    }

    /// The broker that is in use, and the way to change it.
    pub fn broker(&self) -> Arc<BrokerLink> {
        Arc::clone(&self.shared.broker)
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

    /// Publishes a window's verdict and returns the `seq` that it got. Waits up to 5 s, once, where the disk has not taken
    /// the last 10 000 messages.
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
                payload: encode(&message),
            };
            shared.keep_verdict(&own);
            tapped = shared.tap.get().map(|tap| (tap, own.topic.clone(), own.payload.clone()));
            let compat = shared.compat_topic.as_ref().zip(CompatRecord::of(&message));
            let compat = compat.map(|(topic, record)| Draft {
                class: Class::Verdict,
                retain: false,
                topic: topic.clone(),
                payload: encode(&record),
            });
            std::iter::once(own).chain(compat).collect()
        });
        if let Some((tap, topic, payload)) = tapped {
            let retired = shared.retired.lock();
            if !retired.contains(&topic) {
                tap(&topic, &payload);
            }
        }
        given
    }

    /// Publishes status, info, settings, alarms and last verdicts once more, as they are.
    pub fn announce(&self) {
        self.shared.announce();
        self.shared.wake.notify_one();
    }

    /// A machine is removed: its retained state is cleared, and nothing that is still on its way becomes state again.
    pub fn retire_machine(&self, machine: &str) {
        let topics: Vec<_> = self.state_topics(machine).collect();
        let states = self.shared.states.lock();
        self.shared.retired.lock().extend(topics.iter().cloned());
        self.shared.verdicts.lock().retain(|topic, _| !topics.contains(topic));
        drop(states);
        for topic in topics {
            self.retained(topic, Vec::new());
        }
    }

    /// A machine of this id is there (again).
    pub fn admit_machine(&self, machine: &str) {
        let mut retired = self.shared.retired.lock();
        for topic in self.state_topics(machine) {
            retired.remove(&topic);
        }
    }

    /// Shows the picture of a machine's newest alarm, a PNG, until another takes its place.
    pub fn picture(&self, machine: &str, png: Vec<u8>) {
        let topic = self.shared.topics.of_machine(machine, MachinePart::Picture);
        let mut states = self.shared.states.lock();
        if png.len() <= MAX_MESSAGE_BYTES && !self.shared.retired.lock().contains(&topic) {
            states.insert(topic, StateSlot { payload: png, due: true });
            self.shared.wake.notify_one();
        }
    }

    /// Where a machine's retained state is.
    fn state_topics(&self, machine: &str) -> impl Iterator<Item = String> {
        let parts = [MachinePart::Verdict, MachinePart::Alarm, MachinePart::Settings, MachinePart::Picture];
        parts.map(|part| self.shared.topics.of_machine(machine, part)).into_iter()
    }

    /// Publishes a change of a machine's alarm, and keeps it as the machine's state.
    pub fn alarm(&self, message: &AlarmMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Alarm);
        let payload = encode(message);
        let mut states = self.shared.states.lock();
        if self.shared.retired.lock().contains(&topic) {
            return;
        }
        // Not due: the stored message publishes it. It is republished on every connection.
        states.insert(topic.clone(), StateSlot { payload: payload.clone(), due: false });
        self.shared.tap(&topic, &payload);
        drop(states);
        self.shared.outbox.push(Draft { class: Class::Last, retain: true, topic, payload });
    }

    /// Publishes an alarm's state as it was before the start: not a change, so not for the record.
    pub fn alarm_state(&self, message: &AlarmMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Alarm);
        self.retained(topic, encode(message));
    }

    pub fn event(&self, message: &EventMsg) {
        self.store(self.shared.event_draft(message));
    }

    /// Publishes an event of the whole agent, now.
    pub fn agent_event(&self, event: EventKind, detail: Option<String>) {
        self.shared.publish_event(event, detail);
    }

    /// Publishes an encoded [`Reply`](super::payload::Reply): the same command sent twice gets the same bytes twice.
    pub fn reply(&self, encoded: Vec<u8>) {
        let topic = self.shared.topics.of_agent(AgentPart::Reply);
        self.store(Draft { class: Class::Last, retain: false, topic, payload: encoded });
    }

    pub fn settings(&self, message: &SettingsMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Settings);
        self.retained(topic, encode(message));
    }

    pub fn info(&self, message: &Info) {
        self.retained(self.shared.topics.of_agent(AgentPart::Info), encode(message));
    }

    /// Publishes health, unless there is no connection.
    pub fn health(&self, message: &Health) {
        let (topic, payload) = (self.shared.topics.of_agent(AgentPart::Health), encode(message));
        self.shared.tap(&topic, &payload);
        if !self.is_connected() {
            return;
        }
        let mut volatile = self.shared.volatile.lock();
        if volatile.len() >= VOLATILE_MESSAGES {
            volatile.pop_front();
        }
        volatile.push_back((topic, payload));
        drop(volatile);
        self.shared.wake.notify_one();
    }

    /// Publishes a part of the evidence that was asked for, unless there is no connection or too much waits already.
    pub fn evidence(&self, message: &EvidenceMsg) {
        let topic = self.shared.topics.of_machine(&message.machine, MachinePart::Evidence);
        let payload = encode(message);
        self.shared.tap(&topic, &payload);
        let mut waiting = self.shared.evidence.lock();
        if !self.is_connected() || waiting.len() >= EVIDENCE_MESSAGES {
            return;
        }
        waiting.push_back((topic, payload));
        drop(waiting);
        self.shared.wake.notify_one();
    }

    /// Publishes retained state on any topic, now and on every connection; an empty payload removes it.
    pub fn retained(&self, topic: String, payload: Vec<u8>) {
        self.shared.tap(&topic, &payload);
        self.shared.states.lock().insert(topic, StateSlot { payload, due: true });
        self.shared.wake.notify_one();
    }

    /// Whether this run has taken back what is retained on a topic.
    pub fn is_cleared(&self, topic: &str) -> bool {
        self.shared.states.lock().get(topic).is_some_and(|state| state.payload.is_empty())
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
            last_error: shared.last_error.lock().clone(),
            certificate_until: *shared.certificate_until.lock(),
            mqtt_version: Some(shared.version.load(Ordering::Relaxed)).filter(|version| *version > 0),
            refused: shared.refused.load(Ordering::Relaxed),
            denied: shared.denied.lock().clone(),
        }
    }

    /// Transactions with new messages since the start: each costs one fsync.
    pub fn commits(&self) -> u64 {
        self.shared.outbox.stats().commits
    }

    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Whether the client and the outbox run; without either, nothing is kept or sent any more.
    pub fn is_alive(&self) -> bool {
        !self.stop.is_closed() && self.shared.outbox.is_alive()
    }

    /// Sends what can be sent, publishes `stopped`, disconnects and closes the outbox, all within `limit`. Blocks; nothing
    /// may be published afterwards.
    pub fn stop(&self, limit: Duration) -> StopReport {
        self.shared.tap_status(AgentState::Stopped);
        let (done, report) = std::sync::mpsc::channel();
        if self.stop.try_send(Stop { limit, done }).is_err() {
            return StopReport::default();
        }
        report.recv_timeout(limit).unwrap_or_default()
    }

    fn store(&self, draft: Draft) {
        if draft.payload.len() > MAX_MESSAGE_BYTES {
            let (topic, bytes) = (&draft.topic, draft.payload.len());
            tracing::error!("a message for {topic} has {bytes} bytes, more than {MAX_MESSAGE_BYTES}: it is not sent");
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
                match &detail {
                    Some(detail) => tracing::warn!("{detail}"),
                    None => tracing::info!("the system clock is synchronised from here on"),
                }
                shared.publish_event(event, detail);
            }
            true
        })
    }
}
