//! One connection to one broker: a task that polls and does nothing else, and its events, for the driver.
//!
//! Each attempt makes a new event loop. rumqttc keeps its own unacknowledged messages and forgets them when the
//! broker forgot the session; the outbox sends them again instead, so nothing of the old loop may live on.
//!
//! rumqttc 0.25.1 has MQTT 3.1.1 and 5 in one crate that is widely used, and is kept up slowly; rumqttc-next, a fork of it by one
//! person since February 2026, has made a release that breaks its interface about once a month. Of what the fork mends, the state
//! that lives across reconnects, nothing is used here; `v5.rs` names the rest.

mod error;
mod event;
mod identity;
mod limits;
mod refusal;
mod v4;
mod v5;

use std::sync::Arc;
use std::time::Duration;

use rumqttc::valid_topic;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

pub use self::error::{ConnectionError, is_closed};
pub use self::event::{ConnectionEvent, Received};
pub use self::identity::{Identity, LoginError, Will, login};
pub use self::limits::{BrokerLimits, MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES};
pub use self::refusal::{Reason, Refusal, Remedy, printable};
use super::address::BrokerUrl;
use super::version::Version;

/// Why a message was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    #[error("nothing can be published to a topic with wildcards")]
    Topic,
    #[error("the broker takes no packet over {0} bytes")]
    TooLarge(usize),
    #[error("the connection has ended")]
    Ended,
}

/// A connection, or an attempt at one. Ends when dropped.
pub struct Connection {
    requests: Requests,
    events: mpsc::Receiver<ConnectionEvent>,
    task: JoinHandle<()>,
    limits: Option<BrokerLimits>,
}

/// The two halves of rumqttc differ in their types alone.
enum Requests {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Begins to connect; at most `in_flight` messages will be handed over without acknowledgement.
    pub fn open(
        url: &BrokerUrl,
        version: Version,
        tls: Option<Arc<ClientConfig>>,
        identity: &Identity,
        in_flight: usize,
    ) -> Self {
        let (sender, events) = mpsc::channel(32);
        // Room for everything that can be asked of it at once: nothing ever waits for this channel.
        let room = in_flight + 8;
        let (requests, task) = match version {
            Version::V4 => {
                let (client, task) = v4::open(url, tls, identity, room, sender);
                (Requests::V4(client), task)
            }
            Version::V5 => {
                let (client, task) = v5::open(url, tls, identity, room, sender);
                (Requests::V5(client), task)
            }
        };
        Connection { requests, events, task, limits: None }
    }

    /// The next event. Safe to cancel.
    pub async fn next_event(&mut self) -> ConnectionEvent {
        let event = self.events.recv().await.unwrap_or(ConnectionEvent::Lost(ConnectionError::Ended));
        if let ConnectionEvent::Connected(limits) = &event {
            self.limits = Some(*limits);
        }
        event
    }

    /// Hands a message over. `expiry`: after this time the broker need not deliver it any more; only with MQTT 5.
    ///
    /// # Errors
    /// A message that this broker does not take, or a connection that has ended, which its next events say.
    pub fn publish(
        &self,
        topic: &str,
        retain: bool,
        payload: Vec<u8>,
        expiry: Option<Duration>,
    ) -> Result<(), NotSent> {
        if !valid_topic(topic) {
            return Err(NotSent::Topic);
        }
        if let Some(most) = self.limits.and_then(|limits| limits.exceeded(topic, &payload)) {
            return Err(NotSent::TooLarge(most));
        }
        // Its queue never fills up, so that only a connection that has ended takes nothing.
        handed_over(match &self.requests {
            Requests::V4(client) => v4::publish(client, topic, retain, payload),
            Requests::V5(client) => v5::publish(client, topic, retain, payload, expiry),
        })
    }

    /// # Errors
    /// A connection that has ended.
    pub fn subscribe(&self, filters: &[String]) -> Result<(), NotSent> {
        handed_over(match &self.requests {
            Requests::V4(client) => v4::subscribe(client, filters),
            Requests::V5(client) => v5::subscribe(client, filters),
        })
    }

    /// # Errors
    /// A connection that has ended.
    pub fn disconnect(&self) -> Result<(), NotSent> {
        handed_over(match &self.requests {
            Requests::V4(client) => client.try_disconnect().is_ok(),
            Requests::V5(client) => client.try_disconnect().is_ok(),
        })
    }
}

fn handed_over(taken: bool) -> Result<(), NotSent> {
    taken.then_some(()).ok_or(NotSent::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a connection are read one after the other: what is published before the last one is read must not
    /// count as sent, nor as a message that cannot be.
    #[tokio::test]
    async fn a_connection_that_has_ended_takes_no_message() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        let url = format!("mqtt://{closed}").parse().expect("a URL");
        let identity = Identity {
            client_id: "test".into(),
            login: None,
            will: None,
            keep_alive: Duration::from_secs(5),
            keep_session: None,
            largest_message: 1000,
        };
        for version in [Version::V4, Version::V5] {
            let mut connection = Connection::open(&url, version, None, &identity, 4);
            let ended = connection.next_event().await;
            assert!(matches!(&ended, ConnectionEvent::Lost(error) if !error.may_be_the_version(false)), "{ended:?}");
            assert!(connection.task.is_finished() || (&mut connection.task).await.is_ok());
            let publish = |topic| connection.publish(topic, false, Vec::new(), None);
            assert_eq!(publish("auscult/pi/status"), Err(NotSent::Ended));
            assert_eq!(publish("auscult/#"), Err(NotSent::Topic));
        }
    }
}
