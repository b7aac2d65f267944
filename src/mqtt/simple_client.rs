//! A plain client, for the tools of the command line: connects, subscribes, publishes, receives. No outbox; what breaks
//! the connection is an error, and whoever uses it decides whether to connect again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;

use super::address::{BrokerUrl, BrokerUrls};
use super::config::MqttConfig;
use super::connection::{
    self, Connection, ConnectionError, ConnectionEvent, Identity, LoginError, MAX_MESSAGE_BYTES, NotSent, Reason,
    Refusal, Will,
};
use super::diagnose;
use super::tls::{self, TlsError, TlsFiles};
use super::topics::Topic;
use super::version::Version;
use crate::clock::Timestamp;

/// Messages that may be unacknowledged at once.
const IN_FLIGHT: usize = 64;
/// Longest wait for the acceptance of a subscription.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Pauses before a subscription that was denied without a reason is asked for again.
const SUBSCRIBE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// What went wrong; with its causes a line that names the broker or the topic.
#[derive(Debug, thiserror::Error)]
pub enum SimpleClientError {
    #[error("no broker is configured")]
    NoBroker,
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{url}: {}", diagnose::describe(cause))]
    Lost { url: String, cause: Box<ConnectionError> },
    #[error("{url}: {}", diagnose::describe_attempt(cause, *tls))]
    NotConnected { url: String, tls: bool, cause: Box<ConnectionError> },
    #[error("{url}: the broker ended the connection when {what} was asked for: do its access rules deny it?")]
    Ended { url: String, what: String },
    #[error("{what}")]
    NotSent { what: String, source: NotSent },
    #[error("{url}: no answer to a subscription")]
    NoAnswer { url: String },
    #[error("{url}: the broker does not let {} be read: do its access rules allow it, and does it work as a whole?", filters.join(", "))]
    Denied { url: String, filters: Vec<String>, reason: Reason },
    /// The connection goes on.
    #[error("{url}: the broker does not take what is published to {topic}: {refusal}")]
    Refused { url: String, topic: String, refusal: Refusal },
}

/// A message, with its topic taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: Topic,
    pub payload: Vec<u8>,
    /// The broker kept it from before the subscription.
    pub retained: bool,
}

/// A connection to one broker. Lost when dropped; the broker then publishes the will, if there is one.
pub struct SimpleClient {
    connection: Connection,
    url: String,
    root: String,
    version: Version,
    /// Published, not yet acknowledged; a broker answers in the order in which it got them.
    in_flight: VecDeque<String>,
    /// Messages that arrived while something else was awaited.
    waiting: VecDeque<Message>,
}

impl SimpleClient {
    /// Connects to the first broker of `config` that accepts; `role` begins the client id, a random number ends it.
    ///
    /// # Errors
    /// Why the last of them did not accept; a password or certificate file that cannot be read.
    pub async fn connect(config: &MqttConfig, role: &str) -> Result<SimpleClient, SimpleClientError> {
        Self::connect_with_will(config, role, None).await
    }

    /// As [`SimpleClient::connect`], with a will: topic and payload, retained.
    ///
    /// # Errors
    /// As [`SimpleClient::connect`].
    pub async fn connect_with_will(
        config: &MqttConfig,
        role: &str,
        will: Option<(String, Vec<u8>)>,
    ) -> Result<SimpleClient, SimpleClientError> {
        let (username, password) = (config.username.as_deref(), config.password.as_ref());
        let login = connection::login(username, password, config.password_file.as_deref())?;
        let identity = Identity {
            client_id: format!("auscult-{role}-{:016x}", rand::random::<u64>()),
            login,
            will: will.map(|(topic, payload)| Will { topic, payload, delay: Duration::ZERO }),
            keep_alive: Duration::from_secs(config.keep_alive_s),
            keep_session: None,
            largest_message: MAX_MESSAGE_BYTES,
        };
        let files = TlsFiles::from_config(config);
        let mut problem = SimpleClientError::NoBroker;
        for url in BrokerUrls::all(&config.url) {
            let tls = url.tls.then(|| tls::client_config(&files)).transpose()?;
            let mut version = config.version.first(url);
            let cause = loop {
                let cause = match Self::attempt(url, version, tls.clone(), &identity).await {
                    Ok(connection) => {
                        config.version.accepted(url, version);
                        let (url, root) = (url.to_string(), config.root.clone());
                        let (in_flight, waiting) = (VecDeque::new(), VecDeque::new());
                        return Ok(SimpleClient { connection, url, root, version, in_flight, waiting });
                    }
                    Err(cause) => cause,
                };
                let known = config.version.is_known(url);
                match config.version.second(version).filter(|_| cause.may_be_the_version(known)) {
                    Some(other) => version = other,
                    None => break cause,
                }
            };
            problem = SimpleClientError::NotConnected { url: url.to_string(), tls: url.tls, cause: Box::new(cause) };
        }
        Err(problem)
    }

