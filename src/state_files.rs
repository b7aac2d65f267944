//! The agent's small files in its state directory: JSON with a check sum, and an inventory of them. A file that was
//! damaged, exchanged or lost is noticed when it is read the next time, so that nothing is lost without a word.
//!
//! ```json
//! {"sum":"0123456789abcdef","fan-1":{...}}
//! ```
//! The check sum covers the file's name too: one file cannot be taken for another. Version 0.1 wrote none; its files are
//! accepted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chrono::Utc;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sha256::short;
use crate::{fs, sqlite};

const INVENTORY: &str = "inventory.json";
const SUM: &str = "{\"sum\":\"";
const SUM_DIGITS: usize = 16;

/// What is lost of a file that was there, or should have been: which one, what is wrong with it, where it lies now. One
/// line, for the log, the event and `state.get`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Which files there are, by their names below the state directory, and how far a store has come.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Inventory {
    files: BTreeMap<String, u64>,
}

/// The inventory is read, changed and written under this lock: several parts of the agent keep files.
static CHANGING: Mutex<()> = Mutex::new(());

/// The small files of one state directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateFiles {
    dir: PathBuf,
    /// Whether damaged files are set aside and the inventory is kept up to date.
    may_change: bool,
}

impl StateFiles {
    pub fn new(dir: &Path) -> StateFiles {
        StateFiles { dir: dir.to_owned(), may_change: true }
    }

    /// Only looks: for who must not change anything.
    pub fn read_only(dir: &Path) -> StateFiles {
        StateFiles { dir: dir.to_owned(), may_change: false }
    }

    /// The same files for looking alone.
    pub fn looking(&self) -> StateFiles {
        StateFiles::read_only(&self.dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Checks the inventory itself, once, at the start.
    ///
    /// # Errors
    /// It was damaged, and begins anew: a file that is missing too goes unnoticed.
    pub fn check_inventory(&self) -> Result<(), Lost> {
        let _changing = CHANGING.lock();
        let Err(problem) = self.inventory() else { return Ok(()) };
        let aside = self.set_aside(INVENTORY, &problem);
        Err(Lost(format!("{}; a file of the state directory that is missing too goes unnoticed", aside.0)))
    }

    /// The JSON that was written under this name, without its check sum; `None` where there never was any.
    ///
    /// # Errors
    /// It is gone or damaged; a damaged one is set aside. The next time it is as if it had never been.
    pub fn read(&self, name: &str) -> Result<Option<String>, Lost> {
        self.read_with(name, fs::read)
    }

    /// As [`StateFiles::read`] of a file of at most `most` bytes that is no link and has its check sum: for what version 0.1 did
    /// not write, and for directories that others may have written to.
    ///
    /// # Errors
    /// As [`StateFiles::read`].
    pub fn read_own(&self, name: &str, most: u64) -> Result<Option<String>, Lost> {
        let with_sum = |text: Vec<u8>| match text.starts_with(SUM.as_bytes()) {
            true => Ok(text),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it has no check sum")),
        };
        self.read_with(name, |path| fs::read_own(path, most).and_then(with_sum))
    }

    fn read_with(&self, name: &str, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Option<String>, Lost> {
        match self.text(name, read) {
            Ok(Some(text)) => match unseal(name, &text) {
                Ok(json) => {
                    self.expect(name);
                    Ok(Some(json))
                }
                Err(problem) => Err(self.give_up(name, problem)),
            },
            Ok(None) if self.mark(name).is_some() => {
                self.forget(name);
                Err(self.missing(name))
            }
            Ok(None) => Ok(None),
            Err(error) if is_damage(&error) => Err(self.give_up(name, &error.to_string())),
            Err(error) => Err(Lost(format!("{}: {error}", self.path(name).display()))),
        }
    }

    /// As [`StateFiles::read`], and what the JSON says.
    ///
    /// # Errors
    /// As [`StateFiles::read`]; what is not of this type is damaged too.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Lost> {
        self.read(name)?.map(|json| self.parse(name, &json)).transpose()
    }

    /// What the JSON of a file says.
    ///
    /// # Errors
    /// It is not of this type: damaged, and set aside.
    pub fn parse<T: DeserializeOwned>(&self, name: &str, json: &str) -> Result<T, Lost> {
        serde_json::from_str(json).map_err(|error| self.give_up(name, &error.to_string()))
    }

    /// Sets aside a file whose content is not what it should be.
    pub fn give_up(&self, name: &str, problem: &str) -> Lost {
        self.forget(name);
        self.set_aside(name, problem)
    }

    /// Replaces a file; `json` is an object.
    ///
    /// # Errors
    /// Any I/O error; the file is then unchanged.
    pub fn write(&self, name: &str, json: &str) -> io::Result<()> {
        fs::replace(&self.path(name), seal(name, json).as_bytes())?;
        self.expect(name);
        Ok(())
    }

    /// Removes a file; it may be gone already.
    ///
    /// # Errors
    /// Any I/O error; the file may then come back after a power cut.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        // The inventory first: a file that is removed must not be missed.
        self.forget(name);
        fs::remove(&self.path(name))
    }

    /// A file of this name that something else has written is missed from now on where it is gone.
    pub fn expect(&self, name: &str) {
        self.note(name, |known| known.or(Some(0)));
    }

    /// A file of this name may go.
    pub fn forget(&self, name: &str) {
        self.note(name, |_| None);
    }

    /// All files whose names begin like this may go.
    pub fn forget_below(&self, prefix: &str) {
        self.change(|files| {
            let before = files.len();
            files.retain(|name, _| !name.starts_with(prefix));
            files.len() < before
        });
    }

    /// Of files that should be there those that are gone, forgotten in one step and said, and the others.
    pub fn miss(&self, names: Vec<String>) -> (Vec<Lost>, Vec<String>) {
        let (there, gone): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| std::fs::symlink_metadata(self.path(name)).is_ok());
        self.change(|files| gone.iter().filter(|name| files.remove(*name).is_some()).count() > 0);
        (gone.iter().map(|name| self.missing(name)).collect(), there)
    }

