//! Recordings of a machine as arguments: what `score`, `replay` and `enroll` have in common.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Failure;
use super::engine::EngineArgs;
use super::sound::{FileQueue, SoundArgs};
use crate::bundle::{Bundle, FitError, FittedModel, Overrides};
use crate::encoder::Engine;
use crate::scoring::Judge;
use crate::scoring::threshold::Threshold;

#[derive(ClapArgs)]
pub(super) struct RecordingArgs {
    /// WAV, FLAC, Ogg Vorbis and MP3 files, and directories to be searched for them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Directory of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Which of the bundle's machines it is
    #[arg(long, value_name = "NAME")]
    pub machine: String,
    #[command(flatten)]
    pub sound: SoundArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What decides about the windows of recordings.
#[derive(ClapArgs)]
pub(super) struct JudgingArgs {
    /// Limit of the distance [default: the baseline's, else the bundle's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    threshold: Option<Threshold>,
    /// What decides: distance or combined [default: combined with a baseline, distance with --threshold]
    #[arg(long, value_name = "WHAT", value_parser = judge)]
    judge: Option<Judge>,
}

fn judge(text: &str) -> Result<Judge, String> {
    serde_json::from_value(text.into()).map_err(|_| "expected distance or combined".into())
}

impl RecordingArgs {
    pub fn files(&self) -> FileQueue {
        FileQueue::new(&self.paths)
    }

    /// The bundle and its engine.
    pub fn open(&self) -> Result<(Bundle, Box<dyn Engine>), Failure> {
        Bundle::open(&self.bundle, &self.engine.config()).map_err(Failure::data)
    }

    /// The machine's model in `bundle`; `cure` says how a threshold that is missing can be given.
    pub fn model(&self, bundle: &Bundle, overrides: &Overrides, cure: &str) -> Result<FittedModel, Failure> {
        let fitted = bundle.machine_model(&self.machine, overrides).map_err(|error| match error {
            FitError::NoThreshold { .. } => Failure::data(anyhow::anyhow!("{error}: {cure}")),
            FitError::Unknown(error) => Failure::data(error),
        })?;
        fitted.model.front_end.check().map_err(Failure::usage)?;
        Ok(fitted)
    }
}

impl JudgingArgs {
    pub fn threshold(&self) -> Option<f64> {
        self.threshold.map(Threshold::get)
    }

    /// What the arguments change of a bundle's machine.
    pub fn overrides(&self, sound: &SoundArgs) -> Overrides {
        let judge = if self.threshold.is_some() { Judge::Distance } else { Judge::Combined };
        let (fmin_hz, fmax_hz) = sound.band_hz();
        let judge = Some(self.judge.unwrap_or(judge));
        Overrides { threshold: self.threshold(), fmin_hz, fmax_hz, judge, ..Overrides::default() }
    }
}
