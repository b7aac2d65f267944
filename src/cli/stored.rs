//! The machines that commands have added, for who only looks: of a copy, because opening SQLite's file writes beside it,
//! and an agent may be at it.

use std::io;

use chrono::Utc;

use crate::agent::Roster;
use crate::config::Config;
use crate::control::store::{self, StateStore};

/// The machines that an agent of this configuration begins with.
///
/// # Errors
/// What is wrong with the file that the added ones are in.
pub fn roster(config: &Config) -> Result<Roster, String> {
    let place = &config.agent.state_dir;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    for name in [store::FILE.to_owned(), format!("{}-wal", store::FILE)] {
        match std::fs::copy(place.join(&name), dir.path().join(&name)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(format!("{}: {error}", place.join(&name).display()));
            }
            _ => {}
        }
    }
    match StateStore::open(dir.path(), Utc::now()) {
        (store, None) => Ok(Roster::read(config, &store)),
        // The words with the file's own place in them.
        (_, Some(lost)) => Err(lost.0.replace(&*dir.path().to_string_lossy(), &place.to_string_lossy())),
    }
}
