use super::*;
use crate::monitor::machine::{LearningState, Machine, Origin};
use crate::monitor::settings::MachineSettings;
use crate::scoring::alarm::{Alarm, AlarmConfig};
use crate::scoring::judge;
use serde_json::json;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
}

fn monitor() -> Monitor {
    let config = AlarmConfig { clear_after_s: 0.0, ..AlarmConfig::default() };
    let machine = json!({ "id": "fan-1", "source": { "synth": "fan" } });
    let machine = Machine::new(
        serde_json::from_value(machine).expect("a machine"),
        Origin::File,
        MachineSettings::default(),
        Alarm::new(config, at(0)),
        LearningState::default(),
        at(0),
    );
    Monitor::new(None, vec![machine])
}

/// Windows from a second on, each so far from normal.
fn hear(monitor: &Monitor, from: i64, distances: &[f64]) {
    let mut state = monitor.lock();
    for (number, distance) in distances.iter().enumerate() {
        let mut assessment = judge(*distance, 1.0, -20.0);
        let (ratio, provisional) = (Some(*distance), false);
        assessment.why = Some(Why { ratio, provisional, ..Why::default() });
        state.machines[0].alarm.on_verdict(&assessment, at(from + number as i64));
    }
}

fn all(journal: &Journal) -> Vec<JournalEntry> {
    journal.list(&JournalQuery { limit: 100, ..JournalQuery::default() }).expect("readable")
}

#[test]
fn an_alarm_is_one_entry_from_its_beginning_to_its_end_whatever_is_told_twice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (journal, lost) = Journal::open(dir.path(), at(0));
    assert_eq!(lost, None);
    let monitor = monitor();
    journal.follow(&monitor, at(1));
    assert_eq!(all(&journal), []);
    hear(&monitor, 10, &[2.0, 3.0, 5.0, 4.0, 2.0, 7.5, 2.0]);
    journal.follow(&monitor, at(20));
    let [entry] = &all(&journal)[..] else { panic!("one alarm") };
    assert_eq!((entry.machine.as_str(), entry.record.kind, entry.record.since), ("fan-1", Kind::Fault, at(14)));
    assert_eq!((entry.record.count, entry.record.ended), (7, None));
    assert_eq!(entry.record.why.as_ref().and_then(|why| why.ratio), Some(7.5), "the worst window");
    assert_eq!(journal.id("fan-1", Kind::Fault, at(14)), Some(entry.id));

    // A power cut: the journal opened again is told the same.
    let (journal, lost) = Journal::open(dir.path(), at(21));
    assert_eq!(lost, None);
    monitor.lock().machines[0].alarm.acknowledge("ana", Some("on my way"), at(22)).expect("it stands");
    hear(&monitor, 23, &[0.1; 8]);
    journal.follow(&monitor, at(40));
    journal.follow(&monitor, at(41));
    let [entry] = &all(&journal)[..] else { panic!("the same alarm") };
    assert_eq!(entry.record.ended, Some(at(28)), "two of eight are left");
    let (note, when) = entry.record.acknowledged.clone().expect("an answer");
    assert_eq!((note.by.as_deref(), note.comment.as_deref(), when), (Some("ana"), Some("on my way"), at(22)));

    // The next one is another.
    hear(&monitor, 50, &[9.0; 8]);
    journal.follow(&monitor, at(60));
    assert_eq!(all(&journal).len(), 2);
    let newest = &all(&journal)[0];
    assert!(newest.record.ended.is_none() && newest.id == entry.id + 1, "numbers follow each other");
    assert_eq!(journal.get(entry.id).expect("readable").as_ref(), Some(entry));
    let before = JournalQuery { after: Some(newest.id), limit: 5, ..JournalQuery::default() };
    assert_eq!(journal.list(&before).expect("readable").len(), 1);
    let since = JournalQuery { from: Some(at(45)), machine: Some("fan-1".into()), limit: 5, ..before };
    assert_eq!(journal.list(&JournalQuery { after: None, ..since.clone() }).expect("readable").len(), 1);
    assert_eq!(journal.list(&JournalQuery { machine: Some("x".into()), ..since }).expect("readable").len(), 0);

    // Its machine goes.
    let removed = monitor.remove(&mut monitor.lock(), 0);
    assert!(removed.is_some());
    journal.follow(&monitor, at(70));
    assert_eq!(all(&journal)[0].record.ended, Some(at(70)));
    assert_eq!(journal.id("fan-1", Kind::Fault, newest.record.since), None);
}

#[test]
fn a_damaged_journal_is_set_aside_and_one_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join(FILE);
    Journal::open(dir.path(), at(0));
    std::fs::write(&file, vec![7; 9000]).expect("a file");
    let (_, lost) = Journal::open(dir.path(), at(1));
    assert!(lost.is_some_and(|Lost(said)| said.contains("journal is lost") && said.contains("set aside as")));
    std::fs::remove_file(&file).expect("removed");
    let (_, lost) = Journal::open(dir.path(), at(2));
    assert!(lost.is_some_and(|Lost(said)| said.contains("it is missing")));
    assert_eq!(Journal::open(dir.path(), at(3)).1, None);

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let link = elsewhere.path().join(FILE);
    std::os::unix::fs::symlink("/nowhere/at/all", &link).expect("a link");
    let (journal, lost) = Journal::open(elsewhere.path(), at(0));
    assert!(lost.is_some() && journal.problem().is_some());
    let monitor = monitor();
    hear(&monitor, 10, &[2.0; 8]);
    journal.follow(&monitor, at(20));
    assert!(journal.problem().is_some());
    std::fs::remove_file(&link).expect("our own link");
    journal.follow(&monitor, at(30));
    assert_eq!((journal.problem(), all(&journal).len()), (None, 1));
}
