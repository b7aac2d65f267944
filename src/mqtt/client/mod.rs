//! The driver: keeps one connection to a broker, sends from the outbox, receives control messages.
//!
//! It has its own thread, so that a slow disk or a flood of messages delays nobody else.

mod certificates;
mod events;
mod holds;
pub mod link;
mod problems;
mod refusals;
pub mod stop;
mod subscriptions;
mod suspects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::certificates::Certificates;
use self::holds::Holds;
use self::link::{ECHO_AGAIN, ECHO_WITHIN, Echo, IN_FLIGHT, Link, Outgoing, Sent};
use self::problems::Problems;
use self::stop::{CLOSE_TIME, Phase, Stop, StopReport, Stopping};
use self::suspects::Suspects;
use super::address::BrokerUrl;
use super::broker::BrokerSettings;
use super::connection::{Connection, ConnectionEvent, Identity, MAX_CONTROL_BYTES, NotSent, Will, login};
use super::incoming::IncomingSender;
use super::options::MqttOptions;
use super::outbox::{OutboxChange, OutboxReader};
use super::payload::AgentState;
use super::shared::MqttShared;
use super::tls;
use super::topics::AgentPart;
use super::version::Version;
use crate::backoff::Backoff;
use crate::causes::with_causes;
use crate::systemd;

const RULES: &str = "do the broker's access rules allow this agent to write and read it?";
/// Where it did come back earlier, the rules are not what to look at first.
const AWAY: &str = "earlier it did: does the broker work as a whole (in a cluster, is the node there that has this agent's session; \
                    RabbitMQ: mqtt.durable_queue_type = quorum), or were its access rules changed?";

/// A connection that is silent for so many times the pause between signs of life is given up.
const SILENT: f64 = 1.5;

/// Starts the driver on its own thread.
pub fn spawn(
    options: MqttOptions,
    shared: Arc<MqttShared>,
    deliver: IncomingSender,
    changes: mpsc::UnboundedReceiver<OutboxChange>,
    brokers: mpsc::UnboundedReceiver<BrokerSettings>,
    stop: mpsc::Receiver<Stop>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let driver = Driver {
        reader: shared.outbox.reader(),
        backoff: Backoff::new(options.pause.0, options.pause.1),
        discard_from: options.broker.urls.all().is_empty().then(|| shared.outbox.next_id()),
        holds: Holds::new(options.pause.1),
        options,
        shared,
        deliver,
        session: None,
        next_url: 0,
        connect_at: Instant::now(),
        was_connected: false,
        echo_received: false,
        rival_seen: false,
        stopping: None,
        problems: Problems::default(),
        suspects: Suspects::default(),
        set_aside: BTreeMap::new(),
        status_denied: false,
        filters_denied: BTreeSet::new(),
        given_up_told: None,
        flood_logged: None,
        certificates: Certificates::default(),
    };
    let thread = std::thread::Builder::new().name("mqtt".into());
    thread.spawn(move || runtime.block_on(driver.run(changes, brokers, stop))).map(drop)
}

struct Driver {
    options: MqttOptions,
    shared: Arc<MqttShared>,
    reader: OutboxReader,
    deliver: IncomingSender,
    session: Option<Session>,
    backoff: Backoff,
    next_url: usize,
    connect_at: Instant,
    /// Without a broker, messages from this id on are discarded once they are counted; what waited before stays until it is
    /// too old.
    discard_from: Option<i64>,
    was_connected: bool,
    /// The broker has returned what was published, at least once in this run.
    echo_received: bool,
    /// Another agent of this id was there: two of them push each other out, and must become slower and slower.
    rival_seen: bool,
    stopping: Option<Stopping>,
    problems: Problems,
    /// Topics that the broker does not take at present.
    holds: Holds,
    suspects: Suspects,
    /// Rows of the outbox that ended one connection after the other, and since when they are not sent.
    set_aside: BTreeMap<i64, Instant>,
    /// The broker denies the agent's own status.
    status_denied: bool,
    /// Subscriptions that it denies.
    filters_denied: BTreeSet<String>,
    /// When somebody was told of a message that was given up.
    given_up_told: Option<Instant>,
    flood_logged: Option<Instant>,
    certificates: Certificates,
}

