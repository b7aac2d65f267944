//! Writes alarms and learners on its own thread, so that scoring never waits for a disk, and publishes an alarm's
//! change once it is on disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use parking_lot::Mutex;

use super::alarm_store::AlarmStore;
use super::baseline_store::BaselineStore;
use super::journal::{Journal, JournalEntry};
use super::{AlarmChange, Monitor};
use crate::threads::join_until;

/// A write that takes longer stands still: an SD card that is cleaning up answers within a minute.
const STUCK_AFTER: Duration = Duration::from_secs(300);

enum Job {
    Alarms,
    /// Of this machine.
    Learner(usize),
    Stop,
}

/// Asks the writer for something; never waits. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle(Sender<Job>);

impl WriterHandle {
    /// Alarms have changed, or enough time has passed.
    pub fn save_alarms(&self) {
        self.send(Job::Alarms);
    }

    /// A machine's learner has taken in enough that is new.
    pub fn save_learner(&self, machine: usize) {
        self.send(Job::Learner(machine));
    }

    fn send(&self, job: Job) {
        // Only a writer that has been stopped is gone, and it has written everything.
        let _ = self.0.send(job);
    }
}

/// What the handles ask for, until [`StateWriter::start`] takes it.
pub struct Jobs(Receiver<Job>);

/// A handle, and what it leads to.
pub fn channel() -> (WriterHandle, Jobs) {
    let (sender, receiver) = mpsc::channel();
    (WriterHandle(sender), Jobs(receiver))
}

/// The running thread.
pub struct StateWriter {
    handle: WriterHandle,
    thread: JoinHandle<()>,
    /// Since when it writes what was asked for.
    busy_since: Arc<Mutex<Option<Instant>>>,
}

impl StateWriter {
    /// `publish` gets every change of an alarm once it is on disk, in order; `began` every alarm that is new in the journal.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        (handle, jobs): (WriterHandle, Jobs),
        monitor: Arc<Monitor>,
        alarms: Arc<AlarmStore>,
        journal: Arc<Journal>,
        baselines: Arc<BaselineStore>,
        began: impl Fn(JournalEntry) + Send + 'static,
        publish: impl Fn(&AlarmChange) + Send + 'static,
    ) -> io::Result<StateWriter> {
        let busy_since = Arc::new(Mutex::new(None));
        let writer = Writer { monitor, alarms, journal, baselines, began, publish, busy_since: busy_since.clone() };
        let thread = std::thread::Builder::new().name("state-writer".into()).spawn(move || writer.run(&jobs.0))?;
        Ok(StateWriter { handle, thread, busy_since })
    }

    /// Whether it runs, and no write takes longer than a slow disk explains.
    pub fn is_alive(&self, now: Instant) -> bool {
        let stuck = |since| now.saturating_duration_since(since) > STUCK_AFTER;
        !self.thread.is_finished() && !self.busy_since.lock().is_some_and(stuck)
    }

    /// Writes everything once more and ends; waits for that up to `until`.
    pub fn finish(self, until: Instant) {
        self.handle.send(Job::Stop);
        join_until(
            self.thread,
            until,
            "the writer of alarms and learners",
            "alarms and learners could not be saved in time",
        );
    }
}

struct Writer<B, P> {
    monitor: Arc<Monitor>,
    alarms: Arc<AlarmStore>,
    journal: Arc<Journal>,
    baselines: Arc<BaselineStore>,
    began: B,
    publish: P,
    busy_since: Arc<Mutex<Option<Instant>>>,
}

impl<B: Fn(JournalEntry), P: Fn(&AlarmChange)> Writer<B, P> {
    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            *self.busy_since.lock() = Some(Instant::now());
            let (mut alarms, mut learners, mut stop) = (false, BTreeSet::new(), false);
            // What waits together is written once.
            for job in std::iter::once(first).chain(jobs.try_iter()) {
                match job {
                    Job::Alarms => alarms = true,
                    Job::Learner(machine) => drop(learners.insert(machine)),
                    Job::Stop => stop = true,
                }
            }
            if stop {
                learners.extend(self.monitor.lock().machines.numbers());
            }
            if alarms || stop {
                let changes = self.alarms.save(&self.monitor);
                self.journal.follow(&self.monitor, Utc::now()).into_iter().for_each(&self.began);
                changes.iter().for_each(&self.publish);
            }
            learners.into_iter().for_each(|machine| self.save_learner(machine));
            *self.busy_since.lock() = None;
            if stop {
                return;
            }
        }
    }

    fn save_learner(&self, machine: usize) {
        let (learner, generation) = {
            let state = self.monitor.lock();
            let Some(machine) = state.machines.get(machine) else { return };
            let learning = &machine.learning;
            (learning.learner.clone(), learning.generation)
        };
        let (Some(learner), id) = (learner, self.monitor.id(machine)) else { return };
        if let Err(error) = self.baselines.save_learner(&id, generation, &learner) {
            tracing::warn!(machine = &*id, %error, "what is being learned cannot be saved");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_stands_still_is_not_alive_and_a_slow_one_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let monitor = Arc::new(Monitor::new(None, Vec::new()));
        let (alarms, baselines) = (AlarmStore::open(dir.path()).0, BaselineStore::new(dir.path()));
        let journal = Arc::new(Journal::open(dir.path(), Utc::now()).0);
        let (handle, jobs) = channel();
        let writer = (handle.clone(), jobs);
        let writer =
            StateWriter::start(writer, monitor.clone(), Arc::new(alarms), journal, Arc::new(baselines), |_| (), |_| ());
        let writer = writer.expect("a thread");
        let soon = Instant::now() + STUCK_AFTER / 2;
        let late = Instant::now() + 2 * STUCK_AFTER;
        assert!(writer.is_alive(late), "it has nothing to do");
        let held = monitor.lock();
        handle.save_alarms();
        while writer.is_alive(late) {
            std::thread::yield_now();
        }
        assert!(writer.is_alive(soon));
        drop(held);
        while !writer.is_alive(late) {
            std::thread::yield_now();
        }
        writer.finish(late);
    }
}
