//! What scoring noted and the file does not have yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::row::{Counted, Row, Sample};
use crate::clock::NOT_BEFORE_S;
use crate::numbers::counted;

pub const MINUTE_S: i64 = 60;
/// So many minutes of a machine wait to be written at most; the oldest go first. Eight hours of a disk that fails.
const WAITING_AT_MOST: usize = 480;
/// Windows of one minute, at most: beyond any hop. A clock that stands still must not fill the memory.
const SAMPLES_AT_MOST: usize = 6000;

/// A minute of a machine, by its beginning in Unix s.
#[derive(Debug, Clone, PartialEq)]
pub struct Minute {
    pub start_s: i64,
    pub row: Row,
}

/// What is written in one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub number: u64,
    /// Machines whose past goes, before the rows come.
    pub forgotten: BTreeSet<String>,
    pub rows: BTreeMap<String, Vec<Minute>>,
    /// As they are after it.
    pub counted: BTreeMap<String, Counted>,
}

/// What waits of one machine, for whoever reads its past.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// Of the batch of this number, which may be in the file meanwhile.
    pub writing: Option<(u64, Vec<Minute>)>,
    pub rows: Vec<Minute>,
    /// What the file has of the machine does not count.
    pub forgotten: bool,
}

#[derive(Default)]
struct Machine {
    /// The minute that is going on.
    minute: i64,
    samples: Vec<Sample>,
    done: VecDeque<Minute>,
}

impl Machine {
    fn end_minute(&mut self) -> bool {
        if self.samples.is_empty() {
            return false;
        }
        let row = Row::of(&std::mem::take(&mut self.samples));
        self.done.push_back(Minute { start_s: self.minute * MINUTE_S, row });
        self.done.len() > WAITING_AT_MOST && self.done.pop_front().is_some()
    }
}

pub struct Collected {
    machines: BTreeMap<String, Machine>,
    counted: BTreeMap<String, Counted>,
    /// They are others than when the last batch was taken.
    has_counted: bool,
    /// The counts of earlier runs are in `counted`.
    loaded: bool,
    /// The file was opened, or could not be.
    tried: bool,
    forgotten: BTreeSet<String>,
    /// Taken by the writer and not yet known to be in the file.
    writing: Option<Batch>,
    number: u64,
    /// Of this process: batches are numbered anew in each.
    run: String,
    problem: Option<String>,
    /// Minutes that were given up because the disk fails.
    given_up: u64,
}

impl Collected {
    pub fn new() -> Collected {
        Collected {
            machines: BTreeMap::new(),
            counted: BTreeMap::new(),
            has_counted: false,
            loaded: false,
            tried: false,
            forgotten: BTreeSet::new(),
            writing: None,
            number: 0,
            run: format!("{:016x}", rand::random::<u64>()),
            problem: None,
            given_up: 0,
        }
    }

    pub fn note(&mut self, id: &str, end_s: i64, sample: Sample) {
        let counted = match self.counted.get_mut(id) {
            Some(counted) => counted,
            None => self.counted.entry(id.to_owned()).or_default(),
        };
        counted.hours += sample.hours();
        self.has_counted = true;
        if end_s < NOT_BEFORE_S {
            return;
        }
        counted.since_s.get_or_insert(end_s);
        let machine = match self.machines.get_mut(id) {
            Some(machine) => machine,
            None => self.machines.entry(id.to_owned()).or_default(),
        };
        let minute = end_s.div_euclid(MINUTE_S);
        if minute != machine.minute {
            self.given_up += u64::from(machine.end_minute());
            machine.minute = minute;
        }
        if machine.samples.len() < SAMPLES_AT_MOST {
            machine.samples.push(sample);
        }
    }

    pub fn forget(&mut self, id: &str) {
        self.machines.remove(id);
        self.counted.remove(id);
        if let Some(writing) = &mut self.writing {
            writing.rows.remove(id);
        }
        self.forgotten.insert(id.to_owned());
    }

    /// `None` while the counts of earlier runs are not known.
    pub fn counted(&self, id: &str) -> Option<Counted> {
        self.loaded.then(|| self.counted.get(id).copied().unwrap_or_default())
    }

    /// What earlier runs counted; once.
    pub fn load(&mut self, earlier: BTreeMap<String, Counted>) {
        if std::mem::replace(&mut self.loaded, true) {
            return;
        }
        for (id, before) in earlier.into_iter().filter(|(id, _)| !self.forgotten.contains(id)) {
            let counted = self.counted.entry(id).or_default();
            counted.hours += before.hours;
            counted.since_s = before.since_s.or(counted.since_s);
        }
    }

    /// The batch to write: the one that could not be written before, else all that has come since; `None` where there is
    /// nothing. Minutes that are going on stay, but at the end.
    pub fn take(&mut self, at_the_end: bool) -> Option<Batch> {
        if self.writing.is_none() {
            let mut rows = BTreeMap::new();
            for (id, machine) in &mut self.machines {
                if at_the_end {
                    self.given_up += u64::from(machine.end_minute());
                }
                if !machine.done.is_empty() {
                    rows.insert(id.clone(), machine.done.drain(..).collect());
                }
            }
            let forgotten = std::mem::take(&mut self.forgotten);
            if !std::mem::take(&mut self.has_counted) && rows.is_empty() && forgotten.is_empty() {
                return None;
            }
            self.number += 1;
            self.writing = Some(Batch { number: self.number, forgotten, rows, counted: BTreeMap::new() });
        }
        let batch = self.writing.clone()?;
        // The counts of earlier runs must not be overwritten by those of this one.
        let counted = if self.loaded { self.counted.clone() } else { BTreeMap::new() };
        Some(Batch { counted, ..batch })
    }