    async fn attempt(
        url: &BrokerUrl,
        version: Version,
        tls: Option<Arc<ClientConfig>>,
        identity: &Identity,
    ) -> Result<Connection, ConnectionError> {
        let mut connection = Connection::open(url, version, tls, identity, IN_FLIGHT);
        loop {
            match connection.next_event().await {
                ConnectionEvent::Connected(_) => return Ok(connection),
                ConnectionEvent::Lost(cause) => return Err(cause),
                _ => {}
            }
        }
    }

    /// The version of MQTT that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The broker that it is connected to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// First part of every topic.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Subscribes, and waits until the broker has accepted. What it denies without a reason is asked for again: a cluster that is
    /// busy, or lacks a node, denies what it takes a moment later.
    ///
    /// # Errors
    /// As [`SimpleClient::subscribe_once`].
    pub async fn subscribe(&mut self, filters: &[String]) -> Result<(), SimpleClientError> {
        for pause in SUBSCRIBE_AGAIN {
            match self.subscribe_once(filters).await {
                Err(SimpleClientError::Denied { reason: Reason::Other(_), .. }) => tokio::time::sleep(pause).await,
                answered => return answered,
            }
        }
        self.subscribe_once(filters).await
    }

    /// Subscribes, and waits until the broker has accepted.
    ///
    /// # Errors
    /// A filter that the broker denies; a connection that breaks.
    pub async fn subscribe_once(&mut self, filters: &[String]) -> Result<(), SimpleClientError> {
        let asked = self.connection.subscribe(filters);
        asked.map_err(|source| SimpleClientError::NotSent { what: self.url.clone(), source })?;
        let accepted = tokio::time::timeout(TIMEOUT, async {
            loop {
                if let ConnectionEvent::Subscribed(answers) = self.next_event().await? {
                    return Ok::<_, SimpleClientError>(answers);
                }
            }
        });
        let (accepted, url) = (accepted.await, self.url.clone());
        let accepted = match accepted {
            // RabbitMQ says so in this way.
            Ok(Err(SimpleClientError::Lost { .. })) => {
                return Err(SimpleClientError::Ended { url, what: filters.join(", ") });
            }
            Ok(answer) => answer?,
            Err(_) => return Err(SimpleClientError::NoAnswer { url }),
        };
        let denied =
            filters.iter().zip(accepted).filter_map(|(filter, refusal)| Some((filter.clone(), refusal?.reason)));
        let (filters, reasons): (Vec<String>, Vec<Reason>) = denied.unzip();
        // What is not said may change.
        let unsaid = reasons.iter().find(|reason| matches!(reason, Reason::Other(_)));
        unsaid
            .or(reasons.first())
            .map_or(Ok(()), |reason| Err(SimpleClientError::Denied { url, filters, reason: *reason }))
    }

