//! Windows scored on several cores, answered in the order in which they were handed in.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::scorer::{Heard, MachineModel, Scorer};
use super::verdict::Scored;
use crate::encoder::Engine;
use crate::features::FeatureError;

/// Windows that wait for each thread, so that none is idle while the next file is read.
const AHEAD: usize = 2;

/// Threads, each with a scorer; their engines share the weights. `T` is what the caller knows a window by, `R` what comes of
/// it.
pub struct ScorerPool<T, R = Scored> {
    workers: Vec<Worker<T, R>>,
    /// Windows handed in, and answered.
    sent: usize,
    answered: usize,
    engine_name: &'static str,
}

struct Worker<T, R> {
    jobs: Sender<Job<T>>,
    done: Receiver<Done<T, R>>,
}

/// What is done with each window.
type Work<R> = fn(&mut Scorer, &MachineModel, &[f32]) -> Result<R, FeatureError>;

struct Job<T> {
    tag: T,
    model: Arc<MachineModel>,
    window: Vec<f32>,
}

/// A window that was scored.
pub struct Done<T, R = Scored> {
    pub tag: T,
    pub window: Vec<f32>,
    pub scored: Result<R, FeatureError>,
}

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("cannot start a scoring thread")]
    Start(#[source] std::io::Error),
    #[error("a scoring thread ended before its work was done")]
    Ended,
}

impl<T: Send + 'static> ScorerPool<T> {
    /// A thread for each core, which judge each window by itself.
    ///
    /// # Errors
    /// Where no thread can be started. An engine that cannot be shared is used by one thread alone.
    pub fn new(engine: Box<dyn Engine>) -> Result<Self, PoolError> {
        ScorerPool::of(on_each_core(engine), Scorer::score)
    }
}

impl<T: Send + 'static> ScorerPool<T, Heard> {
    /// A thread for each core, for windows that are judged one after the other.
    ///
    /// # Errors
    /// As [`ScorerPool::new`].
    pub fn hearing(engine: Box<dyn Engine>) -> Result<Self, PoolError> {
        ScorerPool::of(on_each_core(engine), Scorer::hear)
    }
}

/// The engine, and as many more of its weights as there are further cores.
fn on_each_core(engine: Box<dyn Engine>) -> Vec<Box<dyn Engine>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut engines: Vec<Box<dyn Engine>> = Vec::with_capacity(threads);
    for _ in 1..threads {
        match engine.share() {
            Ok(shared) => engines.push(shared),
            Err(error) => {
                tracing::warn!(%error, "scoring on fewer cores than there are");
                break;
            }
        }
    }
    engines.push(engine);
    engines
}

impl<T: Send + 'static, R: Send + 'static> ScorerPool<T, R> {
    /// A thread for each engine, one at least; `work` is what they do.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn of(engines: Vec<Box<dyn Engine>>, work: Work<R>) -> Result<Self, PoolError> {
        let engine_name = engines.first().map_or("", |engine| engine.name());
        let workers = engines.into_iter().map(|engine| Worker::start(engine, work)).collect::<Result<_, _>>()?;
        Ok(ScorerPool { workers, sent: 0, answered: 0, engine_name })
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine_name
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Windows that are on their way.
    pub fn under_way(&self) -> usize {
        self.sent - self.answered
    }

    /// Hands a window in; answers the oldest one where enough are on their way.
    ///
    /// # Errors
    /// Where a thread has ended.
    pub fn push(
        &mut self,
        tag: T,
        model: &Arc<MachineModel>,
        window: Vec<f32>,
    ) -> Result<Option<Done<T, R>>, PoolError> {
        let job = Job { tag, model: model.clone(), window };
        let turn = self.sent % self.workers.len();
        self.workers[turn].jobs.send(job).map_err(|_| PoolError::Ended)?;
        self.sent += 1;
        if self.under_way() < AHEAD * self.workers.len() { Ok(None) } else { self.oldest() }
    }

    /// The oldest window that is not answered yet, once it is scored; `None` where all are answered.
    ///
    /// # Errors
    /// Where a thread has ended.
    pub fn oldest(&mut self) -> Result<Option<Done<T, R>>, PoolError> {
        if self.answered == self.sent {
            return Ok(None);
        }
        // Windows are handed out in turns, so that taking answers in turns keeps the order.
        let turn = self.answered % self.workers.len();
        self.answered += 1;
        self.workers[turn].done.recv().map(Some).map_err(|_| PoolError::Ended)
    }
}

impl<T: Send + 'static, R: Send + 'static> Worker<T, R> {
    /// The thread ends when this is dropped.
    fn start(engine: Box<dyn Engine>, work: Work<R>) -> Result<Self, PoolError> {
        let (jobs, to_do) = channel::<Job<T>>();
        let (answers, done) = channel();
        let run = move || {
            let mut scorer = Scorer::new(engine);
            for Job { tag, model, window } in to_do {
                let scored = work(&mut scorer, &model, &window);
                if answers.send(Done { tag, window, scored }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("scoring".into()).spawn(run).map_err(PoolError::Start)?;
        Ok(Worker { jobs, done })
    }
}
