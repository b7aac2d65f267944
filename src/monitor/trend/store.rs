//! `trend.db`: packs of rows, and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::collected::{Batch, MINUTE_S, Minute, Waiting};
use super::pack::{self, Steps};
use super::row::{Counted, Hours, Row};
use crate::sqlite::{self, Layout, SqliteError};

/// A pack is an hour of minutes or a day of hours. `written` has the last batch that is in here.
const LAYOUT: Layout = Layout {
    version: 1,
    tables: "
        CREATE TABLE pack (machine TEXT NOT NULL, step_s INTEGER NOT NULL, start_s INTEGER NOT NULL, rows BLOB NOT NULL,
            PRIMARY KEY (machine, step_s, start_s));
        CREATE TABLE counted (machine TEXT PRIMARY KEY, since_s INTEGER, running_s REAL NOT NULL,
            standing_s REAL NOT NULL, unheard_s REAL NOT NULL);
        CREATE TABLE written (only INTEGER PRIMARY KEY CHECK (only = 1), run TEXT NOT NULL, batch INTEGER NOT NULL);",
    added: "",
};

/// How fine rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Minute,
    Hour,
}

impl Tier {
    pub fn seconds(self) -> i64 {
        match self {
            Tier::Minute => MINUTE_S,
            Tier::Hour => 3600,
        }
    }

    /// Of a pack.
    fn steps(self) -> usize {
        match self {
            Tier::Minute => 60,
            Tier::Hour => 24,
        }
    }

    fn pack_s(self) -> i64 {
        self.seconds() * self.steps() as i64
    }

    /// So many packs of a machine are kept: eight days in which it was heard, two years and a day.
    fn kept(self) -> u32 {
        match self {
            Tier::Minute => 8 * 24 + 1,
            Tier::Hour => 732,
        }
    }

    fn pack_start(self, at_s: i64) -> i64 {
        at_s.div_euclid(self.pack_s()) * self.pack_s()
    }

    fn place(self, at_s: i64) -> usize {
        (at_s.rem_euclid(self.pack_s()) / self.seconds()) as usize
    }
}

/// The file, for whoever writes it.
pub struct TrendStore(Connection);

impl TrendStore {
    /// Opens the file, or makes it, and checks it through. Packs that cannot be read are removed; how many is answered, and
    /// whether the file held nothing.
    ///
    /// # Errors
    /// `Damaged` and `Unavailable`, as [`sqlite::open`].
    pub fn open(file: &Path) -> Result<(TrendStore, u64, bool), SqliteError> {
        let (db, is_new) = sqlite::open_or_make(file, &LAYOUT)?;
        sqlite::check(&db)?;
        let damaged = damaged_packs(&db)?;
        for (machine, step_s, start_s) in &damaged {
            db.execute(
                "DELETE FROM pack WHERE machine = ?1 AND step_s = ?2 AND start_s = ?3",
                params![machine, step_s, start_s],
            )?;
        }
        Ok((TrendStore(db), damaged.len() as u64, is_new))
    }

