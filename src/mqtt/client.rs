//! The driver: keeps one connection to a broker, sends from the outbox, takes control messages in.
//!
//! It runs on a thread of its own, so that a slow disk or a flood of messages disturbs nobody else. What goes first:
//! retained state, then health, then live messages, then evidence, then those from before the connection, oldest first and throttled.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::connection::{Connection, Heard, Identity, MAX_CONTROL_BYTES, Received, login};
use super::outbox::{OutboxChange, OutboxReader, Row};
use super::payload::{self, EventKind, SchemaVersion, State, Status};
use super::topics::{AgentPart, Topic};
use super::{Incoming, MqttOptions, Shared, StateSlot, Stop, StopReport, fault, lock, tls};
use crate::backoff::Backoff;
use crate::systemd;
use crate::token_bucket::TokenBucket;

/// Messages that may be without acknowledgement at once, and how many of them may be late ones.
const IN_FLIGHT: usize = 20;
const LATE_IN_FLIGHT: usize = 10;

/// Messages from before the connection that may go at once after a rest.
const DRAIN_BURST: f64 = 16.0;

/// Messages from before the connection that are read at once.
const LATE_PAGE: usize = 64;

/// The agent hears its own `online` within this time, or the broker's access rules are in the way.
const ECHO_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a status that did not come back is published again.
const ECHO_AGAIN: Duration = Duration::from_secs(10);

const RULES: &str = "do the broker's access rules allow this agent to write and read it?";

/// Of a stop's time, what is kept for saying `stopped`, and then for closing the outbox.
const GOODBYE_TIME: Duration = Duration::from_millis(1500);
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// The same trouble with the same thing is said again after this time, if it still stands.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Troubles with one thing that are remembered as said.
const TROUBLES: usize = 16;

/// Between two words about dropped control messages.
const TELL_FLOOD_EVERY: Duration = Duration::from_secs(60);

/// Starts the driver on a thread of its own.
pub fn spawn(
    options: MqttOptions,
    shared: Arc<Shared>,
    deliver: mpsc::Sender<Incoming>,
    changes: mpsc::UnboundedReceiver<OutboxChange>,
    stop: mpsc::Receiver<Stop>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let driver = Driver {
        reader: shared.outbox.reader(),
        backoff: Backoff::new(options.pause.0, options.pause.1),
        options,
        shared,
        deliver,
        session: None,
        next_url: 0,
        connect_at: Instant::now(),
        was_connected: false,
        was_heard: false,
        stopping: None,
        faults: HashMap::new(),
        told_flood: None,
    };
    let thread = std::thread::Builder::new().name("mqtt".into());
    thread.spawn(move || runtime.block_on(driver.run(changes, stop))).map(drop)
}

struct Driver {
    options: MqttOptions,
    shared: Arc<Shared>,
    reader: OutboxReader,
    deliver: mpsc::Sender<Incoming>,
    session: Option<Session>,
    backoff: Backoff,
    next_url: usize,
    connect_at: Instant,
    was_connected: bool,
    /// The broker gave back what was published, once in this run.
    was_heard: bool,
    stopping: Option<Stopping>,
    /// What was said about each thing since it was last well, and when: trouble is said once, also when two kinds of it
    /// take turns.
    faults: HashMap<String, Vec<(String, Instant)>>,
    told_flood: Option<Instant>,
}

/// A connection, or an attempt at one.
struct Session {
    connection: Connection,
    url: String,
    last_heard: Instant,
    link: Option<Link>,
}

