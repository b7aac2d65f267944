//! What a long command says when Ctrl-C ends it: what was done, and what is left of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::numbers::counted;

/// As a shell has it: 128 and the number of SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// How far the work is.
#[derive(Debug, Default)]
pub struct Progress {
    pub files: AtomicU64,
    pub windows: AtomicU64,
}

impl Progress {
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_window(&self) {
        self.windows.fetch_add(1, Ordering::Relaxed);
    }
}

/// From now on, Ctrl-C ends the process with a line about `progress` in files of `total`, and with `left`: what remains.
/// Files that were being written are not there then; where no thread can be made, Ctrl-C ends it without a word.
pub fn explain(progress: Arc<Progress>, total: u64, left: String) {
    let wait = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_err() {
            return;
        }
        let (files, windows) = (progress.files.load(Ordering::Relaxed), progress.windows.load(Ordering::Relaxed));
        eprintln!("\ninterrupted in file {files} of {total}, after {}; {left}", counted(windows, "window"));
        std::process::exit(EXIT_INTERRUPTED);
    };
    // The signal is still the default's where this fails.
    let _ = std::thread::Builder::new().name("interrupt".into()).spawn(wait);
}
