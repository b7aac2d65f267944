//! Every alarm that ever was, from its beginning to its end: `journal.db` in the state directory.
//!
//! It follows the alarms, it does not lead them: `alarms.json` says what stands, and whoever has written that tells the
//! journal all records ([`Alarm::records`](crate::scoring::alarm::Alarm::records)), those that have just ended among them. A
//! record is known by its machine, kind and beginning, so that one that is told twice, before and after a power cut, is
//! written once. docs/journal.md says why it is made so.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Monitor;
use super::answers::{self, AlarmAnswer};
use super::clips::ClipKey;
use crate::scoring::Why;
use crate::scoring::alarm::{AlarmRecord, Kind, Note};
use crate::sqlite::{self, Layout, SqliteError};
use crate::state_files::{Lost, StateFiles};

pub const FILE: &str = "journal.db";
/// The oldest alarms beyond so many go: years of a bad plant, in some 20 MB.
const KEPT: u32 = 50_000;

const LAYOUT: Layout = Layout {
    version: 1,
    tables: "
        CREATE TABLE alarm (id INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, kind TEXT NOT NULL,
            since_ms INTEGER NOT NULL, ended_ms INTEGER, windows INTEGER NOT NULL, why TEXT,
            acknowledged_ms INTEGER, by TEXT, comment TEXT, UNIQUE (machine, kind, since_ms));",
    added: answers::TABLE,
};

/// What a record is known by: machine, kind, beginning in Unix ms.
type Key = (String, Kind, i64);

/// One alarm of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    pub id: i64,
    pub machine: String,
    pub record: AlarmRecord,
    /// What somebody has said of it.
    pub answer: Option<AlarmAnswer>,
}

/// Which alarms are asked for; newest first.
#[derive(Debug, Clone, Default)]
pub struct JournalQuery {
    pub machine: Option<String>,
    /// Of when they began.
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    /// Older than the one of this id.
    pub after: Option<i64>,
    pub limit: u32,
    /// Without why each was raised, which is most of what there is to read.
    pub lean: bool,
}

/// The journal.
pub struct Journal {
    file: PathBuf,
    files: StateFiles,
    writing: Mutex<Writing>,
    reader: Mutex<Option<Connection>>,
}

#[derive(Default)]
struct Writing {
    db: Option<Connection>,
    /// What is written of the records that may still change, and their ids.
    known: BTreeMap<Key, (i64, AlarmRecord)>,
    problem: Option<String>,
}

impl Journal {
    /// Opens the journal, or begins it. A damaged one is set aside, and the loss is answered.
    pub fn open(state_dir: &Path, now: DateTime<Utc>) -> (Journal, Option<Lost>) {
        let (file, files) = (state_dir.join(FILE), StateFiles::new(state_dir));
        let journal = Journal { file, files, writing: Mutex::default(), reader: Mutex::new(None) };
        let lost =
            |problem: String| Lost(format!("the alarms' journal is lost: {}: {problem}", journal.file.display()));
        let (was_there, is_known) = (journal.file.exists(), journal.files.mark(FILE).is_some());
        let opened = std::fs::create_dir_all(state_dir).map_err(SqliteError::from).and_then(|()| journal.connect());
        let lost = match opened {
            Ok(is_new) => {
                let problem = if was_there { "it holds nothing" } else { "it is missing" };
                (is_new && is_known).then(|| lost(problem.into()))
            }
            Err(problem @ SqliteError::Damaged(_)) => Some(match sqlite::set_aside(&journal.file, now) {
                Ok(aside) => {
                    let again = journal.connect().err().map(|again| format!("; {again}")).unwrap_or_default();
                    lost(format!("{problem}; set aside as {}{again}", aside.display()))
                }
                Err(error) => lost(format!("{problem}; could not be set aside: {error}")),
            }),
            Err(problem) => {
                journal.writing.lock().problem = Some(problem.to_string());
                Some(lost(format!("{problem}; tried again")))
            }
        };
        (journal, lost)
    }

    /// Whether the file held nothing.
    fn connect(&self) -> Result<bool, SqliteError> {
        let (db, is_new) = sqlite::open_or_make(&self.file, &LAYOUT)?;
        sqlite::check(&db)?;
        let open = entries(&db, "WHERE ended_ms IS NULL", &[])?;
        let known = open.into_iter().map(|entry| (key(&entry.machine, &entry.record), (entry.id, entry.record)));
        *self.writing.lock() = Writing { known: known.collect(), db: Some(db), problem: None };
        self.files.set_mark(FILE, 0);
        Ok(is_new)
    }

