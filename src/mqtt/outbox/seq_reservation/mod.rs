//! Reservation of `seq`: no number is ever used for two different windows, whatever happens to one of the files.
//!
//! Three files know where each machine's `seq` stands: the store, with a check sum beside each counter, and two small
//! files beside it. Both hold a ceiling for every machine, a number that its `seq` has not reached yet; it is raised by
//! a thousand at a time, long before it is needed. The second one also holds what the store held after its last commit;
//! it is written without fsync, so it may lag behind after a power cut but never runs ahead. While all three are whole and
//! agree, the numbers go on without a gap. Otherwise they go on above everything that any of the files reserves, and the
//! reason is reported. The files are overwritten in place: that works on a full disk as well. Both are made before either
//! reserves anything, so that a first start that ended between them is not taken for a loss.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::store::StoredSeqs;
use crate::sha256::check_sum;
use crate::{fs, sqlite};

/// Room for some hundreds of machines; the files never grow before that.
const FILE_BYTES: usize = 32 * 1024;
const PAGE_BYTES: usize = 4096;

/// How far ahead a ceiling is set, and how far numbers step over what may have been used.
const STEP: u64 = 1000;

/// The two files; the name is part of the check sum, so that one cannot be taken for the other.
const CEILINGS: &str = "seq.json";
const REACHED: &str = "seq-reached.json";

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    /// Whether the store knows every `seq` that was used; otherwise only the ceilings are certain.
    store_is_sure: bool,
    ceilings: BTreeMap<String, u64>,
    /// What the store held after its last commit; only in the second file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    reached: BTreeMap<String, u64>,
    /// Commits with new messages that the store had then; only in the second file.
    #[serde(default, skip_serializing_if = "is_zero")]
    commits: u64,
    /// Over all the rest. Version 0.1 wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sum: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde hands it over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What was found under a file's name.
#[derive(Debug)]
enum Found {
    Missing,
    Damaged(String),
    /// Written by version 0.1, without a check sum.
    Unchecked(Content),
    Whole(Content),
}

/// Where the numbers go on.
#[derive(Debug, Default, PartialEq)]
pub struct Recovered {
    pub next_seqs: BTreeMap<String, u64>,
    /// Why numbers were skipped; `None` where none were.
    pub skipped: Option<String>,
}

/// The reservations of all machines.
#[derive(Debug)]
pub struct SeqReservation {
    ceilings: Slot,
    reached: Slot,
    found: [Found; 2],
    /// What both files hold together, as found: this run's own numbers do not count for [`SeqReservation::recover`].
    before: Content,
    /// What the files hold now, or should.
    content: Content,
    /// Neither file reserves anything, nor does the store know a number.
    is_first_start: bool,
}

impl SeqReservation {
    /// Reads the files in `dir`.
    pub fn open(dir: &Path) -> Self {
        let (ceilings, reached) = (Slot::new(dir, CEILINGS), Slot::new(dir, REACHED));
        let found = [ceilings.read(), reached.read()];
        let mut content = Content { store_is_sure: true, ..Content::default() };
        for found in &found {
            if let Found::Whole(whole) | Found::Unchecked(whole) = found {
                content.store_is_sure &= whole.store_is_sure;
                for (machine, ceiling) in &whole.ceilings {
                    let entry = content.ceilings.entry(machine.clone()).or_insert(0);
                    *entry = (*entry).max(*ceiling);
                }
                content.reached.extend(whole.reached.clone());
                content.commits = content.commits.max(whole.commits);
            }
        }
        SeqReservation { ceilings, reached, found, before: content.clone(), content, is_first_start: false }
    }

    /// A number for each machine that its `seq` had not reached when the files were written.
    pub fn reserved(&self) -> BTreeMap<String, u64> {
        let mut all = self.before.reached.clone();
        for (machine, ceiling) in &self.before.ceilings {
            let entry = all.entry(machine.clone()).or_insert(0);
            *entry = (*entry).max(*ceiling);
        }
        all
    }

