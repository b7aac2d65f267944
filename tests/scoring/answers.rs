//! A false alarm that is answered as normal: the same disturbance raises none later, and a fault that is laid over the
//! machine is still found. The area under the ROC curve of the score, before and after, is printed.

use std::path::Path;

use auscult::audio::synth::{Kind, SynthMachine};
use auscult::scoring::alarm::{Alarm, AlarmConfig, AlarmState};
use auscult::scoring::baseline::Sample;
use auscult::scoring::{Assessment, Verdict};
use chrono::{DateTime, TimeDelta};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::bench::Bench;
use crate::common::overlay::Overlay;
use crate::common::recordings;

const RATE_HZ: f64 = 16_000.0;
const WINDOW: usize = 80_000;

fn take(take: u64, windows: usize) -> Vec<Vec<f32>> {
    let mut machine = SynthMachine::new(Kind::Fan, 7, take);
    let window = |_| {
        let mut window = vec![0.0; WINDOW];
        machine.fill(&mut window);
        window
    };
    (0..windows).map(window).collect()
}

/// Windows with something laid over them.
fn with(windows: Vec<Vec<f32>>, overlay: Overlay, strength: f64, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let lay = |mut window: Vec<f32>| {
        overlay.apply(&mut window, RATE_HZ, strength, &mut rng);
        window
    };
    windows.into_iter().map(lay).collect()
}

/// Whether the default settings raise an alarm over these windows.
fn raises(assessments: &[Assessment]) -> bool {
    let mut alarm = Alarm::new(AlarmConfig::default(), DateTime::UNIX_EPOCH);
    let mut states = assessments.iter().enumerate().map(|(number, assessment)| {
        let _ = alarm.on_verdict(assessment, DateTime::UNIX_EPOCH + TimeDelta::seconds(5 * number as i64));
        alarm.status().state
    });
    states.any(|state| state == AlarmState::Active)
}

/// Probability that a faulty window scores higher than a normal one.
fn auc(normal: &[Assessment], faulty: &[Assessment]) -> f64 {
    let score = |one: &Assessment| one.score.unwrap_or_default();
    let wins = faulty.iter().flat_map(|faulty| {
        normal.iter().map(move |normal| match score(faulty).total_cmp(&score(normal)) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
    });
    wins.sum::<f64>() / (normal.len() * faulty.len()) as f64
}

fn anomalous(assessments: &[Assessment]) -> usize {
    assessments.iter().filter(|one| one.verdict == Verdict::Anomalous).count()
}

/// As alarm.confirm takes them: those that were anomalous are confirmed.
fn answered(samples: Vec<Sample>, judged: &[Assessment]) -> Vec<Sample> {
    let confirm =
        |(sample, judged): (Sample, &Assessment)| Sample { confirmed: judged.verdict == Verdict::Anomalous, ..sample };
    samples.into_iter().zip(judged).map(confirm).collect()
}

/// Seconds from window to window of recordings that are hardly longer than one.
const HOP_S: f64 = 0.25;

/// The windows of a real recording, all brought to one level: loudness tells nothing.
fn recording(file: &Path) -> Vec<Vec<f32>> {
    let rate_hz = hound::WavReader::open(file).expect("a WAV file").spec().sample_rate as usize;
    let mono = recordings::mono(file);
    // A whole number of samples at either rate.
    let whole = mono.len() - mono.len() % (rate_hz / 100);
    let mut sound = recordings::to_rate(&mono[..whole], rate_hz, RATE_HZ as usize);
    let level = (sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32).sqrt();
    sound.iter_mut().for_each(|sample| *sample *= 0.05 / level);
    sound.windows(WINDOW).step_by((HOP_S * RATE_HZ) as usize).map(<[f32]>::to_vec).collect()
}

#[test]
fn on_a_real_motor_hammering_that_was_answered_normal_does_not_alarm_again_and_a_broken_propeller_does() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    let motor = |name: &str| recording(&shared.join("real/motor-1").join(name));
    let healthy = |speed: &str| motor(&format!("normal/healthy_{speed}rpm.wav"));
    // It goes through its speeds all the time, so that each part of what is learned has heard them all.
    let speeds = ["1400", "1450", "1550", "1650", "1750"].map(healthy);
    let turns = speeds.iter().map(Vec::len).min().unwrap_or_default();
    let learned: Vec<_> = (0..turns).flat_map(|turn| speeds.iter().map(move |speed| speed[turn].clone())).collect();
    let learned = bench.samples(&learned, 0.0);
    let before = bench.baseline(&learned, 5.0);
    // Hammering beside the motor, and the same a week later.
    let first = with(healthy("1450"), Overlay::NoiseBursts, 0.6, 1);
    let again = with(healthy("1650"), Overlay::NoiseBursts, 0.6, 2);
    let judged = bench.judge(&before, &first);
    let more = answered(bench.samples(&first, 1e6), &judged);
    let after = before.extended(&more, 5.0, "2026-03-03T12:00:00Z".into()).expect("a baseline");
    let (was, is) = (bench.judge(&before, &again), bench.judge(&after, &again));
    println!(
        "hammering again: {} of {} windows anomalous before, {} after",
        anomalous(&was),
        was.len(),
        anomalous(&is)
    );
    assert!(anomalous(&was) > 0 && anomalous(&is) == 0, "{} and {}", anomalous(&was), anomalous(&is));
    let normal: Vec<_> = ["1850", "1950", "2000"].iter().flat_map(|speed| healthy(speed)).collect();
    let (normal_before, normal_after) = (bench.judge(&before, &normal), bench.judge(&after, &normal));
    let speeds = ["1400", "1450", "1550", "1650", "1750", "1850"];
    let faulty: Vec<_> = speeds.iter().flat_map(|speed| motor(&format!("abnormal/propeller_{speed}rpm.wav"))).collect();
    let (was, is) = (bench.judge(&before, &faulty), bench.judge(&after, &faulty));
    let (auc_before, auc_after) = (auc(&normal_before, &was), auc(&normal_after, &is));
    println!(
        "broken propeller: AUC {auc_before:.3} before, {auc_after:.3} after; {} and {} of {} windows anomalous; of {} \
         normal ones {} and {}",
        anomalous(&was),
        anomalous(&is),
        faulty.len(),
        normal.len(),
        anomalous(&normal_before),
        anomalous(&normal_after),
    );
    assert!(auc_after > auc_before - 0.05, "{auc_before} -> {auc_after}");
    assert!(
        anomalous(&is) * 10 >= anomalous(&was) * 9,
        "it is found no more: {} -> {}",
        anomalous(&was),
        anomalous(&is)
    );
}

