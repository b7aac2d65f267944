//! One connection to one broker: a task that polls and does nothing else, and its events, for the driver.
//!
//! Each attempt makes a new event loop. rumqttc keeps its own unacknowledged messages and forgets them when the
//! broker forgot the session; the outbox sends them again instead, so nothing of the old loop may live on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport, valid_topic,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use super::address::BrokerUrl;
use crate::secret::Secret;

/// A control message may have this many bytes; larger ones are refused by the agent, not by the connection: rumqttc
/// would end the connection, and the broker would deliver the same message again and again.
pub const MAX_CONTROL_BYTES: usize = 256 * 1024;

/// No message is larger than this; brokers refuse far smaller ones, and a refused message must not block the rest.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// The largest packet of MQTT 3.1.1.
const MAX_PACKET_BYTES: usize = 268_435_455 + 5;

/// Packet ids wrap around at this number, far above the messages in flight, so that a late acknowledgement meets no
/// second message with its id.
const PACKET_IDS: u16 = 200;

/// Time for the network, TLS and the broker to accept a connection, and for a packet to leave.
const NETWORK_TIMEOUT_S: u64 = 10;

/// What happened on the connection.
#[derive(Debug)]
pub enum ConnectionEvent {
    Connected,
    /// The oldest message that was handed over and has no packet id yet got this one.
    Sent(u16),
    Acknowledged(u16),
    /// For each filter, in order, whether it was accepted.
    Subscribed(Vec<bool>),
    Message(Received),
    /// Any other packet: the broker lives.
    Alive,
    /// Our DISCONNECT has left.
    Disconnected,
    Lost(ConnectionError),
}

/// An incoming message.
#[derive(Debug)]
pub struct Received {
    pub topic: String,
    /// The payload, or only its length when it is over [`Identity::largest_message`].
    pub payload: Result<Vec<u8>, usize>,
    pub retained: bool,
}

/// Who connects, and what the broker publishes when the connection breaks.
#[derive(Debug, Clone)]
pub struct Identity {
    pub client_id: String,
    pub login: Option<(String, Secret)>,
    /// Topic and payload, retained, that the broker publishes when the connection breaks.
    pub will: Option<(String, Vec<u8>)>,
    pub keep_alive: Duration,
    /// Whether the broker keeps subscriptions, and messages for them, while this client is away.
    pub keep_session: bool,
    /// Longest payload that is taken in, bytes.
    pub largest_message: usize,
}

/// The password file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct LoginError {
    path: PathBuf,
    source: std::io::Error,
}

/// User name and password; the first line of `password_file`, which is read now, takes precedence over `password`.
///
/// # Errors
/// A password file that cannot be read, with its name.
pub fn login(
    username: Option<&str>,
    password: Option<&Secret>,
    password_file: Option<&Path>,
) -> Result<Option<(String, Secret)>, LoginError> {
    let Some(user) = username else { return Ok(None) };
    let password = match password_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| LoginError { path: path.to_owned(), source })?;
            text.lines().next().unwrap_or_default().into()
        }
        None => password.cloned().unwrap_or_else(|| "".into()),
    };
    Ok(Some((user.to_owned(), password)))
}

/// Why a message was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    #[error("nothing can be published to a topic with wildcards")]
    Topic,
    #[error("the connection has ended")]
    Ended,
}

