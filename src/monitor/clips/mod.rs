//! Clips of alarms: the sound around the moment at which each was raised, its picture, and what was made of it. They lie
//! below `clips/` of the state directory, one directory for each; docs/evidence.md says what is in it.
//!
//! A clip is there whole or not at all: its directory is written beside its place and renamed. What a power cut left half
//! done is removed at the next start. The list of clips is in memory, read from the directories once. `clip.json` has a check
//! sum, stands in the inventory of the state directory, and holds the check sums of the other files: damage and loss are said.

mod clip;
mod keeper;
mod like;
mod make;
mod normal;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub use self::clip::{ABOUT, Clip, ClipKey, ClipSummary, FaultExample, Like, NORMAL, PICTURE, SOUND, WINDOWS};
use self::clip::{DIR, FORMAT};
pub use self::keeper::{ClipKeeper, Jobs, KeeperHandle, Pictured, channel};
pub use self::make::{Made, Material, make};
pub use self::review::{Rules, review};
use super::heard::HeardWindow;
use crate::fs::{UNFINISHED, read_own, sync_dir};
use crate::sha256::check_sum;
use crate::state_files::{Lost, StateFiles};

/// What is wrong with a clip that was made of another alarm.
const EXCHANGED: &str = "it is the clip of another alarm";
/// How a picture begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// So many lost clips are named in one message.
const LOST_NAMED: usize = 3;
/// So much of the disk is left to others.
const LEAST_FREE: u64 = 64_000_000;

/// Alarms of which it is remembered what they sounded like until their clip is made.
const LIKES: usize = 256;

/// Why there is no clip.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    #[error("{bytes} bytes do not fit into evidence.keep_mb beside the clips of faults, which are kept")]
    Full { bytes: u64 },
    #[error("the disk has {free} bytes left, of which {LEAST_FREE} are left to others")]
    Disk { free: u64 },
    #[error("{}: {error}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl ClipError {
    fn invalid(path: PathBuf, problem: impl Into<String>) -> ClipError {
        ClipError::Io { path, error: io::Error::new(io::ErrorKind::InvalidData, problem.into()) }
    }
}

/// All clips of an agent.
pub struct Clips {
    files: StateFiles,
    root: PathBuf,
    /// Bytes; 0: none are kept.
    most: u64,
    free: fn(&Path) -> Option<u64>,
    known: Mutex<BTreeMap<ClipKey, ClipSummary>>,
    problem: Mutex<Option<String>>,
    /// Of the newest alarms those that sounded like a known fault.
    likes: Mutex<BTreeMap<ClipKey, Like>>,
    /// What is left of clips that are damaged, with its bytes: the first to go for room.
    remains: Mutex<Vec<(PathBuf, u64)>>,
}

impl Clips {
    /// Reads what is there and removes what is half done. `keep_mb` is `evidence.keep_mb`. What is lost is left out, and
    /// set aside where it is damaged.
    pub fn open(state_dir: &Path, keep_mb: u64) -> (Clips, Option<Lost>) {
        Clips::with_free_space(state_dir, keep_mb * 1_000_000, free_space)
    }

    fn with_free_space(state_dir: &Path, most: u64, free: fn(&Path) -> Option<u64>) -> (Clips, Option<Lost>) {
        remove_half_done(&state_dir.join(DIR));
        Clips::with(StateFiles::new(state_dir), most, free)
    }

    /// For who only looks, also while an agent is at it.
    pub fn read_only(state_dir: &Path) -> (Clips, Option<Lost>) {
        Clips::with(StateFiles::read_only(state_dir), 0, free_space)
    }

    fn with(files: StateFiles, most: u64, free: fn(&Path) -> Option<u64>) -> (Clips, Option<Lost>) {
        let root = files.path(DIR);
        let clips = Clips {
            files,
            root,
            most,
            free,
            known: Mutex::default(),
            problem: Mutex::default(),
            likes: Mutex::default(),
            remains: Mutex::default(),
        };
        let lost = clips.scan();
        (clips, lost)
    }