/// What is sent over one accepted connection.
struct Link {
    since: Instant,
    /// Messages with a smaller id were there before the connection: they are late.
    boundary: i64,
    generation: u64,
    live_from: i64,
    live: VecDeque<Row>,
    /// There may be live messages to read.
    live_news: bool,
    late_from: i64,
    late: VecDeque<Row>,
    late_done: bool,
    throttle: TokenBucket,
    /// Handed over, without a packet id yet, in order.
    handed_over: VecDeque<Sent>,
    /// By packet id.
    unacknowledged: HashMap<u16, Sent>,
    /// Those of the outbox among both.
    ids: HashSet<i64>,
    late_in_flight: usize,
    filters: Vec<String>,
    echo: Echo,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Echo {
    AwaitedUntil(Instant),
    Heard,
    /// Asked for again at that time: somebody may have mended the broker's rules.
    MissingUntil(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sent {
    Row {
        id: i64,
        late: bool,
    },
    /// State, health: sent again with the next connection, or not at all.
    Other,
    Stopped,
}

/// A clean stop in progress.
struct Stopping {
    stop: Stop,
    phase: Phase,
    /// The end of the present phase.
    until: Instant,
    end: Instant,
    said_stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Sends what there is.
    Drain,
    /// `stopped` is to be sent.
    SayStopped,
    AwaitAcknowledgement,
    /// DISCONNECT is on its way.
    Leave,
    Over,
}

impl Driver {
    async fn run(mut self, mut changes: mpsc::UnboundedReceiver<OutboxChange>, mut stop: mpsc::Receiver<Stop>) {
        let outbox = self.shared.outbox.clone();
        let shared = Arc::clone(&self.shared);
        loop {
            if self.session.is_none() && self.stopping.is_none() && Instant::now() >= self.connect_at {
                self.connect();
            }
            // A stop looks for itself whether there is more: the word of it may still be on its way.
            let settled = self.stopping.is_some() && outbox.is_settled();
            if settled {
                self.expect_live();
            }
            self.pump();
            self.watch();
            if self.advance_stop(settled) {
                break;
            }
            let wake = tokio::time::Instant::from_std(self.wake_at());
            tokio::select! {
                // The connection said something.
                heard = heard(&mut self.session) => self.on_heard(heard),
                // The outbox has something new to send.
                () = outbox.changed() => self.expect_live(),
                // There is new state, or health.
                () = shared.poke.notified() => {}
                // The outbox has something to say about itself.
                Some(change) = changes.recv() => self.on_outbox(change),
                // The agent stops, or has let go of its handle.
                asked = stop.recv(), if self.stopping.is_none() => match asked {
                    Some(stop) => self.begin_stop(stop),
                    None => break,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.session = None;
        self.shared.connected.store(false, Ordering::Relaxed);
        let now = Instant::now();
        let left =
            self.stopping.as_ref().map_or(Duration::ZERO, |stopping| stopping.end.saturating_duration_since(now));
        self.shared.outbox.close(left + CLOSE_TIME);
        if let Some(Stopping { stop, said_stopped, .. }) = self.stopping {
            let report = StopReport { said_stopped, left: self.shared.outbox.stats().depth };
            // Whoever asked may have given up waiting.
            let _ = stop.done.send(report);
        }
    }

    fn connect(&mut self) {
        let urls = self.options.urls.all();
        let url = urls[self.next_url % urls.len()].clone();
        let name = url.to_string();
        if self.faults.contains_key(&name) {
            tracing::debug!("connecting to {name} again");
        } else {
            tracing::info!("connecting to {name}");
        }
        let tls = match url.tls.then(|| tls::client_config(&self.options.tls)).transpose() {
            Ok(tls) => tls,
            Err(error) => return self.failed(name, error.to_string()),
        };
        let options = &self.options;
        let login = login(options.username.as_deref(), options.password.as_ref(), options.password_file.as_deref());
        let login = match login {
            Ok(login) => login,
            Err(error) => return self.failed(name, error),
        };
        let topics = &self.shared.topics;
        let identity = Identity {
            client_id: format!("{}-{}", topics.root().replace('/', "-"), topics.agent()),
            login,
            will: Some((topics.of_agent(AgentPart::Status), self.shared.status(State::Offline))),
            keep_alive: self.options.keep_alive,
            keep_session: true,
            largest_message: MAX_CONTROL_BYTES,
        };
        let connection = Connection::open(&url, tls, &identity, IN_FLIGHT);
        self.session = Some(Session { connection, url: name, last_heard: Instant::now(), link: None });
    }

    /// The attempt came to nothing, or the connection was lost.
    fn failed(&mut self, url: String, problem: String) {
        let link = self.session.take().and_then(|session| session.link);
        let lived = link.as_ref().map(|link| link.since.elapsed());
        self.shared.connected.store(false, Ordering::Relaxed);
        let urls = self.options.urls.all().len();
        let pause = match lived {
            Some(lived) => {
                self.backoff.connection_ended(lived);
                self.next_url = 0;
                self.backoff.next_spread(rand::random())
            }
            None => {
                self.next_url = (self.next_url + 1) % urls;
                // The other brokers at once, then a pause.
                if self.next_url == 0 { self.backoff.next_spread(rand::random()) } else { Duration::ZERO }
            }
        };
        self.connect_at = Instant::now() + pause;
        let problem = match link.map(|link| link.echo) {
            None => problem,
            Some(Echo::Heard) => format!("the connection was lost: {problem}"),
            // mosquitto 2.0.11 sometimes closes the connection on a message that its rules deny.
            Some(_) => {
                let topic = self.shared.topics.of_agent(AgentPart::Status);
                format!("the connection was lost before {topic} came back ({problem}): {RULES}")
            }
        };
        self.fault(url, problem);
    }

    /// Says what is wrong, once.
    fn fault(&mut self, about: String, problem: String) {
        let line = format!("{about}: {problem}");
        systemd::status(&line);
        let said = self.faults.entry(about).or_default();
        said.retain(|(_, when)| when.elapsed() < SAY_AGAIN_AFTER);
        if said.iter().any(|(words, _)| *words == problem) {
            tracing::debug!("{line}");
        } else {
            tracing::warn!("{line}");
            if said.len() >= TROUBLES {
                said.remove(0);
            }
            said.push((problem, Instant::now()));
        }
        *lock(&self.shared.last_error) = Some(line);
    }

    fn on_heard(&mut self, heard: Heard) {
        let Some(session) = &mut self.session else { return };
        session.last_heard = Instant::now();
        match heard {
            Heard::Connected => self.on_connected(),
            Heard::Lost(error) => {
                let url = session.url.clone();
                self.failed(url, fault::describe(&error));
            }
            Heard::Subscribed(accepted) => self.on_subscribed(&accepted),
            Heard::Message(message) => self.on_message(message),
            Heard::Alive => {}
            Heard::Sent(packet_id) => {
                if let Some(link) = &mut session.link
                    && let Some(sent) = link.handed_over.pop_front()
                {
                    link.unacknowledged.insert(packet_id, sent);
                }
            }
            Heard::Acknowledged(packet_id) => {
                let sent = session.link.as_mut().and_then(|link| link.acknowledged(packet_id));
                let heard = session.link.as_ref().is_some_and(|link| link.echo == Echo::Heard);
                match sent {
                    Some(Sent::Row { id, .. }) => self.shared.outbox.acknowledged(id),
                    Some(Sent::Stopped) => {
                        if let Some(stopping) = &mut self.stopping {
                            stopping.said_stopped = heard;
                            stopping.phase = Phase::Leave;
                            let _ = session.connection.disconnect();
                        }
                    }
                    Some(Sent::Other) | None => {}
                }
            }
            Heard::Disconnected => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.phase = Phase::Over;
                }
            }
        }
    }

    fn on_connected(&mut self) {
        let Some(session) = &mut self.session else { return };
        self.shared.connected.store(true, Ordering::Relaxed);
        if std::mem::replace(&mut self.was_connected, true) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let mut filters = self.shared.topics.subscriptions();
        filters.extend(self.options.homeassistant_status.clone());
        if let Err(error) = session.connection.subscribe(&filters) {
            tracing::error!(%error, "the subscription could not be sent");
        }
        let boundary = self.shared.outbox.next_id();
        session.link = Some(Link::new(boundary, self.reader.generation(), self.options.drain_per_s, filters));
        tracing::debug!(url = session.url, "the broker accepts the connection");
        self.say_online();
        self.tell_again();
    }

    fn say_online(&self) {
        let online = StateSlot { payload: self.shared.status(State::Online), due: true };
        lock(&self.shared.states).insert(self.shared.topics.of_agent(AgentPart::Status), online);
    }

    fn on_subscribed(&mut self, accepted: &[bool]) {
        let Some(link) = self.session.as_ref().and_then(|session| session.link.as_ref()) else { return };
        let filters = link.filters.clone();
        for (filter, accepted) in filters.into_iter().zip(accepted) {
            if *accepted {
                self.faults.remove(&filter);
            } else {
                self.fault(filter, "the broker denies the subscription: do its access rules allow it?".into());
            }
        }
    }

    fn on_message(&mut self, Received { topic, payload, retained }: Received) {
        match self.shared.topics.parse(&topic) {
            Some(Topic::Agent { part: AgentPart::Status, .. }) => {
                if let Ok(payload) = payload
                    && let Ok(status) = serde_json::from_slice(&payload)
                {
                    self.on_own_status(topic, &status, retained);
                }
            }
            Some(topic) => self.take_in(Incoming { topic, payload, retained }),
            None => {
                let of_homeassistant = self.options.homeassistant_status.as_ref() == Some(&topic);
                if of_homeassistant && !retained && payload.is_ok_and(|payload| payload == b"online") {
                    self.tell_again();
                }
            }
        }
    }

    /// The broker or Home Assistant has started anew: the retained state is due again.
    fn tell_again(&self) {
        for state in lock(&self.shared.states).values_mut() {
            state.due = true;
        }
    }

    /// Hands a control message to the agent, if it can keep up.
    fn take_in(&mut self, incoming: Incoming) {
        if self.shared.take_in(&self.deliver, incoming) {
            return;
        }
        let dropped = self.shared.incoming_dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.told_flood.is_none_or(|told| told.elapsed() >= TELL_FLOOD_EVERY) {
            self.told_flood = Some(Instant::now());
            tracing::warn!(dropped, "more control messages come than can be handled: some are dropped");
        }
    }

    /// What the broker shows of this agent. The will of an older connection may come late and overwrite `online`.
    fn on_own_status(&mut self, topic: String, status: &Status, retained: bool) {
        let ours = status.boot == self.shared.boot;
        match status.state {
            State::Online if ours => {
                if let Some(Session { link: Some(link), url, .. }) = &mut self.session
                    && std::mem::replace(&mut link.echo, Echo::Heard) != Echo::Heard
                {
                    self.was_heard = true;
                    // Only now it is sure that messages get through.
                    tracing::info!(waiting = self.shared.outbox.stats().depth, "connected to {url}");
                    systemd::status(&format!("connected to {url}"));
                    self.faults.remove(url);
                    self.faults.remove(&topic);
                }
            }
            // Of the start before this one.
            State::Online if retained && !self.was_heard => {}
            State::Online => self.fault(topic, "another agent seems to run under the same id".into()),
            State::Offline | State::Stopped if self.stopping.is_none() => self.say_online(),
            State::Offline | State::Stopped => {}
        }
    }

    fn on_outbox(&mut self, change: OutboxChange) {
        let (event, detail) = match change {
            OutboxChange::Failed(error) => (EventKind::OutboxFailed, Some(error)),
            OutboxChange::Back => (EventKind::OutboxBack, None),
            OutboxChange::SeqSkipped(why) => (EventKind::SeqSkipped, Some(why)),
            OutboxChange::Corrupt(what) => (EventKind::OutboxCorrupt, Some(what)),
            OutboxChange::Dropped(total) => {
                (EventKind::OutboxDropped, Some(format!("{total} messages were given up since the store was made")))
            }
        };
        self.shared.publish_event(event, detail);
    }

    fn expect_live(&mut self) {
        if let Some(link) = self.session.as_mut().and_then(|session| session.link.as_mut()) {
            link.live_news = true;
        }
    }

    /// Hands over what may go.
    fn pump(&mut self) {
        let Some(Session { connection, link: Some(link), .. }) = &mut self.session else { return };
        if link.generation != self.reader.generation() {
            link.start_again(self.reader.generation());
        }
        while link.in_flight() < IN_FLIGHT {
            let next = match self.stopping.as_mut() {
                None | Some(Stopping { phase: Phase::Drain, .. }) => next_to_send(link, &self.shared, &mut self.reader),
                Some(Stopping { phase: phase @ Phase::SayStopped, .. }) => {
                    *phase = Phase::AwaitAcknowledgement;
                    let stopped = Status {
                        schema: SchemaVersion,
                        state: State::Stopped,
                        boot: self.shared.boot.clone(),
                        ts: self.shared.clock.now(),
                        clock: self.shared.clock.mark(),
                    };
                    let topic = self.shared.topics.of_agent(AgentPart::Status);
                    Some((topic, true, payload::encode(&stopped), Sent::Stopped))
                }
                Some(_) => None,
            };
            let Some((topic, retain, payload, sent)) = next else { break };
            match connection.publish(&topic, retain, payload) {
                Ok(()) => link.sent(sent),
                Err(error) => {
                    // No such topic can be built; were there one, it must not stand in the way of the rest.
                    tracing::error!(topic, %error, "a message cannot be sent and is given up");
                    if let Sent::Row { id, .. } = sent {
                        self.shared.outbox.acknowledged(id);
                    }
                }
            }
        }
    }

    /// Finds what did not happen: a silent connection, a message that never came back.
    fn watch(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(link) = &mut session.link else { return };
        if session.last_heard.elapsed() >= self.options.keep_alive.mul_f64(1.5) {
            let url = session.url.clone();
            return self.failed(url, "the broker does not answer any more".into());
        }
        if let Echo::AwaitedUntil(until) = link.echo
            && Instant::now() >= until
        {
            link.echo = Echo::MissingUntil(until + ECHO_AGAIN);
            let topic = self.shared.topics.of_agent(AgentPart::Status);
            self.fault(topic, format!("what is published here does not come back, so nothing is sent: {RULES}"));
        } else if let Echo::MissingUntil(until) = link.echo
            && Instant::now() >= until
        {
            link.echo = Echo::AwaitedUntil(until + ECHO_WITHIN);
            self.say_online();
        }
    }

    fn begin_stop(&mut self, stop: Stop) {
        let end = Instant::now() + stop.limit - CLOSE_TIME.min(stop.limit / 4);
        let until = end - GOODBYE_TIME.min(stop.limit / 3);
        self.stopping = Some(Stopping { stop, phase: Phase::Drain, until, end, said_stopped: false });
    }

    /// Takes a stop to its next phase; true when it is over. `settled`: before the last [`Driver::pump`] all could be read.
    fn advance_stop(&mut self, settled: bool) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        let Some(Session { link: Some(link), .. }) = &self.session else { return true };
        let now = Instant::now();
        if stopping.phase == Phase::Drain {
            let held_back = matches!(link.echo, Echo::MissingUntil(_));
            let sent = held_back || settled && !link.live_news && link.live.is_empty() && link.late_done;
            if (sent && link.in_flight() == 0) || now >= stopping.until {
                stopping.phase = Phase::SayStopped;
                stopping.until = stopping.end;
                // Only now is there room to say it.
                self.pump();
            }
            return false;
        }
        stopping.phase == Phase::Over || now >= stopping.end
    }

    /// When there is something to do without being told.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(60);
        match &self.session {
            None if self.stopping.is_none() => wake = wake.min(self.connect_at),
            None => {}
            Some(Session { link: None, .. }) => {}
            Some(Session { link: Some(link), last_heard, .. }) => {
                wake = wake.min(*last_heard + self.options.keep_alive.mul_f64(1.5));
                if let Echo::AwaitedUntil(until) | Echo::MissingUntil(until) = link.echo {
                    wake = wake.min(until);
                }
                if !link.late.is_empty() && link.late_in_flight < LATE_IN_FLIGHT && link.in_flight() < IN_FLIGHT {
                    wake = wake.min(link.throttle.ready_at());
                }
            }
        }
        if let Some(stopping) = &self.stopping {
            // The outbox's settling is asked for, not told.
            wake = wake.min(stopping.until).min(now + Duration::from_millis(10));
        }
        wake
    }
}

impl Link {
    fn new(boundary: i64, generation: u64, drain_per_s: f64, filters: Vec<String>) -> Self {
        let now = Instant::now();
        Link {
            since: now,
            boundary,
            generation,
            live_from: boundary,
            live: VecDeque::new(),
            live_news: true,
            late_from: i64::MIN,
            late: VecDeque::new(),
            late_done: false,
            throttle: TokenBucket::new(drain_per_s, DRAIN_BURST, now),
            handed_over: VecDeque::new(),
            unacknowledged: HashMap::new(),
            ids: HashSet::new(),
            late_in_flight: 0,
            filters,
            echo: Echo::AwaitedUntil(now + ECHO_WITHIN),
        }
    }

    /// The store is another one: what was read of the old one is read again, but for what is in flight.
    fn start_again(&mut self, generation: u64) {
        self.generation = generation;
        self.live.clear();
        self.live_from = self.boundary;
        self.live_news = true;
        self.late.clear();
        self.late_from = i64::MIN;
        self.late_done = false;
    }

    fn in_flight(&self) -> usize {
        self.handed_over.len() + self.unacknowledged.len()
    }

    fn sent(&mut self, sent: Sent) {
        if let Sent::Row { id, late } = sent {
            self.ids.insert(id);
            self.late_in_flight += usize::from(late);
        }
        self.handed_over.push_back(sent);
    }

    fn acknowledged(&mut self, packet_id: u16) -> Option<Sent> {
        let sent = self.unacknowledged.remove(&packet_id)?;
        if let Sent::Row { id, late } = sent {
            self.ids.remove(&id);
            self.late_in_flight -= usize::from(late);
        }
        Some(sent)
    }

    fn next_live(&mut self, reader: &mut OutboxReader) -> Option<Row> {
        while self.live.is_empty() && self.live_news {
            let (rows, next) = reader.read(self.live_from, i64::MAX, IN_FLIGHT);
            self.live_news = !rows.is_empty();
            self.live_from = next;
            self.live.extend(rows.into_iter().filter(|row| !self.ids.contains(&row.id)));
        }
        self.live.pop_front()
    }

    fn next_late(&mut self, reader: &mut OutboxReader) -> Option<Row> {
        if self.late_done || self.late_in_flight >= LATE_IN_FLIGHT {
            return None;
        }
        while self.late.is_empty() {
            // Before it is read: what was just taken in may not be on disk yet, and then comes as news.
            let all_there = reader.can_read_before(self.boundary);
            let (rows, next) = reader.read(self.late_from, self.boundary, LATE_PAGE);
            if rows.is_empty() {
                self.late_done = all_there;
                return None;
            }
            self.late_from = next;
            self.late.extend(rows.into_iter().filter(|row| !self.ids.contains(&row.id)));
        }
        if !self.throttle.take(Instant::now()) {
            return None;
        }
        self.late.pop_front()
    }
}

type Next = (String, bool, Vec<u8>, Sent);

/// What goes next: topic, whether it is retained, payload.
fn next_to_send(link: &mut Link, shared: &Shared, reader: &mut OutboxReader) -> Option<Next> {
    if let Some((topic, payload)) = take_due(&mut lock(&shared.states), &shared.topics.of_agent(AgentPart::Status)) {
        return Some((topic, true, payload, Sent::Other));
    }
    if let Some((topic, payload)) = lock(&shared.volatile).pop_front() {
        return Some((topic, false, payload, Sent::Other));
    }
    // mosquitto acknowledges what its rules deny: what is stored stays so until the own status has come back.
    if link.echo != Echo::Heard {
        return None;
    }
    if let Some(row) = link.next_live(reader) {
        return Some((row.topic, row.retain, row.payload, Sent::Row { id: row.id, late: false }));
    }
    if let Some((topic, payload)) = lock(&shared.evidence).pop_front() {
        return Some((topic, false, payload, Sent::Other));
    }
    let Row { id, topic, mut payload, .. } = link.next_late(reader)?;
    payload::mark_late(&mut payload);
    Some((topic, false, payload, Sent::Row { id, late: true }))
}

/// The next state that the broker has to get, `first` before the others.
fn take_due(states: &mut BTreeMap<String, StateSlot>, first: &str) -> Option<(String, Vec<u8>)> {
    let is_due = |state: &StateSlot| state.due;
    let topic = match states.get(first).is_some_and(is_due) {
        true => first.to_owned(),
        false => states.iter().find(|(_, state)| is_due(state)).map(|(topic, _)| topic.clone())?,
    };
    let state = states.get_mut(&topic)?;
    state.due = false;
    let payload = state.payload.clone();
    if payload.is_empty() {
        // Taken back once is enough.
        states.remove(&topic);
    }
    Some((topic, payload))
}

async fn heard(session: &mut Option<Session>) -> Heard {
    match session {
        Some(session) => session.connection.heard().await,
        None => std::future::pending().await,
    }
}
