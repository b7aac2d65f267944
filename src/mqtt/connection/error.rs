//! Why a connection ended, and what that says of the message that was on its way.

use std::error::Error as StdError;
use std::io;

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use tokio_rustls::rustls::Error as TlsError;

use super::refusal::{Reason, Refusal, printable};

/// Why a connection ended, or was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    V4(rumqttc::ConnectionError),
    #[error(transparent)]
    V5(Box<v5::ConnectionError>),
    /// Each alias keeps a message in memory, and there may be 65 535.
    #[error("the broker uses topic aliases, which it was not allowed")]
    TopicAlias,
    /// Its events have all been read.
    #[error("the connection has ended")]
    Ended,
}

impl ConnectionError {
    /// Whether an attempt with MQTT 5 may have failed because the broker does not speak it. One that speaks only 3.1.1 answers in
    /// 3.1.1's own format, which rumqttc cannot read, and closes the connection; or it closes it without an answer; or it keeps it
    /// open, and rumqttc waits in vain. From one that is `known` silence means that it is away.
    pub fn may_be_the_version(&self, known: bool) -> bool {
        let ConnectionError::V5(error) = self else { return false };
        match &**error {
            v5::ConnectionError::ConnectionRefused(code) => matches!(
                code,
                ConnectReturnCode::UnsupportedProtocolVersion
                    | ConnectReturnCode::RefusedProtocolVersion
                    | ConnectReturnCode::ProtocolError
                    | ConnectReturnCode::MalformedPacket
            ),
            v5::ConnectionError::Timeout(_) => !known,
            v5::ConnectionError::NotConnAck(_) | v5::ConnectionError::MqttState(v5::StateError::ConnectionAborted) => {
                true
            }
            v5::ConnectionError::MqttState(v5::StateError::Deserialization(error)) => match error {
                v5::mqttbytes::Error::Io(error) => is_closed(error),
                _ => true,
            },
            v5::ConnectionError::MqttState(v5::StateError::Io(error)) | v5::ConnectionError::Io(error) => {
                is_closed(error)
            }
            _ => false,
        }
    }

    /// Whether a connection that had been accepted was closed by the other side, which did not say why.
    pub fn is_without_a_word(&self) -> bool {
        use rumqttc::{ConnectionError as V4Error, StateError};
        match self {
            ConnectionError::V4(V4Error::MqttState(StateError::Io(error)) | V4Error::Io(error)) => is_closed(error),
            ConnectionError::V4(V4Error::MqttState(StateError::ConnectionAborted)) => true,
            ConnectionError::V4(_) | ConnectionError::TopicAlias | ConnectionError::Ended => false,
            ConnectionError::V5(error) => match &**error {
                v5::ConnectionError::MqttState(v5::StateError::ConnectionAborted) => true,
                v5::ConnectionError::MqttState(
                    v5::StateError::Io(error) | v5::StateError::Deserialization(v5::mqttbytes::Error::Io(error)),
                )
                | v5::ConnectionError::Io(error) => is_closed(error) || is_cut(error),
                _ => false,
            },
        }
    }

    /// Why the broker, by its own word, did not take one of the messages that were on their way. A packet that rumqttc cannot read
    /// says so too: mosquitto 2.0 answers what is over its `message_size_limit` with a PUBACK of reason 0x95, which the protocol
    /// does not have there.
    pub fn refuses_a_message(&self) -> Option<Refusal> {
        let ConnectionError::V5(error) = self else { return None };
        let v5::ConnectionError::MqttState(error) = &**error else { return None };
        match error {
            v5::StateError::ServerDisconnect { reason_code, reason_string } => {
                let reason = match reason_code {
                    DisconnectReasonCode::PacketTooLarge => Reason::TooLarge,
                    DisconnectReasonCode::TopicNameInvalid => Reason::TopicInvalid,
                    DisconnectReasonCode::PayloadFormatInvalid => Reason::PayloadInvalid,
                    DisconnectReasonCode::NotAuthorized => Reason::NotAuthorized,
                    _ => return None,
                };
                Some(Refusal { reason, words: reason_string.as_deref().map(printable) })
            }
            v5::StateError::Deserialization(v5::mqttbytes::Error::InvalidConnectReturnCode(code)) => {
                let too_large = DisconnectReasonCode::PacketTooLarge as u8;
                let reason = if *code == too_large { Reason::TooLarge } else { Reason::Other(*code) };
                Some(reason.into())
            }
            _ => None,
        }
    }
}

/// Whether the connection was closed amid a packet. That is how a short DISCONNECT looks, of which rumqttc awaits the rest.
fn is_cut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("bytes remaining on stream")
}

/// Whether the other side closed the connection without a word, and not for a reason of TLS.
pub fn is_closed(error: &io::Error) -> bool {
    let of_tls = |inner: &(dyn StdError + Send + Sync + 'static)| inner.is::<TlsError>();
    !error.get_ref().is_some_and(of_tls)
        && matches!(
            error.kind(),
            // Which of them it is depends on the moment.
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
}
