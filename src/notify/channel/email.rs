//! E-mail over SMTP. A password goes over TLS only, but to this computer itself.

use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport as _};

use super::target::{SendError, TIME_LIMIT, authorities, first_line, url};
use crate::config::NotifyConfig;
use crate::notify::item::{Message, Priority};

pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    let letter = letter(target, message)?;
    transport(target)?.send(&letter).map(drop).map_err(|error| in_words(&error))
}

/// Connects, and says hello with the login; sends nothing.
pub fn check(target: &NotifyConfig) -> Result<(), SendError> {
    for address in target.from.iter().chain(&target.to) {
        mailbox(address)?;
    }
    match transport(target)?.test_connection() {
        Ok(true) => Ok(()),
        Ok(false) => Err(SendError::new("the server is not ready")),
        Err(error) => Err(in_words(&error)),
    }
}

fn letter(target: &NotifyConfig, message: &Message) -> Result<lettre::Message, SendError> {
    let link = message.url.as_ref().map_or(String::new(), |url| format!("\n{url}\n"));
    let mut builder = lettre::Message::builder()
        .from(mailbox(target.from.as_deref().unwrap_or_default())?)
        .subject(&message.title)
        .message_id(None)
        .header(header::ContentType::TEXT_PLAIN)
        // No person wrote it: no absence assistant answers.
        .raw_header(raw("Auto-Submitted", "auto-generated"));
    for address in &target.to {
        builder = builder.to(mailbox(address)?);
    }
    if message.priority >= Priority::High {
        builder = builder.raw_header(raw("Importance", "high"));
    }
    builder.body(format!("{}\n{link}", message.text)).map_err(SendError::new)
}

fn raw(name: &'static str, value: &str) -> header::HeaderValue {
    header::HeaderValue::new(header::HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn mailbox(address: &str) -> Result<Mailbox, SendError> {
    address.parse().map_err(|error| SendError::new(format!("expected an e-mail address, found {address:?}: {error}")))
}

fn transport(target: &NotifyConfig) -> Result<SmtpTransport, SendError> {
    let uri = url(target)?;
    let host = uri.host().unwrap_or_default();
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let mut tls = TlsParameters::builder(host.to_owned());
    if let Some(pem) = authorities(target)? {
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| in_words(&error))?);
    }
    let tls = tls.build_rustls().map_err(|error| in_words(&error))?;
    let (tls, port) = match uri.scheme_str() {
        Some("smtps") => (Tls::Wrapper(tls), 465),
        _ if target.username.is_some() && !here => (Tls::Required(tls), 587),
        _ => (Tls::Opportunistic(tls), if target.username.is_some() { 587 } else { 25 }),
    };
    let mut builder = SmtpTransport::builder_dangerous(host.trim_matches(['[', ']']))
        .port(uri.port_u16().unwrap_or(port))
        .tls(tls)
        .timeout(Some(TIME_LIMIT))
        .hello_name(hello());
    if let Some((username, file)) = target.username.as_ref().zip(target.password_file.as_ref()) {
        builder = builder.credentials(Credentials::new(username.clone(), first_line(file)?));
    }
    Ok(builder.build())
}

/// The computer's name, where it is one that a server takes.
fn hello() -> ClientId {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    ClientId::Domain(if valid { name } else { "localhost".into() })
}

fn in_words(error: &lettre::transport::smtp::Error) -> SendError {
    let mut problem = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !problem.contains(&said) {
            problem = format!("{problem}: {said}");
        }
        cause = error.source();
    }
    // An answer of many lines is one line here.
    let problem: String = problem.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
    // 535 and its like: the login, which may be mended; what is left is about this message.
    let code = error.status().map(|code| code.to_string());
    let of_login = code.is_some_and(|code| code.starts_with("53") || code == "454");
    SendError { problem, refused: error.is_permanent() && !of_login, retry_after: None }
}
