//! Files that are there whole or not at all: written beside their place, synced, then renamed over it.
//!
//! A process that is killed, or a device that loses power, leaves the old file or the new one, and where the file system
//! has unnamed files (`O_TMPFILE`) nothing else.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

/// Names that begin like this are unfinished work, which whoever owns the directory may remove.
pub const UNFINISHED: &str = ".staging-";
/// Permissions of a file that only its owner reads.
const PRIVATE: u32 = 0o600;
/// Permissions of a file for everybody, from which the umask takes away.
const PUBLIC: u32 = 0o666;

/// Replaces a file of the program's own; a new one can be read by its owner only, one that was there keeps its
/// permissions. The directory is made if need be.
///
/// # Errors
/// Any I/O error; the file is then unchanged.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(content)).map(drop)
}

/// As [`replace`], with what `write` writes; returns the new file, still open.
///
/// # Errors
/// As [`replace`], or what `write` says.
pub fn replace_with<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<File, E> {
    fs::create_dir_all(parent(path))?;
    let mut draft = Draft::create(path, PRIVATE)?;
    write(&mut draft.file)?;
    Ok(draft.commit()?)
}

/// Writes a file for people, as [`Output`] does.
///
/// # Errors
/// Any I/O error; the file is then unchanged.
pub fn write_output(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(content)?;
    output.finish()
}

/// A file for people that comes piece by piece and is in its place once it is whole. What is no plain file, a device or
/// a pipe, is written directly.
#[derive(Debug)]
pub struct Output {
    /// `None` where it is written directly.
    place: Option<Place>,
    out: BufWriter<File>,
}

impl Output {
    /// # Errors
    /// A directory that does not exist or cannot be written.
    pub fn create(path: &Path) -> io::Result<Output> {
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path)?;
            return Ok(Output { place: None, out: BufWriter::new(file) });
        }
        let Draft { place, file } = Draft::create(path, PUBLIC)?;
        Ok(Output { place: Some(place), out: BufWriter::new(file) })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// Any I/O error; what was there before is then unchanged.
    pub fn finish(self) -> io::Result<()> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        match self.place {
            Some(place) => Draft { place, file }.commit().map(drop),
            None => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl io::Seek for Output {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

/// Where a file will be, and under which name it is until then.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// `None` where the file has no name yet.
    beside: Option<tempfile::TempPath>,
}

/// A file that is not in its place yet.
struct Draft {
    place: Place,
    file: File,
}

impl Draft {
    /// A link is followed: the file that it leads to is replaced. One that is there gives its permissions.
    fn create(path: &Path, new: u32) -> io::Result<Draft> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = fs::metadata(&path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a file, found a device or directory"));
        }
        let dir = parent(&path);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (beside, file) = match openat(CWD, dir, flags, Mode::from_raw_mode(new)) {
            Ok(file) => (None, File::from(file)),
            // A file system without unnamed files.
            Err(_) => {
                let mut builder = tempfile::Builder::new();
                builder.prefix(UNFINISHED).permissions(Permissions::from_mode(new));
                let (file, beside) = builder.tempfile_in(dir)?.into_parts();
                (Some(beside), file)
            }
        };
        if let Some(there) = there {
            file.set_permissions(there.permissions())?;
        }
        Ok(Draft { place: Place { path, beside }, file })
    }

    fn commit(self) -> io::Result<File> {
        let Draft { place: Place { path, beside }, file } = self;
        file.sync_all()?;
        let dir = parent(&path);
        let beside = match beside {
            Some(beside) => beside,
            None => {
                use std::os::fd::AsRawFd;
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |beside: &Path| Ok(linkat(CWD, &unnamed, CWD, beside, AtFlags::SYMLINK_FOLLOW)?);
                tempfile::Builder::new().prefix(UNFINISHED).make_in(dir, link)?.into_temp_path()
            }
        };
        beside.persist(&path).map_err(|error| error.error)?;
        sync_dir(dir)?;
        Ok(file)
    }
}

