//! Who connects, and what the broker keeps and says of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::Secret;

/// Who connects, and what the broker publishes when the connection breaks.
#[derive(Debug, Clone)]
pub struct Identity {
    pub client_id: String,
    pub login: Option<(String, Secret)>,
    /// What the broker publishes when the connection breaks.
    pub will: Option<Will>,
    pub keep_alive: Duration,
    /// For how long the broker keeps subscriptions, and messages for them, while this client is away; `None`: not at all.
    /// Before MQTT 5 there is no such time: it keeps them as long as it wants.
    pub keep_session: Option<Duration>,
    /// Longest payload that is taken in, bytes.
    pub largest_message: usize,
}

/// A retained message of the broker's.
#[derive(Debug, Clone)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    /// For so long the broker waits whether the client comes back; only with MQTT 5.
    pub delay: Duration,
}

/// The password file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct LoginError {
    path: PathBuf,
    source: std::io::Error,
}

/// User name and password; the first line of `password_file`, which is read now, takes precedence over `password`.
///
/// # Errors
/// A password file that cannot be read, with its name.
pub fn login(
    username: Option<&str>,
    password: Option<&Secret>,
    password_file: Option<&Path>,
) -> Result<Option<(String, Secret)>, LoginError> {
    let Some(user) = username else { return Ok(None) };
    let password = match password_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| LoginError { path: path.to_owned(), source })?;
            text.lines().next().unwrap_or_default().into()
        }
        None => password.cloned().unwrap_or_else(|| "".into()),
    };
    Ok(Some((user.to_owned(), password)))
}
