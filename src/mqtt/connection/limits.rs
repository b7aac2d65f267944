//! How large and how many: ours, and what a broker says of itself.

use std::time::Duration;

/// A control message may have this many bytes; larger ones are refused by the agent, not by the connection: rumqttc
/// would end the connection, and the broker would deliver the same message again and again.
pub const MAX_CONTROL_BYTES: usize = 256 * 1024;

/// No message is larger than this; brokers refuse far smaller ones, and a refused message must not block the rest.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// The largest packet of MQTT.
pub const MAX_PACKET_BYTES: u32 = 268_435_455 + 5;

/// Packet ids wrap around at this number, far above the messages in flight, so that a late acknowledgement meets no
/// second message with its id. A broker of MQTT 5 that takes fewer messages at once sets it lower.
pub const PACKET_IDS: u16 = 200;

/// Time for the network, TLS and the broker to accept a connection, and for a packet to leave.
pub const NETWORK_TIMEOUT_S: u64 = 10;

/// What a broker said when it accepted the connection; before MQTT 5 it says none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Seconds between signs of life: ours, or what the broker has set in their place.
    pub keep_alive: Duration,
    /// So many messages without acknowledgement it takes.
    pub in_flight: Option<usize>,
    /// The largest packet that it takes, bytes.
    pub packet_bytes: Option<usize>,
    /// For so long it keeps the session, where that is not what was asked for.
    pub session: Option<Duration>,
}

/// What a packet has besides topic and payload, at most: header 5, lengths 2 and 4, packet id 2, content type 19, expiry 5.
const PACKET_OVERHEAD: usize = 37;

impl BrokerLimits {
    pub fn none(keep_alive: Duration) -> BrokerLimits {
        BrokerLimits { keep_alive, in_flight: None, packet_bytes: None, session: None }
    }

    /// Whether a message is too large for this broker, and what it takes.
    pub fn exceeded(&self, topic: &str, payload: &[u8]) -> Option<usize> {
        self.packet_bytes.filter(|most| topic.len() + payload.len() + PACKET_OVERHEAD > *most)
    }
}