    /// Where each machine's `seq` goes on; `stored` is what the store knows, `None` while it cannot be opened.
    pub fn recover(&mut self, stored: Option<&StoredSeqs>) -> Recovered {
        let has_sums = stored.is_some_and(|stored| stored.has_sums);
        self.is_first_start =
            self.reserves_nothing() && stored.is_some_and(|stored| stored.machines().next().is_none());
        let mut problems: BTreeSet<String> = self.problems_of_files(has_sums);
        // The state directory of version 0.1: one file, and no check sums.
        let upgrade = matches!(self.found, [Found::Unchecked(_) | Found::Missing, Found::Missing]) && !has_sums;
        if !self.before.store_is_sure {
            problems.insert("the store could not be written when numbers were used last".into());
        }
        match stored {
            None if self.before.ceilings.is_empty() => {}
            None => {
                problems.insert("the store cannot be opened".into());
            }
            Some(stored) => {
                let unchecked =
                    |(machine, next): &(&String, &u64)| !upgrade && self.before.reached.get(*machine) != Some(next);
                let damaged = stored.unchecked.iter().filter(unchecked).map(|(machine, _)| machine);
                problems.extend(damaged.map(|machine| format!("the store's counter of {machine} is damaged")));
                for (machine, reached) in &self.before.reached {
                    if stored.next(machine).unwrap_or(0) < *reached {
                        problems.insert(format!(
                            "the store was lost or is an old one, and messages with it: it does not know all of {machine}"
                        ));
                    }
                }
                if problems.is_empty() && stored.commits < self.before.commits {
                    problems.insert(format!(
                        "the store is an old one: it has {} of {} commits, messages of the others are lost",
                        stored.commits, self.before.commits
                    ));
                }
            }
        }
        let empty = StoredSeqs::default();
        let stored = stored.unwrap_or(&empty);
        let machines: BTreeSet<&String> =
            stored.machines().chain(self.before.ceilings.keys()).chain(self.before.reached.keys()).collect();
        let next = |machine: &String| {
            if problems.is_empty() {
                return stored.next(machine).unwrap_or(0);
            }
            let ceiling = self.before.ceilings.get(machine).copied();
            let reached = self.before.reached.get(machine).copied().unwrap_or(0);
            // A damaged counter may be any number: it counts only where nothing else is known.
            let guess = if ceiling.is_none() { stored.next(machine) } else { stored.checked.get(machine).copied() };
            ceiling.unwrap_or(0).max(guess.unwrap_or(0).max(reached).saturating_add(STEP))
        };
        let next_seqs: BTreeMap<String, u64> =
            machines.into_iter().map(|machine| (machine.clone(), next(machine))).collect();
        if problems.is_empty() {
            self.content.reached.clone_from(&next_seqs);
        }
        let skipped = (!problems.is_empty() && !next_seqs.is_empty()).then(|| {
            let goes_on: Vec<String> = next_seqs.iter().map(|(machine, next)| format!("{machine} at {next}")).collect();
            let problems: Vec<String> = problems.iter().cloned().collect();
            format!("{}; seq continues for {}", problems.join("; "), goes_on.join(", "))
        });
        Recovered { next_seqs, skipped }
    }

    /// Whether both files are as a first start finds or leaves them.
    fn reserves_nothing(&self) -> bool {
        self.found.iter().all(|found| match found {
            Found::Missing => true,
            Found::Whole(content) => content.ceilings.is_empty(),
            Found::Damaged(_) | Found::Unchecked(_) => false,
        })
    }

    /// What is wrong with the two files, given whether the store was written by a version that has both.
    fn problems_of_files(&self, has_sums: bool) -> BTreeSet<String> {
        let [ceilings, reached] = &self.found;
        let first_start = self.reserves_nothing() && !has_sums;
        let upgrade = matches!((ceilings, reached), (Found::Unchecked(_), Found::Missing)) && !has_sums;
        let names = [CEILINGS, REACHED].into_iter().zip(&self.found);
        names
            .filter_map(|(name, found)| match found {
                Found::Whole(_) => None,
                Found::Missing | Found::Unchecked(_) if first_start || upgrade => None,
                Found::Missing => Some(format!("{name} is missing")),
                Found::Unchecked(_) => Some(format!("{name} is damaged: it has no check sum")),
                Found::Damaged(problem) => Some(format!("{name} is damaged: {problem}")),
            })
            .collect()
    }

