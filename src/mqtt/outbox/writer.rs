//! The one thread that writes the store.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::seq_reservation::{Recovered, SeqReservation};
use super::shared::{Intake, OutboxChange, OutboxShared};
use super::store::{self, Changes, Class, OutboxStore, Row};
use crate::mqtt::payload::health::OutboxState;
use crate::numbers::counted;
use crate::sqlite::{self, SqliteError};

/// Commits are at least this far apart, so that messages that come together are written together.
const COMMIT_SPACING: Duration = Duration::from_millis(20);

/// Acknowledged messages are deleted after this time even if no new message arrives.
const DELETE_AFTER: Duration = Duration::from_secs(5);

/// A disk that failed is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Messages that are kept in memory while the disk fails.
pub const SPILL_ROWS: usize = 5_000;

const CHECK_AGE_EVERY: Duration = Duration::from_secs(3600);

/// Time between two reports of dropped messages.
const REPORT_DROPPED_EVERY: Duration = Duration::from_secs(600);

pub struct Writer {
    store: Option<OutboxStore>,
    reservation: SeqReservation,
    /// The counters as the store has them.
    written_seqs: BTreeMap<String, u64>,
    failing: bool,
    /// Whether ids and counters were taken over from the store, which may be away at the start.
    taken_over: bool,
    /// Whether the file that is opened next is another one than readers know.
    other_file: bool,
    retry_at: Instant,
    check_age_at: Instant,
    reported_dropped: Option<(Instant, u64)>,
    report: Box<dyn Fn(OutboxChange) + Send>,
}

impl Writer {
    /// Opens the store, or starts in memory where that fails.
    pub fn open(shared: &OutboxShared, report: Box<dyn Fn(OutboxChange) + Send>) -> Writer {
        let mut writer = Writer {
            store: None,
            reservation: SeqReservation::open(&shared.options.dir),
            written_seqs: BTreeMap::new(),
            failing: false,
            taken_over: false,
            other_file: true,
            retry_at: Instant::now(),
            check_age_at: Instant::now(),
            reported_dropped: None,
            report,
        };
        if let Err(error) = writer.open_store(shared) {
            let recovered = writer.reservation.recover(None);
            writer.continue_seqs(shared, recovered);
            writer.fail(shared, &error);
        }
        shared.handled.store(shared.intake.lock().next_id, Ordering::Release);
        writer
    }

    pub fn run(mut self, shared: &OutboxShared) {
        let mut last_commit: Option<Instant> = None;
        loop {
            let mut intake = shared.intake.lock();
            let idle = |intake: &mut Intake| {
                intake.queue.is_empty() && intake.damaged.is_none() && intake.damaged_rows == 0 && !intake.closing
            };
            shared.work.wait_while_for(&mut intake, idle, DELETE_AFTER);
            let closing = intake.closing;
            drop(intake);
            if let Some(pause) = last_commit.and_then(|last| COMMIT_SPACING.checked_sub(last.elapsed()))
                && !closing
            {
                std::thread::sleep(pause);
            }
            last_commit = Some(Instant::now());
            self.turn(shared);
            if closing && shared.intake.lock().queue.is_empty() {
                return;
            }
        }
    }

    /// Takes the messages that have arrived and writes them.
    fn turn(&mut self, shared: &OutboxShared) {
        let mut intake = shared.intake.lock();
        let rows: Vec<Row> = intake.queue.drain(..).collect();
        shared.writing.store(rows.len() as u64, Ordering::Release);
        let next_id = intake.next_id;
        let next_seqs = intake.next_seqs.clone();
        let damaged = intake.damaged.take();
        let damaged_rows = std::mem::take(&mut intake.damaged_rows);
        intake.stalled = false;
        drop(intake);
        shared.room.notify_all();

        if damaged_rows > 0 {
            let file = store::file(&shared.options.dir);
            let problem = format!("{}: damaged and not sent: {}", file.display(), counted(damaged_rows, "message"));
            tracing::error!("the outbox is damaged: {problem}");
            (self.report)(OutboxChange::Corrupt(problem));
        }
        if let Some(error) = damaged {
            self.set_aside(shared, &error);
        }
        let may_try = !self.failing || Instant::now() >= self.retry_at || shared.intake.lock().closing;
        let written = may_try && self.write(shared, &rows, &next_seqs);
        if !written {
            self.spill(shared, rows, &next_seqs);
        }
        shared.writing.store(0, Ordering::Release);
        self.report_dropped(shared);
        shared.handled.store(next_id, Ordering::Release);
        shared.changed.notify_one();
    }

