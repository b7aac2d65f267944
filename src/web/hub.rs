//! What is published, on its way to the browsers: the state that is kept, and a bounded queue for each browser.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::mqtt::topics::{AgentPart, MachinePart, Topic};

/// What may wait for one browser; one that falls further behind is disconnected.
const QUEUE_MESSAGES: usize = 16_384;
const QUEUE_BYTES: usize = 8 << 20;

/// Limits of the kept state: a broker may hold anything.
const KEPT_MESSAGES: usize = 50_000;
const KEPT_BYTES: usize = 64 << 20;

/// One message of the contract: its topic and its JSON. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: Arc<str>,
    /// JSON text; `None`: the state of this topic is cleared.
    pub payload: Option<Arc<str>>,
    /// It is state from before the browser came.
    pub retained: bool,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.as_ref().map_or(0, |payload| payload.len())
    }
}

/// Topic of what is no message of the contract: a command that was taken and could not be sent after all.
pub(super) const REFUSED: &str = "$refused";

/// What a browser that comes later gets of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It, as retained state.
    State,
    /// It, as the last of its kind, though no broker retains it.
    Last,
    /// Nothing.
    No,
}

impl Keep {
    /// What is kept of the messages of a topic.
    pub fn of(topic: &Topic, payload: &[u8]) -> Keep {
        #[derive(Deserialize)]
        struct Late {
            #[serde(default)]
            late: bool,
        }
        match topic {
            Topic::Agent { part: AgentPart::Status | AgentPart::Info, .. } => Keep::State,
            Topic::Agent { part: AgentPart::Health, .. } => Keep::Last,
            Topic::Machine { part: MachinePart::Alarm | MachinePart::Settings, .. } => Keep::State,
            // History that comes after an outage is not the newest state.
            Topic::Machine { part: MachinePart::Verdict, .. } => match serde_json::from_slice(payload) {
                Ok(Late { late: true }) => Keep::No,
                _ => Keep::State,
            },
            _ => Keep::No,
        }
    }
}

/// Where messages go to the browsers that are there, and wait for those to come.
#[derive(Default)]
pub struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: BTreeMap<Arc<str>, (Arc<str>, Keep)>,
    kept_bytes: usize,
    /// The limits were reached, and this was logged.
    is_full: bool,
    browsers: Vec<Browser>,
}

struct Browser {
    queue: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Hub {
    /// Passes a message on and keeps what is to be kept. Never waits: what a browser cannot take ends its subscription.
    pub fn publish(&self, topic: Arc<str>, payload: Option<Arc<str>>, keep: Keep) {
        let mut inner = self.lock();
        if keep != Keep::No {
            inner.keep(&topic, payload.as_ref(), keep);
        }
        let message = Message { topic, payload, retained: false };
        inner.browsers.retain(|browser| browser.enqueue(&message));
    }

    /// Answers a command that was taken before: it is not done. All browsers get it; the one that asked knows its id.
    pub fn refuse(&self, id: &serde_json::Value, reason: &str) {
        let refused = serde_json::json!({ "id": id, "reason": reason });
        self.publish(REFUSED.into(), Some(refused.to_string().into()), Keep::No);
    }

    /// The kept state, and everything that is published from now on.
    pub fn open(&self) -> (Vec<Message>, Subscription) {
        let (queue, receiver) = mpsc::channel(QUEUE_MESSAGES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let mut inner = self.lock();
        inner.browsers.push(Browser { queue, bytes: bytes.clone() });
        (inner.snapshot(), Subscription { receiver, bytes })
    }

    /// The kept state.
    pub fn snapshot(&self) -> Vec<Message> {
        self.lock().snapshot()
    }

    /// A panic while the lock was held leaves nothing half done: single insertions and removals.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, topic: &Arc<str>, payload: Option<&Arc<str>>, keep: Keep) {
        let old = self.kept.get(topic).map_or(0, |(old, _)| topic.len() + old.len());
        let Some(payload) = payload else {
            self.kept.remove(topic);
            self.kept_bytes -= old;
            return;
        };
        let new = topic.len() + payload.len();
        let is_new = old == 0;
        if (is_new && self.kept.len() >= KEPT_MESSAGES) || self.kept_bytes - old + new > KEPT_BYTES {
            if !self.is_full {
                tracing::warn!(%topic, "too much retained state: browsers that come later do not see all of it");
            }
            self.is_full = true;
            return;
        }
        self.kept_bytes = self.kept_bytes - old + new;
        self.kept.insert(topic.clone(), (payload.clone(), keep));
    }

    fn snapshot(&self) -> Vec<Message> {
        let kept = self.kept.iter().map(|(topic, (payload, keep))| Message {
            topic: topic.clone(),
            payload: Some(payload.clone()),
            retained: *keep == Keep::State,
        });
        kept.collect()
    }
}

impl Browser {
    /// False when it has gone or has fallen behind.
    fn enqueue(&self, message: &Message) -> bool {
        let bytes = message.bytes();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES {
            return false;
        }
        self.queue.try_send(message.clone()).is_ok()
    }
}

/// One browser's queue.
pub struct Subscription {
    receiver: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Subscription {
    /// The next message; `None` when too many waited and the rest is lost. Safe to cancel.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.receiver.recv().await?;
        self.bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
        Some(message)
    }