    fn missing(&self, name: &str) -> Lost {
        Lost(format!("{} is missing", self.path(name).display()))
    }

    /// Names of the files that should be there, of those that begin like this.
    pub fn expected(&self, prefix: &str) -> Vec<String> {
        let _changing = CHANGING.lock();
        let files = self.inventory().unwrap_or_default().files;
        files.into_keys().filter(|name| name.starts_with(prefix)).collect()
    }

    /// How far the file of this name had come, as [`StateFiles::set_mark`] noted it; `None`: there never was one.
    pub fn mark(&self, name: &str) -> Option<u64> {
        let _changing = CHANGING.lock();
        self.inventory().ok()?.files.get(name).copied()
    }

    /// Notes that the file of this name is there, and how far it has come.
    pub fn set_mark(&self, name: &str, mark: u64) {
        self.note(name, |_| Some(mark));
    }

    /// Changes a file's entry.
    fn note(&self, name: &str, change: impl FnOnce(Option<u64>) -> Option<u64>) {
        self.change(|files| {
            let before = files.get(name).copied();
            let after = change(before);
            match after {
                Some(mark) => files.insert(name.to_owned(), mark),
                None => files.remove(name),
            };
            after != before
        });
    }

    /// Changes the entries, on the disk where `change` says that it changed any. A disk that fails costs no more than a loss
    /// that may go unnoticed later.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, u64>) -> bool) {
        if !self.may_change {
            return;
        }
        let _changing = CHANGING.lock();
        let mut inventory = self.inventory().unwrap_or_default();
        if !change(&mut inventory.files) {
            return;
        }
        let json = serde_json::to_string(&inventory).unwrap_or_default();
        if let Err(error) = fs::replace(&self.path(INVENTORY), seal(INVENTORY, &json).as_bytes()) {
            tracing::debug!(file = %self.path(INVENTORY).display(), %error, "the inventory cannot be written");
        }
    }

    fn inventory(&self) -> Result<Inventory, String> {
        let Some(text) = self.text(INVENTORY, fs::read).map_err(|error| error.to_string())? else {
            return Ok(Inventory::default());
        };
        serde_json::from_str(&unseal(INVENTORY, &text)?).map_err(|error| error.to_string())
    }

    fn text(&self, name: &str, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> io::Result<Option<String>> {
        match read(&self.path(name)) {
            Ok(bytes) => {
                String::from_utf8(bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_aside(&self, name: &str, problem: &str) -> Lost {
        let file = self.path(name);
        if !self.may_change {
            return Lost(format!("{}: {problem}", file.display()));
        }
        Lost(match sqlite::set_aside(&file, Utc::now()) {
            Ok(aside) => format!("{}: {problem}; set aside as {}", file.display(), aside.display()),
            Err(error) => format!("{}: {problem}; could not be set aside: {error}", file.display()),
        })
    }
}

/// Whether the file itself is wrong, not the way to it.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory)
}

/// A file's content: the JSON of an object with its check sum.
pub fn seal(name: &str, json: &str) -> String {
    let rest = json.strip_prefix('{').unwrap_or(json);
    let separator = if rest == "}" { "" } else { "," };
    format!("{SUM}{}\"{separator}{rest}", sum(name, rest))
}

/// The JSON, if its check sum fits.
fn unseal(name: &str, text: &str) -> Result<String, &'static str> {
    let Some(sealed) = text.strip_prefix(SUM) else {
        // Of version 0.1. A key that is damaged leaves an entry that the reader of the content does not know.
        return if text.trim_start().starts_with(['{', '[']) { Ok(text.to_owned()) } else { Err("it is no JSON") };
    };
    let parts = sealed.split_at_checked(SUM_DIGITS).and_then(|(found, rest)| Some((found, rest.strip_prefix('"')?)));
    let (found, rest) = parts.ok_or("its check sum is cut off")?;
    let rest = rest.strip_prefix(',').unwrap_or(rest);
    if found != sum(name, rest) {
        return Err("its check sum does not fit: damaged, or another file in its place");
    }
    Ok(format!("{{{rest}"))
}

fn sum(name: &str, rest: &str) -> String {
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(rest).finalize();
    short(&digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, StateFiles) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = StateFiles::new(dir.path());
        (dir, files)
    }

    #[test]
    fn what_is_written_is_read_and_is_json() {
        let (dir, files) = files();
        assert_eq!(files.read("a.json"), Ok(None));
        for json in ["{}", "{\"sum\":1}", "{\"a\":{\"b\":[1,2]}}"] {
            files.write("sub/a.json", json).expect("written");
            let text = std::fs::read_to_string(dir.path().join("sub/a.json")).expect("a file");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            assert_eq!(files.read("sub/a.json").expect("whole").as_deref(), Some(json));
        }
        files.remove("sub/a.json").expect("removed");
        assert_eq!(files.read("sub/a.json"), Ok(None), "what was removed is not missed");
        std::fs::write(dir.path().join("old.json"), "{\"of\":\"0.1\"}").expect("a file");
        assert_eq!(files.read("old.json").expect("accepted").as_deref(), Some("{\"of\":\"0.1\"}"));
        std::fs::remove_file(dir.path().join("old.json")).expect("removed");
        files.read("old.json").expect_err("known since it was read");
    }

    #[test]
    fn a_lost_file_is_reported_once() {
        let (dir, files) = files();
        files.write("a.json", "{\"a\":1}").expect("written");
        std::fs::remove_file(dir.path().join("a.json")).expect("removed");
        let Lost(words) = files.read("a.json").expect_err("a loss");
        assert!(words.ends_with("a.json is missing"), "{words}");
        assert_eq!(files.read("a.json"), Ok(None));
        files.write("a.json", "{\"a\":2}").expect("written");
        assert_eq!(files.read("a.json").expect("whole").as_deref(), Some("{\"a\":2}"));
    }

    #[test]
    fn many_lost_files_are_one_change() {
        let (dir, files) = files();
        ["a/1.json", "a/2.json", "a/3.json", "b/1.json"].iter().for_each(|name| files.expect(name));
        std::fs::create_dir(dir.path().join("a")).expect("a directory");
        std::fs::write(dir.path().join("a/2.json"), "{}").expect("written");
        let (lost, there) = files.miss(files.expected("a/"));
        assert_eq!((lost.len(), there), (2, vec!["a/2.json".to_owned()]), "{lost:?}");
        assert!(lost[1].0.ends_with("a/3.json is missing"), "{lost:?}");
        assert_eq!(files.expected(""), ["a/2.json", "b/1.json"]);
        files.looking().forget_below("");
        files.forget_below("a/");
        assert_eq!(files.expected(""), ["b/1.json"]);
    }

    #[test]
    fn every_single_bit_may_flip() {
        let (dir, files) = files();
        let json = "{\"a\":{\"threshold\":0.25}}";
        files.write("a.json", json).expect("written");
        let path = dir.path().join("a.json");
        let text = std::fs::read(&path).expect("a file");
        for bit in 0..8 * text.len() {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).expect("written");
            match files.read("a.json") {
                Err(Lost(words)) => assert!(words.contains("set aside as"), "bit {bit}: {words}"),
                // The key of the check sum itself: the content is whole, and an entry more is there.
                Ok(found) => {
                    let found = found.expect("a file");
                    assert!(bit / 8 < SUM.len() && found.contains(&json[1..]), "bit {bit}: {found}");
                }
            }
            std::fs::write(&path, &text).expect("written");
        }
    }

    #[test]
    fn a_directory_or_another_file_in_its_place_is_set_aside() {
        let (dir, files) = files();
        files.write("a.json", "{\"a\":1}").expect("written");
        std::fs::create_dir(dir.path().join("b.json")).expect("a directory");
        files.read("b.json").expect_err("a directory");
        std::fs::copy(dir.path().join("a.json"), dir.path().join("b.json")).expect("copied");
        let Lost(words) = files.read("b.json").expect_err("another file");
        assert!(words.contains("another file in its place"), "{words}");
        files.write("b.json", "{}").expect("its place is free");
    }

    #[test]
    fn a_damaged_inventory_is_reported_and_begun_anew() {
        let (dir, files) = files();
        files.check_inventory().expect("none yet");
        files.write("a.json", "{\"a\":1}").expect("written");
        files.check_inventory().expect("whole");
        std::fs::write(dir.path().join(INVENTORY), vec![0; 64]).expect("written");
        let Lost(words) = files.check_inventory().expect_err("damaged");
        assert!(words.contains("inventory.json") && words.contains("set aside as"), "{words}");
        files.check_inventory().expect("begun anew");
        assert!(files.read("a.json").expect("whole").is_some());
    }

    #[test]
    fn who_only_looks_changes_nothing() {
        let (dir, files) = files();
        files.write("a.json", "{\"a\":1}").expect("written");
        std::fs::write(dir.path().join("a.json"), "garbage").expect("written");
        StateFiles::read_only(dir.path()).read("a.json").expect_err("garbage");
        assert_eq!(std::fs::read_to_string(dir.path().join("a.json")).expect("a file"), "garbage");
        assert_eq!(files.mark("a.json"), Some(0));
    }
}