    /// Whether all of it is on disk now, with everything that waited in memory.
    fn write(&mut self, shared: &OutboxShared, rows: &[Row], next_seqs: &BTreeMap<String, u64>) -> bool {
        let mut written = self.try_write(shared, rows, next_seqs);
        if let Err(error @ SqliteError::Damaged(_)) = &written {
            self.set_aside(shared, &error.to_string());
            written = self.try_write(shared, rows, next_seqs);
        }
        if let Err(error) = &written {
            self.fail(shared, error);
        }
        written.is_ok()
    }

    fn try_write(
        &mut self,
        shared: &OutboxShared,
        rows: &[Row],
        next_seqs: &BTreeMap<String, u64>,
    ) -> Result<(), SqliteError> {
        if self.store.is_none() {
            self.open_store(shared)?;
        }
        let Some(store) = &mut self.store else { return Err(SqliteError::unavailable("the store is not open")) };
        let waiting: Vec<Row> = shared.spill.lock().values().cloned().collect();
        let acked: Vec<i64> = shared.acked.lock().iter().copied().collect();
        let moved = next_seqs.iter().filter(|(machine, next)| self.written_seqs.get(*machine) != Some(next));
        let changes = Changes {
            rows: waiting.iter().chain(rows).collect(),
            acked,
            next_seqs: moved.map(|(machine, next)| (machine.clone(), *next)).collect(),
            dropped: shared.dropped.load(Ordering::Relaxed),
            probe: self.failing,
        };
        if changes.rows.is_empty() && changes.acked.is_empty() && changes.dropped == 0 && !self.failing {
            return Ok(());
        }
        // Before the messages can be sent; while the store fails the reservation stays as the failure left it.
        if !self.failing {
            reserve(&mut self.reservation, next_seqs, true);
        }
        store.commit(&changes)?;
        if let Err(error) = self.reservation.committed(next_seqs, store.totals().commits) {
            tracing::debug!(%error, "the file of reached numbers could not be written");
        }
        if self.failing {
            reserve(&mut self.reservation, next_seqs, true);
            self.failing = false;
            tracing::info!("the outbox is on disk again");
            (self.report)(OutboxChange::Back);
        }
        if Instant::now() >= self.check_age_at && shared.options.clock.is_synchronised() {
            store.drop_old(Utc::now().timestamp())?;
            self.check_age_at = Instant::now() + CHECK_AGE_EVERY;
        }
        let (totals, bytes) = (store.totals(), store.used_bytes()?);

        self.written_seqs.clone_from(next_seqs);
        let mut still_acked = shared.acked.lock();
        for id in &changes.acked {
            still_acked.remove(id);
        }
        drop(still_acked);
        let mut status = shared.status.lock();
        status.depth = totals.depth;
        status.dropped = totals.dropped;
        status.bytes = bytes;
        status.state = OutboxState::Disk;
        status.error = None;
        status.commits += u64::from(!changes.rows.is_empty());
        drop(status);
        shared.dropped.fetch_sub(changes.dropped, Ordering::Relaxed);
        forget(shared, &waiting);
        Ok(())
    }

