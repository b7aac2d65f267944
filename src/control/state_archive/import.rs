//! An archive is checked whole and laid where the next start takes it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{BROKER, Contents, MANIFEST, unpack};
use crate::config::Config;
use crate::fs::{UNFINISHED, sync_dir};
use crate::monitor::machines::MOST_MACHINES;

/// Where it lies until it is taken.
pub const WAITING: &str = "import";
/// Room that must be left on the disk beside what is written, bytes.
const ROOM: u64 = 16 << 20;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive is wrong.
    #[error("{0}")]
    Archive(String),
    #[error("the import cannot be kept: {0}")]
    Disk(#[from] io::Error),
}

/// An archive that was checked and lies beside its place.
#[derive(Debug)]
pub struct Staged {
    pub contents: Contents,
    dir: TempDir,
    state_dir: PathBuf,
}

impl Staged {
    /// Unpacks and checks an archive. The broker in it counts only where `with_broker`, and where it needs no password.
    ///
    /// # Errors
    /// What is wrong; nothing is left then.
    pub fn new(archive: &mut File, config: &Config, with_broker: bool) -> Result<Staged, ImportError> {
        let state_dir = config.agent.state_dir.clone();
        let dir = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&state_dir)?;
        unpack(archive, dir.path()).map_err(ImportError::Archive)?;
        let mut contents = Contents::read(dir.path(), config).map_err(ImportError::Archive)?;
        let own = config.machine.iter().map(|machine| machine.id.as_str());
        let all: BTreeSet<_> = own.chain(contents.machines.keys().map(String::as_str)).collect();
        if all.len() > MOST_MACHINES.max(config.machine.len()) {
            let problem = format!("expected at most {MOST_MACHINES} machines, found {} with the file's", all.len());
            return Err(ImportError::Archive(problem));
        }
        let usable = |broker: &super::Broker| with_broker && !broker.needs_password;
        if contents.manifest.files.contains_key(BROKER) && !contents.broker.as_ref().is_some_and(usable) {
            contents.manifest.files.remove(BROKER);
            fs::remove_file(dir.path().join(BROKER))?;
            crate::fs::replace(
                &dir.path().join(MANIFEST),
                &serde_json::to_vec(&contents.manifest).map_err(io::Error::from)?,
            )?;
        }
        check_room(&state_dir, dir.path())?;
        Ok(Staged { contents, dir, state_dir })
    }

    /// Whether the broker in it will be used.
    pub fn takes_broker(&self) -> bool {
        self.contents.manifest.files.contains_key(BROKER)
    }

    /// Lays it in its place, where the next start takes it: on the disk when this returns.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn place(&self) -> io::Result<()> {
        // One that was placed a moment ago gives way.
        revoke(&self.state_dir)?;
        fs::rename(self.dir.path(), self.state_dir.join(WAITING))?;
        sync_dir(&self.state_dir)
    }

    /// Takes it out of its place again.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn revoke(&self) -> io::Result<()> {
        revoke(&self.state_dir)
    }
}

/// What lies in its place is gone at once, not piece by piece.
pub fn revoke(state_dir: &Path) -> io::Result<()> {
    let trash = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(state_dir)?;
    match fs::rename(state_dir.join(WAITING), trash.path().join(WAITING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| sync_dir(state_dir)),
    }
}

/// Whether all of it can be written once more.
fn check_room(state_dir: &Path, dir: &Path) -> io::Result<()> {
    let mut needed = ROOM;
    for entry in fs::read_dir(dir)? {
        needed += entry?.metadata()?.len();
    }
    let disk = rustix::fs::statvfs(state_dir)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free >= needed {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("expected {} MiB of free room, found {}", needed.div_ceil(1 << 20), free >> 20),
        )),
    }
}
