//! Who is logged in: random tokens, kept as digests, so that neither memory nor disk holds one that works.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::fs;
use crate::sha256::{hex, sha256_hex};

/// A session ends this long after its login.
pub const LASTS: Duration = Duration::from_secs(7 * 86_400);
/// Sessions at once; the oldest goes first.
const MOST: usize = 256;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything.
    Viewer,
    /// Sees and commands.
    Operator,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Session {
    /// Hexadecimal digest of the token.
    token: String,
    role: Role,
    /// Hexadecimal fingerprint of the password that it was opened with.
    password: String,
    /// Seconds since 1970.
    ends: u64,
}

/// The open sessions, also on disk where there is a file for them: a restart logs nobody out.
#[derive(Debug, Default)]
pub struct Sessions {
    file: Option<PathBuf>,
    open: Vec<Session>,
}

fn digest(token: &str) -> String {
    sha256_hex(token)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Sessions {
    /// Takes up what `file` has; one that cannot be read costs nothing but logins.
    pub fn restore(file: Option<PathBuf>) -> Sessions {
        let read = |file: &PathBuf| match fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            text => text.and_then(|text| Ok(serde_json::from_slice(&text)?)),
        };
        let open = file.as_ref().map(|file| (file, read(file)));
        let open = match open {
            Some((_, Ok(open))) => open,
            Some((file, Err(error))) => {
                tracing::warn!(%error, "everybody has to log in to the page again: {}", file.display());
                Vec::new()
            }
            None => Vec::new(),
        };
        Sessions { file, open }
    }

    /// Opens a session and returns its token, which exists nowhere else.
    pub fn open(&mut self, role: Role, password: [u8; 32], now: SystemTime) -> String {
        let token = hex(&rand::random::<[u8; 32]>());
        self.open.retain(|session| session.ends > seconds(now));
        if self.open.len() >= MOST {
            self.open.remove(0);
        }
        let ends = seconds(now + LASTS);
        self.open.push(Session { token: digest(&token), role, password: hex(&password), ends });
        self.save();
        token
    }

    /// What the holder of `token` may do, and the fingerprint of the password that it was opened with.
    pub fn find(&self, token: &str, now: SystemTime) -> Option<(Role, &str)> {
        let token = digest(token);
        let session = self.open.iter().find(|session| session.token == token && session.ends > seconds(now))?;
        Some((session.role, &session.password))
    }

    /// Ends the session.
    pub fn close(&mut self, token: &str) {
        let token = digest(token);
        let before = self.open.len();
        self.open.retain(|session| session.token != token);
        if self.open.len() != before {
            self.save();
        }
    }

    fn save(&self) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&self.open).map_err(Into::into).and_then(|json| fs::replace(file, &json));
        if let Err(error) = written {
            tracing::warn!(%error, "logins to the page do not survive a restart: {}", file.display());
        }
    }
}

/// A fingerprint as sessions keep it.
pub fn fingerprint(password: [u8; 32]) -> String {
    hex(&password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_token_until_it_ends() {
        let now = SystemTime::now();
        let mut sessions = Sessions::default();
        let (ana, bob) = (sessions.open(Role::Operator, [1; 32], now), sessions.open(Role::Viewer, [2; 32], now));
        assert_ne!(ana, bob);
        let role = |sessions: &Sessions, token: &str, at| sessions.find(token, at).map(|(role, _)| role);
        assert_eq!(role(&sessions, &ana, now), Some(Role::Operator));
        assert_eq!(role(&sessions, &bob, now), Some(Role::Viewer));
        assert_eq!(role(&sessions, "", now), None);
        assert_eq!(role(&sessions, &digest(&ana), now), None, "what is kept opens nothing");
        assert_eq!(role(&sessions, &ana, now + LASTS), None);
        sessions.close(&ana);
        assert_eq!((role(&sessions, &ana, now), role(&sessions, &bob, now)), (None, Some(Role::Viewer)));
    }

    #[test]
    fn sessions_survive_a_restart_and_are_bounded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("page-sessions.json");
        let now = SystemTime::now();
        let mut sessions = Sessions::restore(Some(file.clone()));
        let first = sessions.open(Role::Operator, [1; 32], now);
        let second = sessions.open(Role::Operator, [1; 32], now);
        assert!(!std::fs::read_to_string(&file).expect("a file").contains(&first));
        let mut sessions = Sessions::restore(Some(file.clone()));
        assert!(sessions.find(&first, now).is_some());
        for _ in 1..MOST {
            sessions.open(Role::Viewer, [1; 32], now);
        }
        assert!(sessions.find(&first, now).is_none() && sessions.find(&second, now).is_some());
        std::fs::write(&file, "[{").expect("a writable file");
        assert!(Sessions::restore(Some(file)).open.is_empty());
    }
}
