//! What takes long (bundles read and checked, baselines learned), on its own thread beside the scoring one; one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use super::envelope::Envelope;
use super::error::{Code, CommandError};
use super::outcome::{Job, Outcome};

/// A job under way.
pub struct Running {
    pub envelope: Envelope,
    pub command: &'static str,
    outcome: Receiver<Result<Outcome, CommandError>>,
}

impl Running {
    /// Starts the job.
    ///
    /// # Errors
    /// Where no thread is to be had.
    pub fn start(job: Job, command: &'static str, envelope: Envelope) -> Result<Running, CommandError> {
        let (done, outcome) = mpsc::channel();
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(job.0));
            let lost = |_| Err(CommandError::new(Code::Failed, "the agent stumbled over this; its log says where"));
            // Nobody listens any more when the agent is stopping.
            let _ = done.send(result.unwrap_or_else(lost));
        };
        let thread = thread::Builder::new().name("work".into()).spawn(job);
        thread.map_err(|error| CommandError::new(Code::Failed, format!("no thread for this: {error}")))?;
        Ok(Running { envelope, command, outcome })
    }

    /// Its outcome, once there is one.
    pub fn poll(&self) -> Option<Result<Outcome, CommandError>> {
        match self.outcome.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(CommandError::new(Code::Failed, "its thread has ended"))),
        }
    }
}
