//! What the outbox's handle, its writer and its readers share.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::store::{Bounds, Row};
use crate::clock::Clock;
use crate::mqtt::payload::health::OutboxState;

/// How an outbox is set up.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// Directory of the store; created where it is missing.
    pub dir: PathBuf,
    pub bounds: Bounds,
    pub clock: Clock,
    /// No machine's `seq` goes on below this.
    pub least_seqs: BTreeMap<String, u64>,
}

/// What the agent should publish about its outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxChange {
    /// The disk fails; messages stay in memory.
    Failed(String),
    /// Messages are on disk again.
    Back,
    /// The store, or a message in it, was damaged; what waited there is lost.
    Corrupt(String),
    /// Messages were dropped: so many since the store was created.
    Dropped(u64),
    /// Numbers were skipped, because a file that keeps them was lost or damaged.
    SeqSkipped(String),
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
    /// Messages that were dropped unsent since the store was created.
    pub dropped: u64,
    /// Transactions with new messages since the start: each costs one fsync.
    pub commits: u64,
}

/// The shared state. Locks are taken one at a time, but for `spill` before `acked`.
pub struct OutboxShared {
    pub options: OutboxOptions,
    pub intake: Mutex<Intake>,
    /// Wakes the writer.
    pub work: Condvar,
    /// Wakes whoever waits for room in the intake.
    pub room: Condvar,
    /// Wakes the sender: there may be something new to read.
    pub changed: Notify,
    /// Messages that the writer has taken out of the intake and that are neither on disk nor in `spill` yet.
    pub writing: AtomicU64,
    /// Messages that stay in memory because the disk fails.
    pub spill: Mutex<BTreeMap<i64, Row>>,
    /// Acknowledged, but not yet deleted.
    pub acked: Mutex<HashSet<i64>>,
    pub status: Mutex<OutboxStats>,
    /// Messages that were dropped before they reached the store.
    pub dropped: AtomicU64,
    /// The writer has handled all messages below this id.
    pub handled: AtomicI64,
    /// Counts the files that the store has been: readers open the new one.
    pub generation: AtomicU64,
    pub writer: Mutex<Option<JoinHandle<()>>>,
}

/// What waits for the writer.
pub struct Intake {
    pub queue: VecDeque<Row>,
    pub next_id: i64,
    pub next_seqs: BTreeMap<String, u64>,
    /// Nobody waits for room any more until the writer has moved.
    pub stalled: bool,
    /// A reader found the store damaged.
    pub damaged: Option<String>,
    /// Messages that a reader found damaged.
    pub damaged_rows: u64,
    pub closing: bool,
}

impl OutboxShared {
    pub fn new(options: OutboxOptions) -> OutboxShared {
        let next_seqs = options.least_seqs.clone();
        OutboxShared {
            options,
            intake: Mutex::new(Intake {
                queue: VecDeque::new(),
                next_id: 1,
                next_seqs,
                stalled: false,
                damaged: None,
                damaged_rows: 0,
                closing: false,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            changed: Notify::new(),
            writing: AtomicU64::new(0),
            spill: Mutex::default(),
            acked: Mutex::default(),
            status: Mutex::default(),
            dropped: AtomicU64::new(0),
            handled: AtomicI64::new(0),
            generation: AtomicU64::new(0),
            writer: Mutex::new(None),
        }
    }
}
