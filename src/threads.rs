//! Threads that are waited for, but not for ever.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Waits for a thread that was told to end, up to `until`. The log says `late` where that was not enough, and where `who` had
/// panicked.
pub fn join_until(thread: JoinHandle<()>, until: Instant, who: &str, late: &str) {
    while !thread.is_finished() {
        if Instant::now() >= until {
            tracing::error!("{late}");
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    if thread.join().is_err() {
        tracing::error!("{who} had panicked");
    }
}
