//! Baselines that were learned when lanes were combined in other ways judge as they did then.

use auscult::audio::synth::{Fault, FaultPlan, Kind, SynthMachine};
use auscult::features::{FrontEnd, MelExtractor};
use auscult::scoring::Baseline;
use auscult::scoring::lanes::{FeatureExtractor, Features};

/// The first windows of a machine's take.
fn features(mut machine: SynthMachine, windows: usize) -> Vec<Features> {
    let front_end = FrontEnd::default();
    let (mut mel, mut lanes) = (MelExtractor::new(&front_end).expect("a front-end"), FeatureExtractor::new(&front_end));
    let mut of_window = |_| {
        let mut window = vec![0.0; front_end.window_samples()];
        machine.fill(&mut window);
        mel.compute(&window).expect("finite samples");
        lanes.extract(&window, mel.mel_db(), front_end.n_mels)
    };
    (0..windows).map(&mut of_window).collect()
}

/// Whether a baseline says of the same sound what was said when it was learned: distance, score, lane of each window.
fn assert_judges(text: &str, healthy: &[(f64, f64, &str)], ill: (f64, f64, &str)) {
    let baseline = Baseline::from_json(text).expect("what an earlier version wrote");
    assert!(baseline.has_lanes());
    let of_healthy = features(SynthMachine::new(Kind::Fan, 7, 9), healthy.len());
    let of_ill = features(SynthMachine::with_fault(Kind::Fan, 7, 10, FaultPlan::now(Fault::Bursts, 0.6)), 1);
    for (features, (distance, score, lane)) in of_healthy.iter().chain(&of_ill).zip(healthy.iter().chain([&ill])) {
        let found = baseline.lane_score(*distance, features).expect("lanes");
        // The recordings that were scored then were of 16 bits.
        assert!((found.score - score).abs() < 0.02 * (1.0 + score), "{found:?} instead of {score} by {lane}");
        assert_eq!(found.lane.to_string(), *lane);
    }
    let written: Baseline = Baseline::from_json(&baseline.to_json()).expect("what was written");
    assert_eq!(written, baseline);
}

#[test]
fn a_baseline_of_version_0_1_judges_as_it_did() {
    let healthy =
        [(0.550593, 1.633794, "envelope"), (0.538087, 0.197428, "spectrum"), (0.683010, 0.563158, "distance")];
    assert_judges(include_str!("../fixtures/baseline-0.1/fan.json"), &healthy, (2.665355, 9.443629, "burst"));
}

#[test]
fn a_baseline_whose_lanes_are_averaged_in_fourth_powers_judges_as_it_did() {
    let healthy = [(0.561603, 0.028850, "texture"), (0.538087, 0.044306, "spectrum")];
    let text = include_str!("../fixtures/baseline-fourth-powers/fan.json");
    assert_judges(text, &healthy, (2.589142, 2.378297, "burst"));
}