#[test]
fn a_false_alarm_that_was_answered_normal_does_not_come_again_and_faults_still_do() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    let learned = bench.samples(&take(0, 150), 0.0);
    let before = bench.baseline(&learned, 5.0);
    // Hammering beside the machine, for two minutes; and the same a week later.
    let hammering = |number: u64| with(take(number, 24), Overlay::NoiseBursts, 0.6, number);
    let (first, again) = (hammering(1), with(take(2, 40), Overlay::NoiseBursts, 0.6, 2));
    let judged = bench.judge(&before, &first);
    assert!(raises(&judged), "{} of 24 windows", anomalous(&judged));

    let more = answered(bench.samples(&first, 1e6), &judged);
    let after = before.extended(&more, 5.0, "2026-03-03T12:00:00Z".into()).expect("a baseline");
    let (was, is) = (bench.judge(&before, &again), bench.judge(&after, &again));
    println!("the disturbance again: {} of 40 windows anomalous before, {} after", anomalous(&was), anomalous(&is));
    assert!(raises(&was) && !raises(&is), "{} and {} of 40 windows", anomalous(&was), anomalous(&is));

    let normal = take(3, 60);
    let (normal_before, normal_after) = (bench.judge(&before, &normal), bench.judge(&after, &normal));
    assert!(!raises(&normal_after), "{} of 60 windows", anomalous(&normal_after));
    for (overlay, strength) in [(Overlay::BlockedFlow, 1.0), (Overlay::Unbalance, 1.0), (Overlay::Rubbing, 1.0)] {
        let faulty = with(take(4, 30), overlay, strength, 4);
        let (was, is) = (bench.judge(&before, &faulty), bench.judge(&after, &faulty));
        let (auc_before, auc_after) = (auc(&normal_before, &was), auc(&normal_after, &is));
        println!(
            "{:12} {strength}: AUC {auc_before:.3} before, {auc_after:.3} after; {} and {} of 30 windows anomalous",
            overlay.name(),
            anomalous(&was),
            anomalous(&is),
        );
        assert!(auc_after > auc_before - 0.05, "{}: {auc_before} -> {auc_after}", overlay.name());
        // Rubbing is bursts of noise too: what hammering beside the machine hides.
        assert!(!raises(&was) || raises(&is) || overlay == Overlay::Rubbing, "{} is found no more", overlay.name());
    }
}