    /// What was counted of every machine.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn counted(&self) -> Result<BTreeMap<String, Counted>, SqliteError> {
        let mut select = self.0.prepare("SELECT machine, since_s, running_s, standing_s, unheard_s FROM counted")?;
        let rows = select.query_map([], |row| {
            let hours = Hours { running_s: row.get(2)?, standing_s: row.get(3)?, unheard_s: row.get(4)? };
            Ok((row.get(0)?, Counted { since_s: row.get(1)?, hours }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes a batch; it is on the disk, and in the file itself, when this returns.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn write(&mut self, run: &str, batch: &Batch) -> Result<(), SqliteError> {
        let transaction = self.0.transaction()?;
        for machine in &batch.forgotten {
            transaction.execute("DELETE FROM pack WHERE machine = ?1", [machine])?;
            transaction.execute("DELETE FROM counted WHERE machine = ?1", [machine])?;
        }
        for (machine, minutes) in &batch.rows {
            write_minutes(&transaction, machine, minutes)?;
        }
        for (machine, Counted { hours, since_s }) in &batch.counted {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO counted VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![machine, since_s, hours.running_s, hours.standing_s, hours.unheard_s])?;
        }
        transaction.execute("INSERT OR REPLACE INTO written VALUES (1, ?1, ?2)", params![run, batch.number as i64])?;
        transaction.commit()?;
        // A log that is lost takes nothing along.
        self.0.pragma_update_and_check(None, "wal_checkpoint", "PASSIVE", |_| Ok(()))?;
        Ok(())
    }
}

/// Adds a machine's minutes to their packs, and makes the hours that they belong to anew.
fn write_minutes(db: &Connection, machine: &str, minutes: &[Minute]) -> Result<(), SqliteError> {
    let mut by_pack: BTreeMap<i64, Vec<&Minute>> = BTreeMap::new();
    for minute in minutes {
        by_pack.entry(Tier::Minute.pack_start(minute.start_s)).or_default().push(minute);
    }
    for (start_s, minutes) in by_pack {
        let mut steps = steps(db, machine, Tier::Minute, start_s)?;
        minutes.iter().for_each(|minute| add(&mut steps, minute));
        put(db, machine, Tier::Minute, start_s, &steps)?;
        let day_s = Tier::Hour.pack_start(start_s);
        let mut day = self::steps(db, machine, Tier::Hour, day_s)?;
        let hour = &mut day[Tier::Hour.place(start_s)];
        *hour = Some(hour_of(hour.as_ref(), &steps, minutes.iter().map(|minute| &minute.row)));
        put(db, machine, Tier::Hour, day_s, &day)?;
    }
    Ok(())
}

/// An hour from its minutes; where the file had more windows of it than those have, because their pack was given up long
/// ago, the news are added to what it had.
fn hour_of<'a>(known: Option<&'a Row>, minutes: &'a Steps, news: impl Iterator<Item = &'a Row> + Clone) -> Row {
    let made = Row::merged(minutes.iter().flatten());
    match known {
        Some(known) if known.windows > made.windows => Row::merged(std::iter::once(known).chain(news)),
        _ => made,
    }
}

fn add(steps: &mut Steps, minute: &Minute) {
    let step = &mut steps[Tier::Minute.place(minute.start_s)];
    *step = Some(match step.take() {
        Some(before) => Row::merged([&before, &minute.row].into_iter()),
        None => minute.row.clone(),
    });
}

/// The steps of a pack; none has a row where there is no pack, or a damaged one.
fn steps(db: &Connection, machine: &str, tier: Tier, start_s: i64) -> Result<Steps, SqliteError> {
    let mut select = db.prepare_cached("SELECT rows FROM pack WHERE machine = ?1 AND step_s = ?2 AND start_s = ?3")?;
    let found: Option<Vec<u8>> =
        select.query_row(params![machine, tier.seconds(), start_s], |row| row.get(0)).optional()?;
    Ok(found.and_then(|bytes| readable(machine, &bytes, tier)).unwrap_or_else(|| vec![None; tier.steps()]))
}

fn readable(machine: &str, bytes: &[u8], tier: Tier) -> Option<Steps> {
    let steps = pack::read(bytes, tier.steps());
    steps.inspect_err(|error| tracing::warn!(machine, %error, "a part of the past is damaged")).ok()
}

fn put(db: &Connection, machine: &str, tier: Tier, start_s: i64, steps: &Steps) -> Result<(), SqliteError> {
    db.prepare_cached("INSERT OR REPLACE INTO pack VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        machine,
        tier.seconds(),
        start_s,
        pack::write(steps)
    ])?;
    db.prepare_cached(
        "DELETE FROM pack WHERE machine = ?1 AND step_s = ?2 AND start_s <
         (SELECT start_s FROM pack WHERE machine = ?1 AND step_s = ?2 ORDER BY start_s DESC LIMIT 1 OFFSET ?3)",
    )?
    .execute(params![machine, tier.seconds(), tier.kept() - 1])?;
    Ok(())
}

/// Packs that are no packs, by their keys.
fn damaged_packs(db: &Connection) -> Result<Vec<(String, i64, i64)>, SqliteError> {
    let mut select = db.prepare("SELECT machine, step_s, start_s, rows FROM pack")?;
    let mut rows = select.query([])?;
    let mut damaged = Vec::new();
    while let Some(row) = rows.next()? {
        let (machine, step_s, start_s): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let tier = [Tier::Minute, Tier::Hour].into_iter().find(|tier| tier.seconds() == step_s);
        let fits = tier.filter(|tier| start_s.rem_euclid(tier.pack_s()) == 0);
        let bytes = row.get_ref(3)?.as_blob().unwrap_or_default();
        if fits.is_none_or(|tier| pack::read(bytes, tier.steps()).is_err()) {
            damaged.push((machine, step_s, start_s));
        }
    }
    Ok(damaged)
}

/// The file, for whoever reads it.
pub struct Reader(Connection);

impl Reader {
    /// Opens the file where it is not open and there is one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn ensure<'a>(reader: &'a mut Option<Reader>, file: &Path) -> Result<Option<&'a Reader>, SqliteError> {
        if reader.is_none() && file.is_file() {
            *reader = Some(Reader(sqlite::open_to_read(file)?));
        }
        Ok(reader.as_ref())
    }