    /// The id of an alarm that stands.
    pub fn id(&self, machine: &str, kind: Kind, since: DateTime<Utc>) -> Option<i64> {
        let writing = self.writing.lock();
        writing.known.get(&(machine.to_owned(), kind, since.timestamp_millis())).map(|(id, _)| *id)
    }

    /// Why it cannot be written, where that is so.
    pub fn problem(&self) -> Option<String> {
        self.writing.lock().problem.clone()
    }

    /// Writes what has changed since the last time. Not with the monitor locked; what cannot be written is tried again.
    /// The alarms that are written for the first time.
    pub fn follow(&self, monitor: &Monitor, now: DateTime<Utc>) -> Vec<JournalEntry> {
        let records: Vec<(String, AlarmRecord)> = {
            let state = monitor.lock();
            let of = |(_, machine): (usize, &super::machine::Machine)| {
                let id = machine.config.id.clone();
                machine.alarm.records().into_iter().map(move |record| (id.clone(), record)).collect::<Vec<_>>()
            };
            state.machines.iter().flat_map(of).collect()
        };
        let is_open = self.writing.lock().db.is_some();
        let opened = if is_open { Ok(()) } else { self.connect().map(drop) };
        if let Err(error) = opened {
            self.writing.lock().problem = Some(error.to_string());
            return Vec::new();
        }
        let mut writing = self.writing.lock();
        let outcome = writing.write(&records, now);
        if let Err(error) = &outcome
            && writing.problem.is_none()
        {
            tracing::error!(file = %self.file.display(), %error, "the alarms' journal cannot be written; tried again");
        }
        writing.problem = outcome.as_ref().err().map(ToString::to_string);
        outcome.unwrap_or_default()
    }

    /// The alarms that are asked for, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self, query: &JournalQuery) -> Result<Vec<JournalEntry>, SqliteError> {
        let milliseconds = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_millis());
        let filter =
            "WHERE (?1 IS NULL OR machine = ?1) AND (?2 IS NULL OR since_ms >= ?2) AND (?3 IS NULL OR since_ms < ?3)
             AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5";
        let (from, to) = (milliseconds(query.from), milliseconds(query.to));
        let why = if query.lean { "NULL" } else { "why" };
        self.read(|db| entries_with(db, why, filter, &[&query.machine, &from, &to, &query.after, &query.limit]))
    }

    /// One alarm by its id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, id: i64) -> Result<Option<JournalEntry>, SqliteError> {
        Ok(self.read(|db| entries(db, "WHERE id = ?1", &[&id]))?.pop())
    }

    /// The number of the alarm that a clip was made of.
    pub fn number(&self, key: &ClipKey) -> Option<i64> {
        Some(self.of_clip(key)?.id)
    }

    /// The alarm that a clip was made of.
    pub fn of_clip(&self, key: &ClipKey) -> Option<JournalEntry> {
        let (kind, filter) = (key.kind.word(), "WHERE machine = ?1 AND kind = ?2 AND since_ms = ?3");
        let found = self.read(|db| entries(db, filter, &[&key.machine, &kind, &key.since_ms]));
        found.ok()?.pop()
    }

    /// Keeps what somebody has said of an alarm, in place of the answer before; `None` takes it back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn answer(&self, alarm: i64, answer: Option<&AlarmAnswer>) -> Result<(), SqliteError> {
        let writing = self.writing.lock();
        let db = writing.db.as_ref().ok_or_else(|| SqliteError::unavailable("it is not open"))?;
        answers::put(db, alarm, answer)
    }

    /// On a connection of its own: who reads never waits for who writes.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, SqliteError>) -> Result<T, SqliteError> {
        let mut reader = self.reader.lock();
        if reader.is_none() {
            *reader = Some(sqlite::open_to_read(&self.file)?);
        }
        let result = reader.as_ref().map_or_else(|| Err(SqliteError::unavailable("it is not open")), read);
        if result.is_err() {
            *reader = None;
        }
        result
    }
}

