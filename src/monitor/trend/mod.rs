//! A machine's past: rollups of its windows, a row a minute for eight days and a row an hour for two years, and how long
//! it ran. They lie in `trend.db` in the state directory.
//!
//! ```text
//! scoring --- note --> Collected -- take --> writer's thread --> trend.db
//!                          |                                        |
//! trend.get <------ read --+----------------------------------------'
//! ```
//! Scoring notes each window in memory and never waits for the disk; [`writer`] writes every five minutes and at the end.
//! Who reads gets what is on the disk and what still waits, together and nothing twice: each batch that is written has a
//! number, and the file knows the last one that it has.
//!
//! A window belongs to the minute in which it ended, by the wall clock. Where the clock is set back, a minute gets windows
//! a second time and they add up; windows from before 2026 (a Pi that has not set its clock yet) belong to no minute, but
//! count for the hours. Rows are given up by their number, never by their age, so that a clock that runs ahead for a
//! while costs nothing that was true.

mod collected;
mod pack;
mod row;
mod steps;
mod store;
#[cfg(test)]
mod tests;
pub mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex};

use self::collected::Collected;
pub use self::row::{Counted, Hours, Row, Sample, Spread};
pub use self::steps::{POINTS_LIMIT, Step, StepError};
use self::store::{Reader, Tier};
use crate::scoring::Assessment;
use crate::sqlite::SqliteError;

/// Name of the file in the state directory.
pub const FILE: &str = "trend.db";
/// So long a question waits for the file to be opened, right after the start.
const OPENED_WITHIN: Duration = Duration::from_secs(2);

/// The past cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TrendError {
    #[error("the past is still being checked after the start; ask again in a while")]
    NotYet,
    #[error("the past cannot be read: {0}")]
    Unreadable(#[source] SqliteError),
}

/// The past of all machines.
pub struct Trend {
    file: PathBuf,
    collected: Mutex<Collected>,
    /// The first attempt to open the file is over.
    opened: Condvar,
    reader: Mutex<Option<Reader>>,
}

impl Trend {
    /// Opens nothing: that is [`writer`]'s.
    pub fn new(state_dir: &Path) -> Trend {
        let (collected, opened) = (Mutex::new(Collected::new()), Condvar::new());
        Trend { file: state_dir.join(FILE), collected, opened, reader: Mutex::new(None) }
    }

    /// Notes one window of a machine, `hop_s` after the one before. Never waits for the disk.
    pub fn note(&self, machine: &str, end: DateTime<Utc>, hop_s: f64, assessment: &Assessment) {
        self.collected.lock().note(machine, end.timestamp(), Sample::new(assessment, hop_s));
    }

    /// A machine is gone, with its past.
    pub fn forget(&self, machine: &str) {
        self.collected.lock().forget(machine);
    }

    /// How long a machine ran; `None` while nobody knows, because the file could not be read since the start.
    pub fn counted(&self, machine: &str) -> Option<Counted> {
        self.collected.lock().counted(machine)
    }

    /// Why the past cannot be written, where that is so.
    pub fn problem(&self) -> Option<String> {
        self.collected.lock().problem()
    }

    /// A machine's rows that begin in `from_s..to_s`, oldest first, each with its beginning; Unix s. Steps without a window
    /// have no row.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, machine: &str, from_s: i64, to_s: i64, step: Step) -> Result<Vec<(i64, Row)>, TrendError> {
        let (from_s, to_s) = (from_s.div_euclid(step.seconds()) * step.seconds(), to_s);
        // First what waits, then the file: a batch that is written in between is known by its number.
        let (waiting, run) = {
            let mut collected = self.collected.lock();
            if !collected.was_tried() {
                self.opened.wait_for(&mut collected, OPENED_WITHIN);
            }
            if !collected.was_tried() {
                return Err(TrendError::NotYet);
            }
            (collected.waiting(machine), collected.run().to_owned())
        };
        let mut reader = self.reader.lock();
        let rows = Reader::ensure(&mut reader, &self.file).and_then(|reader| match reader {
            Some(reader) => reader.rows(machine, from_s..to_s, step.tier(), &run, waiting),
            None => Ok(store::rows_in_memory(from_s..to_s, step.tier(), waiting)),
        });
        match rows {
            Ok(rows) => Ok(steps::merged(rows, step)),
            Err(error) => {
                *reader = None;
                Err(TrendError::Unreadable(error))
            }
        }
    }

    /// Whoever reads opens the file anew: another one may lie in its place.
    fn reopen(&self) {
        *self.reader.lock() = None;
    }
}

impl Step {
    fn tier(self) -> Tier {
        if self.seconds() < Tier::Hour.seconds() { Tier::Minute } else { Tier::Hour }
    }
}
