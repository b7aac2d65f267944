//! A baseline that version 0.1 has learned judges as it did there.

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

#[test]
fn a_baseline_of_version_0_1_judges_as_it_did() {
    let text = include_str!("../fixtures/baseline-0.1/fan.json");
    let baseline = Baseline::from_json(text).expect("what version 0.1 wrote");
    assert!(baseline.has_lanes());
    // What version 0.1 said of the same sound: distance, score, lane.
    let healthy = SynthMachine::new(Kind::Fan, 7, 9);
    let ill = SynthMachine::with_fault(Kind::Fan, 7, 10, FaultPlan::now(Fault::Bursts, 0.6));
    let (healthy, ill) = (features(healthy, 3), features(ill, 1));
    for (features, distance, score, lane) in [
        (&healthy[0], 0.550593, 1.633794, "envelope"),
        (&healthy[1], 0.538087, 0.197428, "spectrum"),
        (&healthy[2], 0.683010, 0.563158, "distance"),
        (&ill[0], 2.665355, 9.443629, "burst"),
    ] {
        let found = baseline.lane_score(distance, features).expect("lanes");
        // The recordings that it scored were of 16 bits.
        assert!((found.score - score).abs() < 0.02 * (1.0 + score), "{found:?} instead of {score} by {lane}");
        assert_eq!(found.lane.to_string(), lane);
    }
    let written: Baseline = Baseline::from_json(&baseline.to_json()).expect("what was written");
    assert_eq!(written, baseline);
}
