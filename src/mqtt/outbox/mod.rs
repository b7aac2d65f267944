//! The outbox: every message is in it before it is sent, and leaves it when the broker has acknowledged it.
//!
//! Messages are taken in under a lock that is held for microseconds; one thread writes all that came together in one
//! transaction (group commit), acknowledged ones are deleted along with it. Only what is on disk can be read, and so be
//! sent. While the disk is full or broken, messages stay in a bounded place in memory instead, and go to disk as soon
//! as it takes them again.

mod ceiling;
mod store;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::Notify;

use self::ceiling::Ceilings;
pub use self::store::{Bounds, Class, Row};
use self::store::{Changes, Reader, Store};
use super::payload::OutboxState;
use crate::clock::Clock;
use crate::sqlite::{self, SqliteError};

/// Messages that may wait for the writer; beyond, whoever publishes waits too, up to [`INTAKE_PATIENCE`].
const INTAKE_ROWS: usize = 10_000;
const INTAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Commits are at least this far apart, so that what comes together is written together.
const COMMIT_SPACING: Duration = Duration::from_millis(20);

/// Acknowledged messages are deleted after this time even if no new message comes along.
const DELETE_AFTER: Duration = Duration::from_secs(5);

/// A disk that failed is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is kept in memory while the disk fails.
const SPILL_ROWS: usize = 5_000;

const CHECK_AGE_EVERY: Duration = Duration::from_secs(3600);

/// Between two words about messages that were given up.
const TELL_DROPPED_EVERY: Duration = Duration::from_secs(600);

/// How an outbox is set up.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// Directory of the store; made where it is missing.
    pub dir: PathBuf,
    pub bounds: Bounds,
    pub clock: Clock,
}

/// A message on its way into the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub class: Class,
    /// Whether it is retained by the broker when it is sent as news.
    pub retain: bool,
    pub topic: String,
    pub payload: Vec<u8>,
}

/// What the agent should say about its outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxChange {
    /// The disk fails; messages stay in memory.
    Failed(String),
    /// Messages are on disk again.
    Back,
    /// The store was damaged and set aside; what waited in it is lost.
    Corrupt(String),
    /// Messages were given up: so many since the store was made.
    Dropped(u64),
}

/// Figures for health.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutboxStats {
    /// Messages that wait for their acknowledgement.
    pub depth: u64,
    /// Bytes of the store on disk.
    pub bytes: u64,
    pub state: OutboxState,
    pub error: Option<String>,
    /// Messages that were given up unsent since the store was made.
    pub dropped: u64,
    /// Transactions with new messages since the start: each costs one fsync.
    pub commits: u64,
}

/// The outbox of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    options: OutboxOptions,
    intake: Mutex<Intake>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes whoever waits for room in the intake.
    room: Condvar,
    /// Wakes the sender: there is something new to read.
    news: Notify,
    /// What waits in memory because the disk fails.
    spill: Mutex<BTreeMap<i64, Row>>,
    /// Acknowledged, but not yet deleted.
    acked: Mutex<HashSet<i64>>,
    status: Mutex<OutboxStats>,
    /// Given up before they reached the store.
    dropped: AtomicU64,
    /// All messages below this id were handled by the writer.
    handled: AtomicI64,
    /// Counts the files that the store has been: readers open the new one.
    generation: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Intake {
    queue: VecDeque<Row>,
    next_id: i64,
    next_seqs: BTreeMap<String, u64>,
    /// Nobody waits for room any more until the writer has moved.
    stalled: bool,
    /// A reader found the store damaged.
    damaged: Option<String>,
    closing: bool,
}

