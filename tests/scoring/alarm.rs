//! The alarm of one machine: what raises, clears, hides and holds it, and what no sequence of events may do to it.

use auscult::scoring::alarm::{Alarm, AlarmConfig, AlarmError, AlarmState, Kind, Note, SlowCalibration};
use auscult::scoring::lanes::Lane;
use auscult::scoring::{Assessment, Reason, judge};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

const NORMAL: f64 = 0.1;
const ANOMALOUS: f64 = 0.9;
const THRESHOLD: f64 = 0.5;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time")
}

fn after(seconds: f64) -> DateTime<Utc> {
    start() + TimeDelta::milliseconds((seconds * 1000.0) as i64)
}

/// An alarm and its clock: each window takes 5 s.
struct Bench {
    alarm: Alarm,
    seconds: f64,
}

impl Bench {
    fn new(config: AlarmConfig) -> Self {
        Bench { alarm: Alarm::new(config, start()), seconds: 0.0 }
    }

    fn now(&self) -> DateTime<Utc> {
        after(self.seconds)
    }

    fn take(&mut self, count: usize, assessment: &Assessment) -> AlarmState {
        for _ in 0..count {
            self.seconds += 5.0;
            self.alarm.on_verdict(assessment, self.now());
        }
        self.alarm.status().state
    }

    fn windows(&mut self, count: usize, distance: f64) -> AlarmState {
        self.take(count, &judge(distance, THRESHOLD, -20.0))
    }

    fn unknown(&mut self, count: usize, reason: Reason) -> AlarmState {
        self.take(count, &Assessment::unknown(reason, Some(THRESHOLD), -20.0))
    }
}

#[test]
fn five_of_eight_raise_and_calm_clears() {
    let mut bench = Bench::new(AlarmConfig::default());
    assert_eq!(bench.windows(3, NORMAL), AlarmState::Normal);
    assert_eq!(bench.windows(4, ANOMALOUS), AlarmState::Normal);
    assert_eq!(bench.windows(1, ANOMALOUS), AlarmState::Active);
    let raised = bench.alarm.status();
    assert_eq!((raised.kind, raised.count, raised.since), (Some(Kind::Fault), 5, bench.now()));
    assert_eq!(bench.alarm.undecided_windows(), 8);
    // Six calm windows leave two of eight anomalous: calm, but not for 60 s yet.
    assert_eq!(bench.windows(6, NORMAL), AlarmState::Active);
    assert_eq!(bench.windows(11, NORMAL), AlarmState::Active);
    assert_eq!(bench.windows(1, NORMAL), AlarmState::Normal);
    assert_eq!((bench.alarm.status().count, bench.alarm.status().since), (5, bench.now()));
}

/// Somebody hammers for 40 s, and stops; a machine that hammers goes on.
#[test]
fn what_comes_and_goes_within_windows_must_last() {
    let by = |lane: Lane| Assessment { unsteady: lane.is_unsteady(), ..judge(ANOMALOUS, THRESHOLD, -20.0) };
    let mut bench = Bench::new(AlarmConfig::default());
    assert_eq!(bench.take(8, &by(Lane::Burst)), AlarmState::Normal);
    assert_eq!(bench.windows(8, NORMAL), AlarmState::Normal);
    // The fifth window raises it where it is there all the time; twelve later where it is not.
    assert_eq!(bench.take(16, &by(Lane::Texture)), AlarmState::Normal);
    assert_eq!(bench.take(1, &by(Lane::Texture)), AlarmState::Active);
    // All seventeen, and the three before them that were looked at with the fifth.
    assert_eq!(bench.alarm.undecided_windows(), 20);

    // Those that were not decided upon when the evidence was forgotten are told once; those of a fault that stands were told.
    bench.alarm.forget_evidence();
    assert_eq!(bench.alarm.take_forgotten_windows(), 0);
    let mut bench = Bench::new(AlarmConfig::default());
    bench.take(10, &by(Lane::Texture));
    let undecided = bench.alarm.undecided_windows();
    bench.alarm.forget_evidence();
    assert_eq!((bench.alarm.undecided_windows(), bench.alarm.take_forgotten_windows()), (undecided, undecided));
    assert_eq!((bench.alarm.undecided_windows(), bench.alarm.take_forgotten_windows()), (0, 0));

    let mut bench = Bench::new(AlarmConfig::default());
    bench.take(2, &by(Lane::Burst));
    assert_eq!(bench.take(3, &by(Lane::Spectrum)), AlarmState::Active);
}

