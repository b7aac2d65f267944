//! What is sent over one accepted connection, in which order, and what of it is unacknowledged.
//!
//! Retained state goes first, then health, then live messages, then evidence, then the backlog: the messages from before
//! the connection, oldest first, throttled, and marked `late`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::holds::{Gate, Holds};
use super::subscriptions::Subscriptions;
use crate::mqtt::outbox::{OutboxReader, Row};
use crate::mqtt::payload::mark_late;
use crate::mqtt::shared::{MqttShared, StateSlot, Unstored};
use crate::mqtt::topics::AgentPart;
use crate::token_bucket::TokenBucket;

/// Messages that may be unacknowledged at once, and how many of them may be of the backlog.
pub const IN_FLIGHT: usize = 20;
const REPLAYED_IN_FLIGHT: usize = 10;

/// Messages of the backlog that may be sent at once after a quiet time.
const DRAIN_BURST: f64 = 16.0;

/// Messages of the backlog that are read at once.
const BACKLOG_PAGE: usize = 64;

/// The agent's own `online` must come back within this time; otherwise the broker's access rules are in the way.
pub const ECHO_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a status that did not come back is published again.
pub const ECHO_AGAIN: Duration = Duration::from_secs(10);

pub struct Link {
    pub since: Instant,
    pub echo: Echo,
    pub subscriptions: Subscriptions,
    /// There may be live messages to read.
    pub live_changed: bool,
    /// Messages with a smaller id existed before the connection: they are the backlog.
    backlog_end: i64,
    generation: u64,
    live_from: i64,
    live: VecDeque<Row>,
    backlog_from: i64,
    backlog: VecDeque<Row>,
    backlog_done: bool,
    throttle: TokenBucket,
    /// Messages that may be unacknowledged at once.
    most_in_flight: usize,
    /// Handed over, without a packet id yet, in order.
    handed_over: VecDeque<Handed>,
    /// By packet id.
    unacknowledged: HashMap<u16, Handed>,
    /// Those of the outbox among both, and those that wait for the next connection.
    ids: HashSet<i64>,
    replayed_in_flight: usize,
}

/// Whether the agent's own status came back from the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Echo {
    AwaitedUntil(Instant),
    Received,
    /// Published again at that time: somebody may have corrected the broker's rules.
    MissingUntil(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sent {
    Row {
        id: i64,
        replayed: bool,
    },
    /// State, health, evidence: sent again on the next connection, or not at all.
    Unstored,
    Stopped,
}

/// A message that was handed over to the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    pub topic: String,
    pub sent: Sent,
}

/// A message to hand over to the connection.
pub struct Outgoing {
    pub topic: String,
    pub retain: bool,
    pub payload: Vec<u8>,
    pub sent: Sent,
}

impl Link {
    /// `most_in_flight`: what the broker takes at once, if it says so.
    pub fn new(
        backlog_end: i64,
        generation: u64,
        drain_per_s: f64,
        subscriptions: Subscriptions,
        most_in_flight: Option<usize>,
    ) -> Self {
        let now = Instant::now();
        Link {
            since: now,
            echo: Echo::AwaitedUntil(now + ECHO_WITHIN),
            subscriptions,
            live_changed: true,
            backlog_end,
            generation,
            live_from: backlog_end,
            live: VecDeque::new(),
            backlog_from: i64::MIN,
            backlog: VecDeque::new(),
            backlog_done: false,
            throttle: TokenBucket::new(drain_per_s, DRAIN_BURST, now),
            most_in_flight: most_in_flight.map_or(IN_FLIGHT, |most| most.min(IN_FLIGHT)),
            handed_over: VecDeque::new(),
            unacknowledged: HashMap::new(),
            ids: HashSet::new(),
            replayed_in_flight: 0,
        }
    }

    /// Starts to read again when the store has become another file; what is in flight is not sent twice.
    pub fn follow(&mut self, generation: u64) {
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        self.read_again();
    }

    /// Begins to read from the start; what is in flight is not sent twice.
    pub fn read_again(&mut self) {
        self.live.clear();
        self.live_from = self.backlog_end;
        self.live_changed = true;
        self.backlog.clear();
        self.backlog_from = i64::MIN;
        self.backlog_done = false;
    }

    /// As [`Link::read_again`], with all that exists now as the backlog.
    pub fn begin_again(&mut self, backlog_end: i64) {
        self.backlog_end = backlog_end;
        self.read_again();
    }

    /// The message is not sent on this connection any more, and stays in the outbox.
    pub fn set_aside(&mut self, id: i64) {
        self.ids.insert(id);
    }

    /// Whether another message may be handed over; `alone`: only where none is in flight.
    pub fn has_room(&self, alone: bool) -> bool {
        self.in_flight() < if alone { 1 } else { self.most_in_flight }
    }

    /// What is on its way.
    pub fn handed(&self) -> Vec<Handed> {
        self.handed_over.iter().chain(self.unacknowledged.values()).cloned().collect()
    }

    pub fn in_flight(&self) -> usize {
        self.handed_over.len() + self.unacknowledged.len()
    }

    /// Whether all messages that could be read have been handed over.
    pub fn is_drained(&self) -> bool {
        !self.live_changed && self.live.is_empty() && self.backlog_done
    }

    /// When the next message of the backlog may be sent, if one waits for that.
    pub fn throttled_until(&self) -> Option<Instant> {
        let waits = !self.backlog.is_empty() && self.replayed_in_flight < REPLAYED_IN_FLIGHT;
        (waits && self.has_room(false)).then(|| self.throttle.ready_at())
    }

