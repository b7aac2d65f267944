//! What no set of windows may do to a baseline that is learned from them.

use auscult::features::FrontEnd;
use auscult::scoring::baseline::{LearnSettings, Learner, Origin, Sample, propose};
use auscult::scoring::lanes::Features;
use auscult::scoring::{Assessment, Baseline, Reason, Scored, judge};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

fn settings(false_alarm_rate: f64) -> LearnSettings {
    let origin =
        Origin { bundle: "fan@1".into(), encoder_sha256: "e".repeat(64), index: 0, front_end: FrontEnd::default() };
    LearnSettings {
        machine: "fan-1".into(),
        origin,
        hop_s: 5.0,
        wanted_s: 1000.0,
        false_alarm_rate,
        previous_threshold: Some(0.5),
    }
}

/// Windows end to end, with noise for embeddings and features.
fn windows(seed: u64, count: usize) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut noise = |length: usize| (0..length).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
    (0..count)
        .map(|number| Sample {
            recording: 0,
            confirmed: false,
            at_s: 5.0 * (number + 1) as f64,
            level_dbfs: -30.0 + f64::from(noise(1)[0]),
            embedding: noise(4),
            features: Features { spectrum: noise(32), envelope: noise(40), burst: noise(6), texture: noise(6) },
        })
        .collect()
}

