//! The last window of each machine, for who asks for evidence; kept only where the configuration allows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::window::Window;

/// Evidence leaves an agent no more often than this: 0.6 MB each would be a burden for a mobile network.
const EVERY: Duration = Duration::from_secs(10);

/// The last window with sound of each machine.
#[derive(Debug)]
pub struct LastWindows {
    allowed: bool,
    windows: Mutex<HashMap<usize, Arc<Window>>>,
    sent: Mutex<Option<Instant>>,
}

impl LastWindows {
    /// `allowed` is `privacy.allow_audio`; without it nothing is kept.
    pub fn new(allowed: bool) -> Self {
        LastWindows { allowed, windows: Mutex::default(), sent: Mutex::default() }
    }

    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Keeps a copy of `window` in place of the machine's last one, if it has sound.
    pub fn keep(&self, window: &Window) {
        if self.allowed && !window.samples.is_empty() {
            let window = Arc::new(window.clone());
            self.windows.lock().insert(window.machine, window);
        }
    }

    /// Evidence is about to be sent at `now`.
    ///
    /// # Errors
    /// How long to wait, where some was sent a moment ago.
    pub fn take_turn(&self, now: Instant) -> Result<(), Duration> {
        let mut sent = self.sent.lock();
        let passed = sent.map_or(EVERY, |sent| now.saturating_duration_since(sent));
        if passed < EVERY {
            return Err(EVERY - passed);
        }
        *sent = Some(now);
        Ok(())
    }

    /// A machine is gone.
    pub fn forget(&self, machine: usize) {
        self.windows.lock().remove(&machine);
    }

    /// The machine's last window with sound.
    pub fn get(&self, machine: usize) -> Option<Arc<Window>> {
        self.windows.lock().get(&machine).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn window(samples: Vec<f32>) -> Window {
        Window { machine: 3, end: SystemTime::UNIX_EPOCH, samples, fault: None, follows: false }
    }

    #[test]
    fn the_last_window_with_sound_is_kept_where_that_is_allowed() {
        let last = LastWindows::new(true);
        for samples in [vec![1.0], vec![2.0], vec![]] {
            last.keep(&window(samples));
        }
        assert_eq!(last.get(3).map(|window| window.samples.clone()), Some(vec![2.0]));
        assert!(last.get(0).is_none());
        let last = LastWindows::new(false);
        last.keep(&window(vec![1.0]));
        assert!(last.get(3).is_none());
    }

    #[test]
    fn evidence_is_sent_seldom() {
        let (last, begin) = (LastWindows::new(true), Instant::now());
        assert_eq!(last.take_turn(begin), Ok(()));
        assert_eq!(last.take_turn(begin + EVERY / 2), Err(EVERY / 2));
        assert_eq!(last.take_turn(begin + EVERY), Ok(()));
    }
}