/// A connection, or an attempt at one. Ends when dropped.
pub struct Connection {
    requests: AsyncClient,
    events: mpsc::Receiver<ConnectionEvent>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Begins to connect; at most `in_flight` messages will be handed over without acknowledgement.
    pub fn open(url: &BrokerUrl, tls: Option<Arc<ClientConfig>>, identity: &Identity, in_flight: usize) -> Self {
        // A bare IPv6 address serves both its users in rumqttc: the resolver and the name in the certificate.
        let mut options = MqttOptions::new(&identity.client_id, &url.host, url.port);
        options
            .set_clean_session(!identity.keep_session)
            .set_keep_alive(identity.keep_alive)
            .set_inflight(PACKET_IDS)
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some((topic, payload)) = &identity.will {
            options.set_last_will(LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true));
        }
        if let Some((user, password)) = &identity.login {
            options.set_credentials(user, password.expose());
        }
        if let Some(config) = tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        // Room for everything that can be asked of it at once: nothing ever waits for this channel.
        let (requests, mut event_loop) = AsyncClient::new(options, in_flight + 8);
        let mut network = event_loop.network_options();
        network.set_connection_timeout(NETWORK_TIMEOUT_S).set_tcp_nodelay(true);
        event_loop.set_network_options(network);
        let (sender, events) = mpsc::channel(32);
        let largest_message = identity.largest_message;
        let task = tokio::spawn(async move {
            loop {
                let event = match event_loop.poll().await {
                    Ok(event) => match translate(event, largest_message) {
                        Some(event) => event,
                        None => continue,
                    },
                    Err(error) => ConnectionEvent::Lost(error),
                };
                let last = matches!(event, ConnectionEvent::Lost(_));
                if sender.send(event).await.is_err() || last {
                    return;
                }
            }
        });
        Connection { requests, events, task }
    }

    /// The next event. Safe to cancel.
    pub async fn next_event(&mut self) -> ConnectionEvent {
        let ended = || ConnectionEvent::Lost(ConnectionError::RequestsDone);
        self.events.recv().await.unwrap_or_else(ended)
    }

    /// Hands a message over.
    ///
    /// # Errors
    /// A topic that nothing can be published to, or a connection that has ended, which its next events say.
    pub fn publish(&self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), NotSent> {
        if !valid_topic(topic) {
            return Err(NotSent::Topic);
        }
        // Its queue never fills up, so that this is the only reason.
        self.requests.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|_| NotSent::Ended)
    }

    /// # Errors
    /// A connection that has ended.
    pub fn subscribe(&self, filters: &[String]) -> Result<(), NotSent> {
        let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        self.requests.try_subscribe_many(filters).map_err(|_| NotSent::Ended)
    }

    /// # Errors
    /// A connection that has ended.
    pub fn disconnect(&self) -> Result<(), NotSent> {
        self.requests.try_disconnect().map_err(|_| NotSent::Ended)
    }
}

fn translate(event: Event, largest_message: usize) -> Option<ConnectionEvent> {
    Some(match event {
        Event::Incoming(Packet::ConnAck(_)) => ConnectionEvent::Connected,
        Event::Incoming(Packet::PubAck(ack)) => ConnectionEvent::Acknowledged(ack.pkid),
        Event::Incoming(Packet::SubAck(ack)) => {
            let accepted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
            ConnectionEvent::Subscribed(ack.return_codes.iter().map(accepted).collect())
        }
        Event::Incoming(Packet::Publish(message)) => {
            let bytes = message.payload.len();
            // Copied, so that a small message does not hold the whole read buffer.
            let payload = if bytes <= largest_message { Ok(message.payload.to_vec()) } else { Err(bytes) };
            ConnectionEvent::Message(Received { topic: message.topic, payload, retained: message.retain })
        }
        Event::Incoming(_) => ConnectionEvent::Alive,
        Event::Outgoing(Outgoing::Publish(packet_id)) => ConnectionEvent::Sent(packet_id),
        Event::Outgoing(Outgoing::Disconnect) => ConnectionEvent::Disconnected,
        Event::Outgoing(_) => return None,
    })
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
            keep_session: false,
            largest_message: 1000,
        };
        let mut connection = Connection::open(&url, None, &identity, 4);
        assert!(matches!(connection.next_event().await, ConnectionEvent::Lost(_)));
        assert!(connection.task.is_finished() || (&mut connection.task).await.is_ok());
        assert_eq!(connection.publish("auscult/pi/status", false, Vec::new()), Err(NotSent::Ended));
        assert_eq!(connection.publish("auscult/#", false, Vec::new()), Err(NotSent::Topic));
    }
}
