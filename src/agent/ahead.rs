//! Takes what was captured, in the order of its coming. Where scoring falls behind, windows that wait are heard ahead on further
//! threads, whose engines share the weights; each is then judged when it is its turn, as with one thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audio::capture::{Capture, Captured};
use crate::monitor::Monitor;
use crate::monitor::hearing::{HeardWindow, Hearing, SharedEngines};
use crate::scoring::{Done, Heard, Reason, Scorer, ScorerPool};
use crate::window::Window;

/// Something has waited for so long without a break: scoring falls behind.
const BEHIND_AFTER: Duration = Duration::from_millis(500);
/// Threads that nothing was to be done for in this time end, and give back their memory.
const END_AFTER: Duration = Duration::from_secs(60);
/// What went wrong with them is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// So much is taken at once, at most.
const MOST_TAKEN: usize = 64;

/// What was captured, on its way to be judged.
pub(super) struct Ahead {
    capture: Arc<Capture>,
    monitor: Arc<Monitor>,
    /// So many threads score at most, the caller's among them.
    threads: usize,
    /// When nothing waited last.
    rested: Instant,
    taken: VecDeque<Taken>,
    helpers: Option<Helpers>,
    /// No help before this time: something has gone wrong with it.
    again_at: Option<Instant>,
}

struct Taken {
    captured: Captured,
    /// Another thread hears it, and has its samples.
    is_ahead: bool,
}

/// The further threads.
struct Helpers {
    pool: ScorerPool<Hearing, Heard>,
    /// The encoder that they run, by its SHA-256.
    encoder: String,
    used: Instant,
}

impl Ahead {
    pub fn new(capture: Arc<Capture>, monitor: Arc<Monitor>, threads: usize) -> Ahead {
        Ahead {
            capture,
            monitor,
            threads,
            rested: Instant::now(),
            taken: VecDeque::new(),
            helpers: None,
            again_at: None,
        }
    }

    /// The next thing that was captured, and what was heard of it already; `None` where nothing comes within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Option<(Captured, Option<HeardWindow>)> {
        if self.taken.is_empty() {
            self.take(timeout);
        }
        let Taken { captured, is_ahead } = self.taken.pop_front()?;
        match captured {
            Captured::Window(window) if is_ahead => {
                let (window, heard) = self.answer(window);
                Some((Captured::Window(window), heard))
            }
            captured => Some((captured, None)),
        }
    }

    fn take(&mut self, timeout: Duration) {
        let first = self.capture.next(Duration::ZERO).or_else(|| {
            self.end_idle();
            let came = self.capture.next(timeout);
            self.rested = Instant::now();
            came
        });
        let Some(first) = first else { return };
        self.taken.push_back(Taken { captured: first, is_ahead: false });
        if self.threads > 1 && self.rested.elapsed() >= BEHIND_AFTER && self.may_have_help() {
            self.take_more();
        }
    }

    /// Nothing is handed out now: what has gone wrong can be begun anew, once its time has come.
    fn may_have_help(&mut self) -> bool {
        let Some(again_at) = self.again_at else { return true };
        if Instant::now() < again_at {
            return false;
        }
        (self.helpers, self.again_at) = (None, None);
        true
    }

    /// As many windows as there are threads: one for the caller's own, the others are handed out.
    fn take_more(&mut self) {
        let has_sound = |taken: &Taken| matches!(&taken.captured, Captured::Window(window) if window.fault.is_none());
        let mut windows = self.taken.iter().filter(|taken| has_sound(taken)).count();
        while windows < self.threads && self.taken.len() < MOST_TAKEN {
            let Some(mut captured) = self.capture.next(Duration::ZERO) else { return };
            let mut is_ahead = false;
            if let Captured::Window(window) = &mut captured {
                is_ahead = windows > 0 && self.hand_out(window);
                windows += usize::from(window.fault.is_none());
            }
            self.taken.push_back(Taken { captured, is_ahead });
        }
    }

    /// Whether another thread hears the window.
    fn hand_out(&mut self, window: &mut Window) -> bool {
        let Some(hearing) = self.monitor.hearing(window) else { return false };
        let Some(Helpers { pool, used, .. }) = self.helpers_for(hearing.encoder()) else { return false };
        if pool.under_way() == pool.threads() {
            return false;
        }
        *used = Instant::now();
        let model = hearing.model.clone();
        if pool.push(hearing, &model, std::mem::take(&mut window.samples)).is_ok() {
            return true;
        }
        self.lost(window);
        false
    }

    /// A thread has ended that had a window's samples.
    fn lost(&mut self, window: &mut Window) {
        tracing::error!(
            "a thread that hears windows has ended: a window is lost, and scoring goes on with one thread for now"
        );
        window.fault = Some(Reason::Overload);
        self.give_up_for_now();
    }

    fn give_up_for_now(&mut self) {
        self.again_at = Some(Instant::now() + AGAIN_AFTER);
    }

    /// The threads that run this encoder, started where there are none yet; those that run another one end.
    fn helpers_for(&mut self, encoder: &str) -> Option<&mut Helpers> {
        if self.again_at.is_some() {
            return None;
        }
        let others = |helpers: &Helpers| helpers.encoder != encoder;
        if self.helpers.as_ref().is_none_or(others) {
            // What they still have under way is answered first.
            if self.helpers.as_ref().is_some_and(|helpers| helpers.pool.under_way() > 0) {
                return None;
            }
            self.helpers = self.start();
        }
        self.helpers.as_mut().filter(|helpers| helpers.encoder == encoder)
    }

    fn start(&mut self) -> Option<Helpers> {
        let SharedEngines { encoder, engines, problem } = self.monitor.share_engines(self.threads - 1)?;
        if let Some(error) = problem {
            tracing::warn!(%error, threads = engines.len() + 1, "scoring falls behind, and cannot be spread over more threads");
        }
        if engines.is_empty() {
            self.give_up_for_now();
            return None;
        }
        tracing::info!(threads = engines.len() + 1, "scoring falls behind: more threads help");
        match ScorerPool::of(engines, Scorer::hear) {
            Ok(pool) => Some(Helpers { pool, encoder, used: Instant::now() }),
            Err(error) => {
                tracing::warn!(%error, "scoring goes on with one thread for now");
                self.give_up_for_now();
                None
            }
        }
    }

    /// What another thread has heard of a window, which gets its samples back.
    fn answer(&mut self, mut window: Window) -> (Window, Option<HeardWindow>) {
        let answer = self.helpers.as_mut().map(|helpers| helpers.pool.oldest());
        match answer {
            Some(Ok(Some(Done { tag: hearing, window: samples, scored: heard }))) => {
                window.samples = samples;
                (window, Some(HeardWindow { hearing, heard }))
            }
            _ => {
                self.lost(&mut window);
                (window, None)
            }
        }
    }

    /// The further threads end where nothing was to be done for a while.
    fn end_idle(&mut self) {
        let idle = |helpers: &Helpers| helpers.pool.under_way() == 0 && helpers.used.elapsed() >= END_AFTER;
        if self.helpers.as_ref().is_some_and(idle) {
            self.helpers = None;
        }
    }
}

#[cfg(test)]
mod tests;