    /// Keeps the messages in memory, the newest and most important of them.
    fn spill(&mut self, shared: &OutboxShared, rows: Vec<Row>, next_seqs: &BTreeMap<String, u64>) {
        if !rows.is_empty() {
            reserve(&mut self.reservation, next_seqs, false);
        }
        let mut spill = shared.spill.lock();
        spill.extend(rows.into_iter().map(|row| (row.id, row)));
        while spill.len() > SPILL_ROWS {
            let oldest = |class| spill.values().find(|row| row.class == class).map(|row| row.id);
            let Some(id) = Class::ALL.into_iter().find_map(oldest) else { break };
            spill.remove(&id);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the store and sets a damaged one aside; the first time, takes over its ids and counters.
    fn open_store(&mut self, shared: &OutboxShared) -> Result<(), SqliteError> {
        let options = &shared.options;
        let open = || {
            let store = OutboxStore::open(&options.dir, options.bounds)?;
            let (seqs, last_id) = (store.next_seqs()?, store.last_id()?);
            Ok((store, seqs, last_id))
        };
        let (mut store, seqs, last_id) = match open() {
            Err(error @ SqliteError::Damaged(_)) => {
                self.rename_damaged(shared, &error.to_string());
                open()?
            }
            opened => opened?,
        };
        if !self.taken_over {
            let mut intake = shared.intake.lock();
            if intake.next_id > 1 {
                store.make_room_for_new_ids()?;
            } else {
                intake.next_id = last_id + 1;
            }
            drop(intake);
            let recovered = self.reservation.recover(Some(&seqs));
            self.continue_seqs(shared, recovered);
        }
        self.taken_over = true;
        self.written_seqs = seqs.checked;
        let totals = store.totals();
        let mut status = shared.status.lock();
        status.depth = totals.depth;
        status.dropped = totals.dropped;
        drop(status);
        self.store = Some(store);
        if std::mem::take(&mut self.other_file) {
            shared.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Lets the machines' numbers go on where the files say, but never below those that were given out already.
    fn continue_seqs(&self, shared: &OutboxShared, recovered: Recovered) {
        let mut raised = false;
        let mut intake = shared.intake.lock();
        for (machine, next) in recovered.next_seqs {
            let entry = intake.next_seqs.entry(machine).or_insert(0);
            raised |= next > *entry;
            *entry = next.max(*entry);
        }
        drop(intake);
        if let Some(skipped) = recovered.skipped.filter(|_| raised) {
            tracing::error!("seq numbers are skipped so that none is used twice: {skipped}");
            (self.report)(OutboxChange::SeqSkipped(skipped));
        }
    }

    fn set_aside(&mut self, shared: &OutboxShared, error: &str) {
        self.store = None;
        self.rename_damaged(shared, error);
    }

    fn rename_damaged(&mut self, shared: &OutboxShared, error: &str) {
        let file = store::file(&shared.options.dir);
        let problem = match sqlite::set_aside(&file, Utc::now()) {
            Ok(aside) => format!("{}: {error}; set aside as {}", file.display(), aside.display()),
            Err(rename) => format!("{}: {error}; could not be set aside: {rename}", file.display()),
        };
        tracing::error!("the outbox is damaged, the messages that waited in it are lost: {problem}");
        (self.report)(OutboxChange::Corrupt(problem));
        shared.acked.lock().clear();
        self.written_seqs.clear();
        self.other_file = true;
        shared.generation.fetch_add(1, Ordering::Release);
    }

    fn fail(&mut self, shared: &OutboxShared, error: &SqliteError) {
        self.store = None;
        self.retry_at = Instant::now() + RETRY_AFTER;
        let error = format!("{}: {error}", store::file(&shared.options.dir).display());
        let mut status = shared.status.lock();
        status.state = OutboxState::Memory;
        status.error = Some(error.clone());
        drop(status);
        if !self.failing {
            self.failing = true;
            tracing::error!("the outbox cannot write to disk and keeps messages in memory: {error}");
            (self.report)(OutboxChange::Failed(error));
        }
    }

    fn report_dropped(&mut self, shared: &OutboxShared) {
        let dropped = shared.status.lock().dropped + shared.dropped.load(Ordering::Relaxed);
        let Some((when, reported)) = self.reported_dropped else {
            // Messages that were dropped in earlier runs are no news.
            let long_ago = Instant::now().checked_sub(REPORT_DROPPED_EVERY).unwrap_or_else(Instant::now);
            self.reported_dropped = Some((long_ago, dropped));
            return;
        };
        if dropped > reported && when.elapsed() >= REPORT_DROPPED_EVERY {
            self.reported_dropped = Some((Instant::now(), dropped));
            tracing::warn!(dropped, "the outbox is full: the oldest messages are dropped");
            (self.report)(OutboxChange::Dropped(dropped));
        }
    }
}

/// Takes out of memory what is on disk now.
fn forget(shared: &OutboxShared, waiting: &[Row]) {
    let mut spill = shared.spill.lock();
    for row in waiting {
        // Acknowledged while it was being written: it is deleted with the next transaction.
        if spill.remove(&row.id).is_none() {
            shared.acked.lock().insert(row.id);
        }
    }
}

/// On a disk that accepts nothing at all there is nothing left to do: the failure itself is reported elsewhere.
fn reserve(reservation: &mut SeqReservation, next_seqs: &BTreeMap<String, u64>, store_is_sure: bool) {
    let pairs = next_seqs.iter().map(|(machine, next)| (machine, *next));
    if let Err(error) = reservation.reserve(pairs, store_is_sure) {
        tracing::debug!(%error, "the reservation of seq could not be written");
    }
}
