//! What a broker of MQTT 5 says it does not take: told, held back or given up, but never sent again for ever.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Driver;
use super::link::{ECHO_AGAIN, Echo, Handed, Sent};
use crate::mqtt::connection::{Reason, Refusal, Remedy};
use crate::mqtt::payload::EventKind;
use crate::mqtt::topics::AgentPart;

/// Time between two events about messages that were given up.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// A message that ended one connection after the other is tried again on one that begins after this time: a broker that is ill
/// looks the same.
const SET_ASIDE_FOR: Duration = Duration::from_secs(3600);

impl Driver {
    /// The broker ended the connection because of a message; these were on their way. Which of them it was is certain only where
    /// it was alone.
    pub(super) fn on_end_for_a_message(&mut self, refusal: &Refusal, mut handed: Vec<Handed>) {
        if handed.len() > 1 {
            self.suspects.suspect(&handed);
            return;
        }
        let Some(culprit) = handed.pop() else { return };
        self.suspects.cleared(&culprit);
        // What is not stored is said again by every connection: it has to wait.
        let remedy = match (refusal.reason.remedy(), culprit.sent) {
            (Remedy::GiveUp, Sent::Row { .. }) => Remedy::GiveUp,
            _ => Remedy::HoldTopic,
        };
        self.apply(remedy, refusal, culprit);
    }

    /// The broker ended the connection without a word while these were on their way. That is how mosquitto's short DISCONNECT looks
    /// through rumqttc, and how brokers of MQTT 3.1.1 refuse. What was alone each time is set aside and stays in the outbox, so that
    /// the rest goes on.
    pub(super) fn on_end_without_a_word(&mut self, mut handed: Vec<Handed>) {
        // Without it nothing is sent at all.
        let status = self.shared.topics.of_agent(AgentPart::Status);
        handed.retain(|handed| handed.topic != status);
        let Some(culprit) = self.suspects.ended(&handed) else { return };
        self.suspects.cleared(culprit);
        let Handed { topic, sent } = culprit.clone();
        match sent {
            Sent::Row { id, .. } => {
                self.set_aside.insert(id, Instant::now());
                let problem = "a message ends every connection and is set aside: the broker closes it without a word";
                self.tell_refused(&topic, problem.into());
            }
            sent => self.apply(Remedy::HoldTopic, &Reason::Unsaid.into(), Handed { topic, sent }),
        }
    }

    /// What is set aside is not sent on a new connection either.
    pub(super) fn keep_aside(&mut self) {
        self.set_aside.retain(|_, since| since.elapsed() < SET_ASIDE_FOR);
        if let Some(link) = self.session.as_mut().and_then(|session| session.link.as_mut()) {
            self.set_aside.keys().for_each(|id| link.set_aside(*id));
        }
    }

    /// The broker answered a message with a refusal.
    pub(super) fn on_refused(&mut self, refusal: &Refusal, handed: Handed) {
        if handed.topic == self.shared.topics.of_agent(AgentPart::Status) {
            return self.on_status_refused(refusal, handed.topic);
        }
        self.apply(refusal.reason.remedy(), refusal, handed);
    }

    /// Nothing is sent before the own status has come back: it is asked for again soon.
    fn on_status_refused(&mut self, refusal: &Refusal, topic: String) {
        if let Some(link) = self.link() {
            link.echo = Echo::MissingUntil(Instant::now() + ECHO_AGAIN);
        }
        let problem = format!("the broker denies the agent's own status, so nothing is sent: {refusal}");
        self.report_problem(topic.clone(), problem.clone());
        if !std::mem::replace(&mut self.status_denied, true) {
            self.shared.publish_event(EventKind::PublishDenied, Some(format!("{topic}: {problem}")));
            self.note_denied();
        }
    }

    fn apply(&mut self, remedy: Remedy, refusal: &Refusal, Handed { topic, sent }: Handed) {
        match remedy {
            Remedy::GiveUp => self.give_up(&topic, sent, refusal),
            Remedy::HoldTopic => {
                if self.holds.refused(&topic, Instant::now()) {
                    let what = match refusal.reason {
                        Reason::NotAuthorized => "the broker denies what is published here",
                        _ => "the broker does not take what is published here",
                    };
                    let problem = format!("{what}, so it waits: {refusal}");
                    self.report_problem(topic.clone(), problem.clone());
                    self.shared.publish_event(EventKind::PublishDenied, Some(format!("{topic}: {problem}")));
                }
                self.note_denied();
            }
            Remedy::NextConnection => {
                let problem = format!("the broker refuses a message, which waits for the next connection: {refusal}");
                self.report_problem(topic, problem);
                if let (Sent::Row { id, .. }, Some(link)) = (sent, self.link()) {
                    link.set_aside(id);
                }
            }
        }
    }

    /// A message that this broker will never take.
    pub(super) fn give_up(&mut self, topic: &str, sent: Sent, why: impl std::fmt::Display) {
        if let Sent::Row { id, .. } = sent {
            self.shared.outbox.acknowledged(id);
        }
        self.tell_refused(topic, format!("a message cannot be sent and is given up: {why}"));
    }

    /// Counts a message that the broker does not take, and tells of it.
    fn tell_refused(&mut self, topic: &str, problem: String) {
        self.report_problem(topic.to_owned(), problem.clone());
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        // An event about an event could go on for ever.
        let is_event = topic == self.shared.topics.of_agent(AgentPart::Event);
        if !is_event && self.given_up_told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.given_up_told = Some(Instant::now());
            self.shared.publish_event(EventKind::MessageRefused, Some(format!("{topic}: {problem}")));
        }
    }

    /// The broker has taken a message: if its topic was held back, what waits for it is a backlog.
    pub(super) fn on_taken(&mut self, topic: &str) {
        if !self.holds.taken(topic) {
            return;
        }
        tracing::info!("{topic}: the broker takes what is published here again");
        self.problems.solved(topic);
        self.note_denied();
        let backlog_end = self.shared.outbox.next_id();
        if let Some(link) = self.link() {
            link.begin_again(backlog_end);
        }
        self.shared.republish_all();
    }

    /// Lets one message of each topic whose time has come ask whether it is taken again.
    pub(super) fn ask_for_held_topics(&mut self) {
        let due = self.holds.come_due(Instant::now());
        if due.is_empty() {
            return;
        }
        self.shared.republish(&due);
        if let Some(link) = self.link() {
            link.read_again();
        }
    }

    /// Asks again for the subscriptions that were denied, once their time has come.
    pub(super) fn ask_for_denied_filters(&mut self) {
        let due = self.link().is_some_and(|link| link.subscriptions.comes_due(Instant::now()));
        if due && !self.filters_denied.is_empty() {
            self.subscribe(self.filters_denied.iter().cloned().collect());
        }
    }

    /// Says in `health` what the broker denies at present.
    pub(super) fn note_denied(&self) {
        let status = self.status_denied.then(|| self.shared.topics.of_agent(AgentPart::Status));
        let filters = self.filters_denied.iter().cloned();
        *self.shared.denied.lock() = self.holds.topics().into_iter().chain(status).chain(filters).collect();
    }
}