impl Writing {
    /// What is new of it.
    fn write(
        &mut self,
        records: &[(String, AlarmRecord)],
        now: DateTime<Utc>,
    ) -> Result<Vec<JournalEntry>, SqliteError> {
        let Some(db) = &mut self.db else { return Ok(Vec::new()) };
        let known = &self.known;
        let is_news = |(machine, record): &&(String, AlarmRecord)| {
            known.get(&key(machine, record)).is_none_or(|(_, written)| written != record)
        };
        let mut news: Vec<(String, AlarmRecord)> = records.iter().filter(is_news).cloned().collect();
        // What stood and is nowhere any more: its machine was removed, or the alarms' own file was lost.
        let told: Vec<Key> = records.iter().map(|(machine, record)| key(machine, record)).collect();
        let gone = known.iter().filter(|(key, (_, record))| record.ended.is_none() && !told.contains(key));
        news.extend(gone.map(|(key, (_, record))| (key.0.clone(), AlarmRecord { ended: Some(now), ..record.clone() })));
        if news.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = db.transaction()?;
        let ids: Vec<i64> =
            news.iter().map(|(machine, record)| put(&transaction, machine, record)).collect::<Result<_, _>>()?;
        transaction.execute(
            "DELETE FROM alarm WHERE id <= (SELECT id FROM alarm ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            [KEPT],
        )?;
        transaction.execute("DELETE FROM answer WHERE alarm < (SELECT min(id) FROM alarm)", [])?;
        transaction.commit()?;
        let mut began = Vec::new();
        for ((machine, record), id) in news.into_iter().zip(ids) {
            if self.known.insert(key(&machine, &record), (id, record.clone())).is_none() {
                began.push(JournalEntry { id, machine, record, answer: None });
            }
        }
        // Of what has ended only what may be told again is remembered.
        self.known.retain(|key, (_, record)| record.ended.is_none() || told.contains(key));
        Ok(began)
    }
}

fn key(machine: &str, record: &AlarmRecord) -> Key {
    (machine.to_owned(), record.kind, record.since.timestamp_millis())
}

/// Writes a record, the first time or again; its id.
fn put(db: &Connection, machine: &str, record: &AlarmRecord) -> Result<i64, SqliteError> {
    let (note, at) = record.acknowledged.clone().unzip();
    let note: Note = note.unwrap_or_default();
    let milliseconds = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_millis());
    let why = record.why.as_ref().and_then(|why| serde_json::to_string(why).ok());
    let values = params![
        machine,
        record.kind.word(),
        record.since.timestamp_millis(),
        milliseconds(record.ended),
        record.count as i64,
        why,
        milliseconds(at),
        note.by,
        note.comment
    ];
    // Not in one statement: an insertion that becomes a change uses up a number, and people would look for the alarms between.
    let known = db
        .prepare_cached(
            "UPDATE alarm SET ended_ms = coalesce(ended_ms, ?4), windows = ?5, why = ?6, acknowledged_ms = ?7, by = ?8, comment = ?9
             WHERE machine = ?1 AND kind = ?2 AND since_ms = ?3 RETURNING id",
        )?
        .query_row(values, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let id = db
        .prepare_cached(
            "INSERT INTO alarm (machine, kind, since_ms, ended_ms, windows, why, acknowledged_ms, by, comment)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
        )?
        .query_row(values, |row| row.get(0))?;
    Ok(id)
}

fn entries(db: &Connection, filter: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<JournalEntry>, SqliteError> {
    entries_with(db, "why", filter, values)
}

fn entries_with(
    db: &Connection,
    why: &str,
    filter: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<JournalEntry>, SqliteError> {
    let columns = format!("id, machine, kind, since_ms, ended_ms, windows, {why}, acknowledged_ms, by, comment");
    let (answer, from) = (answers::COLUMNS, "alarm LEFT JOIN answer ON answer.alarm = alarm.id");
    let mut select = db.prepare_cached(&format!("SELECT {columns}, {answer} FROM {from} {filter}"))?;
    let found = select.query_map(values, |row| Ok(entry(row)))?;
    found.map(|entry| entry?).collect()
}

fn entry(row: &Row) -> Result<JournalEntry, SqliteError> {
    let time = |milliseconds: i64| DateTime::from_timestamp_millis(milliseconds).unwrap_or_default();
    let word = row.get_ref(2)?.as_str().unwrap_or_default();
    let unknown = || SqliteError::damaged(format!("expected a kind of alarm, found {word:?}"));
    let kind = Kind::of_word(word).ok_or_else(unknown)?;
    let acknowledged = row.get::<_, Option<i64>>(7)?.map(time);
    let note = Note { by: row.get(8)?, comment: row.get(9)?, until: None, at: acknowledged };
    let why: Option<String> = row.get(6)?;
    let record = AlarmRecord {
        kind,
        since: time(row.get(3)?),
        ended: row.get::<_, Option<i64>>(4)?.map(time),
        count: row.get::<_, i64>(5)?.max(0) as u64,
        why: why.and_then(|why| serde_json::from_str::<Why>(&why).ok()),
        acknowledged: acknowledged.map(|at| (note, at)),
    };
    Ok(JournalEntry { id: row.get(0)?, machine: row.get(1)?, record, answer: answers::read(row, 10)? })
}
