//! The thread that writes the past: every five minutes, and at the end. It may be late; nobody waits for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::store::TrendStore;
use super::{FILE, Trend};
use crate::numbers::counted;
use crate::sqlite::{self, SqliteError};
use crate::state_files::StateFiles;
use crate::threads::join_until;

/// A power cut costs so much of the past at most; each time costs the disk three syncs.
const WRITE_EVERY: Duration = Duration::from_secs(300);

/// What people should know of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The past was damaged or is missing: what is lost, where it lies now.
    Lost(String),
    /// It cannot be written, and goes on in memory.
    Failed(String),
    /// It can be written again.
    Back,
}

/// The running thread.
pub struct TrendWriter {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl TrendWriter {
    /// `tell` gets what people should know.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        trend: Arc<Trend>,
        files: StateFiles,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<TrendWriter> {
        let (stop, stopped) = mpsc::channel();
        let mut writer = Writer { file: trend.file.clone(), trend, files, store: None, is_failing: false, tell };
        let thread = std::thread::Builder::new().name("trend".into()).spawn(move || writer.run(&stopped))?;
        Ok(TrendWriter { stop, thread })
    }

    /// Writes what is there and ends; waits for that up to `until`.
    pub fn finish(self, until: Instant) {
        // Only a thread that has ended does not hear it.
        let _ = self.stop.send(());
        join_until(
            self.thread,
            until,
            "the writer of the machines' past",
            "the last minutes of the machines' past could not be written in time",
        );
    }
}

struct Writer<T> {
    file: PathBuf,
    trend: Arc<Trend>,
    files: StateFiles,
    store: Option<TrendStore>,
    is_failing: bool,
    tell: T,
}

impl<T: Fn(News)> Writer<T> {
    fn run(&mut self, stopped: &Receiver<()>) {
        let opened = self.open();
        self.note(opened);
        self.trend.collected.lock().tried();
        self.trend.opened.notify_all();
        loop {
            let at_the_end = !matches!(stopped.recv_timeout(WRITE_EVERY), Err(RecvTimeoutError::Timeout));
            let written = self.write(at_the_end);
            self.note(written);
            if at_the_end {
                return;
            }
        }
    }

    /// Writes all that waits.
    fn write(&mut self, at_the_end: bool) -> Result<(), SqliteError> {
        self.open()?;
        while let Some(store) = &mut self.store {
            let (batch, run) = {
                let mut collected = self.trend.collected.lock();
                let Some(batch) = collected.take(at_the_end) else { break };
                (batch, collected.run().to_owned())
            };
            if let Err(error) = store.write(&run, &batch) {
                // Opened again, and checked, the next time.
                self.store = None;
                return Err(error);
            }
            self.trend.collected.lock().written();
        }
        Ok(())
    }

    /// Opens the file where it is not open. A damaged one is set aside and a new one begun.
    fn open(&mut self) -> Result<(), SqliteError> {
        if self.store.is_some() {
            return Ok(());
        }
        let (was_there, is_known) = (self.file.exists(), self.files.mark(FILE).is_some());
        let (store, lost) = match TrendStore::open(&self.file) {
            Ok((store, 0, is_new)) => {
                let problem = if was_there { "it holds nothing" } else { "it is missing" };
                (store, (is_new && is_known).then(|| format!("{problem}; the machines' past begins again")))
            }
            Ok((store, damaged, _)) => {
                (store, Some(format!("damaged and gone: {} of the machines' past", counted(damaged, "piece"))))
            }
            Err(problem @ SqliteError::Damaged(_)) => {
                let aside = sqlite::set_aside(&self.file, Utc::now())?;
                let lost = format!("{problem}; set aside as {}: the machines' past begins again", aside.display());
                (TrendStore::open(&self.file)?.0, Some(lost))
            }
            Err(problem) => return Err(problem),
        };
        let counted = store.counted()?;
        // Told before what is left can be asked for.
        if let Some(lost) = lost {
            (self.tell)(News::Lost(format!("{}: {lost}", self.file.display())));
        }
        self.trend.collected.lock().load(counted);
        self.store = Some(store);
        self.trend.reopen();
        self.files.set_mark(FILE, 0);
        Ok(())
    }

    /// Notes how an attempt went.
    fn note(&mut self, outcome: Result<(), SqliteError>) {
        match outcome {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                self.trend.collected.lock().recovered();
                (self.tell)(News::Back);
            }
            Ok(()) => {}
            Err(error) => {
                let problem = format!("{}: {error}", self.file.display());
                self.trend.collected.lock().failed(problem.clone());
                if !std::mem::replace(&mut self.is_failing, true) {
                    (self.tell)(News::Failed(problem));
                }
            }
        }
    }
}
