//! An archive that commands bring in pieces: a bundle to install, a state to import.

use std::path::PathBuf;

use super::error::CommandError;
use super::values::{Bytes, Chunk};
use crate::bundle::store::InstallError;
use crate::bundle::upload::{self, Upload, UploadProgress};

/// What has come of an archive.
pub enum Gathered {
    /// How far it is.
    Part(UploadProgress),
    All(Upload),
}

/// Where the pieces of an archive are, and its SHA-256.
#[derive(Debug, Clone)]
pub struct Pieces {
    pub dir: PathBuf,
    pub sha256: String,
}

impl Pieces {
    /// Takes a piece in, or looks without one whether all is there.
    ///
    /// # Errors
    /// As of [`Upload::open`] and [`Upload::put`].
    pub fn gather(&self, size: u64, piece: Option<(Bytes, Chunk)>) -> Result<Gathered, InstallError> {
        let mut arrived = Upload::open(&self.dir, &self.sha256, size)?;
        Ok(match piece {
            Some((Bytes(offset), Chunk(piece))) => Gathered::Part(arrived.put(offset, &piece)?),
            None if arrived.progress().missing.is_some() => Gathered::Part(arrived.progress()),
            None => Gathered::All(arrived),
        })
    }

    /// Forgets an archive that is no good; where the disk failed, the same command may succeed later.
    ///
    /// # Errors
    /// That of the outcome.
    pub fn settle<T>(&self, outcome: Result<T, CommandError>) -> Result<T, CommandError> {
        if outcome.as_ref().is_err_and(|error| !error.is_passing()) {
            self.forget();
        }
        outcome
    }

    pub fn forget(&self) {
        if let Err(error) = upload::forget(&self.dir, &self.sha256) {
            tracing::warn!(%error, "the pieces of an archive cannot be removed");
        }
    }
}
