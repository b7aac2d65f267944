//! What takes long, bundles read and checked, on a thread of its own beside the running one; one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use serde_json::Value;

use super::command::Envelope;
use super::fault::{Code, Fault};
use crate::agent::station::Loaded;

/// A job for the worker. It changes nothing that a running window depends on.
pub struct Work(Box<dyn FnOnce() -> Result<Switch, Fault> + Send>);

impl Work {
    pub fn new(job: impl FnOnce() -> Result<Switch, Fault> + Send + 'static) -> Work {
        Work(Box::new(job))
    }
}

/// A bundle that is ready to be switched to.
pub struct Switch {
    pub loaded: Loaded,
    /// The bundle to load at the next start; `None`: the configured one.
    pub choice: Option<PathBuf>,
    /// What the reply tells.
    pub data: Value,
}

/// A job under way.
pub struct Running {
    pub envelope: Envelope,
    pub command: &'static str,
    outcome: Receiver<Result<Switch, Fault>>,
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
            let lost = |_| Err(Fault::new(Code::Failed, "the agent stumbled over this bundle; its log says where"));
            // Nobody listens any more when the agent is stopping.
            let _ = done.send(result.unwrap_or_else(lost));
        };
        let thread = thread::Builder::new().name("bundle".into()).spawn(job);
        thread.map_err(|error| Fault::new(Code::Failed, format!("no thread for the bundle: {error}")))?;
        Ok(Running { envelope, command, outcome })
    }

    /// Its outcome, once there is one.
    pub fn poll(&self) -> Option<Result<Switch, Fault>> {
        match self.outcome.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Fault::new(Code::Failed, "the bundle's thread has ended"))),
        }
    }
}