    /// Finds the clips that are there, and those that should be.
    fn scan(&self) -> Option<Lost> {
        let (mut found, mut lost, mut remains) = (BTreeMap::new(), Vec::new(), Vec::new());
        let looking = self.files.looking();
        for machine in directories(&self.root) {
            let machine_id = machine.file_name().to_string_lossy().into_owned();
            for entry in directories(&machine.path()) {
                let Some(key) = ClipKey::parse(&machine_id, &entry.file_name().to_string_lossy()) else { continue };
                let about = entry.path().join(ABOUT);
                // Looked at first, which costs no look at the inventory for each; a damaged one is then set aside.
                let read = match about.symlink_metadata() {
                    Ok(_) => self.about(&looking, &key).or_else(|_| self.about(&self.files, &key)),
                    Err(_) => Ok(None),
                };
                match read {
                    Ok(Some(clip)) => drop(found.insert(key, self.summary_of(&clip))),
                    // Missed below, or damaged and set aside by an earlier start.
                    Ok(None) => {}
                    Err(error) => lost.push(error.to_string()),
                }
                if !about.exists() {
                    remains.push((entry.path(), bytes_in(&entry.path())));
                }
            }
        }
        let abouts: BTreeSet<String> = found.keys().map(ClipKey::about).collect();
        let expected: BTreeSet<String> = self.files.expected(&format!("{DIR}/")).into_iter().collect();
        abouts.difference(&expected).for_each(|name| self.files.expect(name));
        let (missing, odd) = self.files.miss(expected.difference(&abouts).cloned().collect());
        lost.extend(missing.into_iter().map(|Lost(problem)| problem));
        for name in odd {
            match self.files.read_own(&name, most_bytes(ABOUT)) {
                Err(Lost(problem)) => lost.push(problem),
                Ok(_) => {
                    lost.push(format!("{} lies behind a link, which is not followed", self.files.path(&name).display()))
                }
            }
        }
        *self.known.lock() = found;
        *self.remains.lock() = remains;
        let more = lost.len().saturating_sub(LOST_NAMED);
        lost.truncate(LOST_NAMED);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        (!lost.is_empty()).then(|| Lost(format!("clips of alarms are lost: {}{more}", lost.join("; "))))
    }

    /// Whether any are made.
    pub fn are_kept(&self) -> bool {
        self.most > 0
    }

    /// Why the last one could not be kept.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// How many there are, and their bytes.
    pub fn total(&self) -> (usize, u64) {
        let known = self.known.lock();
        (known.len(), known.values().map(|clip| clip.bytes).sum())
    }

    /// What is known of a clip without reading it.
    pub fn summary(&self, key: &ClipKey) -> Option<ClipSummary> {
        self.known.lock().get(key).cloned()
    }

    /// The known fault that an alarm sounded like when it was raised.
    pub fn liked(&self, key: &ClipKey) -> Option<Like> {
        self.likes.lock().get(key).cloned().or_else(|| self.summary(key)?.like)
    }

    /// An alarm sounds like a known fault.
    fn note_like(&self, key: ClipKey, like: Like) {
        let mut likes = self.likes.lock();
        likes.insert(key, like);
        while likes.len() > LIKES {
            likes.pop_first();
        }
    }

    /// All, oldest first.
    pub fn all(&self) -> Vec<(ClipKey, ClipSummary)> {
        self.known.lock().iter().map(|(key, clip)| (key.clone(), clip.clone())).collect()
    }

    /// A file of a clip; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or gone.
    pub fn read(&self, key: &ClipKey, file: &str) -> Result<Option<Vec<u8>>, ClipError> {
        let Some(sum) = self.summary(key).and_then(|mut clip| clip.sums.remove(file)) else { return Ok(None) };
        let path = self.root.join(key.dir()).join(file);
        match read_own(&path, most_bytes(file)) {
            Ok(content) if matches!(file, PICTURE | NORMAL) && !content.starts_with(PNG) => {
                Err(ClipError::invalid(path, "expected a picture, found something else"))
            }
            Ok(content) if check_sum(&content) == sum => Ok(Some(content)),
            Ok(_) => Err(ClipError::invalid(path, "its check sum does not fit: damaged, or another file in its place")),
            Err(error) => Err(ClipError::Io { path, error }),
        }
    }

