//! Writes alarms and learners on a thread of its own, so that scoring never waits for a disk, and publishes an alarm's
//! change once it is on disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::alarm_store::AlarmStore;
use super::baseline_store::BaselineStore;
use super::{AlarmChange, Monitor};

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
}

impl StateWriter {
    /// `publish` gets every change of an alarm once it is on disk, in order.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        (handle, jobs): (WriterHandle, Jobs),
        monitor: Arc<Monitor>,
        alarms: Arc<AlarmStore>,
        baselines: Arc<BaselineStore>,
        publish: impl Fn(&AlarmChange) + Send + 'static,
    ) -> io::Result<StateWriter> {
        let writer = Writer { monitor, alarms, baselines, publish };
        let thread = std::thread::Builder::new().name("state-writer".into()).spawn(move || writer.run(&jobs.0))?;
        Ok(StateWriter { handle, thread })
    }

    /// Writes everything once more and ends; waits for that up to `until`.
    pub fn finish(self, until: Instant) {
        self.handle.send(Job::Stop);
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                tracing::error!("alarms and learners could not be saved in time");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.thread.join().is_err() {
            tracing::error!("the writer of alarms and learners had panicked");
        }
    }
}

struct Writer<P> {
    monitor: Arc<Monitor>,
    alarms: Arc<AlarmStore>,
    baselines: Arc<BaselineStore>,
    publish: P,
}

impl<P: Fn(&AlarmChange)> Writer<P> {
    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
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
                learners.extend(0..self.monitor.lock().machines.len());
            }
            if alarms || stop {
                self.alarms.save(&self.monitor).iter().for_each(&self.publish);
            }
            learners.into_iter().for_each(|machine| self.save_learner(machine));
            if stop {
                return;
            }
        }
    }

    fn save_learner(&self, machine: usize) {
        let (learner, generation) = {
            let state = self.monitor.lock();
            let learning = &state.machines[machine].learning;
            (learning.learner.clone(), learning.generation)
        };
        let (Some(learner), id) = (learner, self.monitor.id(machine)) else { return };
        if let Err(error) = self.baselines.save_learner(&id, generation, &learner) {
            tracing::warn!(machine = &*id, %error, "what is being learned cannot be saved");
        }
    }
}
