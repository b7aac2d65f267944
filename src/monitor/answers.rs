//! What somebody has said of an alarm: a fault, normal, or a disturbance beside the machine. Kept in the journal.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sqlite::SqliteError;

/// Came after the first version of the journal, which leaves it alone.
pub const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS answer (alarm INTEGER PRIMARY KEY, outcome TEXT NOT NULL, fault TEXT, answered_by TEXT,
        answered_comment TEXT, answered_ms INTEGER NOT NULL);";
/// Of [`TABLE`], as [`read`] takes them.
pub const COLUMNS: &str = "outcome, fault, answered_by, answered_comment, answered_ms";

/// What the alarm was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AlarmOutcome {
    /// Something was wrong with the machine.
    Fault,
    /// The machine may sound like that.
    Normal,
    /// Something beside the machine.
    Disturbance,
}

impl AlarmOutcome {
    pub fn word(self) -> &'static str {
        match self {
            AlarmOutcome::Fault => "fault",
            AlarmOutcome::Normal => "normal",
            AlarmOutcome::Disturbance => "disturbance",
        }
    }

    fn of_word(word: &str) -> Option<AlarmOutcome> {
        let all = [AlarmOutcome::Fault, AlarmOutcome::Normal, AlarmOutcome::Disturbance];
        all.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// Somebody's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmAnswer {
    pub outcome: AlarmOutcome,
    /// Of the fault.
    pub name: Option<String>,
    pub by: Option<String>,
    pub comment: Option<String>,
    pub at: DateTime<Utc>,
}

/// Writes the answer to an alarm in place of the one before, or takes it back.
///
/// # Errors
/// The file cannot be written.
pub fn put(db: &Connection, alarm: i64, answer: Option<&AlarmAnswer>) -> Result<(), SqliteError> {
    let Some(AlarmAnswer { outcome, name, by, comment, at }) = answer else {
        db.execute("DELETE FROM answer WHERE alarm = ?1", [alarm])?;
        return Ok(());
    };
    let sql = format!("INSERT OR REPLACE INTO answer (alarm, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    db.execute(&sql, params![alarm, outcome.word(), name, by, comment, at.timestamp_millis()])?;
    Ok(())
}

/// Reads [`COLUMNS`], which begin at column `first`.
///
/// # Errors
/// Another program's file.
pub fn read(row: &Row, first: usize) -> Result<Option<AlarmAnswer>, SqliteError> {
    let Some(word) = row.get::<_, Option<String>>(first)? else { return Ok(None) };
    let outcome = AlarmOutcome::of_word(&word);
    let outcome = outcome.ok_or_else(|| SqliteError::damaged(format!("expected an answer, found {word:?}")))?;
    let at = DateTime::from_timestamp_millis(row.get(first + 4)?).unwrap_or_default();
    let (name, by, comment) = (row.get(first + 1)?, row.get(first + 2)?, row.get(first + 3)?);
    Ok(Some(AlarmAnswer { outcome, name, by, comment, at }))
}