    /// What a clip says of itself.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn clip(&self, key: &ClipKey) -> Result<Option<Clip>, ClipError> {
        // What is lost is said by the next start, by the event that people see.
        self.about(&self.files.looking(), key)
    }

    fn about(&self, files: &StateFiles, key: &ClipKey) -> Result<Option<Clip>, ClipError> {
        let name = key.about();
        let Some(json) = files.read_own(&name, most_bytes(ABOUT))? else { return Ok(None) };
        let clip: Clip = files.parse(&name, &json)?;
        let wrong = |problem: &str| ClipError::Lost(files.give_up(&name, problem));
        match (clip.key() == *key, clip.format) {
            (false, _) => Err(wrong(EXCHANGED)),
            (true, FORMAT) => Ok(Some(clip)),
            (true, found) => Err(wrong(&format!("expected format {FORMAT}, found {found}"))),
        }
    }

    /// With the bytes of its files.
    fn summary_of(&self, clip: &Clip) -> ClipSummary {
        ClipSummary::of(clip, bytes_in(&self.root.join(clip.key().dir())))
    }

    /// The windows of a clip with what a baseline is made of.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn windows(&self, key: &ClipKey) -> Result<Option<Vec<HeardWindow>>, ClipError> {
        let Some(content) = self.read(key, WINDOWS)? else { return Ok(None) };
        serde_json::from_slice(&content).map(Some).map_err(|error| {
            let (path, error) = (self.root.join(key.dir()).join(WINDOWS), io::Error::from(error));
            ClipError::Io { path, error }
        })
    }

    /// Puts a clip on the disk, and removes older ones where there is no room. Says in [`Clips::problem`] how it went.
    ///
    /// # Errors
    /// Why it is not kept; no clip was removed for it then, unless the disk failed while it was written.
    pub fn keep(&self, made: &Made) -> Result<(), ClipError> {
        let kept = self.put(made);
        *self.problem.lock() = kept.as_ref().err().map(ToString::to_string);
        kept
    }

    fn put(&self, made: &Made) -> Result<(), ClipError> {
        let key = made.clip.key();
        if self.summary(&key).is_some() {
            return Ok(());
        }
        self.make_room(made.bytes())?;
        let dir = self.root.join(key.dir());
        write(&dir, &made.files)?;
        self.files.expect(&key.about());
        self.known.lock().insert(key, ClipSummary::of(&made.clip, made.bytes()));
        Ok(())
    }

    /// Says which fault can be heard in a clip, or that none can.
    ///
    /// # Errors
    /// It cannot be read or written; it is then unchanged.
    pub fn set_fault(&self, key: &ClipKey, fault: Option<FaultExample>) -> Result<(), ClipError> {
        let Some(clip) = self.clip(key)? else { return Ok(()) };
        if clip.fault == fault {
            return Ok(());
        }
        let (name, clip) = (key.about(), Clip { fault, ..clip });
        let written = self.files.write(&name, &make::json(&clip));
        written.map_err(|error| ClipError::Io { path: self.files.path(&name), error })?;
        let summary = self.summary_of(&clip);
        self.known.lock().insert(key.clone(), summary);
        Ok(())
    }

    /// Removes all clips of a machine, also those of faults and what is left of damaged ones.
    pub fn remove_machine(&self, machine: &str) {
        self.files.forget_below(&format!("{DIR}/{machine}/"));
        let dir = self.root.join(machine);
        self.known.lock().retain(|key, _| key.machine != machine);
        self.remains.lock().retain(|(path, _)| !path.starts_with(&dir));
        // In one step there is none any more; the next start goes on where the power fails.
        let aside = self.root.join(format!("{UNFINISHED}{machine}"));
        let removed = std::fs::rename(&dir, &aside).and_then(|()| std::fs::remove_dir_all(&aside));
        if let Err(error) = removed.or_else(absent) {
            tracing::warn!(machine, %error, "the clips of a machine cannot be removed");
        }
    }

    /// Removes the oldest clips that are not of faults until `bytes` more have room; none, where that would not do.
    fn make_room(&self, bytes: u64) -> Result<(), ClipError> {
        let remains: u64 = self.remains.lock().iter().map(|(_, bytes)| bytes).sum();
        let used = self.total().1 + remains;
        let free = (self.free)(&self.root).unwrap_or(u64::MAX);
        let over = (used + bytes).saturating_sub(self.most);
        let short = (bytes + LEAST_FREE).saturating_sub(free);
        let (mut going, mut gained) = (Vec::new(), if over.max(short) > 0 { remains } else { 0 });
        for (key, clip) in self.all() {
            if gained >= over.max(short) {
                break;
            }
            if clip.fault.is_none() {
                gained += clip.bytes;
                going.push(key);
            }
        }
        match (gained < over, gained < short) {
            (true, _) => Err(ClipError::Full { bytes }),
            (_, true) => Err(ClipError::Disk { free }),
            _ if gained == 0 => Ok(()),
            _ => {
                for (dir, _) in self.remains.lock().drain(..) {
                    if let Err(error) = std::fs::remove_dir_all(&dir).or_else(absent) {
                        tracing::warn!(dir = %dir.display(), %error, "what is left of a damaged clip cannot be removed");
                    }
                }
                going.iter().try_for_each(|key| self.remove(key))
            }
        }
    }

    fn remove(&self, key: &ClipKey) -> Result<(), ClipError> {
        let dir = self.root.join(key.dir());
        // First, so that it is not missed.
        self.files.forget(&key.about());
        // In one step it is no clip any more.
        let aside = dir.with_file_name(format!("{UNFINISHED}{}", key.since_ms));
        let of = |path: &Path, error: io::Error| ClipError::Io { path: path.to_owned(), error };
        match std::fs::rename(&dir, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of(&dir, error)),
            _ => drop(self.known.lock().remove(key)),
        }
        std::fs::remove_dir_all(&aside).or_else(absent).map_err(|error| of(&aside, error))
    }
}

