//! The ways out: one file for each kind of target. Blocking, within limits of time; files are read at each message, so
//! that a renewed token counts at once.

mod email;
mod http;
mod ntfy;
mod webhook;

use std::path::Path;
use std::time::Duration;

use super::item::Message;
use crate::config::NotifyConfig;
use crate::config::notify::{TargetKind, check_url};

/// Longest time that one attempt may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    /// One line without secrets.
    pub problem: String,
    /// The server does not take this very message: sending it again will hardly help.
    pub refused: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

/// Sends a message to a target.
///
/// # Errors
/// What the network or the server says, or what is wrong with a file; without secrets.
pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    match target.kind {
        TargetKind::Ntfy => ntfy::send(target, message),
        TargetKind::Webhook => webhook::send(target, message),
        TargetKind::Email => email::send(target, message),
    }
}

/// Whether a target's files can be read and its server be reached; sends nothing.
///
/// # Errors
/// As [`send`].
pub fn check(target: &NotifyConfig) -> Result<(), SendError> {
    match target.kind {
        TargetKind::Ntfy => http::check(target),
        TargetKind::Webhook => webhook::check(target).and_then(|()| http::check(target)),
        TargetKind::Email => email::check(target),
    }
}

impl SendError {
    fn new(problem: impl std::fmt::Display) -> SendError {
        SendError { problem: problem.to_string(), refused: false, retry_after: None }
    }
}

/// The URL, of the configuration or its file.
fn url(target: &NotifyConfig) -> Result<ureq::http::Uri, SendError> {
    let text = match (&target.url, &target.url_file) {
        (Some(url), _) => url.expose().to_owned(),
        (None, Some(file)) => first_line(file)?,
        (None, None) => return Err(SendError::new("expected url or url_file, found neither")),
    };
    check_url(target.kind, &text).map_err(|problem| SendError::new(format!("url: {problem}")))?;
    text.parse().map_err(|_| SendError::new("url: expected a URL, found something else"))
}

fn first_line(file: &Path) -> Result<String, SendError> {
    let text = std::fs::read_to_string(file).map_err(|error| SendError::new(format!("{}: {error}", file.display())))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(SendError::new(format!("{}: expected a first line, found none", file.display())));
    }
    Ok(line.to_owned())
}

/// The PEM file of the authorities, read.
fn authorities(target: &NotifyConfig) -> Result<Option<Vec<u8>>, SendError> {
    let read = |file: &std::path::PathBuf| {
        std::fs::read(file).map_err(|error| SendError::new(format!("{}: {error}", file.display())))
    };
    target.ca_file.as_ref().map(read).transpose()
}
