//! `state.db` in the state directory: what was set remotely, and which commands were answered how.
//!
//! A change and the reply that confirms it are one transaction that is on the disk (`synchronous=FULL`) before the reply is
//! sent: after a power cut either both are there or neither. What need not survive the last minute, distances and replies
//! of commands that change nothing, is written once a minute, in one transaction, for the SD card's sake.

mod adaptations;
mod machines;
mod schema;
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};

use self::machines::write_machine;
pub use self::machines::{MachineRow, StoredMachines};
use self::schema::{LAYOUT, settings_of, write_reply, write_settings};
pub use self::schema::{REPLIES_KEPT, REPLIES_KEPT_DAYS};
use crate::monitor::history::Minute;
use crate::monitor::settings::MachineSettings;
use crate::sqlite::{self, SqliteError};
use crate::state_files::{Lost, StateFiles};

/// Name of the file in the state directory.
pub const FILE: &str = "state.db";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {problem}", file.display())]
    Unusable { file: PathBuf, problem: String },
    #[error("{}: {source}", file.display())]
    Sql { file: PathBuf, source: rusqlite::Error },
}

const WHAT_IS_LOST: &str = "thresholds, maintenance, the choice of a bundle and remembered replies are lost, what is \
                            configured applies";

/// One change with the reply that confirms it: written whole or not at all.
#[derive(Debug, Default)]
pub struct Commit<'a> {
    /// All settings go, before those below come.
    pub forget_settings: bool,
    pub settings: Vec<(&'a str, &'a MachineSettings)>,
    /// Machines that commands add, change and remove.
    pub machines: Vec<MachineRow<'a>>,
    /// `Some(None)`: the configured bundle again; `Some(Some(path))`: this one, also after a restart.
    pub bundle: Option<Option<&'a str>>,
    /// Machines whose baselines' files are to change, and what that is known by.
    pub switches: Vec<(&'a str, &'a str)>,
    /// Machines whose daily recurring is forgotten.
    pub forget_adaptations: Vec<&'a str>,
    /// The command's id and its reply.
    pub reply: Option<(&'a str, &'a str)>,
}

/// The open store.
pub struct StateStore {
    db: Connection,
    file: PathBuf,
    /// Why nothing can be kept, where that is so.
    broken: Option<String>,
    /// Replies that the next [`StateStore::flush`] writes, oldest first.
    pending: Vec<(String, String, DateTime<Utc>)>,
    /// Notes how many changes there are, so that a file or log that was lost is missed.
    files: StateFiles,
}

impl StateStore {
    /// Opens the store, or makes it. One that is not whole is set aside and a new one begun; where even that is
    /// impossible, the store holds nothing and refuses every change.
    pub fn open(state_dir: &Path, now: DateTime<Utc>) -> (StateStore, Option<Lost>) {
        let (file, files) = (state_dir.join(FILE), StateFiles::new(state_dir));
        let store = |db| StateStore { db, file: file.clone(), broken: None, pending: Vec::new(), files: files.clone() };
        // Somebody put it there: it is not ours to move.
        if file.exists() && !file.is_file() {
            let found = if file.is_dir() { "a directory" } else { "something else" };
            return StateStore::broken(file, files, format!("expected a store, found {found}"));
        }
        let is_there = file.exists();
        let made = fs::create_dir_all(state_dir).map_err(SqliteError::from);
        let (problem, aside) = match made.and_then(|()| connect(&file)) {
            Ok((db, changes)) => {
                let known = files.mark(FILE);
                files.set_mark(FILE, changes);
                let problem = match known {
                    Some(known) if !is_there && known > 0 => format!("it is missing, {WHAT_IS_LOST}"),
                    Some(known) if changes < known => format!(
                        "it has {changes} of {known} changes, the newer ones are lost: thresholds, maintenance and the \
                         bundle in use are as they were before"
                    ),
                    _ => return (store(db), None),
                };
                return (store(db), Some(Lost(format!("{}: {problem}", file.display()))));
            }
            Err(problem @ SqliteError::Unavailable(_)) => return StateStore::broken(file, files, problem.to_string()),
            Err(problem @ SqliteError::Damaged(_)) => (problem, sqlite::set_aside(&file, now)),
        };
        match aside.map_err(SqliteError::from).and_then(|aside| Ok((connect(&file)?, aside))) {
            Ok(((db, changes), aside)) => {
                files.set_mark(FILE, changes);
                let lost = format!("{}: {problem}; set aside as {}: {WHAT_IS_LOST}", file.display(), aside.display());
                (store(db), Some(Lost(lost)))
            }
            Err(still) => StateStore::broken(file, files, format!("{problem}; {still}")),
        }
    }

