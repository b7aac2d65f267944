//! What comes in: from the broker, from the outbox.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::link::{Echo, Link, Sent};
use super::stop::Phase;
use super::subscriptions::Subscriptions;
use super::{Driver, SILENT, Session};
use crate::backoff::Backoff;
use crate::mqtt::connection::{BrokerLimits, ConnectionError, ConnectionEvent, Reason, Received, Refusal};
use crate::mqtt::diagnose;
use crate::mqtt::incoming::{Incoming, Origin};
use crate::mqtt::outbox::OutboxChange;
use crate::mqtt::payload::{AgentState, EventKind, Status};
use crate::mqtt::topics::{AgentPart, Topic};
use crate::numbers::counted;
use crate::systemd;

/// Time between two log lines about dropped control messages.
const LOG_FLOOD_EVERY: Duration = Duration::from_secs(60);

impl Driver {
    pub(super) fn on_event(&mut self, event: ConnectionEvent) {
        let Some(session) = &mut self.session else { return };
        session.last_event = Instant::now();
        match event {
            ConnectionEvent::Connected(limits) => self.on_connected(limits),
            ConnectionEvent::Lost(error) => self.on_lost(&error),
            ConnectionEvent::Subscribed(answers) => self.on_subscribed(answers),
            ConnectionEvent::Message(message) => self.on_message(message),
            ConnectionEvent::Alive => {}
            ConnectionEvent::Sent(packet_id) => {
                if let Some(link) = &mut session.link {
                    link.got_packet_id(packet_id);
                }
            }
            ConnectionEvent::Acknowledged(packet_id, refusal) => self.on_acknowledged(packet_id, refusal.as_ref()),
            ConnectionEvent::Disconnected => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.phase = Phase::Over;
                }
            }
        }
    }

    fn on_lost(&mut self, error: &ConnectionError) {
        let Some(session) = &self.session else { return };
        let (url, version) = (session.broker.clone(), session.version);
        let Some(link) = &session.link else {
            let known = self.options.version.is_known(&url);
            let other = self.options.version.second(version).filter(|_| error.may_be_the_version(known));
            if let Some(other) = other {
                tracing::debug!("{url}: {} before it accepted {version}: trying {other}", diagnose::describe(error));
                self.session = None;
                return self.connect_to(url, other);
            }
            let problem = diagnose::describe_attempt(error, url.tls);
            return self.failed(url.to_string(), problem);
        };
        let handed = link.handed();
        match error.refuses_a_message() {
            Some(refusal) => self.on_end_for_a_message(&refusal, handed),
            None if error.is_without_a_word() => self.on_end_without_a_word(handed),
            None => {}
        }
        self.failed(url.to_string(), diagnose::describe(error));
    }

    fn on_acknowledged(&mut self, packet_id: u16, refusal: Option<&Refusal>) {
        let Some(Session { connection, link: Some(link), .. }) = &mut self.session else { return };
        let online = link.echo == Echo::Received;
        let Some(handed) = link.acknowledged(packet_id) else { return };
        self.suspects.cleared(&handed);
        match (handed.sent, refusal) {
            (Sent::Stopped, _) => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.stopped_published = online && refusal.is_none();
                    stopping.phase = Phase::Leave;
                    let _ = connection.disconnect();
                }
            }
            (_, Some(refusal)) => self.on_refused(refusal, handed),
            (sent, None) => {
                if let Sent::Row { id, .. } = sent {
                    self.shared.outbox.acknowledged(id);
                }
                self.on_taken(&handed.topic);
            }
        }
    }

    fn on_connected(&mut self, limits: BrokerLimits) {
        let Some(session) = &mut self.session else { return };
        self.options.version.accepted(&session.broker, session.version);
        if std::mem::replace(&mut self.was_connected, true) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        let (backlog_end, generation) = (self.shared.outbox.next_id(), self.reader.generation());
        // Only now: whoever sees the connection and publishes is no backlog.
        self.shared.connected(session.version);
        // A broker may ask for a longer pause between signs of life; and not every version takes ours.
        session.silent_after = limits.keep_alive.mul_f64(SILENT);
        let subscriptions = Subscriptions::new(Backoff::new(self.options.pause.0, self.options.pause.1));
        let drain_per_s = self.options.drain_per_s;
        session.link = Some(Link::new(backlog_end, generation, drain_per_s, subscriptions, limits.in_flight));
        tracing::debug!(url = %session.broker, version = %session.version, ?limits, "the broker accepts the connection");
        self.subscribe_all();
        self.holds.reconnected();
        self.keep_aside();
        self.shared.publish_online();
        self.shared.republish_all();
    }

    /// Subscribes on a connection that was just accepted.
    fn subscribe_all(&mut self) {
        let mut filters = self.shared.topics.subscriptions();
        filters.extend(self.options.homeassistant_status.clone());
        self.subscribe(filters);
    }

    pub(super) fn subscribe(&mut self, filters: Vec<String>) {
        let Some(session) = &mut self.session else { return };
        let Some(link) = &mut session.link else { return };
        match session.connection.subscribe(&filters) {
            Ok(()) => link.subscriptions.asked(filters),
            Err(error) => tracing::error!(%error, "the subscription could not be sent"),
        }
    }

    fn on_subscribed(&mut self, answers: Vec<Option<Refusal>>) {
        let Some(filters) = self.link().and_then(|link| link.subscriptions.answered()) else { return };
        if answers.iter().take(filters.len()).any(Option::is_some)
            && let Some(link) = self.link()
        {
            link.subscriptions.denied(Instant::now());
        }
        for (filter, refusal) in filters.into_iter().zip(answers) {
            let Some(refusal) = refusal else {
                self.problems.solved(&filter);
                self.filters_denied.remove(&filter);
                continue;
            };
            let problem = match (refusal.reason, self.echo_received) {
                (Reason::Other(_), true) => {
                    "the broker denies the subscription, which it took earlier: does it work as a whole, or were its access rules \
                     changed?"
                        .into()
                }
                (Reason::Other(_), false) => "the broker denies the subscription: do its access rules allow it?".into(),
                _ => format!("the broker denies the subscription: {refusal}"),
            };
            self.report_problem(filter.clone(), problem.clone());
            if self.filters_denied.insert(filter.clone()) {
                self.shared.publish_event(EventKind::SubscribeDenied, Some(format!("{filter}: {problem}")));
            }
        }
        self.note_denied();
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
            Some(topic) => self.deliver(Incoming { topic, payload, retained, origin: Origin::Broker }),
            None => {
                let of_homeassistant = self.options.homeassistant_status.as_ref() == Some(&topic);
                if of_homeassistant && !retained && payload.is_ok_and(|payload| payload == b"online") {
                    self.shared.republish_all();
                }
            }
        }
    }

    /// Hands a control message to the agent, if it can keep up.
    fn deliver(&mut self, incoming: Incoming) {
        if self.deliver.try_send(incoming) {
            return;
        }
        let dropped = self.shared.incoming_dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.flood_logged.is_none_or(|logged| logged.elapsed() >= LOG_FLOOD_EVERY) {
            self.flood_logged = Some(Instant::now());
            tracing::warn!(dropped, "more control messages arrive than can be handled: some are dropped");
        }
    }

    /// The agent's status as the broker has it. The will of an older connection may come late and overwrite `online`.
    fn on_own_status(&mut self, topic: String, status: &Status, retained: bool) {
        let ours = status.boot == self.shared.boot;
        match status.state {
            AgentState::Online if ours => {
                if let Some(Session { link: Some(link), broker, version, .. }) = &mut self.session
                    && std::mem::replace(&mut link.echo, Echo::Received) != Echo::Received
                {
                    self.echo_received = true;
                    self.status_denied = false;
                    // Only now is it certain that messages get through.
                    let depth = self.shared.outbox.stats().depth;
                    tracing::info!("connected to {broker}, {} to be sent ({version})", counted(depth, "message"));
                    systemd::status(&format!("connected to {broker}"));
                    self.problems.solved(&broker.to_string());
                    self.problems.solved(&topic);
                    self.note_denied();
                }
            }
            // Of the start before this one.
            AgentState::Online if retained && !self.echo_received => {}
            AgentState::Online => {
                self.rival_seen = true;
                self.report_problem(topic, "another agent seems to run under the same id".into());
            }
            AgentState::Offline | AgentState::Stopped if self.stopping.is_none() => self.shared.publish_online(),
            AgentState::Offline | AgentState::Stopped => {}
        }
    }

    pub(super) fn on_outbox_change(&mut self, change: OutboxChange) {
        let (event, detail) = match change {
            OutboxChange::Failed(error) => (EventKind::OutboxFailed, Some(error)),
            OutboxChange::Back => (EventKind::OutboxBack, None),
            OutboxChange::Corrupt(what) => (EventKind::OutboxCorrupt, Some(what)),
            OutboxChange::SeqSkipped(why) => (EventKind::SeqSkipped, Some(why)),
            OutboxChange::Dropped(total) => (
                EventKind::OutboxDropped,
                Some(format!("{} dropped since the store was created", counted(total, "message"))),
            ),
        };
        self.shared.publish_event(event, detail);
    }
}