/// Windows that follow each other share the minute before them: a dozen of them are one witness, and no fault. If it stays, it is
/// wear.
#[test]
fn what_only_lingers_is_wear_and_no_fault() {
    let mut bench = Bench::new(AlarmConfig { slow_windows: 60.0, ..AlarmConfig::default() });
    bench.alarm.calibrate(Some(SlowCalibration { windows: 1000, correlation: 0.5 }));
    let lingering = Assessment { lingering: true, p_value: Some(0.003), ..judge(ANOMALOUS, THRESHOLD, -20.0) };
    assert_eq!(bench.take(20, &lingering), AlarmState::Normal);
    assert_eq!(bench.take(200, &lingering), AlarmState::Active);
    assert_eq!(bench.alarm.status().kind, Some(Kind::Wear));
}

#[test]
fn between_the_two_limits_nothing_changes() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.windows(8, ANOMALOUS);
    // Three of eight stay anomalous for ever: below k, above clear_at_most.
    for _ in 0..20 {
        for distance in [ANOMALOUS, NORMAL, ANOMALOUS, NORMAL, NORMAL, ANOMALOUS, NORMAL, NORMAL] {
            assert_eq!(bench.windows(1, distance), AlarmState::Active);
        }
    }
}

#[test]
fn unknown_neither_raises_nor_clears() {
    let mut bench = Bench::new(AlarmConfig { deaf_after_s: 0.0, ..AlarmConfig::default() });
    bench.windows(4, ANOMALOUS);
    assert_eq!(bench.unknown(1000, Reason::Gap), AlarmState::Normal);
    assert_eq!(bench.windows(1, ANOMALOUS), AlarmState::Active);
    assert_eq!(bench.unknown(1000, Reason::NoSignal), AlarmState::Active);
}

#[test]
fn delays_hold_both_ways() {
    let config = AlarmConfig { raise_after_s: 20.0, clear_after_s: 0.0, ..AlarmConfig::default() };
    let mut bench = Bench::new(config);
    assert_eq!(bench.windows(8, ANOMALOUS), AlarmState::Normal);
    assert_eq!(bench.windows(1, ANOMALOUS), AlarmState::Active);
    assert_eq!(bench.windows(5, NORMAL), AlarmState::Active);
    assert_eq!(bench.windows(1, NORMAL), AlarmState::Normal);
}

#[test]
fn a_deaf_machine_has_its_own_alarm() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.windows(8, NORMAL);
    assert_eq!(bench.unknown(120, Reason::NoSignal), AlarmState::Normal);
    assert_eq!(bench.unknown(1, Reason::NoSignal), AlarmState::Active);
    assert_eq!(bench.alarm.status().kind, Some(Kind::Deaf));
    assert_eq!(bench.windows(4, NORMAL), AlarmState::Active);
    assert_eq!(bench.windows(1, NORMAL), AlarmState::Normal);
}

#[test]
fn time_alone_makes_deaf_only_in_small_steps() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.unknown(1, Reason::Silent);
    // The clock jumps by years, forth and back: no evidence of anything.
    assert_eq!(bench.alarm.tick(after(1e9)), None);
    assert_eq!(bench.alarm.tick(after(5.0)), None);
    let changes: Vec<_> = (1..=600).filter_map(|second| bench.alarm.tick(after(5.0 + f64::from(second)))).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].to.kind, Some(Kind::Deaf));
}

#[test]
fn standing_still_or_learning_is_not_deafness() {
    for reason in [Reason::MachineOff, Reason::Learning, Reason::Maintenance] {
        let mut bench = Bench::new(AlarmConfig::default());
        assert_eq!(bench.unknown(1000, reason), AlarmState::Normal);
        assert_eq!(bench.unknown(120, Reason::NoSignal), AlarmState::Normal);
        assert_eq!(bench.unknown(2, Reason::NoSignal), AlarmState::Active, "{reason:?}");
    }
}