/// Replaces the link at `path` by one that leads to `target`.
///
/// # Errors
/// Any I/O error; the link is then unchanged.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let dir = parent(path);
    let link = |beside: &Path| std::os::unix::fs::symlink(target, beside);
    let beside = tempfile::Builder::new().prefix(UNFINISHED).make_in(dir, link)?.into_temp_path();
    beside.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Reads a file of the program's own, which is a plain one: a named pipe in its place would block for ever.
///
/// # Errors
/// Any I/O error; something else in its place.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return fs::read(path);
    }
    Err(io::Error::new(io::ErrorKind::IsADirectory, "expected a file, found something else"))
}

/// Reads a plain file of at most `most` bytes. Without waiting: a named pipe would block for ever.
///
/// # Errors
/// Any I/O error; `InvalidData` for something else in its place, or a file that is larger.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_opened(path, most, OFlags::empty())
}

/// As [`read_bounded`], and not what a link leads to: for directories that others may have written to.
///
/// # Errors
/// As of [`read_bounded`].
pub fn read_own(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(invalid("expected a file, found a link".into()));
    }
    // One that was put there since is not followed either.
    read_opened(path, most, OFlags::NOFOLLOW)
}

fn read_opened(path: &Path, most: u64, flags: OFlags) -> io::Result<Vec<u8>> {
    let flags = (flags | OFlags::NONBLOCK).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        let found = if found.is_dir() { "a directory" } else { "something else" };
        return Err(invalid(format!("expected a file, found {found}")));
    }
    if found.len() > most {
        return Err(invalid(format!("expected at most {most} bytes, found {}", found.len())));
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(invalid(format!("expected at most {most} bytes, found more")));
    }
    Ok(bytes)
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Removes a file for good; it may be gone already.
///
/// # Errors
/// Any I/O error; the file may then come back after a power cut.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(parent(path)),
    }
}

/// Makes what was created, renamed or removed in a directory last through a power cut.
///
/// # Errors
/// Any I/O error.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What is in the way of a directory at `path`: itself or one above it that is there and is none.
pub fn not_a_directory(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find(|path| !path.as_os_str().is_empty() && path.exists())?;
    (!there.is_dir()).then(|| there.to_owned())
}

/// The directory that a path lies in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_permissions() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state").join("a.json");
        replace(&path, b"one").expect("written");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        replace(&path, b"two").expect("written");
        assert_eq!((fs::read(&path).expect("read"), mode(&path)), (b"two".to_vec(), 0o640));
        assert_eq!(names(path.parent().expect("a parent")), ["a.json"]);
    }

    #[test]
    fn a_writer_that_fails_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a.json");
        replace(&path, b"one").expect("written");
        let failed = replace_with(&path, |file| {
            file.write_all(b"tw")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.expect_err("it failed").to_string(), "no more");
        assert_eq!((fs::read(&path).expect("read"), names(dir.path())), (b"one".to_vec(), vec!["a.json".to_owned()]));
    }

    #[test]
    fn an_output_is_there_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("out.npy");
        let mut output = Output::create(&path).expect("created");
        output.write_all(b"half").expect("written");
        output.flush().expect("flushed");
        assert!(!path.exists());
        drop(output);
        assert_eq!(names(dir.path()), Vec::<String>::new(), "an output that was given up");
        write_output(&path, b"whole").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        let plain = dir.path().join("plain");
        File::create(&plain).expect("created");
        assert_eq!(mode(&path), mode(&plain), "the umask decides");
        write_output(Path::new("/dev/null"), b"gone").expect("a device is written directly");
    }

    #[test]
    fn a_link_is_followed_or_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, link) = (dir.path().join("a"), dir.path().join("link"));
        fs::write(&path, "one").expect("written");
        replace_link(&link, Path::new("a")).expect("linked");
        replace(&link, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        replace_link(&link, Path::new("b")).expect("linked");
        assert_eq!(fs::read_link(&link).expect("a link"), Path::new("b"));
        remove(&path).expect("removed");
        remove(&path).expect("gone already");
        assert_eq!(read(&path).expect_err("no file").kind(), io::ErrorKind::NotFound);
        assert_eq!(read(dir.path()).expect_err("a directory").kind(), io::ErrorKind::IsADirectory);
    }
}
