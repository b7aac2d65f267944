//! What recurs daily, as JSON, by machine.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction};

pub(super) fn rows(db: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut select = db.prepare_cached("SELECT machine, state FROM adaptation")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn write(transaction: &Transaction, rows: &[(String, String)]) -> rusqlite::Result<()> {
    for (machine, state) in rows {
        transaction.prepare_cached("INSERT OR REPLACE INTO adaptation VALUES (?1, ?2)")?.execute([machine, state])?;
    }
    Ok(())
}

pub(super) fn forget(transaction: &Transaction, machine: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM adaptation WHERE machine = ?1", [machine]).map(drop)
}
