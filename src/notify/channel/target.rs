//! What all ways out need of a target: its URL and the files that it names; why a message was not taken.

use std::path::Path;
use std::time::Duration;

use crate::config::NotifyConfig;
use crate::config::notify::check_url;

/// Longest time that one attempt may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

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

impl SendError {
    pub fn new(problem: impl std::fmt::Display) -> SendError {
        SendError { problem: problem.to_string(), refused: false, retry_after: None }
    }
}

/// The URL, of the configuration or its file.
pub fn url(target: &NotifyConfig) -> Result<ureq::http::Uri, SendError> {
    let text = match (&target.url, &target.url_file) {
        (Some(url), _) => url.expose().to_owned(),
        (None, Some(file)) => first_line(file)?,
        (None, None) => return Err(SendError::new("expected url or url_file, found neither")),
    };
    check_url(target.kind, &text).map_err(|problem| SendError::new(format!("url: {problem}")))?;
    text.parse().map_err(|_| SendError::new("url: expected a URL, found something else"))
}

pub fn first_line(file: &Path) -> Result<String, SendError> {
    let text = std::fs::read_to_string(file).map_err(|error| SendError::new(format!("{}: {error}", file.display())))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(SendError::new(format!("{}: expected a first line, found none", file.display())));
    }
    Ok(line.to_owned())
}

/// The PEM file of the authorities, read.
pub fn authorities(target: &NotifyConfig) -> Result<Option<Vec<u8>>, SendError> {
    let read = |file: &std::path::PathBuf| {
        std::fs::read(file).map_err(|error| SendError::new(format!("{}: {error}", file.display())))
    };
    target.ca_file.as_ref().map(read).transpose()
}