/// A connection, or an attempt at one.
struct Session {
    connection: Connection,
    broker: BrokerUrl,
    version: Version,
    last_event: Instant,
    /// A connection that says nothing for so long is given up.
    silent_after: Duration,
    /// Once the broker has accepted the connection.
    link: Option<Link>,
}

impl Driver {
    async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<OutboxChange>,
        mut brokers: mpsc::UnboundedReceiver<BrokerSettings>,
        mut stop: mpsc::Receiver<Stop>,
    ) {
        let outbox = self.shared.outbox.clone();
        let shared = Arc::clone(&self.shared);
        loop {
            if self.may_connect() && Instant::now() >= self.connect_at {
                self.connect();
            }
            // A stop checks for itself whether there is more: the notification may still be on its way.
            let settled = self.stopping.is_some() && outbox.is_settled();
            if settled {
                self.expect_live();
            }
            self.ask_for_held_topics();
            self.ask_for_denied_filters();
            self.pump();
            self.watch();
            let over_tls = self.options.broker.urls.all().iter().any(|url| url.tls);
            self.certificates.look(over_tls.then_some(&self.options.tls), &self.shared);
            if self.advance_stop(settled) {
                break;
            }
            let wake_at = tokio::time::Instant::from_std(self.wake_at());
            tokio::select! {
                event = next_event(&mut self.session) => self.on_event(event),
                () = outbox.changed() => {
                    self.discard();
                    self.expect_live();
                }
                // There is new state, health or evidence.
                () = shared.wake.notified() => {}
                Some(change) = changes.recv() => self.on_outbox_change(change),
                Some(broker) = brokers.recv() => self.use_broker(broker),
                // The agent stops, or has dropped its handle.
                stop = stop.recv(), if self.stopping.is_none() => match stop {
                    Some(stop) => self.stopping = Some(Stopping::begin(stop, Instant::now())),
                    None => break,
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.finish();
    }

    /// Closes connection and outbox, and reports how the stop went.
    fn finish(self) {
        drop(self.session);
        self.shared.disconnected();
        let now = Instant::now();
        let left =
            self.stopping.as_ref().map_or(Duration::ZERO, |stopping| stopping.end.saturating_duration_since(now));
        self.shared.outbox.close(left + CLOSE_TIME);
        if let Some(Stopping { stop, stopped_published, .. }) = self.stopping {
            let report = StopReport { stopped_published, left: self.shared.outbox.stats().depth };
            // The agent may have given up waiting.
            let _ = stop.done.send(report);
        }
    }

    /// Leaves the broker for another one, which gets what the first had not acknowledged. The first publishes `offline`.
    fn use_broker(&mut self, broker: BrokerSettings) {
        tracing::info!("the broker is now {}", broker.urls);
        self.session = None;
        self.shared.disconnected();
        *self.shared.last_error.lock() = None;
        let none = broker.urls.all().is_empty();
        self.discard_from = none.then(|| self.discard_from.unwrap_or(self.shared.outbox.next_id()));
        self.options.broker = broker;
        (self.next_url, self.connect_at, self.echo_received) = (0, Instant::now(), false);
        self.rival_seen = false;
        self.certificates = Certificates::default();
        (self.backoff, self.problems) = (Backoff::new(self.options.pause.0, self.options.pause.1), Problems::default());
        // What the one before did not take, this one may.
        (self.holds, self.suspects) = (Holds::new(self.options.pause.1), Suspects::default());
        self.set_aside.clear();
        (self.status_denied, self.filters_denied) = (false, BTreeSet::new());
        self.note_denied();
    }

    fn may_connect(&self) -> bool {
        self.session.is_none() && self.stopping.is_none() && self.discard_from.is_none()
    }

    /// Counts what was written as delivered, where there is no broker.
    fn discard(&mut self) {
        if let Some(from) = self.discard_from {
            let handled = self.shared.outbox.handled();
            (from..handled).for_each(|id| self.shared.outbox.acknowledged(id));
            self.discard_from = Some(handled.max(from));
        }
    }

    fn connect(&mut self) {
        let urls = self.options.broker.urls.all();
        let url = urls[self.next_url % urls.len()].clone();
        if self.problems.concern(&url.to_string()) {
            tracing::debug!("connecting to {url} again");
        } else {
            tracing::info!("connecting to {url}");
        }
        let version = self.options.version.first(&url);
        self.connect_to(url, version);
    }

    fn connect_to(&mut self, url: BrokerUrl, version: Version) {
        let tls = match url.tls.then(|| tls::client_config(&self.options.tls)).transpose() {
            Ok(tls) => tls,
            Err(error) => return self.failed(url.to_string(), with_causes(&error)),
        };
        let broker = &self.options.broker;
        let login = login(broker.username.as_deref(), broker.password.as_ref(), broker.password_file.as_deref());
        let login = match login {
            Ok(login) => login,
            Err(error) => return self.failed(url.to_string(), with_causes(&error)),
        };
        let topics = &self.shared.topics;
        let will = Will {
            topic: topics.of_agent(AgentPart::Status),
            payload: self.shared.status(AgentState::Offline),
            delay: self.options.will_delay,
        };
        let identity = Identity {
            client_id: format!("{}-{}", topics.root().replace('/', "-"), topics.agent()),
            login,
            will: Some(will),
            keep_alive: self.options.keep_alive,
            keep_session: Some(self.options.keep_session),
            largest_message: MAX_CONTROL_BYTES,
        };
        let connection = Connection::open(&url, version, tls, &identity, IN_FLIGHT);
        let (last_event, silent_after) = (Instant::now(), self.options.keep_alive.mul_f64(SILENT));
        self.session = Some(Session { connection, broker: url, version, last_event, silent_after, link: None });
    }

    /// The attempt failed, or the connection was lost.
    fn failed(&mut self, url: String, problem: String) {
        let link = self.session.take().and_then(|session| session.link);
        let lived = link.as_ref().map(|link| link.since.elapsed());
        self.shared.disconnected();
        let urls = self.options.broker.urls.all().len();
        let pause = match lived {
            Some(lived) => {
                // Where a node dies, the others take its agents at once, however often that happens.
                match urls > 1 && !self.rival_seen {
                    true => self.backoff.one_of_several_ended(lived),
                    false => self.backoff.connection_ended(lived),
                }
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
            Some(Echo::Received) => format!("the connection was lost: {problem}"),
            // mosquitto 2.0.11 sometimes closes the connection on a message that its rules deny.
            Some(_) => {
                let topic = self.shared.topics.of_agent(AgentPart::Status);
                format!("the connection was lost before {topic} came back ({problem}): {}", self.why_no_echo())
            }
        };
        self.report_problem(url, problem);
    }

    /// What to look at where the agent's own status does not come back.
    fn why_no_echo(&self) -> &'static str {
        if self.echo_received { AWAY } else { RULES }
    }

    fn report_problem(&mut self, about: String, problem: String) {
        let line = self.problems.log(about, problem);
        systemd::status(&line);
        *self.shared.last_error.lock() = Some(line);
    }

    /// What is sent over the connection, once the broker has accepted it.
    fn link(&mut self) -> Option<&mut Link> {
        self.session.as_mut().and_then(|session| session.link.as_mut())
    }

    fn expect_live(&mut self) {
        if let Some(link) = self.link() {
            link.live_changed = true;
        }
    }

    /// Hands over the messages that may be sent now.
    fn pump(&mut self) {
        let mut too_large = Vec::new();
        self.pump_into(&mut too_large);
        for (topic, sent, error) in too_large {
            self.give_up(&topic, sent, error);
        }
    }

    /// `never` gets what no connection to this broker can send.
    fn pump_into(&mut self, never: &mut Vec<(String, Sent, NotSent)>) {
        let Some(Session { connection, link: Some(link), .. }) = &mut self.session else { return };
        link.follow(self.reader.generation());
        while link.has_room(!self.suspects.are_none()) {
            let next = match self.stopping.as_mut() {
                None | Some(Stopping { phase: Phase::Drain, .. }) => {
                    link.next(&self.shared, &mut self.reader, &mut self.holds)
                }
                Some(Stopping { phase: phase @ Phase::PublishStopped, .. }) => {
                    *phase = Phase::AwaitAcknowledgement;
                    let topic = self.shared.topics.of_agent(AgentPart::Status);
                    let payload = self.shared.status(AgentState::Stopped);
                    Some(Outgoing { topic, retain: true, payload, sent: Sent::Stopped })
                }
                Some(_) => None,
            };
            let Some(Outgoing { topic, retain, payload, sent }) = next else {
                // What was suspected is not there any more.
                if link.in_flight() == 0 && link.is_drained() {
                    self.suspects = Suspects::default();
                }
                break;
            };
            match connection.publish(&topic, retain, payload, None) {
                Ok(()) => link.handed_over(topic, sent),
                // The events before the one that says so may not all have been read yet. What waits is sent by the next
                // connection.
                Err(NotSent::Ended) => break,
                Err(error @ (NotSent::Topic | NotSent::TooLarge(_))) => never.push((topic, sent, error)),
            }
        }
    }

    /// Finds what did not happen: a silent connection, a message that never came back.
    fn watch(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(link) = &mut session.link else { return };
        if session.last_event.elapsed() >= session.silent_after {
            let url = session.broker.to_string();
            return self.failed(url, "the broker does not answer any more".into());
        }
        match link.echo {
            Echo::AwaitedUntil(until) if Instant::now() >= until => {
                link.echo = Echo::MissingUntil(until + ECHO_AGAIN);
                let topic = self.shared.topics.of_agent(AgentPart::Status);
                let why = self.why_no_echo();
                let problem = format!("what is published here does not come back, so nothing is sent: {why}");
                self.report_problem(topic, problem);
            }
            Echo::MissingUntil(until) if Instant::now() >= until => {
                link.echo = Echo::AwaitedUntil(until + ECHO_WITHIN);
                self.shared.publish_online();
            }
            _ => {}
        }
    }

    /// Takes a stop to its next phase; true when it is over. `settled`: before the last [`Driver::pump`] everything could
    /// be read.
    fn advance_stop(&mut self, settled: bool) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        let Some(Session { link: Some(link), .. }) = &self.session else { return true };
        let now = Instant::now();
        if stopping.phase == Phase::Drain {
            let held_back = matches!(link.echo, Echo::MissingUntil(_));
            let sent = held_back || settled && link.is_drained();
            if (sent && link.in_flight() == 0) || now >= stopping.until {
                stopping.phase = Phase::PublishStopped;
                stopping.until = stopping.end;
                // Only now is there room for it.
                self.pump();
            }
            return false;
        }
        stopping.phase == Phase::Over || now >= stopping.end
    }

    /// When there is something to do without a notification.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake_at = now + Duration::from_secs(60);
        match &self.session {
            None if self.may_connect() => wake_at = wake_at.min(self.connect_at),
            None => {}
            Some(Session { link: None, .. }) => {}
            Some(Session { link: Some(link), last_event, silent_after, .. }) => {
                wake_at = wake_at.min(*last_event + *silent_after);
                let due = self.holds.due_at().into_iter().chain(link.subscriptions.due_at());
                wake_at = due.fold(wake_at, Instant::min);
                if let Echo::AwaitedUntil(until) | Echo::MissingUntil(until) = link.echo {
                    wake_at = wake_at.min(until);
                }
                if let Some(until) = link.throttled_until() {
                    wake_at = wake_at.min(until);
                }
            }
        }
        if let Some(stopping) = &self.stopping {
            // Whether the outbox has settled is asked for, not notified.
            wake_at = wake_at.min(stopping.until).min(now + Duration::from_millis(10));
        }
        wake_at
    }
}

async fn next_event(session: &mut Option<Session>) -> ConnectionEvent {
    match session {
        Some(session) => session.connection.next_event().await,
        None => std::future::pending().await,
    }
}