    fn broken(file: PathBuf, files: StateFiles, problem: String) -> (StateStore, Option<Lost>) {
        let lost = format!("{}: {problem}; nothing set remotely applies or can be set", file.display());
        let db = sqlite::open_in_memory(&LAYOUT).expect("SQLite's own memory is writable");
        (StateStore { db, file, broken: Some(problem), pending: Vec::new(), files }, Some(Lost(lost)))
    }

    /// Settings of every machine that ever had some.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn settings(&self) -> Result<BTreeMap<String, MachineSettings>, StoreError> {
        settings_rows(&self.db).map_err(|source| self.error(source))
    }

    /// The bundle that `bundle.reload` chose, where it did.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn chosen_bundle(&self) -> Result<Option<String>, StoreError> {
        let found = self.db.query_row("SELECT value FROM choice WHERE name = 'bundle'", [], |row| row.get(0));
        found.optional().map_err(|source| self.error(source))
    }

    /// Whether the last change of a machine's baselines that was decided is the one that is known by this.
    pub fn was_decided(&self, machine: &str, token: &str) -> bool {
        let query = "SELECT value FROM choice WHERE name = ?1";
        let found = self.db.query_row(query, [switch_name(machine)], |row| row.get::<_, String>(0));
        found.is_ok_and(|found| found == token)
    }

    /// How the command with this id was answered.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn reply(&self, id: &str) -> Result<Option<String>, StoreError> {
        if let Some((_, reply, _)) = self.pending.iter().find(|(known, ..)| known == id) {
            return Ok(Some(reply.clone()));
        }
        let found = self
            .db
            .prepare_cached("SELECT reply FROM reply WHERE id = ?1")
            .and_then(|mut select| select.query_row([id], |row| row.get(0)).optional());
        found.map_err(|source| self.error(source))
    }

    /// Writes a change and its reply; on the disk when this returns.
    ///
    /// # Errors
    /// Where nothing was changed.
    pub fn commit(&mut self, commit: &Commit, now: DateTime<Utc>) -> Result<(), StoreError> {
        if let Some(problem) = &self.broken {
            return Err(StoreError::Unusable { file: self.file.clone(), problem: problem.clone() });
        }
        let changes = self.commit_rows(commit, now).map_err(|source| self.error(source))?;
        if let Some(changes) = changes {
            self.files.set_mark(FILE, changes);
        }
        Ok(())
    }

    /// Answers how many changes there are now, where one more came.
    fn commit_rows(&mut self, commit: &Commit, now: DateTime<Utc>) -> rusqlite::Result<Option<u64>> {
        let transaction = self.db.transaction()?;
        if commit.forget_settings {
            transaction.execute("DELETE FROM settings", [])?;
            transaction.execute("DELETE FROM rate", [])?;
        }
        for machine in &commit.machines {
            write_machine(&transaction, machine, now)?;
        }
        for (machine, settings) in &commit.settings {
            write_settings(&transaction, machine, settings)?;
        }
        match commit.bundle {
            None => {}
            Some(None) => {
                transaction.execute("DELETE FROM choice WHERE name = 'bundle'", [])?;
            }
            Some(Some(path)) => {
                transaction.execute("INSERT OR REPLACE INTO choice VALUES ('bundle', ?1)", [path])?;
            }
        }
        for (machine, token) in &commit.switches {
            let name = switch_name(machine);
            transaction.execute("INSERT OR REPLACE INTO choice VALUES (?1, ?2)", [name.as_str(), token])?;
        }
        for machine in &commit.forget_adaptations {
            adaptations::forget(&transaction, machine)?;
        }
        if let Some((id, reply)) = commit.reply {
            write_reply(&transaction, id, reply, true, now)?;
        }
        let is_change = commit.forget_settings
            || !commit.settings.is_empty()
            || !commit.machines.is_empty()
            || !commit.switches.is_empty()
            || commit.bundle.is_some();
        let changes = if is_change { Some(schema::count_change(&transaction)?) } else { None };
        transaction.commit()?;
        Ok(changes)
    }

    /// Puts these settings and added machines, as JSON by their ids, in place of all that were there; on the disk when this
    /// returns. Machines that are no longer there count as removed.
    ///
    /// # Errors
    /// Where nothing was changed.
    pub fn replace_all(
        &mut self,
        settings: &BTreeMap<String, MachineSettings>,
        machines: &BTreeMap<String, String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let before = self.machines()?;
        let gone = before.added.keys().filter(|id| !machines.contains_key(*id));
        let gone = gone.map(|id| MachineRow::Remove { id });
        let there = machines.iter().map(|(id, config)| MachineRow::Put { id, config });
        let commit = Commit {
            forget_settings: true,
            machines: gone.chain(there).collect(),
            settings: settings.iter().map(|(id, settings)| (id.as_str(), settings)).collect(),
            ..Commit::default()
        };
        self.commit(&commit, now)
    }

    /// A machine's stored distances from `from` on, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn distances(&self, machine: &str, from: DateTime<Utc>) -> Result<Vec<Minute>, StoreError> {
        self.distance_rows(machine, from.timestamp_millis()).map_err(|source| self.error(source))
    }

    fn distance_rows(&self, machine: &str, from_ms: i64) -> rusqlite::Result<Vec<Minute>> {
        // A chunk that began earlier may reach into the time asked for.
        let mut select = self.db.prepare_cached(
            "SELECT start, entries FROM distance WHERE machine = ?1 AND start >= ?2 - 3600000 ORDER BY start",
        )?;
        let rows = select.query_map(params![machine, from_ms], |row| {
            let entries: Vec<u8> = row.get(1)?;
            Ok(Minute::from_bytes(machine, row.get(0)?, &entries))
        })?;
        rows.collect()
    }

    /// The machines that commands added and removed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn machines(&self) -> Result<StoredMachines, StoreError> {
        machines::rows(&self.db).map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sql { file: self.file.clone(), source }
    }
}