    /// Publishes with QoS 1; waits only while too much is without acknowledgement.
    ///
    /// # Errors
    /// A connection that breaks; what was published is then perhaps lost. A message before this one that was refused.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), SimpleClientError> {
        self.publish_until(topic, retain, payload, None).await
    }

    /// As [`SimpleClient::publish`]; after `expiry` the broker need not deliver it any more, which only one of MQTT 5 heeds.
    async fn publish_until(
        &mut self,
        topic: &str,
        retain: bool,
        payload: Vec<u8>,
        expiry: Option<Duration>,
    ) -> Result<(), SimpleClientError> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.next_event().await?;
        }
        let published = self.connection.publish(topic, retain, payload, expiry);
        published.map_err(|source| SimpleClientError::NotSent { what: format!("{}: {topic}", self.url), source })?;
        self.in_flight.push_back(topic.to_owned());
        Ok(())
    }

    /// Publishes a command; the broker need not deliver it after its `expires`.
    ///
    /// # Errors
    /// As [`SimpleClient::publish`].
    pub async fn publish_command(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), SimpleClientError> {
        let expiry = expiry(&payload, Utc::now());
        self.publish_until(topic, false, payload, expiry).await
    }

    /// Waits until the broker has acknowledged everything that was published.
    ///
    /// # Errors
    /// A connection that breaks; a message that was refused.
    pub async fn flush(&mut self) -> Result<(), SimpleClientError> {
        while !self.in_flight.is_empty() {
            self.next_event().await?;
        }
        Ok(())
    }

    /// The next message on one of auscult's topics. Safe to cancel.
    ///
    /// # Errors
    /// A connection that breaks; a message that was published and refused, after which the connection goes on.
    pub async fn next(&mut self) -> Result<Message, SimpleClientError> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(message);
            }
            self.next_event().await?;
        }
    }

    /// Disconnects cleanly, so that no will is published.
    ///
    /// # Errors
    /// A connection that breaks before all is acknowledged.
    pub async fn close(mut self) -> Result<(), SimpleClientError> {
        self.flush().await?;
        if self.connection.disconnect().is_ok() {
            while !matches!(
                self.connection.next_event().await,
                ConnectionEvent::Disconnected | ConnectionEvent::Lost(_)
            ) {}
        }
        Ok(())
    }

    /// Handles one event. Safe to cancel.
    async fn next_event(&mut self) -> Result<ConnectionEvent, SimpleClientError> {
        let mut event = match self.connection.next_event().await {
            ConnectionEvent::Lost(cause) => {
                return Err(SimpleClientError::Lost { url: self.url.clone(), cause: Box::new(cause) });
            }
            event => event,
        };
        match &mut event {
            ConnectionEvent::Acknowledged(_, refusal) => {
                let topic = self.in_flight.pop_front().unwrap_or_default();
                if let Some(refusal) = refusal.take() {
                    return Err(SimpleClientError::Refused { url: self.url.clone(), topic, refusal });
                }
            }
            ConnectionEvent::Message(received) => {
                match (Topic::parse(&self.root, &received.topic), &mut received.payload) {
                    (Some(topic), Ok(payload)) => {
                        let (payload, retained) = (std::mem::take(payload), received.retained);
                        self.waiting.push_back(Message { topic, payload, retained });
                    }
                    (_, Err(bytes)) => tracing::warn!("{}: a message of {bytes} bytes is ignored", received.topic),
                    (None, _) => {}
                }
            }
            _ => {}
        }
        Ok(event)
    }
}

/// The time until a command's `expires`. One that has passed is the agent's business: it says so in its reply.
fn expiry(command: &[u8], now: DateTime<Utc>) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Expiring {
        expires: Option<Timestamp>,
    }
    let Expiring { expires } = serde_json::from_slice(command).ok()?;
    (expires?.utc() - now).to_std().ok().filter(|left| *left >= Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_expires_at_the_broker_when_it_expires_at_the_agent() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a time");
        let left = |command: &str| expiry(command.as_bytes(), now);
        assert_eq!(left(r#"{"id":"1","expires":"2026-03-01T14:00:00Z"}"#), Some(Duration::from_secs(7200)));
        for forever in [
            r#"{"id":"1","expires":"2026-03-01T11:00:00Z"}"#,
            r#"{"id":"1","expires":null}"#,
            r#"{"id":"1"}"#,
            "0.3",
            "",
        ] {
            assert_eq!(left(forever), None, "{forever}");
        }
    }
}
