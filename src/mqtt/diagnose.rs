//! What went wrong with a connection, in one line for the person who has to repair it.

use std::error::Error as StdError;
use std::io;

use chrono::{DateTime, SecondsFormat};
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode as Code5, DisconnectReasonCode as Bye};
use rumqttc::{ConnectReturnCode, StateError};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::connection::{ConnectionError, is_closed, printable};

const CLOSED: &str = "the broker closed the connection";
const LATE: &str = "no answer in time";
const SILENT: &str = "the broker does not answer any more";
const NO_BROKER: &str = "what answers is no MQTT broker";
const GARBLED: &str = "what the broker sends is no MQTT";

/// The line, without the broker's name.
pub fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::V4(error) => describe_v4(error),
        ConnectionError::V5(error) => describe_v5(error),
        ConnectionError::TopicAlias | ConnectionError::Ended => error.to_string(),
    }
}

fn describe_v4(error: &rumqttc::ConnectionError) -> String {
    use rumqttc::ConnectionError;
    match error {
        ConnectionError::ConnectionRefused(code) => return refused(*code),
        ConnectionError::NetworkTimeout => return LATE.into(),
        ConnectionError::FlushTimeout => return "the network takes no more data".into(),
        ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout) => return SILENT.into(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => return CLOSED.into(),
        ConnectionError::NotConnAck(_) => return NO_BROKER.into(),
        _ => {}
    }
    network_or_tls(error).unwrap_or_else(|| match error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => format!("{GARBLED}: {error}"),
        other => other.to_string(),
    })
}

fn describe_v5(error: &v5::ConnectionError) -> String {
    use v5::mqttbytes::Error as Packet;
    use v5::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code) => refused_v5(*code),
        ConnectionError::Timeout(_) => LATE.into(),
        ConnectionError::NotConnAck(_) => NO_BROKER.into(),
        ConnectionError::MqttState(state) => match state {
            StateError::AwaitPingResp | StateError::CollisionTimeout => SILENT.into(),
            // A farewell without a reason is one that rumqttc cannot read.
            StateError::ConnectionAborted | StateError::Deserialization(Packet::PayloadRequired) => CLOSED.into(),
            StateError::ServerDisconnect { reason_code, reason_string } => {
                let words = reason_string.as_ref().map(|words| format!(" (the broker says: {})", printable(words)));
                format!("the broker ended the connection: {}{}", farewell(*reason_code), words.unwrap_or_default())
            }
            StateError::Deserialization(Packet::Io(error)) => network(error),
            StateError::Deserialization(Packet::InvalidConnectReturnCode(code)) => {
                format!("the broker answered with a reason code that MQTT 5 does not have there, 0x{code:02x}")
            }
            StateError::Deserialization(error) => format!("{GARBLED}: {error}"),
            other => network_or_tls(other).unwrap_or_else(|| other.to_string()),
        },
        other => network_or_tls(other).unwrap_or_else(|| other.to_string()),
    }
}

/// The line of the first cause that the network or TLS has.
fn network_or_tls(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return Some(network(error));
        }
        if let Some(error) = current.downcast_ref::<TlsError>() {
            return Some(tls(error));
        }
        cause = current.source();
    }
    None
}

/// As [`describe`], of a connection that the broker has not accepted yet: over TLS or not.
pub fn describe_attempt(error: &ConnectionError, tls: bool) -> String {
    let line = describe(error);
    let is_garbled = line == NO_BROKER || line.starts_with(GARBLED);
    match tls {
        false if line == CLOSED || is_garbled => format!("{line}: is it a port for TLS (mqtts://)?"),
        true if line == CLOSED => format!("{line} before it accepted the login: is it a port without TLS (mqtt://)?"),
        _ => line,
    }
}

const BAD_LOGIN: &str = "the broker refuses the login: wrong user name or password";
const NO_RIGHTS: &str = "the broker refuses the login: not authorised (user name, password or certificate)";
const BAD_ID: &str = "the broker refuses the client id";
const UNAVAILABLE: &str = "the broker says that it is unavailable";
const NO_RETAIN: &str = "the broker keeps no retained messages, which auscult needs for its status";
const NO_QOS: &str = "the broker does not take messages at quality of service 1, which auscult needs";

