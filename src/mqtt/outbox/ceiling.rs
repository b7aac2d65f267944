//! Ceilings of `seq`: no `seq` is ever used twice, even if the store was lost or could not be written when it was used.
//!
//! A small file beside the store says for every machine a number that its `seq` has not reached yet. It is raised by a
//! thousand at a time, long before it is needed, and overwritten in place: that works on a full disk as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs;

/// Room for some hundreds of machines; the file never grows.
const FILE_BYTES: usize = 32 * 1024;

/// How far ahead a ceiling is set.
const STEP: u64 = 1000;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    /// Whether the store knows every `seq` that was used; otherwise only the ceilings are sure.
    store_is_sure: bool,
    ceilings: BTreeMap<String, u64>,
}

/// The ceilings of all machines.
#[derive(Debug)]
pub struct Ceilings {
    path: PathBuf,
    file: Option<File>,
    content: Content,
}

impl Ceilings {
    /// Reads the file in `dir`. One that is missing or damaged knows nothing.
    pub fn open(dir: &Path) -> Self {
        let path = dir.join("seq.json");
        let content = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(file = %path.display(), %error, "the file of seq ceilings is damaged and is made anew");
                Content { store_is_sure: true, ..Content::default() }
            }),
            Err(_) => Content { store_is_sure: true, ..Content::default() },
        };
        Ceilings { path, file: None, content }
    }

    /// Where each machine's `seq` goes on, from what the store knows; `None`: the store is new or was lost.
    pub fn next_seqs(&self, stored: Option<BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
        match stored {
            Some(stored) if self.content.store_is_sure => stored,
            stored => {
                let mut next = self.content.ceilings.clone();
                for (machine, seq) in stored.into_iter().flatten() {
                    let entry = next.entry(machine).or_insert(seq);
                    *entry = seq.max(*entry);
                }
                next
            }
        }
    }

    /// Before messages go out: raises the ceilings above `next_seqs` where needed, and says whether the store will know
    /// them. Costs a write only when something changes.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn cover<'a>(
        &mut self,
        next_seqs: impl IntoIterator<Item = (&'a String, u64)>,
        store_is_sure: bool,
    ) -> io::Result<()> {
        let mut content = self.content.clone();
        content.store_is_sure = store_is_sure;
        for (machine, next) in next_seqs {
            let ceiling = content.ceilings.entry(machine.clone()).or_insert(0);
            if next >= *ceiling {
                *ceiling = next + STEP;
            }
        }
        if content != self.content {
            self.write(&content)?;
            self.content = content;
        }
        Ok(())
    }

    fn write(&mut self, content: &Content) -> io::Result<()> {
        let mut text = serde_json::to_vec(content)?;
        text.resize(text.len().next_multiple_of(4096).max(FILE_BYTES), b' ');
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.open_file()?),
        };
        file.write_all_at(&text, 0)?;
        file.sync_data()
    }

    /// The file with all its blocks; a new one is complete before it has its name.
    fn open_file(&self) -> io::Result<File> {
        let whole = |file: &File| file.metadata().is_ok_and(|found| found.len() >= FILE_BYTES as u64);
        match File::options().write(true).open(&self.path) {
            Ok(file) if whole(&file) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut text = serde_json::to_vec(&self.content)?;
        text.resize(text.len().next_multiple_of(4096).max(FILE_BYTES), b' ');
        fs::replace_with(&self.path, |file| file.write_all(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(machine, seq)| ((*machine).to_owned(), *seq)).collect()
    }

    #[test]
    fn a_sure_store_is_believed_and_a_lost_one_is_jumped_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let machine = "m1".to_owned();
        let mut ceilings = Ceilings::open(dir.path());
        assert_eq!(ceilings.next_seqs(None), seqs(&[]), "the first start");
        ceilings.cover([(&machine, 6)], true).expect("written");

        let mut ceilings = Ceilings::open(dir.path());
        assert_eq!(ceilings.next_seqs(Some(seqs(&[("m1", 6)]))), seqs(&[("m1", 6)]));
        assert_eq!(ceilings.next_seqs(None), seqs(&[("m1", 1006)]), "the store was lost");

        ceilings.cover([(&machine, 1500)], false).expect("written");
        let ceilings = Ceilings::open(dir.path());
        let stored = Some(seqs(&[("m1", 6), ("m2", 4)]));
        assert_eq!(ceilings.next_seqs(stored), seqs(&[("m1", 2500), ("m2", 4)]), "the store could not be written");
    }

    #[test]
    fn the_file_is_overwritten_in_place_and_only_when_needed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let machine = "m1".to_owned();
        let mut ceilings = Ceilings::open(dir.path());
        ceilings.cover([(&machine, 1)], true).expect("written");
        let path = dir.path().join("seq.json");
        let before = std::fs::read(&path).expect("the file");
        std::fs::write(&path, vec![b'-'; before.len()]).expect("written over");
        for next in 2..1001 {
            ceilings.cover([(&machine, next)], true).expect("nothing to write");
        }
        assert!(std::fs::read(&path).expect("the file").starts_with(b"--"), "written although nothing changed");
        ceilings.cover([(&machine, 1001)], true).expect("written");
        let after = std::fs::read(&path).expect("the file");
        assert_eq!(after.len(), before.len());
        assert_eq!(Ceilings::open(dir.path()).next_seqs(None), seqs(&[("m1", 2001)]));
    }

    #[test]
    fn a_damaged_file_knows_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("seq.json"), [0xff; 100]).expect("written");
        let mut ceilings = Ceilings::open(dir.path());
        assert_eq!(ceilings.next_seqs(Some(seqs(&[("m1", 6)]))), seqs(&[("m1", 6)]));
        ceilings.cover([(&"m1".to_owned(), 6)], true).expect("written anew");
        assert_eq!(Ceilings::open(dir.path()).next_seqs(None), seqs(&[("m1", 1006)]));
    }
}
