//! SQLite files: opened with the settings that survive a power cut, distinguished as damaged or unavailable, set aside.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

type Cause = Box<dyn StdError + Send + Sync>;

/// What went wrong with a file, in the two kinds that call for different actions.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The content is damaged or was written by another program: the file is to be set aside.
    #[error("{}", describe(.0.as_ref()))]
    Damaged(#[source] Cause),
    /// The file may be whole but cannot be used now: no room, no permission, no disk, another process that holds it.
    #[error("{}", describe(.0.as_ref()))]
    Unavailable(#[source] Cause),
}

impl SqliteError {
    pub fn damaged(problem: impl Into<Cause>) -> Self {
        SqliteError::Damaged(problem.into())
    }

    pub fn unavailable(problem: impl Into<Cause>) -> Self {
        SqliteError::Unavailable(problem.into())
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            // A missing table or column, or a value of another type: the file of another program.
            | Some(ErrorCode::Unknown | ErrorCode::TypeMismatch | ErrorCode::ConstraintViolation)
            | None => SqliteError::damaged(error),
            Some(_) => SqliteError::unavailable(error),
        }
    }
}

impl From<io::Error> for SqliteError {
    fn from(error: io::Error) -> Self {
        SqliteError::unavailable(error)
    }
}

/// SQLite's own words where a person understands them, plainer ones where not.
fn describe(cause: &(dyn StdError + Send + Sync + 'static)) -> String {
    let code = cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    let plain = match code {
        Some(ErrorCode::FileLockingProtocolFailed) => {
            "the file's -shm or -wal file beside it cannot be used: is something else in its place, or another process at it?"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process holds the file",
        Some(ErrorCode::CannotOpen) => {
            "the file, or its -wal or -shm file beside it, cannot be opened: is a directory in its place, or permission missing?"
        }
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::SystemIoFailure) => "the disk failed to read or write",
        Some(ErrorCode::ReadOnly) => "the file or its disk can only be read",
        Some(ErrorCode::NotADatabase) => "the file is not an SQLite store",
        _ => return cause.to_string(),
    };
    format!("{plain} ({cause})")
}

/// The tables of a file.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Kept in the file as its `user_version`.
    pub version: i64,
    pub tables: &'static str,
    /// Tables that came later, each `CREATE TABLE IF NOT EXISTS`: earlier versions of the program leave them alone.
    pub added: &'static str,
}

/// Opens a file, and makes it where it is missing. A committed transaction is on the disk.
///
/// # Errors
/// `Damaged` when the file has another layout or is no SQLite file, `Unavailable` when it cannot be opened or made.
pub fn open(file: &Path, layout: &Layout) -> Result<Connection, SqliteError> {
    open_or_make(file, layout).map(|(connection, _)| connection)
}

/// As [`open`], with whether its tables had to be made: also in a file that was there, as one is whose content was in a log
/// that is gone.
///
/// # Errors
/// As of [`open`].
pub fn open_or_make(file: &Path, layout: &Layout) -> Result<(Connection, bool), SqliteError> {
    // SQLite takes an empty file, as a power cut may leave it, for a new store.
    if std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.len() == 0) {
        return Err(SqliteError::damaged("expected a store, found an empty file"));
    }
    if file.exists() && !file.is_file() {
        let found = if file.is_dir() { "a directory" } else { "something else" };
        return Err(SqliteError::damaged(format!("expected a store, found {found}")));
    }
    // SQLite would throw it away and begin a new store without a word.
    let log = std::fs::metadata(with_suffix(file, "-wal"));
    if !file.exists() && log.is_ok_and(|log| log.is_file() && log.len() > 0) {
        return Err(SqliteError::damaged("expected a store, found its log alone"));
    }
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(file, suffix);
        // A link to nothing is there too, and SQLite cannot open it.
        if beside.symlink_metadata().is_ok() && !beside.is_file() {
            let aside = free_name(&beside, Utc::now());
            let found = if beside.is_dir() { "a directory" } else { "something else" };
            tracing::error!("{}: {found} is in its place; set aside as {}", beside.display(), aside.display());
            std::fs::rename(&beside, &aside)?;
        }
    }
    prepare(Connection::open(file)?, layout)
}

/// Opens a file that is there, for who only reads and does not wait for who writes.
///
/// # Errors
/// It cannot be opened.
pub fn open_to_read(file: &Path) -> Result<Connection, SqliteError> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Checks a file through: every page is read.
///
/// # Errors
/// `Damaged`, with the first thing that is wrong.
pub fn check(connection: &Connection) -> Result<(), SqliteError> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(SqliteError::damaged(found)) }
}

/// A store in memory with these tables, for where no file can be had.
///
/// # Errors
/// A layout that is no SQL.
pub fn open_in_memory(layout: &Layout) -> Result<Connection, SqliteError> {
    prepare(Connection::open_in_memory()?, layout).map(|(connection, _)| connection)
}

