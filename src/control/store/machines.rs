//! The machines that commands added, and those that they removed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Transaction, params};

use super::adaptations;

/// So many removed machines are remembered, the latest ones: until then each start clears what a broker retains of them.
const REMOVED_KEPT: usize = 200;

/// A change of one machine.
#[derive(Debug)]
pub enum MachineRow<'a> {
    /// It is there with this configuration, as JSON.
    Put { id: &'a str, config: &'a str },
    /// It is gone, with its settings and its distances.
    Remove { id: &'a str },
    /// The configuration's file has it again: that it was gone counts no more.
    Back { id: &'a str },
}

/// What earlier runs left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredMachines {
    /// Configurations as JSON, by id.
    pub added: BTreeMap<String, String>,
    /// Ids of those that are gone.
    pub removed: BTreeSet<String>,
}

pub(super) fn rows(db: &Connection) -> rusqlite::Result<StoredMachines> {
    let mut found = StoredMachines::default();
    let mut select = db.prepare_cached("SELECT id, config FROM machine")?;
    for row in select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, config): (String, Option<String>) = row?;
        match config {
            Some(config) => drop(found.added.insert(id, config)),
            None => drop(found.removed.insert(id)),
        }
    }
    Ok(found)
}

pub(super) fn write_machine(transaction: &Transaction, row: &MachineRow, now: DateTime<Utc>) -> rusqlite::Result<()> {
    let (id, config) = match row {
        MachineRow::Put { id, config } => (id, Some(config)),
        MachineRow::Remove { id } => (id, None),
        MachineRow::Back { id } => {
            transaction.execute("DELETE FROM machine WHERE id = ?1 AND config IS NULL", [id])?;
            return Ok(());
        }
    };
    transaction.prepare_cached("INSERT OR REPLACE INTO machine VALUES (?1, ?2, ?3)")?.execute(params![
        id,
        now.timestamp_millis(),
        config
    ])?;
    if config.is_none() {
        transaction.execute("DELETE FROM settings WHERE machine = ?1", [id])?;
        transaction.execute("DELETE FROM rate WHERE machine = ?1", [id])?;
        transaction.execute("DELETE FROM distance WHERE machine = ?1", [id])?;
        adaptations::forget(transaction, id)?;
        transaction.execute(
            "DELETE FROM machine WHERE config IS NULL AND id NOT IN
             (SELECT id FROM machine WHERE config IS NULL ORDER BY changed DESC LIMIT ?1)",
            [REMOVED_KEPT as i64],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Commit;
    use super::super::StateStore;
    use super::*;

    #[test]
    fn machines_come_and_go_and_some_of_the_gone_are_remembered() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let (mut store, _) = StateStore::open(dir.path(), now);
        let mut commit = |rows: Vec<MachineRow>, seconds: i64| {
            let commit = Commit { machines: rows, ..Commit::default() };
            store.commit(&commit, now + chrono::TimeDelta::seconds(seconds)).expect("a writable store");
        };
        commit(vec![MachineRow::Put { id: "fan-1", config: "{}" }, MachineRow::Put { id: "fan-2", config: "{}" }], 0);
        commit(vec![MachineRow::Remove { id: "fan-1" }], 1);
        for number in 0..REMOVED_KEPT as i64 {
            commit(vec![MachineRow::Remove { id: &format!("old-{number}") }], 2 + number);
        }
        drop(store);
        let (store, lost) = StateStore::open(dir.path(), now);
        assert_eq!(lost, None);
        let found = store.machines().expect("readable");
        assert_eq!(found.added, BTreeMap::from([("fan-2".to_owned(), "{}".to_owned())]));
        assert_eq!(found.removed.len(), REMOVED_KEPT);
        assert!(!found.removed.contains("fan-1") && found.removed.contains("old-199"), "the oldest goes first");
        let mut store = store;
        let rows = vec![MachineRow::Back { id: "old-199" }, MachineRow::Back { id: "fan-2" }];
        store.commit(&Commit { machines: rows, ..Commit::default() }, now).expect("a writable store");
        let found = store.machines().expect("readable");
        assert!(!found.removed.contains("old-199") && found.added.contains_key("fan-2"), "{found:?}");
    }
}