    /// Before messages are sent: raises the ceilings above `next_seqs` where needed, and records whether the store will
    /// know them. Writes only when something changes, or when a file was not whole.
    ///
    /// # Errors
    /// A file could not be written; the other one was tried as well.
    pub fn reserve<'a>(
        &mut self,
        next_seqs: impl IntoIterator<Item = (&'a String, u64)>,
        store_is_sure: bool,
    ) -> io::Result<()> {
        let changed_before = self.content.store_is_sure != store_is_sure;
        self.content.store_is_sure = store_is_sure;
        if std::mem::take(&mut self.is_first_start) {
            // What cannot be made is tried again below, and the error returned.
            for slot in [&mut self.ceilings, &mut self.reached] {
                let _ = slot.write_if_stale(&self.content);
            }
        }
        let mut changed = changed_before;
        for (machine, next) in next_seqs {
            let ceiling = self.content.ceilings.entry(machine.clone()).or_insert(0);
            if next >= *ceiling {
                *ceiling = next + STEP;
                changed = true;
            }
        }
        self.ceilings.stale |= changed;
        self.reached.stale |= changed;
        let without = Content { reached: BTreeMap::new(), commits: 0, ..self.content.clone() };
        let first = self.ceilings.write_if_stale(&without);
        first.and(self.reached.write_if_stale(&self.content))
    }

    /// After a commit: what the store holds now. Not synced.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn committed(&mut self, next_seqs: &BTreeMap<String, u64>, commits: u64) -> io::Result<()> {
        if self.content.reached == *next_seqs && self.content.commits == commits {
            return Ok(());
        }
        self.content.commits = commits;
        self.content.reached.clone_from(next_seqs);
        self.reached.write(&self.content).map(drop)
    }
}

/// One of the two files.
#[derive(Debug)]
struct Slot {
    name: &'static str,
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the file that are not known to be blank.
    written: usize,
    /// The file does not hold the present content.
    stale: bool,
}

impl Slot {
    fn new(dir: &Path, name: &'static str) -> Slot {
        Slot { name, path: dir.join(name), file: None, written: FILE_BYTES, stale: true }
    }

    fn read(&self) -> Found {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Found::Missing;
            }
            Err(error) => return Found::Damaged(error.to_string()),
        };
        let mut content: Content = match serde_json::from_slice(&text) {
            Ok(content) => content,
            Err(error) => return Found::Damaged(error.to_string()),
        };
        match content.sum.take() {
            None => Found::Unchecked(content),
            Some(sum) if sum == self.sum(&content) => Found::Whole(content),
            Some(_) => Found::Damaged("the check sum does not fit".into()),
        }
    }

    fn sum(&self, content: &Content) -> String {
        let text = serde_json::to_string(&(self.name, content)).unwrap_or_default();
        check_sum(text)
    }

    fn write_if_stale(&mut self, content: &Content) -> io::Result<()> {
        if self.stale {
            self.write(content)?.sync_data()?;
            self.stale = false;
        }
        Ok(())
    }

    /// Overwrites the file in place: the pages that hold text, now or before.
    fn write(&mut self, content: &Content) -> io::Result<&File> {
        let mut text = self.text(content)?;
        let used = text.len().next_multiple_of(PAGE_BYTES);
        text.resize(used.max(self.written), b' ');
        if self.file.is_none() {
            self.file = Some(self.open_file(&text)?);
        }
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let done = file.write_all_at(&text, 0);
        self.stale |= done.is_err();
        done?;
        self.written = used;
        Ok(file)
    }

    fn text(&self, content: &Content) -> io::Result<Vec<u8>> {
        let content = Content { sum: None, ..content.clone() };
        Ok(serde_json::to_vec(&Content { sum: Some(self.sum(&content)), ..content })?)
    }

    /// The file with all its blocks; a new one is complete before it has its name.
    fn open_file(&self, text: &[u8]) -> io::Result<File> {
        let whole = |file: &File| file.metadata().is_ok_and(|found| found.len() >= FILE_BYTES as u64);
        if self.path.exists() && !self.path.is_file() {
            sqlite::set_aside(&self.path, Utc::now())?;
        }
        match File::options().write(true).open(&self.path) {
            Ok(file) if whole(&file) => {
                // What a longer file holds beyond its first blocks is not text of ours.
                file.set_len(FILE_BYTES.max(text.len()) as u64)?;
                return Ok(file);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut text = text.to_vec();
        text.resize(text.len().max(FILE_BYTES), b' ');
        fs::replace_with(&self.path, |file| file.write_all(&text))
    }
}
