//! What went wrong with a connection, in one line for the person who has to repair it.

use std::error::Error as StdError;
use std::io;

use chrono::{DateTime, SecondsFormat};
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

const CLOSED: &str = "the broker closed the connection";

/// The line, without the broker's name.
pub fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => return refused(*code),
        ConnectionError::NetworkTimeout => return "no answer in time".into(),
        ConnectionError::FlushTimeout => return "the network takes no more data".into(),
        ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout) => {
            return "the broker does not answer any more".into();
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            return CLOSED.into();
        }
        ConnectionError::NotConnAck(_) => return "what answers is no MQTT broker".into(),
        _ => {}
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return network(error);
        }
        if let Some(error) = current.downcast_ref::<TlsError>() {
            return tls(error);
        }
        cause = current.source();
    }
    match error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => {
            format!("what the broker sends is no MQTT: {error}")
        }
        other => other.to_string(),
    }
}

/// As [`describe`], of a connection that the broker has not accepted yet: over TLS or not.
pub fn describe_attempt(error: &ConnectionError, tls: bool) -> String {
    let line = describe(error);
    let is_garbled =
        matches!(error, ConnectionError::MqttState(StateError::Deserialization(_)) | ConnectionError::NotConnAck(_));
    match tls {
        false if line == CLOSED || is_garbled => format!("{line}: is it a port for TLS (mqtts://)?"),
        true if line == CLOSED => format!("{line} before it accepted the login: is it a port without TLS (mqtt://)?"),
        _ => line,
    }
}

fn refused(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::BadUserNamePassword => "the broker refuses the login: wrong user name or password".into(),
        ConnectReturnCode::NotAuthorized => {
            "the broker refuses the login: not authorised (user name, password or certificate)".into()
        }
        ConnectReturnCode::BadClientId => "the broker refuses the client id".into(),
        ConnectReturnCode::ServiceUnavailable => "the broker says that it is unavailable".into(),
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".into(),
        ConnectReturnCode::Success => "the broker accepted the login and then failed".into(),
    }
}

fn network(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls(error);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".into(),
        // Which of them it is depends on the moment.
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CLOSED.into(),
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
        return "the broker's certificate is of X.509 version 1, which nobody accepts any more: make it anew, with extensions \
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

    #[test]
    fn the_cause_is_found_however_deep_it_lies() {
        let expired = || TlsError::InvalidCertificate(CertificateError::Expired);
        let wrapped = || io::Error::new(io::ErrorKind::InvalidData, expired());
        for error in [
            ConnectionError::Io(wrapped()),
            ConnectionError::Tls(rumqttc::TlsError::Io(wrapped())),
            ConnectionError::Tls(rumqttc::TlsError::TLS(expired())),
            ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(wrapped()))),
        ] {
            assert_eq!(describe(&error), "the broker's certificate has expired", "{error:?}");
        }
        for problem in ["UnsupportedCertVersion", "CaUsedAsEndEntity"] {
            let words = unacceptable(&format!("Other(OtherError({problem}))"));
            assert!(!words.contains(problem), "{words}");
        }
        let closed = ConnectionError::Io(io::ErrorKind::UnexpectedEof.into());
        assert!(describe_attempt(&closed, false).contains("mqtts://"));
        assert!(describe_attempt(&closed, true).contains("without TLS"));
        let refused = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(describe(&refused), "nothing listens there (connection refused)");
        let login = ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword);
        assert!(describe(&login).contains("wrong user name or password"));
    }
}
