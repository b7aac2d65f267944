//! A plain client, for the tools of the command line: connects, subscribes, publishes, receives. No outbox; what breaks
//! the connection is an error, and whoever uses it decides whether to connect again.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::ConnectionError;

use super::address::BrokerUrls;
use super::config::MqttConfig;
use super::connection::{self, Connection, ConnectionEvent, Identity, LoginError, MAX_MESSAGE_BYTES, NotSent};
use super::diagnose;
use super::tls::{self, TlsError, TlsFiles};
use super::topics::Topic;

/// Messages that may be unacknowledged at once.
const IN_FLIGHT: usize = 64;
/// Longest wait for the acceptance of a subscription.
const TIMEOUT: Duration = Duration::from_secs(20);

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
    #[error("{url}: the broker's access rules do not let {} be read", filters.join(", "))]
    Denied { url: String, filters: Vec<String> },
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
    /// Published, not yet acknowledged.
    in_flight: usize,
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
            will,
            keep_alive: Duration::from_secs(config.keep_alive_s),
            keep_session: false,
            largest_message: MAX_MESSAGE_BYTES,
        };
        let files = TlsFiles::from_config(config);
        let mut problem = SimpleClientError::NoBroker;
        for url in BrokerUrls::all(&config.url) {
            let over_tls = url.tls;
            let tls = over_tls.then(|| tls::client_config(&files)).transpose()?;
            let mut connection = Connection::open(url, tls, &identity, IN_FLIGHT);
            let url = url.to_string();
            problem = loop {
                match connection.next_event().await {
                    ConnectionEvent::Connected => {
                        let root = config.root.clone();
                        return Ok(SimpleClient { connection, url, root, in_flight: 0, waiting: VecDeque::new() });
                    }
                    ConnectionEvent::Lost(cause) => {
                        break SimpleClientError::NotConnected { url, tls: over_tls, cause: Box::new(cause) };
                    }
                    _ => {}
                }
            };
        }
        Err(problem)
    }

    /// The broker that it is connected to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// First part of every topic.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Subscribes, and waits until the broker has accepted.
    ///
    /// # Errors
    /// A filter that the broker's access rules deny; a connection that breaks.
    pub async fn subscribe(&mut self, filters: &[String]) -> Result<(), SimpleClientError> {
        let asked = self.connection.subscribe(filters);
        asked.map_err(|source| SimpleClientError::NotSent { what: self.url.clone(), source })?;
        let accepted = tokio::time::timeout(TIMEOUT, async {
            loop {
                if let ConnectionEvent::Subscribed(accepted) = self.next_event().await? {
                    return Ok::<_, SimpleClientError>(accepted);
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
        let denied = filters.iter().zip(accepted).filter(|(_, accepted)| !accepted);
        let filters: Vec<String> = denied.map(|(filter, _)| filter.clone()).collect();
        if filters.is_empty() { Ok(()) } else { Err(SimpleClientError::Denied { url, filters }) }
    }

    /// Publishes with QoS 1; waits only while too much is without acknowledgement.
    ///
    /// # Errors
    /// A connection that breaks; what was published is then perhaps lost.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: Vec<u8>) -> Result<(), SimpleClientError> {
        while self.in_flight >= IN_FLIGHT {
            self.next_event().await?;
        }
        self.in_flight += 1;
        let published = self.connection.publish(topic, retain, payload);
        published.map_err(|source| SimpleClientError::NotSent { what: format!("{}: {topic}", self.url), source })
    }

    /// Waits until the broker has acknowledged everything that was published.
    ///
    /// # Errors
    /// A connection that breaks.
    pub async fn flush(&mut self) -> Result<(), SimpleClientError> {
        while self.in_flight > 0 {
            self.next_event().await?;
        }
        Ok(())
    }

    /// The next message on one of auscult's topics. Safe to cancel.
    ///
    /// # Errors
    /// A connection that breaks.
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
            ConnectionEvent::Acknowledged(_) => self.in_flight = self.in_flight.saturating_sub(1),
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
