//! From a window to its verdict: gate, spectrogram, embedding, distance, threshold; from verdicts to an alarm.
//! Pure: no I/O, no clock.

pub mod alarm;
mod bank;
pub mod stats;
mod verdict;

pub use bank::Bank;
pub use verdict::{Assessment, Lane, Reason, Verdict, judge};

use crate::audio::health::{self, Gate};
use crate::encoder::Engine;
use crate::features::{FeatureError, FrontEnd, MelExtractor};

/// What one machine is scored with.
#[derive(Debug, Clone)]
pub struct MachineModel {
    /// Index that the encoder is conditioned on.
    pub index: u32,
    pub bank: Bank,
    pub threshold: f64,
    pub front_end: FrontEnd,
    pub gate: Gate,
}

/// What came of one window.
#[derive(Debug, Clone)]
pub struct Scored {
    pub assessment: Assessment,
    /// The embedding, where it was computed.
    pub embedding: Option<Vec<f32>>,
}

/// Scores windows of any machine of one bundle: holds the engine and one front-end for each set of parameters.
pub struct Scorer {
    engine: Box<dyn Engine>,
    extractors: Vec<MelExtractor>,
}

impl Scorer {
    pub fn new(engine: Box<dyn Engine>) -> Self {
        Scorer { engine, extractors: Vec::new() }
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Scores one window of exactly `model.front_end.window_samples()` samples.
    ///
    /// # Errors
    /// Front-end parameters or a window length that cannot be computed with. Whatever is wrong with the *signal* is no
    /// error but an `unknown` verdict with its reason.
    pub fn score(&mut self, model: &MachineModel, window: &[f32]) -> Result<Scored, FeatureError> {
        let signal = health::inspect(window, &model.gate);
        let level_dbfs = signal.level_dbfs;
        if let Some(reason) = signal.fault {
            let assessment = Assessment::unknown(reason, Some(model.threshold), level_dbfs);
            return Ok(Scored { assessment, embedding: None });
        }
        let extractor = self.extractor(&model.front_end)?;
        let image = match self.extractors[extractor].compute(window) {
            Err(FeatureError::NotFinite) => {
                let assessment = Assessment::unknown(Reason::NotFinite, Some(model.threshold), level_dbfs);
                return Ok(Scored { assessment, embedding: None });
            }
            image => image?,
        };
        let embedding = match self.engine.embed(image, model.index) {
            Ok(embedding) => embedding,
            Err(error) => {
                tracing::error!(%error, "the encoder failed on a window");
                let assessment = Assessment::unknown(Reason::NotFinite, Some(model.threshold), level_dbfs);
                return Ok(Scored { assessment, embedding: None });
            }
        };
        let distance = model.bank.nearest(&embedding).map_or(f64::NAN, |(_, distance)| distance);
        let assessment = judge(distance, model.threshold, level_dbfs);
        Ok(Scored { assessment, embedding: Some(embedding) })
    }

    /// Makes the front-end of `model` ready, so that parameters that cannot be computed with are known at once.
    ///
    /// # Errors
    /// As [`MelExtractor::new`].
    pub fn prepare(&mut self, model: &MachineModel) -> Result<(), FeatureError> {
        self.extractor(&model.front_end).map(|_| ())
    }

    fn extractor(&mut self, front_end: &FrontEnd) -> Result<usize, FeatureError> {
        if let Some(found) = self.extractors.iter().position(|known| known.front_end() == front_end) {
            return Ok(found);
        }
        self.extractors.push(MelExtractor::new(front_end)?);
        Ok(self.extractors.len() - 1)
    }
}