fn scored(sample: &Sample) -> (Scored, DateTime<Utc>) {
    let assessment = judge(0.1, 0.5, sample.level_dbfs);
    let (embedding, features) = (Some(sample.embedding.clone()), Some(sample.features.clone()));
    let end = DateTime::UNIX_EPOCH + TimeDelta::milliseconds((sample.at_s * 1000.0) as i64);
    (Scored { assessment, embedding, features, signal: None }, end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn more_windows_are_never_worse_than_enough(seed in any::<u64>(), count in 12usize..160, rate in 0.002..0.2f64) {
        let all = windows(seed, count);
        let mut enough = false;
        for take in [count / 4, count / 2, count] {
            match propose(&all[..take], &settings(rate)) {
                Ok(baseline) => {
                    enough = true;
                    prop_assert_eq!(baseline.check(), Ok(()));
                    prop_assert_eq!(&Baseline::from_json(&baseline.to_json()), &Ok(baseline.clone()));
                    prop_assert!(baseline.threshold > 0.0 && baseline.off_below_dbfs < baseline.level_dbfs);
                    let projected = &baseline.projected;
                    prop_assert!((0.0..=1.0).contains(&projected.distance_share) && projected.windows <= take);
                    // The threshold is a quantile of the very distances: no more than asked lie above it.
                    prop_assert!(projected.distance_share <= rate + 2.0 / take as f64, "{:?}", projected);
                }
                Err(error) => prop_assert!(!enough, "{take} windows: {error}"),
            }
        }
    }

    #[test]
    fn the_order_of_the_windows_does_not_matter(seed in any::<u64>(), count in 20usize..100) {
        let mut all = windows(seed, count);
        let first = propose(&all, &settings(0.02));
        all.shuffle(&mut StdRng::seed_from_u64(!seed));
        prop_assert_eq!(propose(&all, &settings(0.02)), first);
    }

    #[test]
    fn a_restart_while_learning_changes_nothing(seed in any::<u64>(), count in 20usize..60, at in any::<prop::sample::Index>()) {
        let begin = DateTime::UNIX_EPOCH;
        let mut learner = Learner::new(settings(0.02), begin).expect("a valid rate");
        let mut restarted = learner.clone();
        for (number, samples) in windows(seed, count).iter().enumerate() {
            if number == at.index(count) {
                let text = serde_json::to_string(&restarted).expect("a learner can be written");
                restarted = serde_json::from_str(&text).expect("what was written can be read");
            }
            let (scored, end) = scored(samples);
            prop_assert_eq!(learner.on_window(&scored, end), restarted.on_window(&scored, end));
        }
        prop_assert_eq!(learner.propose(), restarted.propose());
    }
}

#[test]
fn what_is_not_normal_running_is_left_out_and_counted() {
    let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
    let all = windows(7, 120);
    for (number, samples) in all.iter().enumerate() {
        let (mut scored, end) = scored(samples);
        match number % 10 {
            3 => {
                let assessment = Assessment::unknown(Reason::Clipped, None, -3.0);
                scored = Scored { assessment, embedding: None, features: None, signal: None };
            }
            7 => scored.assessment = Assessment::unknown(Reason::MachineOff, None, -80.0),
            _ => {}
        }
        learner.on_window(&scored, end);
    }
    let progress = learner.progress();
    assert_eq!((progress.left_out["clipped"], progress.left_out["machine_off"], progress.windows), (12, 12, 96));
    assert!((progress.heard_s - 96.0 * 5.0).abs() < 1.0, "{progress:?}");

    // One window that is like no other, two minutes in.
    let mut samples = all;
    samples[24].embedding = vec![50.0; 4];
    let baseline = propose(&samples, &settings(0.02)).expect("a baseline");
    assert_eq!(baseline.left_out["outlying"], 1);
    assert!(baseline.threshold < 5.0, "{}", baseline.threshold);
}

/// What a provisional alarm leaves out is as if it had never been heard.
#[test]
fn windows_that_are_taken_back_leave_nothing_behind() {
    let learned = |count: usize| {
        let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
        for sample in &windows(7, count) {
            let (scored, end) = scored(sample);
            learner.on_window(&scored, end);
        }
        learner
    };
    let (fifty, mut more) = (learned(50), learned(57));
    let progress = more.take_back(7, "alarm");
    assert_eq!((progress.windows, progress.left_out["alarm"]), (50, 7));
    assert!((progress.heard_s - fifty.progress().heard_s).abs() < 1e-6, "{progress:?}");
    assert_eq!(more.leave_out("alarm").left_out["alarm"], 8);
    let provisional = more.provisional().expect("fifty windows are enough");
    assert_eq!(provisional.threshold, fifty.propose().expect("a baseline").threshold);
    assert!(provisional.has_lanes());
    // More than there are.
    let progress = more.take_back(1000, "alarm");
    assert_eq!((progress.windows, progress.heard_s), (0, 0.0));
    assert!(more.provisional().is_err());
    assert!(!more.takes_all() && more.taking_all().takes_all());
}

/// What is taken back is what was learned last, also where the agent was away in between.
#[test]
fn windows_are_taken_back_across_a_gap() {
    let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
    let all = windows(7, 56);
    let mut before = learner.clone();
    for (number, sample) in all.iter().enumerate() {
        let mut sample = sample.clone();
        if number >= 53 {
            sample.at_s += 3600.0;
        }
        let (scored, end) = scored(&sample);
        learner.on_window(&scored, end);
        if number < 50 {
            before.on_window(&scored, end);
        }
    }
    assert_eq!(learner.check(), Ok(()));
    let progress = learner.take_back(6, "alarm");
    assert_eq!((progress.windows, progress.heard_s), (50, before.progress().heard_s));
    assert_eq!(learner.provisional().expect("enough"), before.provisional().expect("enough"));
    let written = serde_json::to_value(&learner).expect("a learner can be written");
    assert_eq!(written["heard"].as_array().map(Vec::len), Some(50));
}

/// What an import brings.
#[test]
fn numbers_that_cannot_be_are_refused() {
    let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
    for sample in &windows(7, 12) {
        let (scored, end) = scored(sample);
        learner.on_window(&scored, end);
    }
    learner.leave_out("clipped");
    assert_eq!(learner.check(), Ok(()));
    let written = serde_json::to_value(&learner).expect("a learner can be written");
    for (path, value) in [
        ("/windows", u64::MAX.into()),
        ("/stride", (1u64 << 63).into()),
        ("/heard_s", (-1.0).into()),
        ("/settings/wanted_s", 0.0.into()),
        ("/left_out", serde_json::json!({ "alarm": u64::MAX })),
        ("/left_out", serde_json::json!({ "a reason\u{202e} of somebody's": 1 })),
    ] {
        let mut changed = written.clone();
        *changed.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        let learner: Learner = serde_json::from_value(changed).expect("a learner");
        assert!(learner.check().is_err(), "{path}");
    }
}

/// Four windows between each two, as the agent has them of windows of 5 s.
fn heard_between(learner: &mut Learner, seed: u64) {
    for (back_s, sample) in learner.wanted_between_s().into_iter().zip(windows(seed, 4)) {
        learner.on_window_between(&scored(&sample).0, back_s);
    }
}

#[test]
fn from_little_sound_windows_that_overlap_are_learned() {
    let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
    let all = windows(7, 70);
    for (number, sample) in all[..8].iter().enumerate() {
        let (scored, end) = scored(sample);
        let progress = learner.on_window(&scored, end);
        assert_eq!((progress.windows, progress.heard_s), (number as u64 + 1, 5.0 * (number + 1) as f64));
        if number > 0 {
            assert_eq!(learner.wanted_between_s(), [4.0, 3.0, 2.0, 1.0]);
            heard_between(&mut learner, 100 + number as u64);
        }
    }
    // What overlaps is heard once, and counts as no window more.
    assert_eq!((learner.progress().windows, learner.progress().heard_s), (8, 40.0));
    let text = serde_json::to_string(&learner).expect("a learner can be written");
    assert_eq!(serde_json::from_str::<Learner>(&text).expect("a learner"), learner);
    assert_eq!(learner.check(), Ok(()));
    let baseline = learner.propose().expect("a baseline");
    assert_eq!((baseline.projected.windows, baseline.projected.heard_s), (36, 40.0));
    assert!(baseline.has_lanes() && learner.provisional().is_ok_and(|provisional| provisional.has_lanes()));
    assert_eq!(baseline.slow().map(|slow| slow.windows), Some(8), "witnesses of what moves slowly do not overlap");

    // What is taken back leaves nothing of its sound behind.
    let mut less = learner.clone();
    less.take_back(3, "alarm");
    assert_eq!(less.propose().expect("a baseline").projected.windows, 5 + 4 * 4);

    // Where there is enough, they are left out again.
    for sample in &all[8..] {
        let (scored, end) = scored(sample);
        learner.on_window(&scored, end);
    }
    assert!(learner.wanted_between_s().is_empty());
    assert_eq!(learner.propose().expect("a baseline").projected.windows, 70);
    let wanted = |hop_s: f64| {
        let settings = LearnSettings { hop_s, ..settings(0.02) };
        Learner::new(settings, DateTime::UNIX_EPOCH).expect("a valid rate").wanted_between_s()
    };
    assert_eq!((wanted(1.0), wanted(2.5), wanted(6.0)), (vec![], vec![1.25], vec![]));
}

#[test]
fn sound_faster_than_real_time_counts_by_its_own_time() {
    let mut learner = Learner::new(settings(0.02), DateTime::UNIX_EPOCH).expect("a valid rate");
    for (number, samples) in windows(3, 60).iter().enumerate() {
        let (scored, _) = scored(samples);
        learner.on_window(&scored, DateTime::UNIX_EPOCH + TimeDelta::milliseconds(number as i64));
    }
    assert!((learner.progress().heard_s - 300.0).abs() < 1e-6, "{:?}", learner.progress());
    assert!(learner.propose().is_ok_and(|baseline| baseline.has_lanes()));
}

/// The keys of version 0.1's files, whatever the fields are called in code: a baseline and a learner that it wrote are read.
#[test]
fn files_keep_the_keys_of_version_0_1() {
    let keys = |json: &str| -> Vec<String> {
        let file: serde_json::Map<_, _> = serde_json::from_str(json).expect("an object");
        file.keys().cloned().collect()
    };
    let material = windows(1, 60);
    let baseline = propose(&material, &settings(0.05)).expect("windows enough");
    let expected = [
        "bank",
        "false_alarm_rate",
        "format",
        "judgement",
        "learned",
        "left_out",
        "level_dbfs",
        "machine",
        "meant",
        "off_below_dbfs",
        "origin",
        "threshold",
        "threshold_by",
    ];
    assert_eq!(keys(&baseline.to_json()), expected);

    let mut learner = Learner::new(settings(0.05), DateTime::UNIX_EPOCH).expect("a sensible rate");
    for sample in &material {
        let (scored, end) = scored(sample);
        learner.on_window(&scored, end);
    }
    let json = serde_json::to_string(&learner).expect("a learner can be written");
    let expected = ["began", "heard", "heard_s", "last_at_s", "left_out", "settings", "stride", "windows"];
    assert_eq!(keys(&json), expected);
    assert_eq!(serde_json::from_str::<Learner>(&json).expect("a learner"), learner);
}
