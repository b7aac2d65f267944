//! Archives that come from elsewhere, `.tar.gz` or `.zip`: plain files by names that are known, within their limits, and
//! nothing else. Links, devices, paths that lead elsewhere and unknown names are refused before anything of theirs is
//! written. And archives that go elsewhere: the same bytes from the same files.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use crate::sha256::hex;

/// Largest note that a packer may add to a member (pax headers), bytes.
const NOTE_LIMIT: u64 = 64 << 10;
/// Length of a zip's last record without a comment, bytes.
const ZIP_END: u64 = 22;

/// What an archive may hold.
pub struct Allowed<'a> {
    /// Whose files they are, for messages: `a bundle`.
    pub of: &'a str,
    /// The largest size of the file of this name, bytes; `None` where no such file belongs in it.
    pub limit: &'a dyn Fn(&str) -> Option<u64>,
    /// The largest size of all files together, bytes.
    pub total: u64,
    /// Most members, directories and notes of the packer included.
    pub members: usize,
}

/// Unpacks the archive in `file` into `dir`, which is there and empty. Every file is on the disk when it returns.
///
/// A single directory around the files is taken off, whatever its name.
///
/// # Errors
/// One line: what was expected, what was found. `dir` then holds a part.
pub fn unpack(file: &mut File, dir: &Path, allowed: &Allowed) -> Result<(), String> {
    let mut magic = [0; 4];
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read(&mut magic));
    let read = read.map_err(|error| format!("expected a readable archive, found: {error}"))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| format!("expected a readable archive, found: {error}"))?;
    let mut members = Members { dir, allowed, around: None, seen: BTreeSet::new(), count: 0, bytes: 0 };
    match magic {
        [0x1f, 0x8b, ..] => unpack_tar_gz(file, &mut members)?,
        [b'P', b'K', 3, 4] => unpack_zip(file, &mut members)?,
        _ => return Err(format!("expected a .tar.gz or .zip archive, found {read} other bytes at its start")),
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| format!("expected to write it, found: {error}"))
}

/// The members written so far.
struct Members<'a> {
    dir: &'a Path,
    allowed: &'a Allowed<'a>,
    /// The one directory that all members lie in; `None` before the first member.
    around: Option<Option<String>>,
    seen: BTreeSet<String>,
    count: usize,
    /// Of the files that were written.
    bytes: u64,
}

impl Members<'_> {
    fn count_one(&mut self) -> Result<(), String> {
        self.count += 1;
        if self.count > self.allowed.members {
            return Err(format!("expected at most {} members, found more", self.allowed.members));
        }
        Ok(())
    }

    /// A directory: nothing is made for it, but it must not lead elsewhere.
    fn directory(&mut self, path: &str) -> Result<(), String> {
        match parts(path)?.as_slice() {
            [] | [_] => Ok(()),
            _ => Err(format!("expected at most one directory around the files, found {}", shown(path))),
        }
    }

    /// Writes one file.
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), String> {
        let of = self.allowed.of;
        let parts = parts(path)?;
        let (around, name) = match parts.as_slice() {
            [name] => (None, *name),
            [around, name] => (Some((*around).to_owned()), *name),
            _ => return Err(format!("expected a file of {of}, found {}", shown(path))),
        };
        let Some(limit) = (self.allowed.limit)(name) else {
            return Err(format!("expected only the files of {of}, found {}", shown(path)));
        };
        if self.around.get_or_insert(around.clone()) != &around {
            return Err(format!("expected all files in one directory, found {} beside it", shown(path)));
        }
        if !self.seen.insert(name.to_owned()) {
            return Err(format!("expected each file once, found {name} twice"));
        }
        if size > limit {
            return Err(format!("{name}: expected at most {limit} bytes, found {size}"));
        }
        let room = self.allowed.total.saturating_sub(self.bytes);
        if size > room {
            return Err(format!("{name}: expected at most {} bytes in all, found more", self.allowed.total));
        }
        let limit = limit.min(room);
        let fault = |error: io::Error| format!("{name}: expected to unpack it, found: {error}");
        let target = self.dir.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&target).map_err(fault)?;
        // What the archive says of the size need not be what comes out.
        let written = io::copy(&mut content.take(limit + 1), &mut file).map_err(fault)?;
        if written > limit {
            return Err(format!("{name}: expected at most {limit} bytes, found more"));
        }
        self.bytes += written;
        file.sync_all().map_err(fault)
    }
}

