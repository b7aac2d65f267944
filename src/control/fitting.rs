//! A baseline that is worked out from what a learner has heard, which takes up to seconds, on a thread of its own.

use std::sync::mpsc::{self, Receiver, TryRecvError};

use crate::scoring::Baseline;
use crate::scoring::baseline::BaselineError;

/// One that is in work.
pub struct Fitting<T> {
    /// The machine's.
    pub number: usize,
    /// What it is made from.
    pub made_from: T,
    outcome: Receiver<Result<Baseline, BaselineError>>,
}

impl<T> Fitting<T> {
    /// Begins; `None`, said in the log, where no thread is to be had.
    pub fn begin(
        number: usize,
        made_from: T,
        fit: impl FnOnce() -> Result<Baseline, BaselineError> + Send + 'static,
    ) -> Option<Fitting<T>> {
        let (done, outcome) = mpsc::channel();
        // Nobody listens any more when the agent is stopping; the learner is on disk.
        let job = move || drop(done.send(fit()));
        match std::thread::Builder::new().name("baseline".into()).spawn(job) {
            Ok(_) => Some(Fitting { number, made_from, outcome }),
            Err(error) => {
                tracing::warn!(%error, "no thread for a baseline; tried again");
                None
            }
        }
    }

    /// What it came to, or in words why to nothing, once it has ended.
    pub fn poll(&self) -> Option<Result<Baseline, String>> {
        match self.outcome.try_recv() {
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the agent stumbled over it; its log says where".into())),
            Ok(result) => Some(result.map_err(|error| error.to_string())),
        }
    }
}