    /// The batch is in the file.
    pub fn written(&mut self) {
        self.writing = None;
    }

    /// The file can be written again.
    pub fn recovered(&mut self) {
        self.problem = None;
    }

    pub fn failed(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    /// The file was opened, or could not be.
    pub fn tried(&mut self) {
        self.tried = true;
    }

    pub fn was_tried(&self) -> bool {
        self.tried
    }

    pub fn run(&self) -> &str {
        &self.run
    }

    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(match self.given_up {
            0 => problem.clone(),
            minutes => format!("{problem}; {} of machines given up", counted(minutes, "minute")),
        })
    }

    pub fn waiting(&self, id: &str) -> Waiting {
        let writing = self.writing.as_ref();
        let mut rows = Vec::new();
        if let Some(machine) = self.machines.get(id) {
            rows.extend(machine.done.iter().cloned());
            if !machine.samples.is_empty() {
                rows.push(Minute { start_s: machine.minute * MINUTE_S, row: Row::of(&machine.samples) });
            }
        }
        let of_batch = |batch: &Batch| Some((batch.number, batch.rows.get(id)?.clone()));
        let forgotten = self.forgotten.contains(id) || writing.is_some_and(|batch| batch.forgotten.contains(id));
        Waiting { writing: writing.and_then(of_batch), rows, forgotten }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::{unknown, window};
    use super::*;
    use crate::scoring::Reason;

    const NOON_S: i64 = 1_800_000_000;

    #[test]
    fn windows_become_minutes_and_minutes_become_batches() {
        let mut collected = Collected::new();
        for second in 0..25 {
            collected.note("fan-1", NOON_S + 5 * second, window(0.1));
        }
        let batch = collected.take(false).expect("two minutes");
        let minutes: Vec<_> = batch.rows["fan-1"].iter().map(|minute| (minute.start_s, minute.row.windows)).collect();
        assert_eq!(minutes, [(NOON_S, 12), (NOON_S + 60, 12)]);
        assert_eq!(collected.take(false).as_ref(), Some(&batch), "it was not written: the same again");
        let waiting = collected.waiting("fan-1");
        assert_eq!(waiting.writing.map(|(number, rows)| (number, rows.len())), Some((1, 2)));
        assert_eq!(waiting.rows.iter().map(|minute| minute.row.windows).collect::<Vec<_>>(), [1], "so far");
        collected.written();
        assert_eq!(collected.take(false), None);
        let last = collected.take(true).expect("what was going on");
        assert_eq!((last.number, last.rows["fan-1"][0].row.windows), (2, 1));
    }

    #[test]
    fn a_clock_of_1970_counts_hours_and_makes_no_minute() {
        let mut collected = Collected::new();
        for second in 0..100 {
            collected.note("fan-1", 5 * second, window(0.1));
        }
        collected.note("fan-1", 500, unknown(Reason::MachineOff));
        assert_eq!(collected.counted("fan-1"), None, "what earlier runs counted is not known yet");
        collected.load(BTreeMap::new());
        let counted = collected.counted("fan-1").expect("counts");
        assert_eq!((counted.hours.running_s, counted.hours.standing_s, counted.since_s), (500.0, 5.0, None));
        assert_eq!(collected.take(true).expect("counts").rows, BTreeMap::new());
        collected.written();
        // Then the clock is set.
        collected.note("fan-1", NOON_S, window(0.1));
        assert_eq!(collected.take(true).expect("a minute").rows["fan-1"][0].start_s, NOON_S);
        assert_eq!(collected.counted("fan-1").and_then(|counted| counted.since_s), Some(NOON_S));
    }

    #[test]
    fn a_clock_that_is_set_back_adds_to_the_minute_that_was() {
        let mut collected = Collected::new();
        for second in [0, 5, 3600, 3605, 10, 15] {
            collected.note("fan-1", NOON_S + second, window(0.1));
        }
        let starts: Vec<_> =
            collected.take(true).expect("minutes").rows["fan-1"].iter().map(|minute| minute.start_s - NOON_S).collect();
        assert_eq!(starts, [0, 3600, 0]);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_given_up_is_said() {
        let mut collected = Collected::new();
        for minute in 0..WAITING_AT_MOST as i64 + 6 {
            collected.note("fan-1", NOON_S + 60 * minute, window(0.1));
        }
        assert_eq!(collected.problem(), None);
        collected.failed("the disk is full".into());
        assert_eq!(collected.problem().as_deref(), Some("the disk is full; 5 minutes of machines given up"));
        let waiting = collected.waiting("fan-1").rows;
        assert_eq!((waiting.len(), waiting[0].start_s), (WAITING_AT_MOST + 1, NOON_S + 300));
    }

    #[test]
    fn a_machine_that_is_forgotten_begins_anew() {
        let mut collected = Collected::new();
        let earlier = Counted { since_s: Some(7), ..Counted::default() };
        collected.note("fan-1", NOON_S, window(0.1));
        collected.take(true);
        collected.forget("fan-1");
        collected.load(BTreeMap::from([("fan-1".to_owned(), earlier), ("fan-2".to_owned(), earlier)]));
        assert_eq!(collected.counted("fan-1"), Some(Counted::default()));
        assert_eq!(collected.counted("fan-2"), Some(earlier));
        assert!(collected.waiting("fan-1").forgotten);
        collected.note("fan-1", NOON_S + 60, window(0.1));
        assert_eq!(collected.take(true).expect("the first batch").rows, BTreeMap::new());
        collected.written();
        let batch = collected.take(true).expect("the second batch");
        assert!(batch.forgotten.contains("fan-1") && batch.rows["fan-1"][0].start_s == NOON_S + 60);
    }
}