/// The parts of a member's path; `.` counts for nothing.
fn parts(path: &str) -> Result<Vec<&str>, String> {
    let fault = || format!("expected a path inside the archive, found {}", shown(path));
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(fault)?),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(fault()),
        }
    }
    // Windows' separators would be one strange name here and a path elsewhere.
    if path.contains(['\\', '\0']) { Err(fault()) } else { Ok(parts) }
}

fn shown(path: &str) -> String {
    let short: String = path.chars().take(64).collect();
    format!("{short:?}")
}

fn unpack_tar_gz(file: &mut File, members: &mut Members) -> Result<(), String> {
    let fault = |error: io::Error| format!("expected a .tar.gz archive, found: {error}");
    // Everything that it may hold, and as much again for what a packer adds.
    let stream = flate2::read::GzDecoder::new(BufReader::new(file)).take(2 * members.allowed.total);
    let mut archive = tar::Archive::new(stream);
    // Raw: no member changes the next one's name or size, and nothing is gathered in memory.
    for entry in archive.entries().map_err(fault)?.raw(true) {
        let mut entry = entry.map_err(fault)?;
        members.count_one()?;
        let kind = entry.header().entry_type();
        let size = entry.size();
        let path = entry.path_bytes().into_owned();
        let path = str::from_utf8(&path).map_err(|_| "expected names in UTF-8, found other bytes")?;
        if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            if size > NOTE_LIMIT {
                return Err(format!("expected pax headers of at most {NOTE_LIMIT} bytes, found {size}"));
            }
        } else if kind.is_dir() {
            members.directory(path)?;
        } else if kind.is_file() {
            members.file(path, size, &mut entry)?;
        } else {
            return Err(format!("expected plain files, found a member of another kind: {}", shown(path)));
        }
    }
    Ok(())
}

fn unpack_zip(file: &mut File, members: &mut Members) -> Result<(), String> {
    check_zip_end(file, members.allowed.members)?;
    let fault = |error: zip::result::ZipError| format!("expected a .zip archive, found: {error}");
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(fault)?;
    for number in 0..archive.len() {
        members.count_one()?;
        let mut entry = archive.by_index(number).map_err(fault)?;
        let (path, size, is_dir, is_link) = {
            let entry = entry.entry();
            let path = entry.name().map_err(fault)?.into_owned();
            let kind = entry.unix_mode().unwrap_or(0) & libc::S_IFMT;
            (
                path,
                entry.size(),
                entry.is_dir(),
                entry.is_symlink() || !matches!(kind, 0 | libc::S_IFREG | libc::S_IFDIR),
            )
        };
        if is_link {
            return Err(format!("expected plain files, found a member of another kind: {}", shown(&path)));
        }
        if is_dir { members.directory(&path)? } else { members.file(&path, size, &mut entry)? }
    }
    Ok(())
}

/// Compares the last record with the file's length, so that the reader finds exactly this one list of members, and a
/// short one: it keeps the whole list in memory.
fn check_zip_end(file: &mut File, most: usize) -> Result<(), String> {
    let fault = |found: &str| format!("expected a .zip archive without comment or zip64, found {found}");
    let mut end = [0; ZIP_END as usize];
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let Some(start) = length.checked_sub(ZIP_END) else { return Err(fault("no end of one")) };
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut end));
    read.and_then(|()| file.seek(SeekFrom::Start(0))).map_err(|error| fault(&error.to_string()))?;
    let short = |at: usize| u16::from_le_bytes([end[at], end[at + 1]]);
    let long = |at: usize| u64::from(u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]));
    if !end.starts_with(b"PK\x05\x06") {
        return Err(fault("no end of one"));
    }
    let (members, size, offset) = (short(10), long(12), long(16));
    if usize::from(members) > most || size > NOTE_LIMIT {
        return Err(format!("expected at most {most} members, found {members} in a list of {size} bytes"));
    }
    if offset + size != start || short(20) != 0 {
        return Err(fault("a list of members elsewhere"));
    }
    Ok(())
}

/// A `.tar.gz` in the making, without times and owners.
pub struct Packer<W: Write>(tar::Builder<flate2::write::GzEncoder<W>>);

impl<W: Write> Packer<W> {
    pub fn new(out: W) -> Packer<W> {
        let encoder = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::best());
        Packer(tar::Builder::new(encoder))
    }

    /// # Errors
    /// Any I/O error; a name that is too long.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.0.append_data(&mut header, name, bytes)
    }

    /// # Errors
    /// Any I/O error.
    pub fn finish(self) -> io::Result<W> {
        self.0.into_inner()?.finish()
    }
}

/// SHA-256 of what is in `file`, hex, read in pieces.
pub fn sha256_of(file: &mut File) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
