//! What happens on a connection, whichever version of MQTT it speaks.

use super::error::ConnectionError;
use super::limits::BrokerLimits;
use super::refusal::Refusal;

/// What happened on the connection.
#[derive(Debug)]
pub enum ConnectionEvent {
    Connected(BrokerLimits),
    /// The oldest message that was handed over and has no packet id yet got this one.
    Sent(u16),
    /// The broker took the message, or said why it did not: only with MQTT 5, before it no broker says so.
    Acknowledged(u16, Option<Refusal>),
    /// For each filter, in order, why it was not accepted.
    Subscribed(Vec<Option<Refusal>>),
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
    /// The payload, or only its length when it is over [`Identity::largest_message`](super::Identity::largest_message).
    pub payload: Result<Vec<u8>, usize>,
    pub retained: bool,
}

impl Received {
    /// The payload is copied, so that a small message does not hold the whole read buffer.
    pub fn new(topic: String, payload: &[u8], retained: bool, largest: usize) -> Received {
        let payload = if payload.len() <= largest { Ok(payload.to_vec()) } else { Err(payload.len()) };
        Received { topic, payload, retained }
    }
}