/// A panic while a lock was held leaves nothing half done here: single pushes and removals.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Opens the outbox; a damaged store is set aside, one that cannot be opened is tried again later. `tell` hears what
    /// the agent should say about it, from the writer's thread.
    ///
    /// # Errors
    /// The writer's thread could not be started.
    pub fn open(options: OutboxOptions, tell: impl Fn(OutboxChange) + Send + 'static) -> std::io::Result<Outbox> {
        let mut writer = Writer {
            store: None,
            ceilings: Ceilings::open(&options.dir),
            written_seqs: BTreeMap::new(),
            failing: false,
            taken_over: false,
            other_file: true,
            retry_at: Instant::now(),
            check_age_at: Instant::now(),
            told_dropped: None,
            tell: Box::new(tell),
        };
        let shared = Arc::new(Shared {
            options,
            intake: Mutex::new(Intake {
                queue: VecDeque::new(),
                next_id: 1,
                next_seqs: BTreeMap::new(),
                stalled: false,
                damaged: None,
                closing: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            news: Notify::new(),
            spill: Mutex::default(),
            acked: Mutex::default(),
            status: Mutex::default(),
            dropped: AtomicU64::new(0),
            handled: AtomicI64::new(0),
            generation: AtomicU64::new(0),
            writer: Mutex::new(None),
        });
        if let Err(error) = writer.open_store(&shared) {
            lock(&shared.intake).next_seqs = writer.ceilings.next_seqs(None);
            writer.fail(&shared, &error);
        }
        shared.handled.store(lock(&shared.intake).next_id, Ordering::Release);
        let thread = std::thread::Builder::new().name("outbox".into());
        let handle = thread.spawn({
            let shared = Arc::clone(&shared);
            move || writer.run(&shared)
        })?;
        *lock(&shared.writer) = Some(handle);
        Ok(Outbox { shared })
    }

    /// Takes one message in.
    pub fn push(&self, draft: Draft) {
        self.take_in(self.wait_for_room(), [draft]);
    }

    /// As [`Outbox::push`], but never waits: for whoever must go on.
    pub fn push_now(&self, draft: Draft) {
        self.take_in(lock(&self.shared.intake), [draft]);
    }

    /// Takes in what is said of one window: gives the machine's next `seq` to `make`, and writes the messages and the
    /// counter in one transaction.
    pub fn push_window(&self, machine: &str, make: impl FnOnce(u64) -> Vec<Draft>) {
        let mut intake = self.wait_for_room();
        let next = match intake.next_seqs.get_mut(machine) {
            Some(next) => next,
            None => intake.next_seqs.entry(machine.to_owned()).or_insert(0),
        };
        let seq = *next;
        *next += 1;
        let drafts = make(seq);
        self.take_in(intake, drafts);
    }

    /// The next message's id: all that are there now are below it.
    pub fn next_id(&self) -> i64 {
        lock(&self.shared.intake).next_id
    }

    /// The broker has acknowledged this message.
    pub fn acknowledged(&self, id: i64) {
        if lock(&self.shared.spill).remove(&id).is_some() {
            return;
        }
        lock(&self.shared.acked).insert(id);
    }

    /// Whether the writer runs.
    pub fn is_alive(&self) -> bool {
        lock(&self.shared.writer).as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// Whether all that was taken in can be read.
    pub fn is_settled(&self) -> bool {
        let next_id = self.next_id();
        self.shared.handled.load(Ordering::Acquire) >= next_id
    }

    pub fn stats(&self) -> OutboxStats {
        let mut stats = lock(&self.shared.status).clone();
        stats.depth += lock(&self.shared.intake).queue.len() as u64 + lock(&self.shared.spill).len() as u64;
        stats.depth = stats.depth.saturating_sub(lock(&self.shared.acked).len() as u64);
        stats.dropped += self.shared.dropped.load(Ordering::Relaxed);
        stats
    }

    /// Resolves when there may be something new to read since the last time that it resolved.
    pub async fn news(&self) {
        self.shared.news.notified().await;
    }

    pub fn reader(&self) -> OutboxReader {
        OutboxReader { shared: Arc::clone(&self.shared), open: None, complained: false }
    }

    /// Writes what is left and ends the writer; nothing may be pushed afterwards. Waits up to `limit`.
    pub fn close(&self, limit: Duration) {
        lock(&self.shared.intake).closing = true;
        self.shared.work.notify_all();
        let Some(writer) = lock(&self.shared.writer).take() else { return };
        let deadline = Instant::now() + limit;
        while !writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !writer.is_finished() {
            tracing::error!("the disk did not take the outbox's last messages within {} s", limit.as_secs());
        }
    }

    fn wait_for_room(&self) -> MutexGuard<'_, Intake> {
        let intake = lock(&self.shared.intake);
        let full = |intake: &mut Intake| intake.queue.len() >= INTAKE_ROWS && !intake.stalled;
        let waited = self.shared.room.wait_timeout_while(intake, INTAKE_PATIENCE, full);
        let (mut intake, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            intake.stalled = true;
        }
        intake
    }

    fn take_in(&self, mut intake: MutexGuard<'_, Intake>, drafts: impl IntoIterator<Item = Draft>) {
        let clock = &self.shared.options.clock;
        let created_s = clock.is_synchronised().then(|| Utc::now().timestamp());
        for Draft { class, retain, topic, payload } in drafts {
            if intake.queue.len() >= INTAKE_ROWS {
                let oldest = intake.queue.iter().position(|row| row.class == Class::Verdict).unwrap_or(0);
                intake.queue.remove(oldest);
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            let id = intake.next_id;
            intake.next_id += 1;
            intake.queue.push_back(Row { id, class, retain, topic, payload, created_s });
        }
        self.shared.work.notify_one();
    }
}

/// The one thread that writes.
struct Writer {
    store: Option<Store>,
    ceilings: Ceilings,
    /// The counters as the store has them.
    written_seqs: BTreeMap<String, u64>,
    failing: bool,
    /// Whether ids and counters were taken over from the store, which may be away at the start.
    taken_over: bool,
    /// Whether the file that is opened next is another one than readers know.
    other_file: bool,
    retry_at: Instant,
    check_age_at: Instant,
    told_dropped: Option<(Instant, u64)>,
    tell: Box<dyn Fn(OutboxChange) + Send>,
}

impl Writer {
    fn run(mut self, shared: &Shared) {
        let mut last_commit: Option<Instant> = None;
        loop {
            let intake = lock(&shared.intake);
            let idle = |intake: &mut Intake| intake.queue.is_empty() && intake.damaged.is_none() && !intake.closing;
            let waited = shared.work.wait_timeout_while(intake, DELETE_AFTER, idle);
            let (intake, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let closing = intake.closing;
            drop(intake);
            if let Some(pause) = last_commit.and_then(|last| COMMIT_SPACING.checked_sub(last.elapsed()))
                && !closing
            {
                std::thread::sleep(pause);
            }
            last_commit = Some(Instant::now());
            self.turn(shared);
            if closing && lock(&shared.intake).queue.is_empty() {
                return;
            }
        }
    }

    /// Takes what came together and writes it.
    fn turn(&mut self, shared: &Shared) {
        let mut intake = lock(&shared.intake);
        let rows: Vec<Row> = intake.queue.drain(..).collect();
        let next_id = intake.next_id;
        let next_seqs = intake.next_seqs.clone();
        let damaged = intake.damaged.take();
        intake.stalled = false;
        drop(intake);
        shared.room.notify_all();

        if let Some(error) = damaged {
            self.set_aside(shared, &error.to_string());
        }
        let may_try = !self.failing || Instant::now() >= self.retry_at || lock(&shared.intake).closing;
        let written = may_try && self.write(shared, &rows, &next_seqs);
        if !written {
            self.spill(shared, rows, &next_seqs);
        }
        self.tell_dropped(shared);
        shared.handled.store(next_id, Ordering::Release);
        shared.news.notify_one();
    }

    /// Whether all of it is on disk now, and all that waited in memory.
    fn write(&mut self, shared: &Shared, rows: &[Row], next_seqs: &BTreeMap<String, u64>) -> bool {
        match self.try_write(shared, rows, next_seqs) {
            Ok(()) => true,
            Err(error @ SqliteError::Damaged(_)) => {
                self.set_aside(shared, &error.to_string());
                match self.try_write(shared, rows, next_seqs) {
                    Ok(()) => true,
                    Err(error) => {
                        self.fail(shared, &error);
                        false
                    }
                }
            }
            Err(error) => {
                self.fail(shared, &error);
                false
            }
        }
    }

    fn try_write(
        &mut self,
        shared: &Shared,
        rows: &[Row],
        next_seqs: &BTreeMap<String, u64>,
    ) -> Result<(), SqliteError> {
        if self.store.is_none() {
            self.open_store(shared)?;
        }
        let store = self.store.as_mut().expect("it was just opened");
        let waiting: Vec<Row> = lock(&shared.spill).values().cloned().collect();
        let acked: Vec<i64> = lock(&shared.acked).iter().copied().collect();
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
        // Before the messages can go out; while the store fails it stays as the failure left it.
        if !self.failing {
            cover(&mut self.ceilings, next_seqs, true);
        }
        store.commit(&changes)?;
        if self.failing {
            cover(&mut self.ceilings, next_seqs, true);
            self.failing = false;
            tracing::info!("the outbox is on disk again");
            (self.tell)(OutboxChange::Back);
        }
        if Instant::now() >= self.check_age_at && shared.options.clock.is_synchronised() {
            store.drop_old(Utc::now().timestamp())?;
            self.check_age_at = Instant::now() + CHECK_AGE_EVERY;
        }

        self.written_seqs.clone_from(next_seqs);
        shared.dropped.fetch_sub(changes.dropped, Ordering::Relaxed);
        let mut spill = lock(&shared.spill);
        for row in &waiting {
            // Acknowledged while it was being written: to be deleted next time.
            if spill.remove(&row.id).is_none() {
                lock(&shared.acked).insert(row.id);
            }
        }
        drop(spill);
        let mut still_acked = lock(&shared.acked);
        for id in &changes.acked {
            still_acked.remove(id);
        }
        drop(still_acked);
        let totals = store.totals();
        let bytes = store.used_bytes()?;
        let mut status = lock(&shared.status);
        status.depth = totals.depth;
        status.dropped = totals.dropped;
        status.bytes = bytes;
        status.state = OutboxState::Disk;
        status.error = None;
        status.commits += u64::from(!changes.rows.is_empty());
        Ok(())
    }

    /// Keeps the messages in memory, the newest and weightiest of them.
    fn spill(&mut self, shared: &Shared, rows: Vec<Row>, next_seqs: &BTreeMap<String, u64>) {
        if !rows.is_empty() {
            cover(&mut self.ceilings, next_seqs, false);
        }
        let mut spill = lock(&shared.spill);
        spill.extend(rows.into_iter().map(|row| (row.id, row)));
        while spill.len() > SPILL_ROWS {
            let oldest = |class| spill.values().find(|row| row.class == class).map(|row| row.id);
            let Some(id) = Class::ALL.into_iter().find_map(oldest) else { break };
            spill.remove(&id);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the store, setting a damaged one aside; on the first time takes its counters over.
    fn open_store(&mut self, shared: &Shared) -> Result<(), SqliteError> {
        let options = &shared.options;
        let known = store::file(&options.dir).exists();
        let opened = Store::open(&options.dir, options.bounds).and_then(|store| {
            let seqs = store.next_seqs()?;
            let last_id = store.last_id()?;
            Ok((store, seqs, last_id))
        });
        let (mut store, seqs, last_id) = match opened {
            Ok(opened) => opened,
            Err(error @ SqliteError::Damaged(_)) => {
                self.rename_damaged(shared, &error.to_string());
                (Store::open(&options.dir, options.bounds)?, BTreeMap::new(), 0)
            }
            Err(error) => return Err(error),
        };
        if !self.taken_over {
            let mut intake = lock(&shared.intake);
            if intake.next_id > 1 {
                store.make_room_for_new_ids()?;
            } else {
                intake.next_id = last_id + 1;
            }
            let stored = (known && !seqs.is_empty()).then(|| seqs.clone());
            for (machine, next) in self.ceilings.next_seqs(stored) {
                let entry = intake.next_seqs.entry(machine).or_insert(next);
                *entry = next.max(*entry);
            }
        }
        self.taken_over = true;
        self.written_seqs = seqs;
        let totals = store.totals();
        let mut status = lock(&shared.status);
        status.depth = totals.depth;
        status.dropped = totals.dropped;
        drop(status);
        self.store = Some(store);
        if std::mem::take(&mut self.other_file) {
            shared.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn set_aside(&mut self, shared: &Shared, error: &str) {
        self.store = None;
        self.rename_damaged(shared, error);
    }

    fn rename_damaged(&mut self, shared: &Shared, error: &str) {
        let file = store::file(&shared.options.dir);
        let told = match sqlite::set_aside(&file, Utc::now()) {
            Ok(aside) => format!("{}: {error}; set aside as {}", file.display(), aside.display()),
            Err(rename) => format!("{}: {error}; could not be set aside: {rename}", file.display()),
        };
        tracing::error!("the outbox is damaged, what waited in it is lost: {told}");
        (self.tell)(OutboxChange::Corrupt(told));
        lock(&shared.acked).clear();
        self.written_seqs.clear();
        self.other_file = true;
        shared.generation.fetch_add(1, Ordering::Release);
    }

    fn fail(&mut self, shared: &Shared, error: &SqliteError) {
        self.store = None;
        self.retry_at = Instant::now() + RETRY_AFTER;
        let error = format!("{}: {error}", store::file(&shared.options.dir).display());
        let mut status = lock(&shared.status);
        status.state = OutboxState::Memory;
        status.error = Some(error.clone());
        drop(status);
        if !self.failing {
            self.failing = true;
            tracing::error!("the outbox cannot write to disk and keeps messages in memory: {error}");
            (self.tell)(OutboxChange::Failed(error));
        }
    }

    fn tell_dropped(&mut self, shared: &Shared) {
        let dropped = lock(&shared.status).dropped + shared.dropped.load(Ordering::Relaxed);
        let Some((when, told)) = self.told_dropped else {
            // What was dropped in earlier runs is no news.
            self.told_dropped =
                Some((Instant::now().checked_sub(TELL_DROPPED_EVERY).unwrap_or_else(Instant::now), dropped));
            return;
        };
        if dropped > told && when.elapsed() >= TELL_DROPPED_EVERY {
            self.told_dropped = Some((Instant::now(), dropped));
            tracing::warn!(dropped, "the outbox is full: the oldest messages are given up");
            (self.tell)(OutboxChange::Dropped(dropped));
        }
    }
}

/// On a disk that takes nothing at all there is nothing left to do: the failure itself is told elsewhere.
fn cover(ceilings: &mut Ceilings, next_seqs: &BTreeMap<String, u64>, store_is_sure: bool) {
    let pairs = next_seqs.iter().map(|(machine, next)| (machine, *next));
    if let Err(error) = ceilings.cover(pairs, store_is_sure) {
        tracing::debug!(%error, "the seq ceilings could not be written");
    }
}

/// Reads what can be sent, in order.
pub struct OutboxReader {
    shared: Arc<Shared>,
    open: Option<(u64, Reader)>,
    complained: bool,
}

impl OutboxReader {
    /// Changes when the store became another file, or one that was away is back: cursors are to start again.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Whether all messages with a smaller id that were taken in can be read, or were given up.
    pub fn can_read_before(&self, id: i64) -> bool {
        self.shared.handled.load(Ordering::Acquire) >= id
    }

    /// The first messages with `from <= id < before` that are not acknowledged, at most `limit`, and where to go on.
    pub fn read(&mut self, mut from: i64, before: i64, limit: usize) -> (Vec<Row>, i64) {
        while from < before {
            // Memory first: what moves to disk meanwhile is then found there.
            let in_memory: Vec<Row> =
                lock(&self.shared.spill).range(from..before).take(limit).map(|(_, row)| row.clone()).collect();
            let mut found: BTreeMap<i64, Row> =
                self.read_store(from, before, limit).into_iter().map(|row| (row.id, row)).collect();
            found.extend(in_memory.into_iter().map(|row| (row.id, row)));
            let Some(last) = found.keys().nth(limit - 1).or_else(|| found.keys().next_back()).copied() else { break };
            from = last + 1;
            let acked = lock(&self.shared.acked);
            let rows: Vec<Row> =
                found.into_values().take_while(|row| row.id <= last).filter(|row| !acked.contains(&row.id)).collect();
            if !rows.is_empty() {
                return (rows, from);
            }
        }
        (Vec::new(), from)
    }

    fn read_store(&mut self, from: i64, before: i64, limit: usize) -> Vec<Row> {
        let generation = self.generation();
        if self.open.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            self.open = None;
            if generation == 0 {
                return Vec::new();
            }
            match Reader::open(&self.shared.options.dir) {
                Ok(reader) => self.open = Some((generation, reader)),
                Err(error) => return self.complain(&error),
            }
        }
        let Some((_, reader)) = &self.open else { return Vec::new() };
        match reader.read(from, before, limit) {
            Ok(rows) => {
                self.complained = false;
                rows
            }
            Err(error) => {
                self.open = None;
                if let SqliteError::Damaged(_) = &error
                    && generation == self.generation()
                {
                    lock(&self.shared.intake).damaged.get_or_insert_with(|| error.to_string());
                    self.shared.work.notify_one();
                }
                self.complain(&error)
            }
        }
    }

    fn complain(&mut self, error: &SqliteError) -> Vec<Row> {
        if !self.complained {
            self.complained = true;
            tracing::error!("the outbox cannot be read: {error}");
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
