//! What need not survive the last minute: distances, what recurs daily, replies of commands that change nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::params;

use super::schema::{REPLIES_KEPT, write_reply};
use super::{StateStore, StoreError, adaptations};
use crate::monitor::history::Minute;

/// A longer reply of a command that changes nothing is not remembered: the command is simply done again.
const LONGEST_REMEMBERED: usize = 16 * 1024;
/// Distances are kept for a day and an hour; `threshold.preview` looks at the last day.
const HISTORY_KEPT_MS: i64 = 25 * 3_600_000;

impl StateStore {
    /// Remembers how a command that changed nothing was answered; written by the next [`StateStore::flush`].
    pub fn remember(&mut self, id: &str, reply: &str, now: DateTime<Utc>) {
        if reply.len() <= LONGEST_REMEMBERED {
            if self.pending.len() >= REPLIES_KEPT as usize {
                self.pending.remove(0);
            }
            self.pending.push((id.to_owned(), reply.to_owned(), now));
        }
    }

    /// What recurs daily, as JSON, by machine.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn adaptations(&self) -> Result<BTreeMap<String, String>, StoreError> {
        adaptations::rows(&self.db).map_err(|source| self.error(source))
    }

    /// Writes what waited, the distances and what recurs daily (by machine, as JSON) among it, and drops what is too old: one
    /// transaction.
    ///
    /// # Errors
    /// Where nothing was written; replies go on waiting.
    pub fn flush(
        &mut self,
        distances: &[Minute],
        adaptations: &[(String, String)],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if self.pending.is_empty() && distances.is_empty() && adaptations.is_empty() {
            return Ok(());
        }
        self.flush_rows(distances, adaptations, now).map_err(|source| self.error(source))?;
        self.pending.clear();
        Ok(())
    }

    fn flush_rows(
        &mut self,
        distances: &[Minute],
        adaptations: &[(String, String)],
        now: DateTime<Utc>,
    ) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        adaptations::write(&transaction, adaptations)?;
        for (id, reply, at) in &self.pending {
            write_reply(&transaction, id, reply, false, *at)?;
        }
        for chunk in distances {
            transaction.prepare_cached("INSERT OR REPLACE INTO distance VALUES (?1, ?2, ?3)")?.execute(params![
                chunk.machine,
                chunk.start_ms,
                chunk.to_bytes()
            ])?;
        }
        let now_ms = now.timestamp_millis();
        // A clock that was ahead leaves rows from the future behind; they would never grow old.
        transaction.execute(
            "DELETE FROM distance WHERE start < ?1 OR start > ?2",
            [now_ms - HISTORY_KEPT_MS, now_ms + HISTORY_KEPT_MS],
        )?;
        transaction.commit()
    }
}
