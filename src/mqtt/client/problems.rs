//! Problems are logged once, also when two kinds of them alternate.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same problem with the same thing is logged again after this time, if it persists.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Problems with one thing that are remembered as logged.
const REMEMBERED: usize = 16;

/// What was logged about each thing since it was last well, and when.
#[derive(Debug, Default)]
pub struct Problems {
    logged: HashMap<String, Vec<(String, Instant)>>,
}

impl Problems {
    /// Logs a problem as a warning the first time, and answers the whole line.
    pub fn log(&mut self, about: String, problem: String) -> String {
        let line = format!("{about}: {problem}");
        let logged = self.logged.entry(about).or_default();
        logged.retain(|(_, when)| when.elapsed() < LOG_AGAIN_AFTER);
        // Who gives another reason each time does not fill the log.
        if logged.len() >= REMEMBERED || logged.iter().any(|(words, _)| *words == problem) {
            tracing::debug!("{line}");
        } else {
            tracing::warn!("{line}");
            logged.push((problem, Instant::now()));
        }
        line
    }

    /// Whether there is a problem with this thing.
    pub fn concern(&self, about: &str) -> bool {
        self.logged.contains_key(about)
    }

    /// The thing is well again.
    pub fn solved(&mut self, about: &str) {
        self.logged.remove(about);
    }
}
