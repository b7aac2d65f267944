//! The outbox's store: one SQLite file in WAL mode.
//!
//! SQLite and not redb, by its record: its recovery is tested against simulated power cuts at every write, and it is
//! what phones and aircraft keep their data in; damage is an error code and not a panic; a commit costs one fsync, and
//! one of deletions alone costs none (`synchronous=NORMAL`: a power cut brings the deleted back, and they are sent
//! twice); anyone can look into the file on the spot with `sqlite3`.
//!
//! fsyncs: one for each commit with new messages; two more for each checkpoint, which comes every 1000 pages of log.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use crate::sqlite::{self, Layout, SqliteError};

/// Which messages go first when the store is full: the lowest class, and of it the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Verdict = 0,
    Event = 1,
    /// Alarms and replies.
    Last = 2,
}

impl Class {
    pub const ALL: [Class; 3] = [Class::Verdict, Class::Event, Class::Last];
}

/// A message that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Orders the messages whatever the clock does; never used twice within a run.
    pub id: i64,
    pub class: Class,
    /// Whether it is retained by the broker when it is sent as news.
    pub retain: bool,
    pub topic: String,
    pub payload: Vec<u8>,
    /// Unix time of its making, s; `None` while the clock was not synchronised: it then has no age.
    pub created_s: Option<i64>,
}

impl Row {
    /// Over all but the id, which may change.
    fn sum(&self) -> i64 {
        let created_s = self.created_s.map(i64::to_le_bytes);
        sum_of(&[
            &[self.class as u8, u8::from(self.retain)],
            &self.topic.len().to_le_bytes(),
            self.topic.as_bytes(),
            created_s.as_ref().map_or(&[], <[u8; 8]>::as_slice),
            &self.payload,
        ])
    }
}

fn sum_of_seq(machine: &str, next: u64) -> i64 {
    sum_of(&[&next.to_le_bytes(), machine.as_bytes()])
}

/// A check sum, so that a bit that flipped on the disk is found: SQLite has none over its pages.
fn sum_of(parts: &[&[u8]]) -> i64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().iter().take(8).fold(0, |sum, byte| (sum << 8) | i64::from(*byte))
}

/// The counters of `seq` as the store has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredSeqs {
    /// Those whose check sum fits.
    pub checked: BTreeMap<String, u64>,
    /// Those without a check sum, or with one that does not fit.
    pub unchecked: BTreeMap<String, u64>,
    /// Whether there is any check sum: version 0.1 wrote none.
    pub has_sums: bool,
    /// Commits with new messages since the store was made.
    pub commits: u64,
}

impl StoredSeqs {
    pub fn next(&self, machine: &str) -> Option<u64> {
        self.checked.get(machine).or_else(|| self.unchecked.get(machine)).copied()
    }

    pub fn machines(&self) -> impl Iterator<Item = &String> {
        self.checked.keys().chain(self.unchecked.keys())
    }
}

/// A page of messages.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Ids of messages whose check sum does not fit: they must not be sent.
    pub damaged: Vec<i64>,
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    pub rows: Vec<&'a Row>,
    /// Ids that were acknowledged.
    pub acked: Vec<i64>,
    /// The next `seq` of machines whose counter moved.
    pub next_seqs: Vec<(String, u64)>,
    /// Messages that were given up before they came here.
    pub dropped: u64,
    /// Writes even if there is nothing to write: does the disk take it?
    pub probe: bool,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages.
    pub depth: u64,
    /// Messages that were given up unsent since the store was made.
    pub dropped: u64,
    /// Commits with new messages since the store was made.
    pub commits: u64,
}

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub max_bytes: u64,
    pub max_age_s: i64,
}

/// Layout of the file; another one is set aside.
const LAYOUT: Layout = Layout { version: 1, tables: TABLES, added: "" };

const TABLES: &str = "
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        class INTEGER NOT NULL,
        retain INTEGER NOT NULL,
        topic TEXT NOT NULL,
        payload BLOB NOT NULL,
        created_s INTEGER,
        sum INTEGER
    );
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Version 0.1 had no check sums; its file is extended, and version 0.1 can still read it.
const ADD_SUM: &str = "ALTER TABLE message ADD COLUMN sum INTEGER";

/// Prefix of the counters that hold a machine's next `seq`, and of those that hold the check sum of that.
const SEQ: &str = "seq/";
const SEQ_SUM: &str = "seqsum/";

/// Counter of the commits with new messages: what another file knows of it shows whether some were lost.
const COMMITS: &str = "commits";

/// No agent lives long enough for a larger id.
const LAST_ID: i64 = 1 << 53;

/// Rows that are given up at once when the store is full.
const EVICT_ROWS: i64 = 256;

