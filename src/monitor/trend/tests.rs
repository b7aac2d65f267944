//! The whole of it but the scoring thread: noted, written, read, damaged, full.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::collected::{Collected, Minute};
use super::row::tests::window;
use super::store::{Reader, Tier, TrendStore};
use super::writer::{News, TrendWriter};
use super::{FILE, Step, Trend};
use crate::scoring::{Assessment, Verdict, judge};
use crate::state_files::StateFiles;

const NOON_S: i64 = 1_800_000_000;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(NOON_S + second, 0).expect("a valid time")
}

fn distance(distance: f64) -> Assessment {
    judge(distance, 0.5, -30.0)
}

struct Running {
    trend: Arc<Trend>,
    writer: TrendWriter,
    news: Receiver<News>,
}

fn start(dir: &Path) -> Running {
    let (sender, news) = mpsc::channel();
    let trend = Arc::new(Trend::new(dir));
    let writer = TrendWriter::start(trend.clone(), StateFiles::new(dir), move |one| drop(sender.send(one)));
    Running { trend, writer: writer.expect("a thread"), news }
}

impl Running {
    fn end(self) -> Vec<News> {
        self.writer.finish(Instant::now() + Duration::from_secs(20));
        self.news.try_iter().collect()
    }

    fn rows(&self, step: Step) -> Vec<(i64, u32, f64)> {
        let rows = self.trend.read("fan-1", NOON_S - 86_400, NOON_S + 86_400, step).expect("readable");
        let row = |(at, row): &(i64, super::Row)| {
            (at - NOON_S, row.windows, row.distance.map_or(f64::NAN, |distance| (1000.0 * distance.median).round()))
        };
        rows.iter().map(row).collect()
    }
}

#[test]
fn what_was_noted_is_read_before_and_after_it_is_written_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = start(dir.path());
    for second in 0..130 {
        first.trend.note("fan-1", at(second), 1.0, &distance(0.2));
        first.trend.note("fan-2", at(second), 1.0, &distance(0.4));
    }
    let expected = [(0, 60, 200.0), (60, 60, 200.0), (120, 10, 200.0)];
    assert_eq!(first.rows(Step::Minute), expected, "of memory");
    assert_eq!(first.end(), [], "all is well");

    // Within the same minute: what one run noted of it and what the next one does add up.
    let second = start(dir.path());
    assert_eq!(second.rows(Step::Minute), expected, "of the file");
    for more in 130..200 {
        second.trend.note("fan-1", at(more), 1.0, &distance(0.3));
    }
    assert_eq!(second.rows(Step::Minute), [(0, 60, 200.0), (60, 60, 200.0), (120, 60, 300.0), (180, 20, 300.0)]);
    assert_eq!(second.rows(Step::TenMinutes), [(0, 200, 200.0)]);
    assert_eq!(second.rows(Step::Hour), [(0, 200, 200.0)]);
    let counted = second.trend.counted("fan-1").expect("known");
    assert_eq!((counted.hours.running_s, counted.since_s), (200.0, Some(NOON_S)));
    assert_eq!(second.end(), []);

    let third = start(dir.path());
    assert_eq!(third.rows(Step::Hour), [(0, 200, 200.0)], "written, the same");
    assert_eq!(third.rows(Step::Day), [(-28_800, 200, 200.0)], "a day of UTC");
    third.trend.forget("fan-1");
    assert_eq!(third.rows(Step::Hour), []);
    assert_eq!(third.end(), []);
    let fourth = start(dir.path());
    assert_eq!(fourth.rows(Step::Hour), []);
    assert_eq!(fourth.trend.read("fan-2", NOON_S, NOON_S + 60, Step::Minute).expect("readable").len(), 1);
    fourth.end();
}

#[test]
fn a_batch_counts_once_wherever_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join(FILE);
    let mut collected = Collected::new();
    for minute in 0..3 {
        collected.note("fan-1", NOON_S + 60 * minute, window(0.1));
    }
    let batch = collected.take(false).expect("two minutes");
    let windows = |collected: &Collected, tier| -> u32 {
        let mut reader = None;
        let reader = Reader::ensure(&mut reader, &file).expect("readable").expect("a file");
        let day = NOON_S - 86_400..NOON_S + 86_400;
        let rows = reader.rows("fan-1", day, tier, collected.run(), collected.waiting("fan-1")).expect("rows");
        rows.values().map(|row| row.windows).sum()
    };
    let (mut store, ..) = TrendStore::open(&file).expect("a store");
    for tier in [Tier::Minute, Tier::Hour] {
        assert_eq!(windows(&collected, tier), 3);
    }
    store.write(collected.run(), &batch).expect("written");
    for tier in [Tier::Minute, Tier::Hour] {
        assert_eq!(windows(&collected, tier), 3, "in the file, and not yet known to be");
    }
    collected.written();
    for tier in [Tier::Minute, Tier::Hour] {
        assert_eq!(windows(&collected, tier), 3);
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_a_missing_one_is_missed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join(FILE);
    let lost = |words: &str| {
        let running = start(dir.path());
        running.trend.note("fan-1", at(0), 1.0, &distance(0.2));
        assert_eq!(running.rows(Step::Minute).len(), 1);
        let news = running.end();
        assert!(matches!(&news[..], [News::Lost(said)] if said.contains(words)), "{words}: {news:?}");
        assert_eq!(start(dir.path()).end(), [], "the next start finds it whole");
    };
    start(dir.path()).end();
    std::fs::write(&file, vec![7; 20_000]).expect("a file");
    lost("set aside as");
    std::fs::remove_file(&file).expect("removed");
    lost("it is missing");
    std::fs::remove_file(&file).and_then(|()| std::fs::create_dir(&file)).expect("a directory");
    lost("found a directory");
    let db = rusqlite::Connection::open(&file).expect("the store");
    db.execute("UPDATE pack SET rows = x'0102' WHERE step_s = 60", []).expect("damage");
    drop(db);
    lost("damaged and gone: 1 piece of the machines' past");
}

