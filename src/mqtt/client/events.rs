//! What comes in: from the broker, from the outbox.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::link::{Echo, Link, Sent};
use super::stop::Phase;
use super::{Driver, Session};
use crate::mqtt::connection::{ConnectionEvent, Received};
use crate::mqtt::diagnose;
use crate::mqtt::incoming::{Incoming, Origin};
use crate::mqtt::outbox::OutboxChange;
use crate::mqtt::payload::{AgentState, EventKind, Status};
use crate::mqtt::topics::{AgentPart, Topic};
use crate::systemd;

/// Time between two log lines about dropped control messages.
const LOG_FLOOD_EVERY: Duration = Duration::from_secs(60);

impl Driver {
    pub(super) fn on_event(&mut self, event: ConnectionEvent) {
        let Some(session) = &mut self.session else { return };
        session.last_event = Instant::now();
        match event {
            ConnectionEvent::Connected => self.on_connected(),
            ConnectionEvent::Lost(error) => {
                let url = session.url.clone();
                let problem = match session.link {
                    Some(_) => diagnose::describe(&error),
                    None => diagnose::describe_attempt(&error, url.starts_with("mqtts:")),
                };
                self.failed(url, problem);
            }
            ConnectionEvent::Subscribed(accepted) => self.on_subscribed(&accepted),
            ConnectionEvent::Message(message) => self.on_message(message),
            ConnectionEvent::Alive => {}
            ConnectionEvent::Sent(packet_id) => {
                if let Some(link) = &mut session.link {
                    link.got_packet_id(packet_id);
                }
            }
            ConnectionEvent::Acknowledged(packet_id) => self.on_acknowledged(packet_id),
            ConnectionEvent::Disconnected => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.phase = Phase::Over;
                }
            }
        }
    }

    fn on_acknowledged(&mut self, packet_id: u16) {
        let Some(Session { connection, link: Some(link), .. }) = &mut self.session else { return };
        let online = link.echo == Echo::Received;
        match link.acknowledged(packet_id) {
            Some(Sent::Row { id, .. }) => self.shared.outbox.acknowledged(id),
            Some(Sent::Stopped) => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.stopped_published = online;
                    stopping.phase = Phase::Leave;
                    let _ = connection.disconnect();
                }
            }
            Some(Sent::Unstored) | None => {}
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
        let backlog_end = self.shared.outbox.next_id();
        session.link = Some(Link::new(backlog_end, self.reader.generation(), self.options.drain_per_s, filters));
        tracing::debug!(url = session.url, "the broker accepts the connection");
        self.shared.publish_online();
        self.shared.republish_all();
    }

    fn on_subscribed(&mut self, accepted: &[bool]) {
        let Some(link) = self.session.as_ref().and_then(|session| session.link.as_ref()) else { return };
        let filters = link.filters.clone();
        for (filter, accepted) in filters.into_iter().zip(accepted) {
            if *accepted {
                self.problems.solved(&filter);
            } else {
                let problem = match self.echo_received {
                    true => {
                        "the broker denies the subscription, which it took earlier: does it work as a whole, or were its access \
                             rules changed?"
                    }
                    false => "the broker denies the subscription: do its access rules allow it?",
                };
                self.report_problem(filter, problem.into());
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
                if let Some(Session { link: Some(link), url, .. }) = &mut self.session
                    && std::mem::replace(&mut link.echo, Echo::Received) != Echo::Received
                {
                    self.echo_received = true;
                    // Only now is it certain that messages get through.
                    tracing::info!("connected to {url}, {} messages wait to be sent", self.shared.outbox.stats().depth);
                    systemd::status(&format!("connected to {url}"));
                    self.problems.solved(url);
                    self.problems.solved(&topic);
                }
            }
            // Of the start before this one.
            AgentState::Online if retained && !self.echo_received => {}
            AgentState::Online => self.report_problem(topic, "another agent seems to run under the same id".into()),
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
            OutboxChange::Dropped(total) => {
                (EventKind::OutboxDropped, Some(format!("{total} messages were dropped since the store was created")))
            }
        };
        self.shared.publish_event(event, detail);
    }
}