/// The file's path in `dir`.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("outbox.sqlite")
}

/// The only writer.
pub struct OutboxStore {
    connection: Connection,
    totals: Totals,
    bounds: Bounds,
}

impl OutboxStore {
    /// Opens the store in `dir`, and makes both where they are missing.
    ///
    /// # Errors
    /// `Damaged` when the file is no store of ours, `Unavailable` when it cannot be opened or made.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<OutboxStore, SqliteError> {
        let unavailable = |error| SqliteError::unavailable(format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(unavailable)?;
        let connection = sqlite::open(&file(dir), &LAYOUT)?;
        let has_sums: i64 = connection.query_row(
            "SELECT count(*) FROM pragma_table_info('message') WHERE name = 'sum'",
            [],
            |row| row.get(0),
        )?;
        if has_sums == 0 {
            connection.execute(ADD_SUM, [])?;
        }
        sqlite::check(&connection)?;
        let last: Option<i64> = connection.query_row("SELECT max(id) FROM message", [], |row| row.get(0))?;
        if last.is_some_and(|last| last > LAST_ID) {
            return Err(SqliteError::damaged(format!("expected ids up to {LAST_ID}, found a larger one")));
        }
        // Counted anew: a counter whose bits have flipped would be wrong for ever.
        let depth: i64 = connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0))?;
        let whole = |name| Ok::<_, SqliteError>(counter(&connection, name)?.unwrap_or(0).max(0).cast_unsigned());
        let totals = Totals { depth: depth.cast_unsigned(), dropped: whole("dropped")?, commits: whole(COMMITS)? };
        Ok(OutboxStore { connection, totals, bounds })
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The next `seq` of every machine that ever had one.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn next_seqs(&self) -> Result<StoredSeqs, SqliteError> {
        let mut statement = self.connection.prepare("SELECT name, value FROM counter WHERE name GLOB 'seq*/*'")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let counters: BTreeMap<String, i64> = rows.collect::<Result<_, _>>()?;
        let mut seqs = StoredSeqs { commits: self.totals.commits, ..StoredSeqs::default() };
        for (name, value) in &counters {
            seqs.has_sums |= name.starts_with(SEQ_SUM);
            let Some(machine) = name.strip_prefix(SEQ) else { continue };
            let next = (*value).max(0).cast_unsigned();
            let checked = counters.get(&format!("{SEQ_SUM}{machine}")) == Some(&sum_of_seq(machine, next));
            let seqs = if checked { &mut seqs.checked } else { &mut seqs.unchecked };
            seqs.insert(machine.to_owned(), next);
        }
        Ok(seqs)
    }

    /// Greatest id of the messages, 0 when there is none.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn last_id(&self) -> Result<i64, SqliteError> {
        let last: Option<i64> = self.connection.query_row("SELECT max(id) FROM message", [], |row| row.get(0))?;
        Ok(last.unwrap_or(0))
    }

    /// Moves all ids to 0 and below, in their order: new ones were given out from 1 on while the store was away.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn make_room_for_new_ids(&mut self) -> Result<(), SqliteError> {
        let last = self.last_id()?;
        if last > 0 {
            self.connection.execute("UPDATE message SET id = id - ?", [last])?;
        }
        Ok(())
    }

    /// Bytes in use in the file.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn used_bytes(&self) -> Result<u64, SqliteError> {
        used_bytes(&self.connection)
    }

    /// Applies all changes or none. With new rows it is on disk when this returns; without, a power cut may undo it.
    /// Then gives up the oldest of the lowest class while the store is over its size.
    ///
    /// # Errors
    /// `Damaged` or `Unavailable`; nothing was changed.
    pub fn commit(&mut self, changes: &Changes<'_>) -> Result<(), SqliteError> {
        let synchronous = if changes.rows.is_empty() { "normal" } else { "full" };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        let max_bytes = self.bounds.max_bytes;
        self.change(|transaction, totals| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO message (id, class, retain, topic, payload, created_s, sum) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?;
            for row in &changes.rows {
                let class = row.class as i64;
                insert.execute(params![row.id, class, row.retain, row.topic, row.payload, row.created_s, row.sum()])?;
                totals.depth += 1;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM message WHERE id = ?")?;
            for id in &changes.acked {
                let deleted = delete.execute([id])?;
                totals.depth = totals.depth.saturating_sub(deleted as u64);
            }
            for (machine, next) in &changes.next_seqs {
                set_counter(transaction, &format!("{SEQ}{machine}"), next.cast_signed())?;
                set_counter(transaction, &format!("{SEQ_SUM}{machine}"), sum_of_seq(machine, *next))?;
            }
            if !changes.rows.is_empty() {
                totals.commits += 1;
                set_counter(transaction, COMMITS, totals.commits.cast_signed())?;
            }
            if changes.probe {
                set_counter(transaction, "probe", 1)?;
            }
            totals.dropped += changes.dropped;
            let mut class = Class::ALL.into_iter();
            let mut lowest = class.next();
            while let Some(lowest_class) = lowest
                && used_bytes(transaction)? > max_bytes
            {
                match evict(transaction, lowest_class, totals)? {
                    0 => lowest = class.next(),
                    _ => continue,
                }
            }
            Ok(())
        })
    }

    /// Gives up what is older than the bound; `now_s` is Unix time of a synchronised clock.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn drop_old(&mut self, now_s: i64) -> Result<(), SqliteError> {
        let before_s = now_s.saturating_sub(self.bounds.max_age_s);
        self.change(|transaction, totals| {
            // From the oldest on, up to the first that is young enough.
            let keep: Option<i64> = transaction
                .query_row("SELECT id FROM message WHERE created_s >= ? ORDER BY id LIMIT 1", [before_s], |row| {
                    row.get(0)
                })
                .optional()?;
            let deleted = transaction.execute(
                "DELETE FROM message WHERE id < ? AND created_s < ?",
                params![keep.unwrap_or(i64::MAX), before_s],
            )? as u64;
            totals.depth = totals.depth.saturating_sub(deleted);
            totals.dropped += deleted;
            Ok(())
        })
    }

    /// One transaction, with the totals in it.
    fn change(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Totals) -> Result<(), SqliteError>,
    ) -> Result<(), SqliteError> {
        let mut totals = self.totals;
        let transaction = self.connection.transaction()?;
        work(&transaction, &mut totals)?;
        if totals.depth != self.totals.depth {
            set_counter(&transaction, "depth", totals.depth.cast_signed())?;
        }
        if totals.dropped != self.totals.dropped {
            set_counter(&transaction, "dropped", totals.dropped.cast_signed())?;
        }
        transaction.commit()?;
        self.totals = totals;
        Ok(())
    }
}