/// Opens the file and checks it through; the number of changes that it has.
fn connect(file: &Path) -> Result<(Connection, u64), SqliteError> {
    let db = sqlite::open(file, &LAYOUT)?;
    sqlite::check(&db)?;
    settings_rows(&db)?;
    machines::rows(&db)?;
    let changes = schema::checked_changes(&db)?;
    Ok((db, changes))
}

fn switch_name(machine: &str) -> String {
    format!("baseline:{machine}")
}

fn settings_rows(db: &Connection) -> rusqlite::Result<BTreeMap<String, MachineSettings>> {
    let mut select = db.prepare_cached("SELECT * FROM settings LEFT JOIN rate USING (machine)")?;
    select.query_map([], |row| Ok((row.get("machine")?, settings_of(row)?)))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::settings::{Changed, Maintenance, Override};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
    }

    fn settings(threshold: f64) -> MachineSettings {
        MachineSettings {
            false_alarm_rate: Some(0.001),
            threshold: Some(Override { threshold, until: Some(at(99)), set_at: at(1), bundle: Some("fan@1".into()) }),
            maintenance: Some(Maintenance { until: None, by: Some("ana".into()), reason: None, set_at: at(2) }),
            revision: 7,
            changed: Some(Changed { by: Some("ana".into()), reason: Some("why not; DROP TABLE".into()), at: at(1) }),
        }
    }

    #[test]
    fn a_change_and_its_reply_are_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let kept = settings(0.1 + 0.2);
        {
            let (mut store, lost) = StateStore::open(dir.path(), at(0));
            assert_eq!(lost, None);
            let commit = Commit {
                settings: vec![("fan-1", &kept)],
                bundle: Some(Some("/b/x")),
                machines: Vec::new(),
                reply: Some(("7f3a", "{\"status\":\"ok\"}")),
                ..Commit::default()
            };
            store.commit(&commit, at(3)).expect("a writable store");
        }
        let (mut store, lost) = StateStore::open(dir.path(), at(4));
        assert_eq!(lost, None);
        assert_eq!(store.settings().expect("readable"), BTreeMap::from([("fan-1".to_owned(), kept)]));
        assert_eq!(store.reply("7f3a").expect("readable").as_deref(), Some("{\"status\":\"ok\"}"));
        assert_eq!(store.reply("other").expect("readable"), None);
        assert_eq!(store.chosen_bundle().expect("readable").as_deref(), Some("/b/x"));
        store.commit(&Commit { bundle: Some(None), ..Commit::default() }, at(5)).expect("a writable store");
        assert_eq!(store.chosen_bundle().expect("readable"), None);
    }

    #[test]
    fn a_store_that_is_not_whole_is_set_aside_and_reported() {
        let whole = {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (mut store, _) = StateStore::open(dir.path(), at(0));
            let kept = settings(0.3);
            store.commit(&Commit { settings: vec![("fan-1", &kept)], ..Commit::default() }, at(1)).expect("writable");
            drop(store);
            fs::read(dir.path().join(FILE)).expect("a file")
        };
        let mut flipped = whole.clone();
        flipped[4096..6000].fill(0x5a);
        for bytes in [b"not a database, but long enough to be read as one, or is it?".to_vec(), flipped] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            fs::write(dir.path().join(FILE), &bytes).expect("a writable file");
            let (mut store, lost) = StateStore::open(dir.path(), at(0));
            let Lost(words) = lost.expect("a loss");
            assert!(words.contains("state.db: ") && words.contains("set aside as"), "{words}");
            assert!(store.settings().expect("readable").is_empty());
            let kept = settings(0.4);
            store.commit(&Commit { settings: vec![("fan-1", &kept)], ..Commit::default() }, at(1)).expect("writable");
            let aside = dir.path().join("state.corrupt-20270115T080000000Z.db");
            assert_eq!(fs::read(aside).expect("what was set aside"), bytes);
        }
    }

    #[test]
    fn where_nothing_can_be_written_changes_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").expect("a writable file");
        let (mut store, lost) = StateStore::open(&blocked, at(0));
        assert!(lost.is_some());
        assert!(store.settings().expect("readable").is_empty());
        assert!(store.commit(&Commit::default(), at(0)).is_err());
    }

    #[test]
    fn replies_are_bounded_in_number_and_age() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut store, _) = StateStore::open(dir.path(), at(0));
        store.commit(&Commit { reply: Some(("set", "done")), ..Commit::default() }, at(0)).expect("writable");
        for number in 0..REPLIES_KEPT + 10 {
            store.remember(&format!("ping-{number}"), "pong", at(1));
            if number % 1000 == 0 {
                store.flush(&[], &[], at(1)).expect("writable");
            }
        }
        store.flush(&[], &[], at(1)).expect("writable");
        let known = |store: &StateStore, id: &str| store.reply(id).expect("readable").is_some();
        assert!(known(&store, "set"), "asking cannot push out what was changed");
        assert!(!known(&store, "ping-9") && known(&store, "ping-10"));

        let week = REPLIES_KEPT_DAYS * 86_400 + 1;
        store.commit(&Commit { reply: Some(("later", "done")), ..Commit::default() }, at(week)).expect("writable");
        assert!(!known(&store, "set") && known(&store, "later"));
    }

    #[test]
    fn the_first_reply_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mut store, _) = StateStore::open(dir.path(), at(0));
        for reply in ["first", "second"] {
            store.commit(&Commit { reply: Some(("a", reply)), ..Commit::default() }, at(0)).expect("writable");
        }
        assert_eq!(store.reply("a").expect("readable").as_deref(), Some("first"));
    }
}
