//! The distances of the last day, so that a threshold can be tried on them before it is set.

use std::collections::BTreeMap;
use std::mem;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// So many entries of a machine wait to be written at most; the oldest go first. 2 windows a second for an hour.
const WAITING_AT_MOST: usize = 7200;

/// One window: when it ended and its distance; `None` where it could not be assessed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    pub at_ms: i64,
    pub distance: Option<f64>,
}

/// A machine's windows of about a minute: one row of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Minute {
    pub machine: String,
    /// Time of the first entry, Unix ms.
    pub start_ms: i64,
    pub entries: Vec<Entry>,
}

impl Minute {
    /// Eight bytes an entry, little-endian: ms since the start as i32, distance as f32, NaN where there is none.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |entry: &Entry| {
            let offset = (entry.at_ms - self.start_ms).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            let distance = entry.distance.map_or(f32::NAN, |distance| distance as f32);
            [offset.to_le_bytes(), distance.to_le_bytes()].concat()
        };
        self.entries.iter().flat_map(bytes).collect()
    }

    /// Reads what [`Minute::to_bytes`] wrote; a rest of less than an entry is left out.
    pub fn from_bytes(machine: &str, start_ms: i64, bytes: &[u8]) -> Minute {
        let (words, _) = bytes.as_chunks::<4>();
        let entries = words.as_chunks::<2>().0.iter().map(|[offset, distance]| {
            let distance = f32::from_le_bytes(*distance);
            Entry {
                at_ms: start_ms.saturating_add(i32::from_le_bytes(*offset).into()),
                distance: Some(f64::from(distance)).filter(|distance| distance.is_finite()),
            }
        });
        Minute { machine: machine.into(), start_ms, entries: entries.collect() }
    }
}

/// Collects what scoring found, until the store takes it.
#[derive(Debug, Default)]
pub struct History {
    waiting: Mutex<BTreeMap<String, Vec<Entry>>>,
}

impl History {
    /// Notes one window of a machine. Never waits for the disk.
    pub fn note(&self, machine: &str, at: DateTime<Utc>, distance: Option<f64>) {
        let mut waiting = self.waiting.lock();
        let entry = Entry { at_ms: at.timestamp_millis(), distance };
        match waiting.get_mut(machine) {
            Some(entries) => {
                if entries.len() >= WAITING_AT_MOST {
                    entries.remove(0);
                }
                entries.push(entry);
            }
            None => {
                waiting.insert(machine.to_owned(), vec![entry]);
            }
        }
    }

    /// Takes what waits, a chunk for each machine.
    pub fn take(&self) -> Vec<Minute> {
        let waiting = mem::take(&mut *self.waiting.lock());
        let chunk = |(machine, entries): (String, Vec<Entry>)| {
            let start_ms = entries.first()?.at_ms;
            Some(Minute { machine, start_ms, entries })
        };
        waiting.into_iter().filter_map(chunk).collect()
    }

    /// A machine is gone.
    pub fn forget(&self, machine: &str) {
        self.waiting.lock().remove(machine);
    }

    /// What waits of one machine.
    pub fn waiting(&self, machine: &str) -> Vec<Entry> {
        let waiting = self.waiting.lock();
        waiting.get(machine).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_bytes() {
        let history = History::default();
        let at = |ms: i64| DateTime::from_timestamp_millis(1_800_000_000_000 + ms).expect("a valid time");
        history.note("fan-1", at(0), Some(0.25));
        history.note("fan-1", at(5000), None);
        history.note("fan-2", at(1), Some(f64::from(0.1_f32)));
        let chunks = history.take();
        assert_eq!(chunks.len(), 2);
        for chunk in &chunks {
            let mut bytes = chunk.to_bytes();
            bytes.push(1);
            assert_eq!(&Minute::from_bytes(&chunk.machine, chunk.start_ms, &bytes), chunk);
        }
        assert!(history.take().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let history = History::default();
        for number in 0..WAITING_AT_MOST + 5 {
            history.note("fan-1", DateTime::from_timestamp_millis(number as i64).expect("a valid time"), None);
        }
        let waiting = history.waiting("fan-1");
        assert_eq!((waiting.len(), waiting[0].at_ms), (WAITING_AT_MOST, 5));
    }
}
