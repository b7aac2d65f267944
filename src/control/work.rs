//! What takes long (bundles read and checked, baselines learned), on a thread of its own beside the judging one; one at
//! a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use super::command::Envelope;
use super::desk::Outcome;
use super::fault::{Code, Fault};

/// A job for the worker. It changes nothing that a running window depends on; what it comes to is done between two
/// windows, as what a short command comes to.
pub struct Work(Box<dyn FnOnce() -> Result<Outcome, Fault> + Send>);

impl Work {
    pub fn new(job: impl FnOnce() -> Result<Outcome, Fault> + Send + 'static) -> Work {
        Work(Box::new(job))
    }
}

/// A job under way.
pub struct Running {
    pub envelope: Envelope,
    pub command: &'static str,
    outcome: Receiver<Result<Outcome, Fault>>,
}

impl Running {
    /// Starts the job.
    ///
    /// # Errors
    /// Where no thread is to be had.
    pub fn start(work: Work, command: &'static str, envelope: Envelope) -> Result<Running, Fault> {
        let (done, outcome) = mpsc::channel();
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(work.0));
            let lost = |_| Err(Fault::new(Code::Failed, "the agent stumbled over this; its log says where"));
            // Nobody listens any more when the agent is stopping.
            let _ = done.send(result.unwrap_or_else(lost));
        };
        let thread = thread::Builder::new().name("work".into()).spawn(job);
        thread.map_err(|error| Fault::new(Code::Failed, format!("no thread for this: {error}")))?;
        Ok(Running { envelope, command, outcome })
    }

    /// Its outcome, once there is one.
    pub fn poll(&self) -> Option<Result<Outcome, Fault>> {
        match self.outcome.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Fault::new(Code::Failed, "its thread has ended"))),
        }
    }
}