    /// A machine's rows that begin in a time, of the file and of what `waiting`s have beside it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn rows(
        &self,
        machine: &str,
        time_s: Range<i64>,
        tier: Tier,
        run: &str,
        waiting: Waiting,
    ) -> Result<BTreeMap<i64, Row>, SqliteError> {
        // One state of the file for all that is read.
        let transaction = self.0.unchecked_transaction()?;
        let written: Option<(String, i64)> = transaction
            .query_row("SELECT run, batch FROM written", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let has = |number: u64| written.as_ref().is_some_and(|(by, batch)| by == run && *batch as u64 >= number);
        let unwritten = waiting.writing.filter(|(number, _)| !has(*number)).map(|(_, rows)| rows);
        let beside: Vec<Minute> = unwritten.into_iter().flatten().chain(waiting.rows).collect();
        let of_file = |tier, time_s: Range<i64>| match waiting.forgotten {
            true => Ok(BTreeMap::new()),
            false => rows_of(&transaction, machine, tier, time_s),
        };
        let mut rows = of_file(tier, time_s.clone())?;
        match tier {
            Tier::Minute => beside.iter().for_each(|minute| join(&mut rows, minute)),
            Tier::Hour => {
                let hours: BTreeSet<i64> =
                    beside.iter().map(|minute| Tier::Minute.pack_start(minute.start_s)).collect();
                for start_s in hours {
                    let mut steps = vec![None; Tier::Minute.steps()];
                    for (start_s, row) in of_file(Tier::Minute, start_s..start_s + Tier::Minute.pack_s())? {
                        add(&mut steps, &Minute { start_s, row });
                    }
                    let news = beside.iter().filter(|minute| Tier::Minute.pack_start(minute.start_s) == start_s);
                    news.clone().for_each(|minute| add(&mut steps, minute));
                    let hour = hour_of(rows.get(&start_s), &steps, news.map(|minute| &minute.row));
                    rows.insert(start_s, hour);
                }
            }
        }
        rows.retain(|start_s, _| time_s.contains(start_s));
        Ok(rows)
    }
}

/// What waits alone, where there is no file.
pub fn rows_in_memory(time_s: Range<i64>, tier: Tier, waiting: Waiting) -> BTreeMap<i64, Row> {
    let mut rows = BTreeMap::new();
    let writing = waiting.writing.map(|(_, rows)| rows);
    writing.into_iter().flatten().chain(waiting.rows).for_each(|minute| join(&mut rows, &minute));
    let mut by_step: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for (start_s, row) in rows {
        by_step.entry(start_s.div_euclid(tier.seconds()) * tier.seconds()).or_default().push(row);
    }
    let steps = by_step.into_iter().filter(|(start_s, _)| time_s.contains(start_s));
    steps.map(|(start_s, rows)| (start_s, Row::merged(rows.iter()))).collect()
}

fn join(rows: &mut BTreeMap<i64, Row>, minute: &Minute) {
    let row = match rows.remove(&minute.start_s) {
        Some(before) => Row::merged([&before, &minute.row].into_iter()),
        None => minute.row.clone(),
    };
    rows.insert(minute.start_s, row);
}

fn rows_of(db: &Connection, machine: &str, tier: Tier, time_s: Range<i64>) -> Result<BTreeMap<i64, Row>, SqliteError> {
    let mut select = db.prepare_cached(
        "SELECT start_s, rows FROM pack WHERE machine = ?1 AND step_s = ?2 AND start_s BETWEEN ?3 AND ?4 ORDER BY start_s",
    )?;
    let first = tier.pack_start(time_s.start);
    let mut found = select.query(params![machine, tier.seconds(), first, time_s.end])?;
    let mut rows = BTreeMap::new();
    while let Some(pack) = found.next()? {
        let pack_s: i64 = pack.get(0)?;
        let steps = readable(machine, pack.get_ref(1)?.as_blob().unwrap_or_default(), tier).unwrap_or_default();
        let at = |place: usize| pack_s + place as i64 * tier.seconds();
        rows.extend(steps.into_iter().enumerate().filter_map(|(place, row)| Some((at(place), row?))));
    }
    rows.retain(|start_s, _| time_s.contains(start_s));
    Ok(rows)
}