fn refused(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::BadUserNamePassword => BAD_LOGIN.into(),
        ConnectReturnCode::NotAuthorized => NO_RIGHTS.into(),
        ConnectReturnCode::BadClientId => BAD_ID.into(),
        ConnectReturnCode::ServiceUnavailable => UNAVAILABLE.into(),
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".into(),
        ConnectReturnCode::Success => "the broker accepted the login and then failed".into(),
    }
}

fn refused_v5(code: Code5) -> String {
    match code {
        Code5::BadUserNamePassword => BAD_LOGIN.into(),
        Code5::NotAuthorized => NO_RIGHTS.into(),
        Code5::BadClientId | Code5::ClientIdentifierNotValid => BAD_ID.into(),
        Code5::ServiceUnavailable | Code5::ServerUnavailable => UNAVAILABLE.into(),
        Code5::RefusedProtocolVersion | Code5::UnsupportedProtocolVersion => {
            "the broker does not speak MQTT 5: set mqtt.version to \"auto\" or 4".into()
        }
        Code5::ServerBusy | Code5::ConnectionRateExceeded => {
            "the broker says that it is busy: too many clients connect at once".into()
        }
        Code5::Banned => "the broker has banned this client".into(),
        Code5::QuotaExceeded => "the broker refuses the connection: a quota is exceeded".into(),
        Code5::RetainNotSupported => NO_RETAIN.into(),
        Code5::QoSNotSupported => NO_QOS.into(),
        Code5::UseAnotherServer | Code5::ServerMoved => {
            "the broker asks to use another server: set mqtt.url to that one".into()
        }
        other => format!("the broker refuses the connection: {other:?}"),
    }
}

fn farewell(code: Bye) -> String {
    match code {
        Bye::SessionTakenOver => {
            "another client has logged in with this client id: another agent seems to run under the same id".into()
        }
        Bye::NotAuthorized => "not authorised: do its access rules allow what was published or subscribed last?".into(),
        Bye::ServerBusy => "it is busy".into(),
        Bye::ServerShuttingDown => "it is shutting down".into(),
        Bye::KeepAliveTimeout => "it has heard nothing for too long".into(),
        Bye::PacketTooLarge => "a message is too large for it".into(),
        Bye::MessageRateTooHigh => "it gets more messages than it takes".into(),
        Bye::QuotaExceeded => "a quota is exceeded".into(),
        Bye::AdministrativeAction => "somebody at the broker did so".into(),
        Bye::RetainNotSupported => NO_RETAIN.into(),
        Bye::QoSNotSupported => NO_QOS.into(),
        Bye::UseAnotherServer | Bye::ServerMoved => "it asks to use another server: set mqtt.url to that one".into(),
        other => format!("{other:?}"),
    }
}

fn network(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls(error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".into(),
        _ if is_closed(error) => CLOSED.into(),
        _ => error.to_string(),
    }
}

fn tls(error: &TlsError) -> String {
    let time = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        DateTime::from_timestamp(seconds, 0).map_or("?".into(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    match error {
        TlsError::InvalidCertificate(problem) => match problem {
            CertificateError::Expired => "the broker's certificate has expired".into(),
            // Without the present time: the same trouble has the same words.
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the broker's certificate has expired: it was valid until {}", time(not_after))
            }
            CertificateError::NotValidYet => "the broker's certificate is not valid yet: is the clock right?".into(),
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "the broker's certificate is not valid before {}: is this machine's clock right?",
                time(not_before)
            ),
            CertificateError::NotValidForName => "the broker's certificate is for another host".into(),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the broker's certificate is for another host: expected {}, found {}",
                expected.to_str(),
                presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
            ),
            // A bad signature is an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate is signed by an unknown authority: does mqtt.ca_file fit?".into()
            }
            CertificateError::Revoked => "the broker's certificate is revoked".into(),
            other => unacceptable(&format!("{other:?}")),
        },
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => "the broker says that our certificate has expired".into(),
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                "the broker asks for a certificate: set mqtt.cert_file and mqtt.key_file".into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError => format!("the broker does not accept our certificate ({alert:?})"),
            other => format!("the broker ended TLS: {other:?}"),
        },
        TlsError::InvalidMessage(_) => "what answers does not speak TLS: is it the port of mqtt://?".into(),
        other => format!("TLS: {other}"),
    }
}