/// What is not there need not be removed.
fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Of the files in a directory.
fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Writes a directory beside its place, syncs it and renames it.
fn write(dir: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<(), ClipError> {
    let of = |path: &Path| {
        let path = path.to_owned();
        move |error| ClipError::Io { path, error }
    };
    let parent = crate::fs::parent(dir);
    std::fs::create_dir_all(parent).map_err(of(parent))?;
    if std::fs::symlink_metadata(parent).map_err(of(parent))?.is_symlink() {
        return Err(ClipError::invalid(parent.to_owned(), "expected a directory, found a link"));
    }
    // Sound is for the agent's own user. Removed again where anything fails.
    let own = std::fs::Permissions::from_mode(0o700);
    let staging =
        tempfile::Builder::new().prefix(UNFINISHED).permissions(own).tempdir_in(parent).map_err(of(parent))?;
    for (name, content) in files {
        let path = staging.path().join(name);
        let written = File::options().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(of(&path))?;
    }
    sync_dir(staging.path()).map_err(of(dir))?;
    std::fs::rename(staging.path(), dir).map_err(of(dir))?;
    let _ = staging.keep();
    sync_dir(parent).map_err(of(parent))
}

/// The directories in a directory; what a link leads to is none of the agent's.
fn directories(dir: &Path) -> Vec<std::fs::DirEntry> {
    let is_own = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    std::fs::read_dir(dir).into_iter().flatten().flatten().filter(is_own).collect()
}

/// What is there; why something cannot be read is in the log.
fn readable<T>(read: Result<Option<T>, ClipError>) -> Option<T> {
    read.unwrap_or_else(|error| {
        tracing::warn!("the clip of an alarm cannot be read: {error}");
        None
    })
}

/// Larger ones are not the agent's.
fn most_bytes(file: &str) -> u64 {
    if matches!(file, ABOUT | WINDOWS) { 4 << 20 } else { 32 << 20 }
}

fn remove_half_done(root: &Path) {
    let machines = directories(root);
    let clips: Vec<_> = machines.iter().flat_map(|machine| directories(&machine.path())).collect();
    for entry in machines.iter().chain(&clips) {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(dir = %entry.path().display(), %error, "a clip that is half done cannot be removed");
        }
    }
}

/// Of the disk of a directory, or of the first above it that is there.
fn free_space(dir: &Path) -> Option<u64> {
    let disk = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok())?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests;
