//! Windows through a real bundle, learned and judged without an agent.

use std::sync::Arc;

use auscult::bundle::Bundle;
use auscult::encoder::EncoderConfig;
use auscult::features::FrontEnd;
use auscult::scoring::baseline::{LearnSettings, Origin, Sample, propose};
use auscult::scoring::gate::Gate;
use auscult::scoring::{Assessment, Bank, Baseline, Judge, MachineModel, Scorer};
use ndarray::Array2;

/// One machine with what it is scored by.
pub struct Bench {
    scorer: Scorer,
    bare: MachineModel,
}

impl Bench {
    /// With this bundle; it judges nothing yet.
    pub fn new(bundle: &std::path::Path) -> Bench {
        let (bundle, engine) = Bundle::open(bundle, &EncoderConfig::default()).expect("a bundle");
        let empty = Bank::new(Array2::zeros((0, 32)));
        let index = bundle.machines[0].index;
        let bare = MachineModel::new(index, empty, f64::INFINITY, FrontEnd::default(), Gate::default());
        Bench { scorer: Scorer::new(engine), bare }
    }

    fn sample(&mut self, part: u32, at_s: f64, window: &[f32]) -> Sample {
        let scored = self.scorer.score(&self.bare, window).expect("a window");
        let (embedding, features) = (scored.embedding.expect("it is sound"), scored.features.expect("it is sound"));
        Sample::new(part, at_s, scored.assessment.level_dbfs, embedding, features)
    }

    /// Of windows that follow each other.
    pub fn samples(&mut self, windows: &[Vec<f32>], begin_s: f64) -> Vec<Sample> {
        let windows = windows.iter().enumerate();
        windows.map(|(number, window)| self.sample(0, begin_s + 5.0 * number as f64, window)).collect()
    }

    /// Of windows with so many seconds from one to the next.
    pub fn baseline(&mut self, samples: &[Sample], hop_s: f64) -> Baseline {
        let settings = LearnSettings {
            machine: "fan-1".into(),
            origin: Origin {
                bundle: "b".into(),
                encoder_sha256: "e".into(),
                index: self.bare.index,
                front_end: FrontEnd::default(),
            },
            hop_s,
            wanted_s: 500.0,
            false_alarm_rate: 0.01,
            previous_threshold: None,
        };
        propose(samples, &settings).expect("a baseline").keeping(samples)
    }

    /// By all lanes together.
    pub fn judge(&mut self, baseline: &Baseline, windows: &[Vec<f32>]) -> Vec<Assessment> {
        let model = self.bare.clone().with_baseline(Arc::new(baseline.clone()), Judge::Combined);
        windows.iter().map(|window| self.scorer.score(&model, window).expect("a window").assessment).collect()
    }
}