/// rustls has no types for these.
fn unacceptable(problem: &str) -> String {
    if problem.contains("UnsupportedCertVersion") {
        return "the broker's certificate is of X.509 version 1, which nobody accepts any more: make it again, with extensions \
                (as certificates.sh does)"
            .into();
    }
    if problem.contains("CaUsedAsEndEntity") {
        return "the broker shows the certificate of an authority, perhaps one that it signed itself: make one for the broker, \
                signed by the authority in mqtt.ca_file"
            .into();
    }
    format!("the broker's certificate cannot be accepted: {problem}")
}

/// rustls writes the names in a certificate as Rust does: `DnsName("broker")`.
fn bare(name: &str) -> &str {
    name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connection::Reason;

    #[test]
    fn the_cause_is_found_however_deep_it_lies() {
        let expired = || TlsError::InvalidCertificate(CertificateError::Expired);
        let wrapped = || io::Error::new(io::ErrorKind::InvalidData, expired());
        let v4 = [
            rumqttc::ConnectionError::Io(wrapped()),
            rumqttc::ConnectionError::Tls(rumqttc::TlsError::Io(wrapped())),
            rumqttc::ConnectionError::Tls(rumqttc::TlsError::TLS(expired())),
            rumqttc::ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(wrapped()))),
        ];
        let garbled = |error| v5::ConnectionError::MqttState(v5::StateError::Deserialization(error));
        let of_v5 = [
            v5::ConnectionError::Io(wrapped()),
            v5::ConnectionError::Tls(rumqttc::TlsError::Io(wrapped())),
            v5::ConnectionError::Tls(rumqttc::TlsError::TLS(expired())),
            v5::ConnectionError::MqttState(v5::StateError::Io(wrapped())),
            garbled(v5::mqttbytes::Error::Io(wrapped())),
        ];
        let v5 = |error| ConnectionError::V5(Box::new(error));
        for error in v4.into_iter().map(ConnectionError::V4).chain(of_v5.into_iter().map(v5)) {
            assert_eq!(describe(&error), "the broker's certificate has expired", "{error:?}");
            assert!(!error.may_be_the_version(false), "{error:?}");
        }
        for problem in ["UnsupportedCertVersion", "CaUsedAsEndEntity"] {
            let words = unacceptable(&format!("Other(OtherError({problem}))"));
            assert!(!words.contains(problem), "{words}");
        }
        let closed = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for error in [
            ConnectionError::V4(rumqttc::ConnectionError::Io(closed())),
            v5(garbled(v5::mqttbytes::Error::Io(closed()))),
            v5(v5::ConnectionError::MqttState(v5::StateError::ConnectionAborted)),
        ] {
            assert!(describe_attempt(&error, false).contains("mqtts://"));
            assert!(describe_attempt(&error, true).contains("without TLS"));
            assert_eq!(error.may_be_the_version(false), matches!(error, ConnectionError::V5(_)));
        }
        let nobody = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for error in
            [ConnectionError::V4(rumqttc::ConnectionError::Io(nobody())), v5(v5::ConnectionError::Io(nobody()))]
        {
            assert_eq!(describe(&error), "nothing listens there (connection refused)");
            assert!(!error.may_be_the_version(false));
        }
        let login = v5(v5::ConnectionError::ConnectionRefused(Code5::BadUserNamePassword));
        assert!(describe(&login).contains("wrong user name or password") && !login.may_be_the_version(false));
        let login = rumqttc::ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword);
        assert!(describe_v4(&login).contains("wrong user name or password"));
        let bye = |reason_code| {
            let reason_string = Some("because".to_owned());
            v5(v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect { reason_code, reason_string }))
        };
        let taken = describe(&bye(Bye::SessionTakenOver));
        assert!(taken.contains("another agent") && taken.contains("the broker says: because"), "{taken}");
        assert!(bye(Bye::SessionTakenOver).refuses_a_message().is_none());
        let refusal = bye(Bye::PacketTooLarge).refuses_a_message().expect("it names a message");
        assert_eq!((refusal.reason, refusal.words.as_deref()), (Reason::TooLarge, Some("because")));
        let unknown = v5(garbled(v5::mqttbytes::Error::InvalidConnectReturnCode(0x95)));
        assert_eq!(unknown.refuses_a_message().map(|refusal| refusal.reason), Some(Reason::TooLarge));
    }
}