    /// A message that is already there.
    pub fn try_next(&mut self) -> Option<Message> {
        let message = self.receiver.try_recv().ok()?;
        self.bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(hub: &Hub, topic: &str, payload: &str, keep: Keep) {
        hub.publish(topic.into(), Some(payload.into()), keep);
    }

    #[test]
    fn who_comes_later_gets_what_is_kept() {
        let hub = Hub::default();
        publish(&hub, "a/status", "1", Keep::State);
        publish(&hub, "a/status", "2", Keep::State);
        publish(&hub, "a/health", "3", Keep::Last);
        publish(&hub, "a/reply", "4", Keep::No);
        let (snapshot, mut new) = hub.open();
        let seen: Vec<_> =
            snapshot.iter().map(|m| (&*m.topic, m.payload.as_deref().expect("a payload"), m.retained)).collect();
        assert_eq!(seen, [("a/health", "3", false), ("a/status", "2", true)]);
        assert_eq!(new.try_next(), None);
        hub.publish("a/status".into(), None, Keep::State);
        assert_eq!(new.try_next().map(|message| message.payload), Some(None));
        assert_eq!(hub.snapshot().len(), 1);
        assert_eq!(hub.lock().kept_bytes, "a/health3".len());
    }

    #[test]
    fn a_browser_that_does_not_read_loses_its_subscription_and_holds_nobody_up() {
        let hub = Hub::default();
        let (_, mut slow) = hub.open();
        let (_, mut quick) = hub.open();
        for number in 0..QUEUE_MESSAGES + 10 {
            publish(&hub, "a/m/verdict", &number.to_string(), Keep::State);
            assert!(quick.try_next().is_some());
        }
        let mut got = 0;
        while slow.try_next().is_some() {
            got += 1;
        }
        assert_eq!(got, QUEUE_MESSAGES);
        assert!(slow.receiver.is_closed());
        assert_eq!(hub.lock().browsers.len(), 1);
    }

    #[test]
    fn few_large_messages_are_too_many_as_well() {
        let hub = Hub::default();
        let (_, slow) = hub.open();
        let large = "x".repeat(QUEUE_BYTES / 4);
        for _ in 0..4 {
            publish(&hub, "a/m/evidence", &large, Keep::No);
        }
        assert!(slow.receiver.is_closed());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let hub = Hub::default();
        for number in 0..KEPT_MESSAGES + 10 {
            publish(&hub, &format!("a/{number}"), "1", Keep::State);
        }
        publish(&hub, "a/1", "2", Keep::State);
        assert_eq!(hub.snapshot().len(), KEPT_MESSAGES);
        assert!(hub.snapshot().iter().any(|m| &*m.topic == "a/1" && m.payload.as_deref() == Some("2")));
    }
}