#[test]
fn a_latched_alarm_waits_for_its_acknowledgement() {
    let mut bench = Bench::new(AlarmConfig { latching: true, ..AlarmConfig::default() });
    bench.windows(8, ANOMALOUS);
    assert_eq!(bench.windows(1000, NORMAL), AlarmState::Active);
    let change = bench.alarm.acknowledge("ana", Some("looked"), bench.now()).expect("an alarm stands");
    assert_eq!(change.expect("a change").to.state, AlarmState::Normal);

    // Acknowledged while it lasts: cleared by calm alone.
    bench.windows(8, ANOMALOUS);
    bench.alarm.acknowledge("ana", None, bench.now()).expect("an alarm stands");
    assert_eq!(bench.windows(1, ANOMALOUS), AlarmState::Acknowledged);
    assert_eq!(bench.windows(100, NORMAL), AlarmState::Normal);
}

#[test]
fn an_acknowledgement_names_who_and_is_given_once() {
    let mut bench = Bench::new(AlarmConfig::default());
    assert_eq!(bench.alarm.acknowledge("ana", None, bench.now()), Err(AlarmError::NothingToAcknowledge));
    bench.windows(8, ANOMALOUS);
    bench.alarm.acknowledge("ana", Some("bearing ordered"), bench.now()).expect("an alarm stands");
    let status = bench.alarm.status();
    let note =
        Note { by: Some("ana".into()), comment: Some("bearing ordered".into()), until: None, at: Some(bench.now()) };
    assert_eq!((status.state, status.note), (AlarmState::Acknowledged, note));
    let again = bench.alarm.acknowledge("bob", None, bench.now());
    assert_eq!(again, Err(AlarmError::AlreadyAcknowledged("ana".into())));

    // Another kind on top: somebody has to look again.
    bench.unknown(122, Reason::NoSignal);
    let status = bench.alarm.status();
    assert_eq!((status.state, status.kind), (AlarmState::Active, Some(Kind::Deaf)));
    bench.alarm.acknowledge("bob", None, bench.now()).expect("the new kind");
    assert_eq!(bench.windows(5, ANOMALOUS), AlarmState::Acknowledged);
    assert_eq!(bench.alarm.status().note.by.as_deref(), Some("ana"));
}

#[test]
fn shelving_hides_and_ends() {
    let mut bench = Bench::new(AlarmConfig::default());
    let until = after(100.0);
    bench.alarm.shelve("ana", Some("roof works"), until, bench.now()).expect("a valid end");
    assert_eq!(bench.windows(15, ANOMALOUS), AlarmState::Shelved);
    let status = bench.alarm.status();
    assert_eq!((status.kind, status.note.until, status.since), (Some(Kind::Fault), Some(until), start()));
    let change = bench.alarm.tick(until).expect("the end of the shelving");
    assert_eq!((change.to.state, change.to.since), (AlarmState::Active, after(25.0)));

    let now = bench.now();
    for wrong in [now, after(0.0), now + TimeDelta::days(8)] {
        assert!(matches!(bench.alarm.shelve("ana", None, wrong, now), Err(AlarmError::BadEnd(..))));
    }
    assert_eq!(bench.alarm.unshelve(now), Err(AlarmError::NotShelved));
}

#[test]
fn maintenance_neither_counts_nor_remembers() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.windows(4, ANOMALOUS);
    let until = Some(bench.now() + TimeDelta::hours(1));
    bench.alarm.set_maintenance(Some(Note { by: Some("ana".into()), comment: None, until, at: None }), bench.now());
    assert_eq!(bench.windows(50, ANOMALOUS), AlarmState::Shelved);
    assert!(bench.alarm.status().maintenance);
    let change = bench.alarm.tick(start() + TimeDelta::hours(2)).expect("the end of the maintenance");
    assert_eq!(change.to.state, AlarmState::Normal);
    bench.seconds = 7200.0;
    assert_eq!(bench.windows(4, ANOMALOUS), AlarmState::Normal);
    assert_eq!(bench.windows(1, ANOMALOUS), AlarmState::Active);
}

