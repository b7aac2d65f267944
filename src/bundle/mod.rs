//! The model bundle: read, checked against itself and against the engine that runs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::encoder::{self, EncoderConfig, Engine};
use crate::features::FrontEnd;
use crate::scoring::Bank;

/// One clear line: the file, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct BundleError {
    pub file: PathBuf,
    pub problem: String,
}

/// One machine that the bundle was trained on.
#[derive(Debug, Clone)]
pub struct BundleMachine {
    pub name: String,
    /// Index that the encoder is conditioned on.
    pub index: u32,
    /// `None` where the bundle has no threshold for it; the configuration must then give one.
    pub threshold: Option<f64>,
    pub bank: Bank,
    pub front_end: FrontEnd,
}

/// A bundle whose files agree with each other.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub dir: PathBuf,
    /// From `bundle.toml`, else the directory's name.
    pub name: String,
    /// From `bundle.toml`, else the first 12 hex digits of `digest`.
    pub version: String,
    /// SHA-256 over the five files, hex.
    pub digest: String,
    /// The bytes of `encoder.tflite`.
    pub encoder: Arc<[u8]>,
    /// In the order of their index.
    pub machines: Vec<BundleMachine>,
}

impl Bundle {
    /// Reads and checks the files of `dir`; no engine is loaded.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(dir: &Path) -> Result<Bundle, BundleError> {
        Err(BundleError { file: dir.into(), problem: "no reader yet".into() })
    }

    /// Reads `dir`, loads its encoder and checks that the two fit.
    ///
    /// # Errors
    /// As [`Bundle::read`], or what the engine says about the model, or where model and bank do not fit.
    pub fn open(dir: &Path, config: &EncoderConfig) -> Result<(Bundle, Box<dyn Engine>), BundleError> {
        let bundle = Bundle::read(dir)?;
        let engine = encoder::load(bundle.encoder.clone(), config)
            .map_err(|error| BundleError { file: dir.join("encoder.tflite"), problem: error.to_string() })?;
        Ok((bundle, engine))
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// Names the machines that there are.
    pub fn machine(&self, name: &str) -> Result<&BundleMachine, BundleError> {
        self.machines.iter().find(|machine| machine.name == name).ok_or_else(|| {
            let known: Vec<_> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
            let problem = format!("expected one of {}, found no machine {name:?}", known.join(", "));
            BundleError { file: self.dir.join("id_to_int.pkl"), problem }
        })
    }
}
