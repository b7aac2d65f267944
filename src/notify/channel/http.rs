//! One HTTP request: who we are, whom we trust, and what the answer means. Redirects are not followed: a message and its
//! login go where the configuration says.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::target::{SendError, TIME_LIMIT, authorities, first_line, url};
use crate::config::NotifyConfig;

/// Longest time until a server is connected.
const CONNECT: Duration = Duration::from_secs(10);

/// Posts `body` to `uri`.
pub fn post(target: &NotifyConfig, uri: Uri, content_type: &str, body: &[u8]) -> Result<(), SendError> {
    let mut request = agent(target)?.post(uri).header(header::CONTENT_TYPE, content_type);
    if let Some(login) = login(target)? {
        request = request.header(header::AUTHORIZATION, login);
    }
    let answer = request.send(body).map_err(in_words)?;
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    judge(answer.status(), retry_after.map(Duration::from_secs))
}

/// Whether the files can be read and somebody listens at the address.
pub fn check(target: &NotifyConfig) -> Result<(), SendError> {
    login(target)?;
    agent(target)?;
    let uri = url(target)?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let host = uri.host().unwrap_or_default();
    reach(host, port)
}

/// Connects to a host and leaves again.
pub fn reach(host: &str, port: u16) -> Result<(), SendError> {
    let failed = |error: std::io::Error| SendError::new(format!("{host}:{port}: {error}"));
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(failed)?;
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn agent(target: &NotifyConfig) -> Result<ureq::Agent, SendError> {
    let mut tls = TlsConfig::builder();
    if let (Some(pem), Some(file)) = (authorities(target)?, &target.ca_file) {
        let certificates = parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            return Err(SendError::new(format!("{}: expected PEM certificates, found none", file.display())));
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    let config = ureq::Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(TIME_LIMIT))
        .user_agent(concat!("auscult/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build());
    Ok(config.build().new_agent())
}

/// The `Authorization` header.
fn login(target: &NotifyConfig) -> Result<Option<String>, SendError> {
    if let Some(file) = &target.token_file {
        return Ok(Some(format!("Bearer {}", first_line(file)?)));
    }
    let Some((username, file)) = target.username.as_ref().zip(target.password_file.as_ref()) else { return Ok(None) };
    Ok(Some(format!("Basic {}", BASE64.encode(format!("{username}:{}", first_line(file)?)))))
}

/// What went wrong on the way, without the address: it may be a secret.
fn in_words(error: ureq::Error) -> SendError {
    SendError::new(match error {
        ureq::Error::HostNotFound => "the server's name is not known".to_owned(),
        ureq::Error::Timeout(_) => "the server does not answer in time".to_owned(),
        ureq::Error::BadUri(_) => "the URL cannot be used".to_owned(),
        ureq::Error::Http(_) => "the login cannot be sent: it has characters that no header can have".to_owned(),
        error => error.to_string(),
    })
}

fn judge(status: StatusCode, retry_after: Option<Duration>) -> Result<(), SendError> {
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        300..=399 => ": it wants to send us elsewhere, which is not followed",
        401 | 403 => ": the login is missing or not enough",
        404 | 410 => ": there is nothing at this address",
        413 => ": the message is too large",
        429 => ": too many messages",
        500..=599 => ": the server has a problem",
        _ => "",
    };
    // What may change by itself is tried for as long as it takes.
    let refused = status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429);
    Err(SendError { problem: format!("the server answers {status}{hint}"), refused, retry_after })
}
