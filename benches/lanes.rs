//! What the score sees: `cargo bench --bench lanes` prints, for each fault and strength, the area under the ROC curve of
//! the score and of the distance alone, and the share of false alarms at the asked 1 %.
//!
//! For each machine a baseline is learned from 100 windows; fresh normal windows of another time, and the same with a
//! fault laid over them, are scored. Simulated machines are drawn from seeds; the real ones need `../shared`. Encoder:
//! that of `../shared/escoita-bundle`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use auscult::audio::synth::{Kind, SynthMachine};
use auscult::bundle::Bundle;
use auscult::encoder::EncoderConfig;
use auscult::features::FrontEnd;
use auscult::scoring::baseline::{LearnSettings, Origin, Sample, propose};
use auscult::scoring::gate::Gate;
use auscult::scoring::{Assessment, Bank, Judge, MachineModel, Scorer};
use ndarray::Array2;
use rand::SeedableRng;
use rand::rngs::StdRng;

use common::overlay::Overlay;

const RATE_HZ: f64 = 16_000.0;
const WINDOW: usize = 80_000;
const STRENGTHS: [f64; 3] = [0.3, 0.6, 1.0];
const RATE: f64 = 0.01;

/// One machine's sound: what is learned from (recording by recording), and what is judged, of another time.
struct Case {
    name: String,
    train: Vec<Vec<Vec<f32>>>,
    test: Vec<Vec<f32>>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let Some(shared) = common::shared() else { return };
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let first: u64 = std::env::var("FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (bundle, engine) = Bundle::open(&shared.join("escoita-bundle"), &EncoderConfig::default()).expect("a bundle");
    let mut bench = Bench { scorer: Scorer::new(engine), index: bundle.machines[0].index, all: Vec::new() };
    println!("{:24} {:14} {:>8} {:>9} {:>9} {:>9}", "machine", "fault", "strength", "score", "distance", "found");
    for kind in Kind::ALL {
        for seed in first..first + seeds {
            bench.run(&simulated(kind, seed));
        }
    }
    for case in common::recordings::clips(&shared).iter().map(|clip| real(clip)) {
        bench.run(&case);
    }
    bench.sum_up();
}

/// 100 windows of one take, and 200 of other takes: the same machine at other times.
fn simulated(kind: Kind, seed: u64) -> Case {
    let take = |take: u64, windows: usize| {
        let mut machine = SynthMachine::new(kind, seed, take);
        (0..windows)
            .map(|_| {
                let mut window = vec![0.0; WINDOW];
                machine.fill(&mut window);
                window
            })
            .collect::<Vec<_>>()
    };
    let test = (100..110).flat_map(|number| take(number, 20)).collect();
    Case { name: format!("{} {seed}", kind.name()), train: vec![take(0, 100)], test }
}

/// A real clip has 10 s on 8 channels. Windows that overlap by 4.7 s from half of the channels are learned; those of the
/// other channels, which hear the machine from another side, are judged.
fn real(clip: &std::path::Path) -> Case {
    let mut reader = hound::WavReader::open(clip).expect("a clip");
    let channels = usize::from(reader.spec().channels);
    let samples: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.expect("a sample")) / 32768.0).collect();
    let channel = |number: usize| samples.iter().skip(number).step_by(channels).copied().collect::<Vec<f32>>();
    let windows = |number: usize, hop: usize| {
        channel(number).windows(WINDOW).step_by(hop).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let train = (0..channels).step_by(2).map(|number| windows(number, 3_200)).collect();
    let test = (1..channels).step_by(2).flat_map(|number| windows(number, 3_200)).collect();
    let name = clip.file_stem().expect("a name").to_string_lossy().replace("mimii_", "");
    Case { name: name.chars().take(24).collect(), train, test }
}

struct Bench {
    scorer: Scorer,
    index: u32,
    /// Machine, fault, strength, AUC of the score and of the distance; false alarms of each machine.
    all: Vec<(String, Overlay, f64, f64, f64)>,
}

