//! The tables, and how settings and replies are written as rows.

use chrono::{DateTime, Utc};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use crate::monitor::settings::{Changed, MachineSettings, Maintenance, Override};
use crate::sha256::short;
use crate::sqlite::{Layout, SqliteError};

/// So many replies are remembered at most, of each kind: of commands that changed something and of those that did not.
pub const REPLIES_KEPT: u32 = 2000;
/// And for so long.
pub const REPLIES_KEPT_DAYS: i64 = 7;

pub(super) const LAYOUT: Layout = Layout { version: 1, tables: TABLES, added: ADDED };

const TABLES: &str = "
    CREATE TABLE settings (
        machine TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        threshold REAL, threshold_until INTEGER, threshold_set_at INTEGER, threshold_bundle TEXT,
        maintenance_set_at INTEGER, maintenance_until INTEGER, maintenance_by TEXT, maintenance_reason TEXT,
        changed_at INTEGER, changed_by TEXT, changed_reason TEXT
    ) WITHOUT ROWID;
    CREATE TABLE choice (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE reply (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, changed INTEGER NOT NULL,
        at INTEGER NOT NULL, reply TEXT NOT NULL);
    CREATE TABLE distance (machine TEXT, start INTEGER, entries BLOB NOT NULL, PRIMARY KEY (machine, start))
        WITHOUT ROWID;
";

const ADDED: &str = "
    CREATE TABLE IF NOT EXISTS machine (id TEXT PRIMARY KEY, changed INTEGER NOT NULL, config TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS rate (machine TEXT PRIMARY KEY, false_alarm_rate REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS adaptation (machine TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
";

fn time(milliseconds: Option<i64>) -> Option<DateTime<Utc>> {
    milliseconds.and_then(DateTime::from_timestamp_millis)
}

pub(super) fn settings_of(row: &Row) -> rusqlite::Result<MachineSettings> {
    let threshold = match row.get::<_, Option<f64>>("threshold")? {
        None => None,
        Some(threshold) => Some(Override {
            threshold,
            until: time(row.get("threshold_until")?),
            set_at: time(row.get("threshold_set_at")?).unwrap_or_default(),
            bundle: row.get("threshold_bundle")?,
        }),
    };
    let maintenance = match time(row.get("maintenance_set_at")?) {
        None => None,
        Some(set_at) => Some(Maintenance {
            until: time(row.get("maintenance_until")?),
            by: row.get("maintenance_by")?,
            reason: row.get("maintenance_reason")?,
            set_at,
        }),
    };
    let changed = match time(row.get("changed_at")?) {
        None => None,
        Some(at) => Some(Changed { by: row.get("changed_by")?, reason: row.get("changed_reason")?, at }),
    };
    let false_alarm_rate = row.get("false_alarm_rate")?;
    Ok(MachineSettings { threshold, false_alarm_rate, maintenance, revision: row.get("revision")?, changed })
}

pub(super) fn write_settings(
    transaction: &Transaction,
    machine: &str,
    settings: &MachineSettings,
) -> rusqlite::Result<()> {
    let milliseconds = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_millis());
    let (threshold, maintenance) = (settings.threshold.as_ref(), settings.maintenance.as_ref());
    let changed = settings.changed.as_ref();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO settings VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)")?
        .execute(params![
            machine,
            settings.revision,
            threshold.map(|over| over.threshold),
            milliseconds(threshold.and_then(|over| over.until)),
            milliseconds(threshold.map(|over| over.set_at)),
            threshold.and_then(|over| over.bundle.as_deref()),
            milliseconds(maintenance.map(|maintenance| maintenance.set_at)),
            milliseconds(maintenance.and_then(|maintenance| maintenance.until)),
            maintenance.and_then(|maintenance| maintenance.by.as_deref()),
            maintenance.and_then(|maintenance| maintenance.reason.as_deref()),
            milliseconds(changed.map(|changed| changed.at)),
            changed.and_then(|changed| changed.by.as_deref()),
            changed.and_then(|changed| changed.reason.as_deref()),
        ])?;
    // A table of its own, since version 0.1 knows the columns of the other one.
    match settings.false_alarm_rate {
        None => transaction.prepare_cached("DELETE FROM rate WHERE machine = ?1")?.execute([machine])?,
        Some(rate) => transaction
            .prepare_cached("INSERT OR REPLACE INTO rate VALUES (?1, ?2)")?
            .execute(params![machine, rate])?,
    };
    Ok(())
}

/// Inserts a reply and drops the oldest of its kind beyond the bounds. The first reply to an id is the one that stays.
pub(super) fn write_reply(
    transaction: &Transaction,
    id: &str,
    reply: &str,
    changed: bool,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let now_ms = now.timestamp_millis();
    transaction
        .prepare_cached("INSERT OR IGNORE INTO reply (id, changed, at, reply) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, changed, now_ms, reply])?;
    transaction
        .prepare_cached("DELETE FROM reply WHERE at < ?1")?
        .execute([now_ms - REPLIES_KEPT_DAYS * 86_400_000])?;
    transaction
        .prepare_cached(
            "DELETE FROM reply WHERE changed = ?1 AND number <=
             (SELECT number FROM reply WHERE changed = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![changed, REPLIES_KEPT])?;
    Ok(())
}

/// Rows of `choice`: how many changes were made, and a check sum over all that was set. SQLite has none over its pages.
/// Version 0.1 wrote neither.
const CHANGES: &str = "changes";
const SUM: &str = "sum";

/// Counts one change and seals what is set now; the number of changes.
pub(super) fn count_change(transaction: &Transaction) -> rusqlite::Result<u64> {
    let changes = choice(transaction, CHANGES)?.and_then(|changes| changes.parse().ok()).unwrap_or(0u64) + 1;
    let mut write = transaction.prepare_cached("INSERT OR REPLACE INTO choice VALUES (?1, ?2)")?;
    write.execute([CHANGES, &changes.to_string()])?;
    write.execute([SUM, &sum(transaction)?])?;
    Ok(changes)
}

/// The number of changes, if the check sum fits; 0 in a file of version 0.1.
pub(super) fn checked_changes(db: &Connection) -> Result<u64, SqliteError> {
    let (changes, found) = (choice(db, CHANGES)?, choice(db, SUM)?);
    match (changes, found) {
        (None, None) => Ok(0),
        (Some(changes), Some(found)) if found == sum(db)? => {
            changes.parse().map_err(|_| SqliteError::damaged("expected a number of changes"))
        }
        _ => Err(SqliteError::damaged("the check sum over what was set does not fit")),
    }
}

fn choice(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM choice WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Over all settings and choices but itself.
fn sum(db: &Connection) -> rusqlite::Result<String> {
    let mut digest = Sha256::new();
    let queries = [
        "SELECT * FROM settings ORDER BY machine",
        "SELECT * FROM choice WHERE name <> 'sum' ORDER BY name",
        "SELECT * FROM machine ORDER BY id",
        "SELECT * FROM rate ORDER BY machine",
    ];
    for query in queries {
        let mut select = db.prepare_cached(query)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let (kind, bytes) = match row.get_ref(column)? {
                    ValueRef::Null => (0, Vec::new()),
                    ValueRef::Integer(value) => (1, value.to_le_bytes().to_vec()),
                    ValueRef::Real(value) => (2, value.to_le_bytes().to_vec()),
                    ValueRef::Text(value) => (3, value.to_vec()),
                    ValueRef::Blob(value) => (4, value.to_vec()),
                };
                digest.update([kind]);
                digest.update(bytes.len().to_le_bytes());
                digest.update(bytes);
            }
        }
    }
    Ok(short(&digest.finalize()))
}
