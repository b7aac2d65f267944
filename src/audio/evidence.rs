//! The last window of each machine, for who asks for evidence; kept only where the configuration allows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Window;

/// The last window with sound of each machine.
#[derive(Debug)]
pub struct LastWindows {
    allowed: bool,
    windows: Mutex<HashMap<usize, Arc<Window>>>,
}

impl LastWindows {
    /// `allowed` is `privacy.allow_audio`; without it nothing is kept.
    pub fn new(allowed: bool) -> Self {
        LastWindows { allowed, windows: Mutex::default() }
    }

    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Keeps a copy of `window` in place of the machine's last one, if it has sound.
    pub fn keep(&self, window: &Window) {
        if self.allowed && !window.samples.is_empty() {
            let window = Arc::new(window.clone());
            self.windows.lock().unwrap_or_else(PoisonError::into_inner).insert(window.machine, window);
        }
    }

    /// The machine's last window with sound.
    pub fn get(&self, machine: usize) -> Option<Arc<Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).get(&machine).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn window(samples: Vec<f32>) -> Window {
        Window { machine: 3, end: SystemTime::UNIX_EPOCH, samples, fault: None }
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
}
