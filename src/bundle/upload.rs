//! An archive that arrives in pieces: in any order, of any size, again and again, across restarts. The pieces lie on disk
//! where they belong in the archive; memory holds only which of them are there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::ARCHIVE_LIMIT;
use super::store::InstallError;
use crate::archive;

/// Most pieces with gaps between them.
const GAP_LIMIT: usize = 4096;
/// Most archives that are gathered side by side; the one that was touched least recently makes room.
const SIDE_BY_SIDE: usize = 4;

/// One archive that is being gathered.
#[derive(Debug)]
pub struct Upload {
    dir: PathBuf,
    sha256: String,
    file: File,
    state: Received,
}

/// What is there of it, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Received {
    /// Length of the whole archive, bytes.
    size: u64,
    /// First byte and the one after the last of each stretch that is there: sorted, apart from each other.
    there: Vec<(u64, u64)>,
}

/// How far an archive has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UploadProgress {
    /// Bytes that are there.
    pub received: u64,
    /// Bytes of the whole archive.
    pub size: u64,
    /// First missing stretch: its first byte and the one after its last. `None` when all is there.
    pub missing: Option<(u64, u64)>,
}

impl Upload {
    /// Begins or goes on with the archive of this sha256 in the directory of [`super::store::BundleStore::upload_dir`].
    ///
    /// # Errors
    /// `Argument` for a sha256 that is not 64 hex digits, or a size outside 1 to [`ARCHIVE_LIMIT`].
    pub fn open(dir: &Path, sha256: &str, size: u64) -> Result<Upload, InstallError> {
        let sha256 = checked_sha256(sha256)?;
        if !(1..=ARCHIVE_LIMIT).contains(&size) {
            return Err(InstallError::Argument(format!("size: expected 1 to {ARCHIVE_LIMIT} bytes, found {size}")));
        }
        let state = fs::read(dir.join(format!("{sha256}.json"))).unwrap_or_default();
        let state = serde_json::from_slice(&state).ok().filter(|state: &Received| state.size == size && state.holds());
        let fresh = state.is_none();
        let state = state.unwrap_or(Received { size, there: Vec::new() });
        if fresh {
            make_room(dir, &sha256).map_err(InstallError::io(dir.display().to_string()))?;
        }
        let part = dir.join(format!("{sha256}.part"));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(fresh).open(&part);
        let file = open.and_then(|file| file.set_len(size).map(|()| file));
        let file = file.map_err(InstallError::io(part.display().to_string()))?;
        Ok(Upload { dir: dir.into(), sha256, file, state })
    }

    /// Adds the piece that begins at byte `offset`. When it returns, the piece survives a power cut.
    ///
    /// # Errors
    /// `Argument` for a piece that does not lie within the archive, or too many gaps.
    pub fn put(&mut self, offset: u64, piece: &[u8]) -> Result<UploadProgress, InstallError> {
        let end = offset.checked_add(piece.len() as u64).filter(|end| *end <= self.state.size && !piece.is_empty());
        let Some(end) = end else {
            let (length, size) = (piece.len(), self.state.size);
            return Err(InstallError::Argument(format!(
                "offset: expected a piece within {size} bytes, found {length} bytes at {offset}"
            )));
        };
        let mut state = self.state.clone();
        state.add(offset, end);
        if state.there.len() > GAP_LIMIT {
            let problem = format!("offset: expected at most {GAP_LIMIT} pieces with gaps between them, found more");
            return Err(InstallError::Argument(problem));
        }
        // The piece before the note of it.
        let written = self.file.write_all_at(piece, offset).and_then(|()| self.file.sync_data());
        written.and_then(|()| self.save(&state)).map_err(InstallError::io(self.dir.display().to_string()))?;
        self.state = state;
        Ok(self.progress())
    }

    /// How far it has come.
    pub fn progress(&self) -> UploadProgress {
        let Received { size, there } = &self.state;
        let received = there.iter().map(|(start, end)| end - start).sum();
        let missing = match there.as_slice() {
            [] => Some((0, *size)),
            [(0, end)] => (end < size).then_some((*end, *size)),
            [(0, end), (next, _), ..] => Some((*end, *next)),
            [(start, _), ..] => Some((0, *start)),
        };
        UploadProgress { received, size: *size, missing }
    }

    /// The whole archive, once all pieces are there and its sha256 is right. One whose sha256 is not is thrown away.
    ///
    /// # Errors
    /// `Argument` while pieces are missing, `Archive` for another sha256.
    pub fn finish(mut self) -> Result<File, InstallError> {
        if let Some((start, end)) = self.progress().missing {
            return Err(InstallError::Argument(format!(
                "expected all of the archive, found bytes {start} to {end} missing"
            )));
        }
        let found = archive::sha256_of(&mut self.file).map_err(InstallError::io(self.dir.display().to_string()))?;
        if found != self.sha256 {
            let expected = self.sha256.clone();
            self.remove()?;
            return Err(InstallError::Archive(format!(
                "expected an archive of sha256 {expected}, found {found}; send it again"
            )));
        }
        Ok(self.file)
    }

    /// Forgets the archive: it was installed, or will not be.
    pub fn remove(self) -> Result<(), InstallError> {
        forget(&self.dir, &self.sha256).map_err(InstallError::io(self.dir.display().to_string()))
    }

    fn save(&self, state: &Received) -> io::Result<()> {
        crate::fs::replace(&self.dir.join(format!("{}.json", self.sha256)), &serde_json::to_vec(state)?)
    }
}

/// Forgets the archive of this sha256, if there is one.
pub fn forget(dir: &Path, sha256: &str) -> io::Result<()> {
    for ending in ["part", "json"] {
        match fs::remove_file(dir.join(format!("{sha256}.{ending}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// 64 hex digits, made lower case.
///
/// # Errors
/// `Argument`, naming what was found.
pub fn checked_sha256(text: &str) -> Result<String, InstallError> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let shown: String = text.chars().take(80).collect();
    Err(InstallError::Argument(format!("sha256: expected 64 hex digits, found {shown:?}")))
}

/// Forgets the archives touched least recently until one more may begin.
fn make_room(dir: &Path, beginning: &str) -> io::Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(sha256) = name.strip_suffix(".part").filter(|sha256| *sha256 != beginning) {
            others.push((entry.metadata()?.modified()?, sha256.to_owned()));
        }
    }
    others.sort();
    for (_, sha256) in others.iter().rev().skip(SIDE_BY_SIDE - 1) {
        forget(dir, sha256)?;
    }
    Ok(())
}

impl Received {
    /// Whether it can be what was written: sorted, apart, within the size.
    fn holds(&self) -> bool {
        let mut least = 0;
        self.there.len() <= GAP_LIMIT
            && self.there.iter().enumerate().all(|(number, (start, end))| {
                let apart = number == 0 || *start > least;
                least = *end;
                apart && start < end && *end <= self.size
            })
    }

    /// Adds the stretch from `start` to before `end`, joined with those that it meets.
    fn add(&mut self, mut start: u64, mut end: u64) {
        let first = self.there.partition_point(|(_, other_end)| *other_end < start);
        let last = self.there.partition_point(|(other_start, _)| *other_start <= end);
        if let (Some((other_start, _)), Some((_, other_end))) =
            (self.there.get(first), last.checked_sub(1).and_then(|last| self.there.get(last)))
            && first < last
        {
            start = start.min(*other_start);
            end = end.max(*other_end);
        }
        self.there.splice(first..last.max(first), [(start, end)]);
    }
}