    pub fn handed_over(&mut self, topic: String, sent: Sent) {
        if let Sent::Row { id, replayed } = sent {
            self.ids.insert(id);
            self.replayed_in_flight += usize::from(replayed);
        }
        self.handed_over.push_back(Handed { topic, sent });
    }

    /// The oldest message without a packet id got this one.
    pub fn got_packet_id(&mut self, packet_id: u16) {
        if let Some(handed) = self.handed_over.pop_front() {
            self.unacknowledged.insert(packet_id, handed);
        }
    }

    /// The broker has answered this message.
    pub fn acknowledged(&mut self, packet_id: u16) -> Option<Handed> {
        let handed = self.unacknowledged.remove(&packet_id)?;
        if let Sent::Row { id, replayed } = handed.sent {
            self.ids.remove(&id);
            self.replayed_in_flight -= usize::from(replayed);
        }
        Some(handed)
    }

    /// The message that goes next.
    pub fn next(&mut self, shared: &MqttShared, reader: &mut OutboxReader, holds: &mut Holds) -> Option<Outgoing> {
        let unstored = |(topic, payload), retain| Outgoing { topic, retain, payload, sent: Sent::Unstored };
        let (status, now) = (shared.topics.of_agent(AgentPart::Status), Instant::now());
        if let Some((topic, payload)) = take_due(&mut shared.states.lock(), &status, holds, now) {
            holds.probe(&topic);
            return Some(unstored((topic, payload), true));
        }
        if let Some(message) = take_open(&mut shared.volatile.lock(), holds, now) {
            return Some(unstored(message, false));
        }
        // mosquitto acknowledges messages that its rules deny: stored ones stay on disk until the own status came back.
        if self.echo != Echo::Received {
            return None;
        }
        if let Some((row, gate)) = self.next_live(reader, holds, now) {
            let Row { id, topic, retain, mut payload, .. } = row;
            // What asks for a topic that was held back is old: newer ones wait behind it.
            let asks = gate == Gate::Probe;
            if asks {
                holds.probe(&topic);
                mark_late(&mut payload);
            }
            let retain = retain && !asks && !shared.retired.lock().contains(&topic);
            return Some(Outgoing { topic, retain, payload, sent: Sent::Row { id, replayed: false } });
        }
        // All that came before it has gone, so that the newest one stays retained.
        if let Some(verdict) = shared.verdict_due(|topic| holds.gate(topic, now) == Gate::Open) {
            return Some(unstored(verdict, true));
        }
        if let Some(message) = take_open(&mut shared.evidence.lock(), holds, now) {
            return Some(unstored(message, false));
        }
        let Row { id, topic, mut payload, .. } = self.next_of_backlog(reader, holds, now)?;
        holds.probe(&topic);
        mark_late(&mut payload);
        Some(Outgoing { topic, retain: false, payload, sent: Sent::Row { id, replayed: true } })
    }

    fn next_live(&mut self, reader: &mut OutboxReader, holds: &Holds, now: Instant) -> Option<(Row, Gate)> {
        loop {
            // What is held back stays in the outbox, and is read again when its time comes.
            while let Some(row) = self.live.pop_front() {
                let gate = holds.gate(&row.topic, now);
                if gate != Gate::Held {
                    return Some((row, gate));
                }
            }
            if !self.live_changed {
                return None;
            }
            let (rows, next) = reader.read(self.live_from, i64::MAX, IN_FLIGHT);
            self.live_changed = !rows.is_empty();
            self.live_from = next;
            self.live.extend(rows.into_iter().filter(|row| !self.ids.contains(&row.id)));
        }
    }

    fn next_of_backlog(&mut self, reader: &mut OutboxReader, holds: &Holds, now: Instant) -> Option<Row> {
        if self.backlog_done || self.replayed_in_flight >= REPLAYED_IN_FLIGHT {
            return None;
        }
        loop {
            while self.backlog.front().is_some_and(|row| holds.gate(&row.topic, now) == Gate::Held) {
                self.backlog.pop_front();
            }
            if !self.backlog.is_empty() {
                break;
            }
            // Asked before the read: a message that was just enqueued may not be on disk yet, and is then sent live.
            let complete = reader.can_read_before(self.backlog_end);
            let (rows, next) = reader.read(self.backlog_from, self.backlog_end, BACKLOG_PAGE);
            if rows.is_empty() {
                self.backlog_done = complete;
                return None;
            }
            self.backlog_from = next;
            self.backlog.extend(rows.into_iter().filter(|row| !self.ids.contains(&row.id)));
        }
        if !self.throttle.take(Instant::now()) {
            return None;
        }
        self.backlog.pop_front()
    }
}

/// The next of these messages whose topic is not held back; those before it are dropped, since they are worth sending only now.
fn take_open(waiting: &mut VecDeque<Unstored>, holds: &Holds, now: Instant) -> Option<Unstored> {
    std::iter::from_fn(|| waiting.pop_front()).find(|(topic, _)| holds.gate(topic, now) != Gate::Held)
}

/// The next state that is due and not held back, `first` before the others.
fn take_due(
    states: &mut BTreeMap<String, StateSlot>,
    first: &str,
    holds: &Holds,
    now: Instant,
) -> Option<(String, Vec<u8>)> {
    let is_due = |topic: &str, state: &StateSlot| state.due && holds.gate(topic, now) != Gate::Held;
    let topic = match states.get(first).is_some_and(|state| is_due(first, state)) {
        true => first.to_owned(),
        false => states.iter().find(|(topic, state)| is_due(topic, state)).map(|(topic, _)| topic.clone())?,
    };
    let state = states.get_mut(&topic)?;
    state.due = false;
    let payload = state.payload.clone();
    if payload.is_empty() {
        // Removing it once is enough.
        states.remove(&topic);
    }
    Some((topic, payload))
}