fn prepare(mut connection: Connection, layout: &Layout) -> Result<(Connection, bool), SqliteError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 4 << 20, |_| Ok(()))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let Layout { version, tables: wanted, added } = layout;
    let is_new = (found, tables) == (0, 0);
    if is_new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(wanted)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    } else if found != *version {
        return Err(SqliteError::damaged(format!("expected layout {version}, found {found}")));
    }
    connection.execute_batch(added)?;
    Ok((connection, is_new))
}

/// Renames a damaged file and what SQLite keeps beside it: `NAME.db` becomes `NAME.corrupt-TIME.db`. Answers the new name.
///
/// # Errors
/// The file could not be renamed.
pub fn set_aside(file: &Path, now: DateTime<Utc>) -> io::Result<PathBuf> {
    let aside = free_name(file, now);
    // The log first: a log that lies beside a new file could be taken for its own.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(with_suffix(file, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn free_name(file: &Path, now: DateTime<Utc>) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(file.file_stem()), part(file.extension()));
    let stamp = now.format("%Y%m%dT%H%M%S%3fZ");
    let first = file.with_file_name(format!("{stem}.corrupt-{stamp}.{extension}"));
    let more = (2..1000).map(|number| file.with_file_name(format!("{stem}.corrupt-{stamp}-{number}.{extension}")));
    std::iter::once(first.clone()).chain(more).find(|name| !name.exists()).unwrap_or(first)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { version: 3, tables: "CREATE TABLE word (text TEXT);", added: "" };

    fn count(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM word", [], |row| row.get(0)).expect("a table")
    }

    #[test]
    fn a_file_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("words.db");
        let connection = open(&file, &LAYOUT).expect("a new file");
        connection.execute("INSERT INTO word VALUES ('a')", []).expect("a row");
        drop(connection);
        assert_eq!(count(&open(&file, &LAYOUT).expect("the file again")), 1);
        let other = Layout { version: 4, ..LAYOUT };
        let error = open(&file, &other).expect_err("another layout");
        assert!(
            matches!(error, SqliteError::Damaged(_)) && error.to_string() == "expected layout 4, found 3",
            "{error}"
        );
    }

    #[test]
    fn damage_is_distinguished_from_what_cannot_be_reached() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("words.db");
        for bytes in [vec![], vec![7; 10_000], vec![0; 4096]] {
            std::fs::write(&file, &bytes).expect("a file");
            let found = open(&file, &LAYOUT);
            assert!(matches!(found, Err(SqliteError::Damaged(_))), "{} bytes: {found:?}", bytes.len());
            let aside = set_aside(&file, Utc::now()).expect("renamed");
            assert_eq!(std::fs::read(aside).expect("what was set aside"), bytes);
            open(&file, &LAYOUT).expect("a new file");
        }
        std::fs::remove_file(&file).expect("removed");
        std::fs::create_dir(&file).expect("a directory");
        let error = open(&file, &LAYOUT).expect_err("a directory");
        assert!(matches!(error, SqliteError::Damaged(_)), "{error}");
        set_aside(&file, Utc::now()).expect("renamed");
        open(&file, &LAYOUT).expect("a new file");
        std::fs::remove_file(&file).expect("removed");
        std::fs::write(dir.path().join("words.db-wal"), "what a log says").expect("a file");
        let error = open(&file, &LAYOUT).expect_err("a log alone");
        assert!(matches!(error, SqliteError::Damaged(_)) && error.to_string().contains("its log alone"), "{error}");
        set_aside(&file, Utc::now()).expect("renamed");
        open(&file, &LAYOUT).expect("a new file");
        std::fs::create_dir(dir.path().join("words.db-shm")).expect("a directory");
        open(&file, &LAYOUT).expect("the file, its index made anew");
        std::os::unix::fs::symlink("nothing", dir.path().join("words.db-shm")).expect("a link");
        open(&file, &LAYOUT).expect("the file, its index made anew");
        let blocked = dir.path().join("no such directory/words.db");
        let error = open(&blocked, &LAYOUT).expect_err("no directory");
        assert!(matches!(error, SqliteError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }

    #[test]
    fn what_was_set_aside_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("words.db");
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let mut names = Vec::new();
        for text in ["one", "two"] {
            std::fs::write(&file, text).expect("a file");
            std::fs::write(dir.path().join("words.db-wal"), text).expect("a file");
            let aside = set_aside(&file, now).expect("renamed");
            assert_eq!(std::fs::read_to_string(with_suffix(&aside, "-wal")).expect("its log"), text);
            names.push(aside.file_name().expect("a name").to_string_lossy().into_owned());
        }
        assert_eq!(names, ["words.corrupt-20270115T080000000Z.db", "words.corrupt-20270115T080000000Z-2.db"]);
    }
}
