//! Reads the messages that can be sent, in order, beside the writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::OutboxShared;
use super::store::{Page, Row, StoreReader};
use crate::sqlite::SqliteError;

/// Reads what can be sent: from disk, and from memory while the disk fails.
pub struct OutboxReader {
    shared: Arc<OutboxShared>,
    open: Option<(u64, StoreReader)>,
    error_logged: bool,
}

impl OutboxReader {
    pub(super) fn new(shared: Arc<OutboxShared>) -> OutboxReader {
        OutboxReader { shared, open: None, error_logged: false }
    }

    /// Changes when the store became another file, or one that was away is back: cursors must start again.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Whether all messages with a smaller id that were enqueued can be read, or were dropped.
    pub fn can_read_before(&self, id: i64) -> bool {
        self.shared.handled.load(Ordering::Acquire) >= id
    }

    /// The first messages with `from <= id < before` that are not acknowledged, at most `limit`, and where to continue.
    pub fn read(&mut self, mut from: i64, before: i64, limit: usize) -> (Vec<Row>, i64) {
        while from < before {
            // Memory first: a message that moves to disk meanwhile is then found there.
            let in_memory: Vec<Row> =
                self.shared.spill.lock().range(from..before).take(limit).map(|(_, row)| row.clone()).collect();
            let Page { rows, damaged } = self.read_store(from, before, limit);
            self.drop_damaged(&damaged);
            let mut found: BTreeMap<i64, Option<Row>> = damaged.into_iter().map(|id| (id, None)).collect();
            found.extend(rows.into_iter().chain(in_memory).map(|row| (row.id, Some(row))));
            let Some(last) = found.keys().nth(limit - 1).or_else(|| found.keys().next_back()).copied() else { break };
            from = last + 1;
            let acked = self.shared.acked.lock();
            let rows = found.range(..=last).filter_map(|(_, row)| row.as_ref());
            let rows: Vec<Row> = rows.filter(|row| !acked.contains(&row.id)).cloned().collect();
            if !rows.is_empty() {
                return (rows, from);
            }
        }
        (Vec::new(), from)
    }

    fn read_store(&mut self, from: i64, before: i64, limit: usize) -> Page {
        let generation = self.generation();
        if self.open.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            self.open = None;
            if generation == 0 {
                return Page::default();
            }
            match StoreReader::open(&self.shared.options.dir) {
                Ok(reader) => self.open = Some((generation, reader)),
                Err(error) => return self.failed(&error),
            }
        }
        let Some((_, reader)) = &self.open else { return Page::default() };
        match reader.read(from, before, limit) {
            Ok(page) => {
                self.error_logged = false;
                page
            }
            Err(error) => {
                self.open = None;
                if let SqliteError::Damaged(_) = &error
                    && generation == self.generation()
                {
                    self.shared.intake.lock().damaged.get_or_insert_with(|| error.to_string());
                    self.shared.work.notify_one();
                }
                self.failed(&error)
            }
        }
    }

    /// A message with a flipped bit must not be sent: its `seq` could be that of another window.
    fn drop_damaged(&self, ids: &[i64]) {
        let mut acked = self.shared.acked.lock();
        let new = ids.iter().filter(|id| acked.insert(**id)).count() as u64;
        drop(acked);
        if new > 0 {
            self.shared.dropped.fetch_add(new, Ordering::Relaxed);
            self.shared.intake.lock().damaged_rows += new;
            self.shared.work.notify_one();
        }
    }

    fn failed(&mut self, error: &SqliteError) -> Page {
        if !self.error_logged {
            self.error_logged = true;
            tracing::error!("the outbox cannot be read: {error}");
        }
        Page::default()
    }
}
