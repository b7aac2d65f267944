//! What the agent keeps in SQLite's files, for who only looks: of a copy, because opening such a file writes beside it, and an
//! agent may be at it.

use std::io;
use std::path::Path;

use chrono::Utc;
use tempfile::TempDir;

use crate::agent::Roster;
use crate::config::Config;
use crate::control::store::{self, StateStore};

/// The machines that an agent of this configuration begins with.
///
/// # Errors
/// What is wrong with the file that the added ones are in.
pub fn roster(config: &Config) -> Result<Roster, String> {
    let place = &config.agent.state_dir;
    let dir = copy(place, store::FILE)?;
    match StateStore::open(dir.path(), Utc::now()) {
        (store, None) => Ok(Roster::read(config, &store)),
        // The words with the file's own place in them.
        (_, Some(lost)) => Err(lost.0.replace(&*dir.path().to_string_lossy(), &place.to_string_lossy())),
    }
}

/// A directory with a copy of the database `file`; without one where there is none.
///
/// # Errors
/// The file that cannot be copied.
pub fn copy(state_dir: &Path, file: &str) -> Result<TempDir, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    for name in [file.to_owned(), format!("{file}-wal")] {
        match std::fs::copy(state_dir.join(&name), dir.path().join(&name)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(format!("{}: {error}", state_dir.join(&name).display()));
            }
            _ => {}
        }
    }
    Ok(dir)
}