/// Reads beside the writer, without waiting for its fsync.
pub struct StoreReader {
    connection: Connection,
}

impl StoreReader {
    /// # Errors
    /// As of [`OutboxStore::open`]; `Unavailable` while there is no file.
    pub fn open(dir: &Path) -> Result<StoreReader, SqliteError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file(dir), flags)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(StoreReader { connection })
    }

    /// The first `limit` messages with `from <= id < before`.
    ///
    /// # Errors
    /// As of [`OutboxStore::commit`].
    pub fn read(&self, from: i64, before: i64, limit: usize) -> Result<Page, SqliteError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, class, retain, topic, payload, created_s, sum FROM message WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = statement.query([from, before, limit])?;
        let mut page = Page::default();
        while let Some(row) = found.next()? {
            let id = row.get(0)?;
            match checked_row(id, row) {
                Ok(Some(row)) => page.rows.push(row),
                Ok(None) | Err(rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::Utf8Error(..)) => {
                    page.damaged.push(id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(page)
    }
}

/// A message; `None` when its check sum does not fit. One of version 0.1 has none.
fn checked_row(id: i64, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Row>> {
    let class = match row.get::<_, i64>(1)? {
        0 => Class::Verdict,
        1 => Class::Event,
        _ => Class::Last,
    };
    let sum: Option<i64> = row.get(6)?;
    let row = Row { id, class, retain: row.get(2)?, topic: row.get(3)?, payload: row.get(4)?, created_s: row.get(5)? };
    Ok(sum.is_none_or(|sum| sum == row.sum()).then_some(row))
}

fn used_bytes(connection: &Connection) -> Result<u64, SqliteError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).max(0).cast_unsigned())
}

fn evict(transaction: &Transaction<'_>, class: Class, totals: &mut Totals) -> Result<u64, SqliteError> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE class = ? ORDER BY id LIMIT ?)",
    )?;
    let deleted = statement.execute(params![class as i64, EVICT_ROWS])? as u64;
    totals.depth = totals.depth.saturating_sub(deleted);
    totals.dropped += deleted;
    Ok(deleted)
}

fn counter(connection: &Connection, name: &str) -> Result<Option<i64>, SqliteError> {
    let value = connection.query_row("SELECT value FROM counter WHERE name = ?", [name], |row| row.get(0));
    Ok(value.optional()?)
}

fn set_counter(transaction: &Transaction<'_>, name: &str, value: i64) -> Result<(), SqliteError> {
    let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO counter (name, value) VALUES (?, ?)")?;
    statement.execute(params![name, value])?;
    Ok(())
}