/// A shift of one and a half standard deviations never makes five of eight, but an hour of it is wear.
#[test]
fn wear_is_seen_by_the_slow_lane_alone() {
    let mut bench = Bench::new(AlarmConfig::default());
    let worn = |p_value: f64| Assessment { p_value: Some(p_value), ..judge(NORMAL, THRESHOLD, -20.0) };
    let shifted = [0.02, 0.3, 0.05, 0.1, 0.01, 0.07];
    for p_value in shifted.iter().cycle().take(2000) {
        assert_eq!(bench.take(1, &worn(*p_value)), AlarmState::Normal, "without a baseline the slow lane sleeps");
    }
    bench.alarm.forget_evidence();
    bench.alarm.calibrate(Some(SlowCalibration { windows: 500, correlation: 0.5 }));
    for p_value in [0.1, 0.5, 0.9, 0.3, 0.7, 0.001].iter().cycle().take(5000) {
        assert_eq!(bench.take(1, &worn(*p_value)), AlarmState::Normal);
    }
    let raised = (1..3000).find(|i| bench.take(1, &worn(shifted[i % 6])) == AlarmState::Active);
    assert!(raised.is_some_and(|windows| windows > 100), "{raised:?}");
    assert_eq!(bench.alarm.status().kind, Some(Kind::Wear));
    for p_value in [0.1, 0.5, 0.9, 0.3, 0.7].iter().cycle().take(5000) {
        bench.take(1, &worn(*p_value));
    }
    assert_eq!(bench.alarm.status().state, AlarmState::Normal);
}