impl Bench {
    fn run(&mut self, case: &Case) {
        let front_end = FrontEnd::default();
        let empty = Bank::new(Array2::zeros((0, 32)));
        let bare = MachineModel::new(self.index, empty, f64::INFINITY, front_end.clone(), Gate::default());
        let mut heard = Vec::new();
        for (recording, windows) in case.train.iter().enumerate() {
            for (number, window) in windows.iter().enumerate() {
                let scored = self.scorer.score(&bare, window).expect("a window");
                let (Some(embedding), Some(features)) = (scored.embedding, scored.features) else { continue };
                let step_s = if case.train.len() > 1 { 0.2 } else { 5.0 };
                let (at_s, level_dbfs) = (number as f64 * step_s, scored.assessment.level_dbfs);
                heard.push(Sample::new(recording as u32, at_s, level_dbfs, embedding, features));
            }
        }
        let settings = LearnSettings {
            machine: case.name.clone(),
            origin: Origin { bundle: "b".into(), encoder_sha256: "e".into(), index: self.index, front_end },
            hop_s: 5.0,
            wanted_s: 500.0,
            false_alarm_rate: RATE,
            previous_threshold: None,
        };
        let baseline = match propose(&heard, &settings) {
            Ok(baseline) => baseline,
            Err(error) => return println!("{:24} {error}", case.name),
        };
        let model = bare.with_baseline(Arc::new(baseline), Judge::Combined);
        let normal: Vec<Assessment> = case.test.iter().map(|window| self.judge(&model, window)).collect();
        let share = |of: &dyn Fn(&Assessment) -> bool| {
            100.0 * normal.iter().filter(|one| of(one)).count() as f64 / normal.len() as f64
        };
        let by_score = share(&|one| one.p_value.is_some_and(|p| p < RATE));
        let by_distance = share(&|one| one.distance > one.threshold);
        println!(
            "{:24} {:14} {:>8} {:>8.1}% {:>8.1}%   of {} normal windows; asked {} %",
            case.name,
            "false alarms",
            "",
            by_score,
            by_distance,
            normal.len(),
            100.0 * RATE
        );
        if std::env::var("LANES").is_ok() {
            let mut lanes = std::collections::BTreeMap::<String, usize>::new();
            for one in normal.iter().filter(|one| one.p_value.is_some_and(|p| p < 0.02)) {
                *lanes.entry(format!("{:?}", one.lane)).or_default() += 1;
            }
            println!("    {lanes:?}");
        }
        for fault in Overlay::ALL {
            for strength in STRENGTHS {
                let mut rng = StdRng::seed_from_u64(fault as u64 * 100 + (strength * 10.0) as u64);
                let faulty: Vec<Assessment> = case
                    .test
                    .iter()
                    .step_by(case.test.len().div_ceil(60))
                    .map(|window| {
                        let mut window = window.clone();
                        fault.apply(&mut window, RATE_HZ, strength, &mut rng);
                        self.judge(&model, &window)
                    })
                    .collect();
                let score = auc(&normal, &faulty, |one| one.score);
                let distance = auc(&normal, &faulty, |one| one.distance);
                let found = faulty.iter().filter(|one| one.p_value.is_some_and(|p| p < RATE)).count();
                println!(
                    "{:24} {:14} {strength:>8.1} {score:>9.3} {distance:>9.3} {:>8.0}%",
                    case.name,
                    fault.name(),
                    100.0 * found as f64 / faulty.len() as f64
                );
                self.all.push((case.name.clone(), fault, strength, score, distance));
            }
        }
    }

    fn judge(&mut self, model: &MachineModel, window: &[f32]) -> Assessment {
        self.scorer.score(model, window).expect("a window").assessment
    }

    fn sum_up(&self) {
        println!(
            "\n{:14} {:>8} {:>9} {:>9} {:>9}   over all machines",
            "fault", "strength", "score", "worst", "distance"
        );
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        for fault in Overlay::ALL {
            for strength in STRENGTHS {
                let of = |pick: fn(&(String, Overlay, f64, f64, f64)) -> f64| {
                    let rows = self.all.iter().filter(|row| row.1 == fault && row.2 == strength);
                    rows.map(pick).collect::<Vec<f64>>()
                };
                let (score, distance) = (of(|row| row.3), of(|row| row.4));
                let worst = score.iter().copied().fold(1.0, f64::min);
                println!(
                    "{:14} {strength:>8.1} {:>9.3} {worst:>9.3} {:>9.3}",
                    fault.name(),
                    mean(&score),
                    mean(&distance)
                );
            }
        }
        let (score, distance): (Vec<f64>, Vec<f64>) = self.all.iter().map(|row| (row.3, row.4)).unzip();
        println!("{:14} {:>8} {:>9.3} {:>9} {:>9.3}", "mean", "", mean(&score), "", mean(&distance));
    }
}

/// Area under the ROC curve: how often a faulty window scores above a normal one. Windows without a value count half.
fn auc(normal: &[Assessment], faulty: &[Assessment], of: impl Fn(&Assessment) -> Option<f64>) -> f64 {
    let mut sum = 0.0;
    for one in faulty {
        for other in normal {
            sum += match (of(one), of(other)) {
                (Some(a), Some(b)) if a > b => 1.0,
                (Some(a), Some(b)) if a < b => 0.0,
                _ => 0.5,
            };
        }
    }
    sum / (normal.len() * faulty.len()).max(1) as f64
}
