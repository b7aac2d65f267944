//! The outbox: every message is in it before it is sent, and leaves it when the broker has acknowledged it.
//!
//! Messages are enqueued under a lock that is held for microseconds; one thread writes all that have arrived since in one
//! transaction (group commit) and deletes acknowledged ones along with it. Only what is on disk can be read, and so be
//! sent. While the disk is full or broken, messages stay in a bounded place in memory instead, and move to disk as soon
//! as it accepts writes again. docs/outbox.md has the invariants, the layout and the recovery.

mod reader;
mod seq_reservation;
mod shared;
mod store;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use parking_lot::MutexGuard;

pub use self::reader::OutboxReader;
use self::shared::{Intake, OutboxShared};
pub use self::shared::{OutboxChange, OutboxOptions, OutboxStats};
pub use self::store::{Bounds, Class, Row};
use self::writer::Writer;

/// Messages that may wait for the writer: hours of them, where sound comes in real time. Beyond, whoever publishes waits
/// too, so that recordings are not scored faster than the disk takes their verdicts; but once, up to [`INTAKE_TIMEOUT`],
/// and then no more until there is room again: the oldest verdicts go instead.
const INTAKE_ROWS: usize = 10_000;
const INTAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A message on its way into the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub class: Class,
    /// Whether the broker retains it when it is sent live.
    pub retain: bool,
    pub topic: String,
    pub payload: Vec<u8>,
}

/// For each machine a number that its `seq` has not reached yet, by the files in the state directory.
pub fn reserved_seqs(state_dir: &Path) -> BTreeMap<String, u64> {
    seq_reservation::SeqReservation::open(state_dir).reserved()
}

/// The outbox of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<OutboxShared>,
}

impl Outbox {
    /// Opens the outbox; a damaged store is set aside, one that cannot be opened is tried again later. `report` receives
    /// what the agent should publish about it, from the writer's thread.
    ///
    /// # Errors
    /// The writer's thread could not be started.
    pub fn open(options: OutboxOptions, report: impl Fn(OutboxChange) + Send + 'static) -> std::io::Result<Outbox> {
        let shared = Arc::new(OutboxShared::new(options));
        let writer = Writer::open(&shared, Box::new(report));
        let thread = std::thread::Builder::new().name("outbox".into());
        let handle = thread.spawn({
            let shared = Arc::clone(&shared);
            move || writer.run(&shared)
        })?;
        *shared.writer.lock() = Some(handle);
        Ok(Outbox { shared })
    }

    /// Enqueues one message.
    pub fn push(&self, draft: Draft) {
        self.enqueue(self.wait_for_room(), [draft]);
    }

    /// As [`Outbox::push`], but never waits: for callers that must go on.
    pub fn push_now(&self, draft: Draft) {
        self.enqueue(self.shared.intake.lock(), [draft]);
    }

    /// Enqueues the messages of one window: gives the machine's next `seq` to `make`, and writes the messages and the
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
        self.enqueue(intake, drafts);
    }

    /// The next message's id: all that exist now are below it.
    pub fn next_id(&self) -> i64 {
        self.shared.intake.lock().next_id
    }

    /// The broker has acknowledged this message.
    pub fn acknowledged(&self, id: i64) {
        if self.shared.spill.lock().remove(&id).is_some() {
            return;
        }
        self.shared.acked.lock().insert(id);
    }

    /// Whether the writer runs.
    pub fn is_alive(&self) -> bool {
        self.shared.writer.lock().as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// All messages with a smaller id have been written, or wait in memory for a disk that fails.
    pub fn handled(&self) -> i64 {
        self.shared.handled.load(Ordering::Acquire)
    }

    /// Whether everything that was enqueued can be read.
    pub fn is_settled(&self) -> bool {
        let next_id = self.next_id();
        self.shared.handled.load(Ordering::Acquire) >= next_id
    }

    pub fn stats(&self) -> OutboxStats {
        // In the order in which messages move on, so that none is missed in between.
        let mut depth = self.shared.intake.lock().queue.len() as u64;
        depth += self.shared.writing.load(Ordering::Acquire);
        depth += self.shared.spill.lock().len() as u64;
        let mut stats = self.shared.status.lock().clone();
        stats.depth += depth;
        stats.depth = stats.depth.saturating_sub(self.shared.acked.lock().len() as u64);
        stats.dropped += self.shared.dropped.load(Ordering::Relaxed);
        stats
    }

    /// Resolves when there may be something new to read since it last resolved.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    pub fn reader(&self) -> OutboxReader {
        OutboxReader::new(Arc::clone(&self.shared))
    }

    /// Writes what is left and ends the writer; nothing may be pushed afterwards. Waits up to `limit`.
    pub fn close(&self, limit: Duration) {
        self.shared.intake.lock().closing = true;
        self.shared.work.notify_all();
        let Some(writer) = self.shared.writer.lock().take() else { return };
        let deadline = Instant::now() + limit;
        while !writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !writer.is_finished() {
            tracing::error!("the disk did not write the outbox's last messages within {} s", limit.as_secs());
        }
    }

    fn wait_for_room(&self) -> MutexGuard<'_, Intake> {
        let mut intake = self.shared.intake.lock();
        let full = |intake: &mut Intake| intake.queue.len() >= INTAKE_ROWS && !intake.stalled;
        if self.shared.room.wait_while_for(&mut intake, full, INTAKE_TIMEOUT).timed_out() {
            intake.stalled = true;
        }
        intake
    }

    fn enqueue(&self, mut intake: MutexGuard<'_, Intake>, drafts: impl IntoIterator<Item = Draft>) {
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

#[cfg(test)]
mod tests;
