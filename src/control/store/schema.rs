//! The tables, and how settings and replies are written as rows.

use chrono::{DateTime, Utc};
use rusqlite::{Row, Transaction, params};

use crate::monitor::settings::{Changed, MachineSettings, Maintenance, Override};
use crate::sqlite::Layout;

/// So many replies are remembered at most, of each kind: of commands that changed something and of those that did not.
pub const REPLIES_KEPT: u32 = 2000;
/// And for so long.
pub const REPLIES_KEPT_DAYS: i64 = 7;

pub(super) const LAYOUT: Layout = Layout { version: 1, tables: TABLES };

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
    Ok(MachineSettings { threshold, maintenance, revision: row.get("revision")?, changed })
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
