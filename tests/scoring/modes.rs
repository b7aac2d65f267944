//! A machine with several speeds: they are found by themselves, one that was never heard is anomalous and says so, after it
//! was added it is normal; each speed has its own level, and the machine stands still below the quietest.

use std::path::Path;
use std::process::Command;

use auscult::audio::synth::{Cycle, Kind, SynthMachine};
use auscult::scoring::baseline::Sample;
use auscult::scoring::{Assessment, Reason, Verdict};

use crate::bench::Bench;

const WINDOW: usize = 80_000;

fn fan(take: u64) -> SynthMachine {
    SynthMachine::new(Kind::Fan, 7, take).with_snr_db(30.0)
}

fn windows(mut machine: SynthMachine, count: usize) -> Vec<Vec<f32>> {
    let window = |_| {
        let mut window = vec![0.0; WINDOW];
        machine.fill(&mut window);
        window
    };
    (0..count).map(window).collect()
}

/// Windows at this share of its speed.
fn at_speed(share: f64, take: u64, count: usize) -> Vec<Vec<f32>> {
    windows(fan(take).with_shaft_speed(share), count)
}

fn share(assessments: &[Assessment], is: impl Fn(&Assessment) -> bool) -> f64 {
    assessments.iter().filter(|one| is(one)).count() as f64 / assessments.len() as f64
}

fn is_anomalous(one: &Assessment) -> bool {
    one.verdict == Verdict::Anomalous
}

fn says(one: &Assessment, words: &str) -> bool {
    is_anomalous(one) && one.why.as_ref().is_some_and(|why| why.to_string().contains(words))
}

#[test]
fn a_speed_that_was_never_heard_is_anomalous_until_it_is_added_and_each_has_its_own_level() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    // It changes between two speeds every 50 s.
    let (fast, slow) = (at_speed(1.0, 0, 80), at_speed(0.7, 1, 80));
    let turns = fast.chunks(10).zip(slow.chunks(10)).flat_map(|(fast, slow)| [fast, slow].concat());
    let learned = bench.samples(&turns.collect::<Vec<_>>(), 0.0);
    let before = bench.baseline(&learned, 5.0);
    let [quiet, loud] = before.mode_levels() else { panic!("two speeds, found {:?}", before.mode_levels()) };
    assert!((quiet.share - 0.5).abs() < 0.05 && (loud.share - 0.5).abs() < 0.05, "{quiet:?} {loud:?}");
    assert!(loud.level_dbfs - quiet.level_dbfs > 4.0, "{quiet:?} {loud:?}");
    for speed in [1.0, 0.7] {
        let known = bench.judge(&before, &at_speed(speed, 2, 30));
        assert!(share(&known, is_anomalous) < 0.1, "{speed}: {}", share(&known, is_anomalous));
    }

    // A speed above the two; one half-way between them is anomalous as surely, but some of its windows are like one of them.
    for (speed, least) in [(1.4, 0.9), (0.85, 0.5)] {
        let found = bench.judge(&before, &at_speed(speed, 3, 20));
        let said = share(&found, |one| says(one, "unlike any of 2 known modes"));
        println!(
            "at {speed} of its speed: {:.0} % anomalous, {:.0} % say why",
            100.0 * share(&found, is_anomalous),
            100.0 * said
        );
        assert!(share(&found, is_anomalous) > 0.9 && said > least, "{speed}: {said}");
    }
    let heard = bench.samples(&at_speed(0.85, 4, 15), 1e6);
    let added: Vec<_> = heard.into_iter().map(|sample| Sample { confirmed: true, ..sample }).collect();
    let after = before.extended(&added, 5.0, "2026-03-03T12:00:00Z".into()).expect("a baseline");
    assert_eq!(after.modes(), 3);
    for speed in [1.0, 0.85, 0.7] {
        let known = bench.judge(&after, &at_speed(speed, 5, 30));
        println!("at {speed} of its speed: {:.0} % anomalous once added", 100.0 * share(&known, is_anomalous));
        assert!(share(&known, is_anomalous) < 0.15, "{speed}");
    }
    let found = bench.judge(&after, &at_speed(1.4, 6, 20));
    assert!(share(&found, |one| says(one, "unlike any of 3 known modes")) > 0.9);

    // 8 dB louder than this speed was ever heard, though the other one is as loud.
    let louder = |windows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
        windows.into_iter().map(|window| window.iter().map(|sample| 2.5 * sample).collect()).collect()
    };
    let found = bench.judge(&before, &louder(at_speed(0.7, 7, 20)));
    let said = share(&found, |one| says(one, "dB louder than in mode 1 of 2"));
    assert!(said > 0.9, "{said}: {:?}", found[0].why);
}

#[test]
fn it_stands_still_below_its_quietest_speed() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    // One minute in ten it runs slowly, and once it stops for 15 s.
    let (fast, slow) = (at_speed(1.0, 0, 108), at_speed(0.7, 1, 12));
    let still = || windows(fan(2).with_cycle(Cycle { run_s: 0.0, stop_s: 1e9 }), 13).split_off(4);
    let learned = bench.samples(&[slow, fast, still()[..2].to_vec()].concat(), 0.0);
    let baseline = bench.baseline(&learned, 5.0);
    assert_eq!(baseline.modes(), 2);
    let slow = bench.judge(&baseline, &at_speed(0.7, 3, 20));
    assert!(slow.iter().all(|one| one.reason.is_none()), "a quiet speed is not off: {slow:?}");
    let still = bench.judge(&baseline, &still());
    assert!(still.iter().all(|one| one.reason == Some(Reason::MachineOff)), "{still:?}");
}

#[test]
fn enroll_shows_what_it_found() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let auscult = |words: &[&str], paths: &[&Path]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_auscult")).args(words).args(paths).output().expect("auscult starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (clips, bundle) = (dir.path().join("clips"), shared.join("escoita-bundle").display().to_string());
    for (speed, take) in [("1", "0"), ("0.7", "100")] {
        let words =
            ["synth", "fan", "--seed", "7", "--snr", "30", "--shaft-speed", speed, "--take", take, "--minutes", "3"];
        auscult(&[&words[..], &["--clip", "30", "-o"]].concat(), &[&clips]);
    }
    let enroll = |format: &[&str], name: &str| {
        let out = dir.path().join(name);
        let words = ["enroll", "--bundle", &bundle, "--machine", "fan-7", "--out"];
        auscult(&[&words[..], &[out.to_str().expect("UTF-8")], format].concat(), &[&clips])
    };
    let facts: serde_json::Value = serde_json::from_str(&enroll(&["--json"], "one")).expect("an object");
    let levels = facts["mode_levels"].as_array().expect("a list");
    assert_eq!((&facts["modes"], levels.len()), (&2.into(), 2), "{facts}");
    assert!(levels.iter().all(|mode| (mode["share"].as_f64().expect("a share") - 0.5).abs() < 0.1), "{facts}");
    let table = enroll(&[], "two").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(table.contains("2 ways of running were found: 1 of 2, 50 % of the windows at -"), "{table}");
}