#[test]
fn settings_merge_field_by_field() {
    let over = serde_json::json!({"k": 3, "latching": true});
    let config = AlarmConfig { n: 10, ..AlarmConfig::default() }.with(over.as_object().expect("an object"));
    let config = config.expect("valid settings");
    assert_eq!((config.k, config.n, config.latching, config.deaf_after_s), (3, 10, true, 600.0));
    for (wrong, words) in [
        (serde_json::json!({"k": 9}), "k: expected 1 to 8, found 9"),
        (serde_json::json!({"clear_at_most": 5}), "clear_at_most: expected 0 to 4, found 5"),
        (serde_json::json!({"deaf_after_s": -1.0}), "deaf_after_s"),
        (serde_json::json!({"latch": true}), "unknown field `latch`"),
        (serde_json::json!({"n": "many"}), "many"),
    ] {
        let error = AlarmConfig::default().with(wrong.as_object().expect("an object")).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}

/// Anything that can happen to an alarm.
#[derive(Debug, Clone)]
enum Event {
    Window { anomalous: bool, p_value: f64 },
    Unknown(Reason),
    Tick,
    Acknowledge,
    Shelve { for_s: f64 },
    Unshelve,
    Maintenance { for_s: Option<f64> },
    MaintenanceEnd,
    Forget,
}

fn events() -> impl Strategy<Value = Vec<(Event, f64)>> {
    let reasons = [Reason::NoSignal, Reason::Silent, Reason::MachineOff, Reason::Learning, Reason::Gap];
    let event = prop_oneof![
        12 => (prop::bool::weighted(0.6), 0.001..0.999).prop_map(|(anomalous, p_value)| Event::Window { anomalous, p_value }),
        4 => (0usize..reasons.len()).prop_map(move |i| Event::Unknown(reasons[i])),
        2 => Just(Event::Tick),
        2 => Just(Event::Acknowledge),
        1 => (-10.0..200.0).prop_map(|for_s| Event::Shelve { for_s }),
        1 => Just(Event::Unshelve),
        1 => prop::option::of(1.0..100.0).prop_map(|for_s| Event::Maintenance { for_s }),
        1 => Just(Event::MaintenanceEnd),
        1 => Just(Event::Forget),
    ];
    // Mostly time goes on; now and then the clock jumps.
    let step = prop_oneof![20 => 0.1..30.0, 1 => -1e6..1e6];
    prop::collection::vec((event, step), 1..200)
}

fn configs() -> impl Strategy<Value = AlarmConfig> {
    (1usize..8, 0usize..4, 0usize..8, 0.0..20.0, 0.0..20.0, any::<bool>(), 0.0..200.0, 1.0..50.0).prop_map(
        |(k, more, calm, raise_after_s, clear_after_s, latching, deaf_after_s, slow_windows)| AlarmConfig {
            k,
            n: k + more,
            clear_at_most: calm.min(k - 1),
            raise_after_s,
            clear_after_s,
            latching,
            deaf_after_s,
            slow_windows,
            ..AlarmConfig::default()
        },
    )
}

fn act(alarm: &mut Alarm, event: &Event, now: DateTime<Utc>) {
    let plus = |seconds: f64| now + TimeDelta::milliseconds((seconds * 1000.0) as i64);
    match event {
        Event::Window { anomalous, p_value } => {
            let distance = if *anomalous { ANOMALOUS } else { NORMAL };
            let assessment = Assessment { p_value: Some(*p_value), ..judge(distance, THRESHOLD, -20.0) };
            alarm.on_verdict(&assessment, now);
        }
        Event::Unknown(reason) => {
            alarm.on_verdict(&Assessment::unknown(*reason, None, -90.0), now);
        }
        Event::Tick => {
            alarm.tick(now);
        }
        Event::Acknowledge => {
            let _ = alarm.acknowledge("ana", Some("on my way"), now);
        }
        Event::Shelve { for_s } => {
            let _ = alarm.shelve("bob", None, plus(*for_s), now);
        }
        Event::Unshelve => {
            let _ = alarm.unshelve(now);
        }
        Event::Maintenance { for_s } => {
            let note = Note { by: None, comment: None, until: for_s.map(plus), at: None };
            alarm.set_maintenance(Some(note), now);
        }
        Event::MaintenanceEnd => {
            alarm.set_maintenance(None, now);
        }
        Event::Forget => alarm.forget_evidence(),
    }
}

fn kinds(alarm: &Alarm) -> Vec<Kind> {
    alarm.standing_kinds().into_iter().map(|(kind, _)| kind).collect()
}

fn reread(alarm: &Alarm) -> Alarm {
    let text = serde_json::to_string(alarm.state()).expect("a state that can be written");
    Alarm::restore(alarm.config().clone(), serde_json::from_str(&text).expect("what was written can be read"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_fault_without_k_of_n_and_none_through_unknown(config in configs(), events in events()) {
        let mut alarm = Alarm::new(config.clone(), start());
        let (mut recent, mut seconds) = (Vec::new(), 0.0);
        for (event, step) in &events {
            seconds += step;
            let before = kinds(&alarm);
            // A hold that ends by its time ends first, and with it what was heard before.
            let maintained = alarm.in_maintenance();
            alarm.tick(after(seconds));
            if maintained && !alarm.in_maintenance() {
                recent.clear();
            }
            let maintained = alarm.in_maintenance();
            act(&mut alarm, event, after(seconds));
            match event {
                Event::Window { anomalous, .. } if !maintained => recent.push(*anomalous),
                Event::Forget => recent.clear(),
                Event::MaintenanceEnd if maintained => recent.clear(),
                _ => {}
            }
            let last = &recent[recent.len().saturating_sub(config.n)..];
            let anomalous = last.iter().filter(|&&one| one).count();
            let (had, has) = (before.contains(&Kind::Fault), kinds(&alarm).contains(&Kind::Fault));
            if !had && has {
                prop_assert!(anomalous >= config.k, "raised by {anomalous} of {last:?}");
                let by_a_window = matches!(event, Event::Window { .. });
                prop_assert!(by_a_window, "raised by {event:?}");
            }
            if had && !has {
                let looked_at = matches!(event, Event::Window { .. } | Event::Acknowledge);
                prop_assert!(looked_at, "cleared by {event:?}");
            }
        }
    }

    #[test]
    fn no_acknowledgement_is_lost(config in configs(), events in events()) {
        let mut alarm = Alarm::new(config, start());
        let (mut seconds, mut acknowledged): (f64, Vec<Kind>) = (0.0, Vec::new());
        for (event, step) in &events {
            seconds += step;
            act(&mut alarm, event, after(seconds));
            let standing = kinds(&alarm);
            acknowledged.retain(|kind| standing.contains(kind));
            if matches!(event, Event::Acknowledge) {
                acknowledged = standing.clone();
            }
            let mut shown = alarm.clone();
            shown.set_maintenance(None, after(seconds));
            let _ = shown.unshelve(after(seconds));
            let expected = if standing.is_empty() {
                AlarmState::Normal
            } else if acknowledged.len() == standing.len() {
                AlarmState::Acknowledged
            } else {
                AlarmState::Active
            };
            prop_assert_eq!(shown.status().state, expected, "standing {:?}, acknowledged {:?}", standing, &acknowledged);
        }
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(config in configs(), events in events(), at in any::<prop::sample::Index>()) {
        let mut alarm = Alarm::new(config, start());
        alarm.calibrate(Some(SlowCalibration { windows: 100, correlation: 0.3 }));
        let mut restarted = alarm.clone();
        let (at, mut seconds) = (at.index(events.len()), 0.0);
        for (number, (event, step)) in events.iter().enumerate() {
            if number == at {
                restarted = reread(&restarted);
            }
            seconds += step;
            act(&mut alarm, event, after(seconds));
            act(&mut restarted, event, after(seconds));
        }
        prop_assert_eq!(alarm, restarted);
    }

    #[test]
    fn every_change_is_reported(config in configs(), events in events()) {
        let mut alarm = Alarm::new(config, start());
        let (mut seconds, mut shown) = (0.0, alarm.status());
        for (event, step) in &events {
            seconds += step;
            let change = match event {
                Event::Window { anomalous, .. } => {
                    alarm.on_verdict(&judge(if *anomalous { ANOMALOUS } else { NORMAL }, THRESHOLD, -20.0), after(seconds))
                }
                Event::Unknown(reason) => alarm.on_verdict(&Assessment::unknown(*reason, None, -90.0), after(seconds)),
                Event::Acknowledge => alarm.acknowledge("ana", None, after(seconds)).unwrap_or_default(),
                _ => alarm.tick(after(seconds)),
            };
            if let Some(change) = change {
                prop_assert_eq!(change.from.state, shown.state);
                shown = change.to;
            }
            let status = alarm.status();
            prop_assert_eq!((status.state, status.kind, status.note), (shown.state, shown.kind, shown.note.clone()));
        }
    }
}

/// The keys of what version 0.1 kept of an alarm, whatever the fields are called in code.
#[test]
fn what_is_kept_has_the_keys_of_version_0_1() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.unknown(1, Reason::NoSignal);
    let kept = serde_json::to_value(bench.alarm.state()).expect("a state can be written");
    assert_eq!(kept["evidence"]["hearing"], serde_json::json!({"lost": {"for_s": 0.0}}));
    assert_eq!(kept["evidence"].as_object().map(serde_json::Map::len), Some(5));
    let read = serde_json::from_value(kept).expect("what was written");
    assert_eq!(Alarm::restore(AlarmConfig::default(), read), bench.alarm);
}

/// What was kept under longer limits, or was brought by an import.
#[test]
fn nothing_stays_shelved_for_longer_than_the_settings_allow() {
    let mut bench = Bench::new(AlarmConfig::default());
    bench.windows(8, ANOMALOUS);
    bench.alarm.shelve("ana", None, bench.now() + TimeDelta::days(6), bench.now()).expect("an alarm");
    let shelved = bench.now();
    let short = AlarmConfig { shelve_max_s: 3600.0, ..AlarmConfig::default() };
    let alarm = Alarm::restore(short, bench.alarm.state().clone());
    assert_eq!(alarm.status().note.until, Some(shelved + TimeDelta::hours(1)));
    let alarm = Alarm::restore(AlarmConfig::default(), bench.alarm.state().clone());
    assert_eq!(alarm.status().note.until, Some(shelved + TimeDelta::days(6)));
}
