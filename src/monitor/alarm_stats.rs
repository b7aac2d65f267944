//! How good the alarms are, in numbers: the measures of ISA-18.2 that a journal gives, over the last 30 days.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::answers::AlarmOutcome;
use super::journal::{Journal, JournalEntry, JournalQuery};
use super::trend::{Counted, Trend};
use crate::sqlite::SqliteError;

/// What is looked at.
pub const SPAN: TimeDelta = TimeDelta::days(30);
/// Machines that are named.
const MACHINES: usize = 10;
/// What stands longer is no news to anybody.
const STALE: TimeDelta = TimeDelta::days(1);

/// The measures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AlarmStats {
    /// Days that were looked at: 30, fewer of an agent that is younger.
    pub days: f64,
    pub alarms: usize,
    /// Null until it is read for how long the agent has listened.
    pub per_day: Option<f64>,
    /// Of them by kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Alarms that stand now, and of them those that have for more than a day.
    pub standing: usize,
    pub stale: usize,
    pub acknowledged: usize,
    /// 0..1; null without any alarm.
    pub acknowledged_share: Option<f64>,
    /// Seconds from the alarm to its acknowledgement; null without any.
    pub acknowledge_median_s: Option<f64>,
    pub acknowledge_p90_s: Option<f64>,
    /// Alarms of which somebody has said what they were.
    pub answered: usize,
    pub faults: usize,
    pub normal: usize,
    pub disturbances: usize,
    /// Share of faults among those answered, 0..1; null without any.
    pub fault_share: Option<f64>,
    /// The machines with the most alarms, at most ten.
    pub machines: Vec<MachineAlarms>,
}

/// How often a machine had an alarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineAlarms {
    pub machine: String,
    pub alarms: usize,
}

/// Alarms that are counted, at most.
const MOST: u32 = 10_000;

/// Reads them; `machines` are those that the agent listens to.
///
/// # Errors
/// The journal cannot be read.
pub fn read(
    journal: &Journal,
    trend: &Trend,
    machines: &[String],
    now: DateTime<Utc>,
) -> Result<AlarmStats, SqliteError> {
    let query = JournalQuery { from: Some(now - SPAN), limit: MOST, lean: true, ..JournalQuery::default() };
    let entries = journal.list(&query)?;
    let known: Vec<Counted> = machines.iter().filter_map(|machine| trend.counted(machine)).collect();
    let heard = known.iter().filter_map(|counted| counted.since_s).min();
    let mut stats = count(&entries, heard.and_then(|seconds| DateTime::from_timestamp(seconds, 0)), now);
    if known.len() < machines.len() {
        stats.per_day = None;
    }
    Ok(stats)
}

/// Counts the alarms of the journal that began in the last 30 days; `heard_since`: when the agent began to listen.
pub fn count(entries: &[JournalEntry], heard_since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> AlarmStats {
    let heard = heard_since.map_or(SPAN, |since| now - since).clamp(TimeDelta::days(1), SPAN);
    let days = (heard.num_minutes() as f64 / 1440.0 * 100.0).round() / 100.0;
    let mut stats = AlarmStats { days, alarms: entries.len(), ..AlarmStats::default() };
    stats.per_day = Some(stats.alarms as f64 / days);
    let (mut machines, mut waits): (BTreeMap<&str, usize>, Vec<f64>) = (BTreeMap::new(), Vec::new());
    for JournalEntry { machine, record, answer, .. } in entries {
        *machines.entry(machine).or_default() += 1;
        *stats.kinds.entry(record.kind.word()).or_default() += 1;
        if record.ended.is_none() {
            stats.standing += 1;
            stats.stale += usize::from(now - record.since > STALE);
        }
        if let Some((_, at)) = &record.acknowledged {
            waits.push((*at - record.since).as_seconds_f64().max(0.0));
        }
        match answer.as_ref().map(|answer| answer.outcome) {
            Some(AlarmOutcome::Fault) => stats.faults += 1,
            Some(AlarmOutcome::Normal) => stats.normal += 1,
            Some(AlarmOutcome::Disturbance) => stats.disturbances += 1,
            None => {}
        }
    }
    stats.answered = stats.faults + stats.normal + stats.disturbances;
    stats.acknowledged = waits.len();
    let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
    stats.acknowledged_share = share(stats.acknowledged, stats.alarms);
    stats.fault_share = share(stats.faults, stats.answered);
    waits.sort_by(f64::total_cmp);
    let quantile = |share: f64| waits.get(((waits.len() as f64 - 1.0) * share).round() as usize).copied();
    (stats.acknowledge_median_s, stats.acknowledge_p90_s) = (quantile(0.5), quantile(0.9));
    let mut ranked: Vec<MachineAlarms> =
        machines.into_iter().map(|(machine, alarms)| MachineAlarms { machine: machine.to_owned(), alarms }).collect();
    ranked.sort_by_key(|one| std::cmp::Reverse(one.alarms));
    ranked.truncate(MACHINES);
    stats.machines = ranked;
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::answers::AlarmAnswer;
    use crate::scoring::alarm::{AlarmRecord, Kind, Note};

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + 3600 * hours, 0).expect("a valid time")
    }

    fn entry(machine: &str, since: i64, acknowledged_s: Option<i64>, outcome: Option<AlarmOutcome>) -> JournalEntry {
        let note = |s: i64| (Note::default(), at(since) + TimeDelta::seconds(s));
        let record = AlarmRecord {
            kind: Kind::Fault,
            since: at(since),
            ended: (since < 100).then(|| at(since + 1)),
            count: 5,
            why: None,
            acknowledged: acknowledged_s.map(note),
        };
        let answer = outcome.map(|outcome| AlarmAnswer { outcome, name: None, by: None, comment: None, at: at(since) });
        JournalEntry { id: since, machine: machine.to_owned(), record, answer }
    }

    #[test]
    fn the_measures_are_counted() {
        let entries = [
            entry("fan-2", 1, Some(60), Some(AlarmOutcome::Fault)),
            entry("fan-1", 2, Some(600), Some(AlarmOutcome::Normal)),
            entry("fan-2", 3, None, Some(AlarmOutcome::Disturbance)),
            entry("fan-2", 150, Some(120), Some(AlarmOutcome::Normal)),
            entry("fan-1", 190, None, None),
        ];
        let stats = count(&entries, Some(at(-40)), at(200));
        assert_eq!((stats.days, stats.alarms, stats.per_day), (10.0, 5, Some(0.5)));
        assert_eq!((stats.standing, stats.stale, stats.kinds["fault"]), (2, 1, 5));
        assert_eq!((stats.acknowledged, stats.acknowledged_share), (3, Some(0.6)));
        assert_eq!((stats.acknowledge_median_s, stats.acknowledge_p90_s), (Some(120.0), Some(600.0)));
        assert_eq!((stats.answered, stats.faults, stats.normal, stats.disturbances), (4, 1, 2, 1));
        assert_eq!(stats.fault_share, Some(0.25));
        let names: Vec<_> = stats.machines.iter().map(|one| (one.machine.as_str(), one.alarms)).collect();
        assert_eq!(names, [("fan-2", 3), ("fan-1", 2)]);
        let none = count(&[], None, at(0));
        assert_eq!((none.days, none.alarms, none.acknowledged_share, none.fault_share), (30.0, 0, None, None));
    }
}