#[test]
fn a_disk_that_fails_costs_nothing_until_it_is_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = dir.path().join("state");
    let running = start(&state);
    running.trend.note("fan-1", at(0), 1.0, &distance(0.2));
    assert_eq!(running.rows(Step::Minute), [(0, 1, 200.0)], "there is no directory for a file");
    assert!(running.trend.problem().is_some_and(|problem| problem.contains("cannot be opened")));
    assert_eq!(running.trend.counted("fan-1"), None, "what earlier runs counted is not known");
    std::fs::create_dir(&state).expect("a directory");
    let trend = running.trend.clone();
    let news = running.end();
    assert!(matches!(&news[..], [News::Failed(_), News::Back]), "{news:?}");
    assert_eq!(trend.problem(), None);
    let again = start(&state);
    assert_eq!(again.rows(Step::Minute), [(0, 1, 200.0)]);
    again.end();
}

/// Two years of a machine, with values that scatter as real ones do.
#[test]
fn two_years_of_sixteen_machines_take_some_megabytes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join(FILE);
    let (mut store, ..) = TrendStore::open(&file).expect("a store");
    let mut collected = Collected::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut scatter = || rng.random_range(0.0..1.0);
    // Twelve windows a minute; a minute of each hour stands for it until the last nine days, which are there whole.
    let (hours, whole) = (740 * 24, 9 * 24);
    for hour in 0..hours {
        let minutes = if hour + whole < hours { 1 } else { 60 };
        for minute in 0..minutes {
            for second in 0..12 {
                let mut assessment = distance(0.2 + 0.1 * scatter());
                (assessment.score, assessment.level_dbfs) = (Some(3.0 * scatter()), -35.0 + 6.0 * scatter());
                if scatter() > 0.99 {
                    assessment.verdict = Verdict::Anomalous;
                }
                let sample = super::Sample::new(&assessment, 5.0);
                collected.note("fan-1", NOON_S + 3600 * hour + 60 * minute + 5 * second, sample);
            }
        }
        // No more may wait than is kept while a disk fails.
        let every = if minutes == 1 { 240 } else { 8 };
        if hour % every == every - 1 {
            let batch = collected.take(false).expect("rows");
            store.write(collected.run(), &batch).expect("written");
            collected.written();
        }
    }
    drop(store);
    let packs = |step_s: i64| -> (i64, i64) {
        let db = rusqlite::Connection::open(&file).expect("the store");
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        db.query_row("SELECT count(*), sum(length(rows)) FROM pack WHERE step_s = ?1", [step_s], row).expect("packs")
    };
    let size = std::fs::metadata(&file).expect("a file").len();
    println!("minutes {:?}, hours {:?}, file {size}", packs(60), packs(3600));
    assert_eq!((packs(60).0, packs(3600).0), (193, 732), "what is older went");
    assert!(16 * size < 12_000_000, "{size} bytes for one machine");
}

#[test]
fn a_clock_that_runs_ahead_for_a_while_costs_nothing_that_was_true() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut store, ..) = TrendStore::open(&dir.path().join(FILE)).expect("a store");
    let mut collected = Collected::new();
    let mut write = |second: i64| {
        collected.note("fan-1", NOON_S + second, window(0.1));
        let batch = collected.take(true).expect("a row");
        store.write(collected.run(), &batch).expect("written");
        collected.written();
    };
    let years = 20 * 365 * 86_400;
    [0, 60, years, years + 60, 120].into_iter().for_each(&mut write);
    let mut reader = None;
    let reader = Reader::ensure(&mut reader, &dir.path().join(FILE)).expect("readable").expect("a file");
    let rows = reader.rows("fan-1", NOON_S..NOON_S + 3600, Tier::Minute, "", Default::default()).expect("rows");
    assert_eq!(rows.keys().map(|at| at - NOON_S).collect::<Vec<_>>(), [0, 60, 120]);
    assert_eq!(Minute { start_s: NOON_S, row: rows[&NOON_S].clone() }.row.windows, 1);
}
