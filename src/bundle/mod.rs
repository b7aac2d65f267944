//! The model bundle: read, checked against itself and against the engine that runs it.

mod archive;
pub mod config;
pub mod download;
pub mod enroll;
pub mod files;
mod golden;
pub mod manifest;
mod memory;
pub mod npy;
mod pack;
pub mod pickle;
mod read;
mod signature;
pub mod store;
mod threshold_fit;
pub mod upload;
mod version;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use archive::ARCHIVE_LIMIT;
pub use config::BundleConfig;
pub use golden::{GoldenCase, GoldenOutcome};
pub use manifest::Manifest;
pub use memory::TrimOnDrop;
pub use pack::{Packed, draft_manifest, pack};
pub use signature::TrustedKey;
pub use threshold_fit::SAMPLE_LIMIT;

use crate::encoder::{self, EncoderConfig, Engine};
use crate::features::FrontEnd;
use crate::scoring::baseline::Origin;
use crate::scoring::{Bank, Baseline};

/// One clear line: the file, what was expected, what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct BundleError {
    pub file: PathBuf,
    pub problem: String,
}

impl BundleError {
    /// Longest problem that is told, characters; what a hostile file makes a library say can be longer.
    const LIMIT: usize = 400;

    /// Keeps the problem to one line of bounded length.
    pub fn new(file: impl Into<PathBuf>, problem: impl AsRef<str>) -> Self {
        let one_line = problem.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c });
        BundleError { file: file.into(), problem: one_line.take(Self::LIMIT).collect() }
    }
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
    /// What `auscult enroll` has learned of it besides bank and threshold, where it was enrolled.
    pub baseline: Option<Arc<Baseline>>,
}

/// A bundle whose files agree with each other.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub dir: PathBuf,
    /// From `bundle.toml`, else the directory's name.
    pub name: String,
    /// From `bundle.toml`, else the first 12 hex digits of `digest`.
    pub version: String,
    /// SHA-256 over the listing that `sha256sum` prints for the five files in the order of their names, hex.
    pub digest: String,
    /// The bytes of `encoder.tflite`.
    pub encoder: Arc<[u8]>,
    /// SHA-256 of them, hex.
    pub encoder_sha256: String,
    /// In the order of their index.
    pub machines: Vec<BundleMachine>,
    /// Cases of `bundle.toml` with their windows and embeddings.
    pub golden: Vec<GoldenCase>,
    /// `bundle.toml`, where there is one.
    pub manifest: Option<Manifest>,
    /// SHA-256 of its bytes, hex.
    pub manifest_sha256: Option<String>,
    /// Files that lie in the directory but are not named by the manifest, the first few in the order of their names.
    /// Under a key there are none.
    pub unnamed: Vec<String>,
}

impl Bundle {
    /// Reads and checks the files of `dir`; no engine is loaded.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(dir: &Path) -> Result<Bundle, BundleError> {
        read::bundle(dir, None)
    }

    /// Reads and checks the files of `dir` as [`Bundle::read`] does; its manifest must carry a signature of `key`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read_signed(dir: &Path, key: &TrustedKey) -> Result<Bundle, BundleError> {
        read::bundle(dir, Some(key))
    }

    /// What an agent does before it judges with the bundle in `dir`: the signature where the configuration has a key,
    /// the files, the engine, both against each other, and the golden cases on this device.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open_for_use(
        dir: &Path,
        bundle: &BundleConfig,
        encoder: &EncoderConfig,
    ) -> Result<(Bundle, Box<dyn Engine>), BundleError> {
        let _trim = TrimOnDrop;
        let key = bundle.trusted_key().map_err(|error| BundleError::new(dir, error))?;
        let (bundle, mut engine) = Self::load(read::bundle(dir, key.as_ref())?, encoder)?;
        for outcome in bundle.run_golden(engine.as_mut()) {
            if let Some(fault) = outcome.fault {
                let problem = format!("golden case {:?}: {fault}", outcome.name);
                return Err(BundleError::new(dir.join(files::MANIFEST), problem));
            }
        }
        if !bundle.unnamed.is_empty() {
            let files = bundle.unnamed.join(", ");
            tracing::warn!(bundle = %dir.display(), files, "bundle.toml does not name files that lie beside it");
        }
        Ok((bundle, engine))
    }

    /// Reads `dir`, loads its encoder, checks that the two fit and that every machine's embedding is finite.
    ///
    /// # Errors
    /// As [`Bundle::read`], or what the engine says about the model, or where model and bank do not fit.
    pub fn open(dir: &Path, config: &EncoderConfig) -> Result<(Bundle, Box<dyn Engine>), BundleError> {
        Self::load(Bundle::read(dir)?, config)
    }

    fn load(bundle: Bundle, config: &EncoderConfig) -> Result<(Bundle, Box<dyn Engine>), BundleError> {
        let mut engine = encoder::load(bundle.encoder.clone(), config)
            .map_err(|error| BundleError::new(bundle.dir.join(files::ENCODER), error.to_string()))?;
        bundle.check_engine(engine.as_mut())?;
        Ok((bundle, engine))
    }

    /// Checks files and engine against each other, and runs the engine once for each machine: an encoder with NaN among
    /// its weights is found here, and the first real window finds everything warm.
    ///
    /// # Errors
    /// Where they do not fit.
    pub fn check_engine(&self, engine: &mut dyn Engine) -> Result<(), BundleError> {
        let shape = engine.shape();
        let fault = |file: &str, problem: String| Err(BundleError::new(self.dir.join(file), problem));
        // Something between black and white, unlike in every pixel.
        let mut tried = HashSet::new();
        let probe: Vec<f32> = (0..shape.bands * shape.frames).map(|pixel| (pixel % 97) as f32 / 96.0).collect();
        for BundleMachine { name, index, bank, front_end, .. } in &self.machines {
            if bank.width() != shape.embedding {
                let (expected, found) = (shape.embedding, bank.width());
                return fault(files::BANK, format!("expected rows of {expected} as the encoder gives, found {found}"));
            }
            if let Some(machines) = shape.machines
                && *index as usize >= machines
            {
                let last = machines.saturating_sub(1);
                let problem = format!("expected indices 0 to {last} as the encoder has, found {index} for {name:?}");
                return fault(files::NAMES, problem);
            }
            if (front_end.n_mels, front_end.frames) != (shape.bands, shape.frames) {
                let (bands, frames) = (front_end.n_mels, front_end.frames);
                return fault(
                    files::ENCODER,
                    format!(
                        "expected an image of {bands} x {frames} as the front-end of {name:?} makes, found {} x {}",
                        shape.bands, shape.frames
                    ),
                );
            }
            if !tried.insert(index) {
                continue;
            }
            match engine.embed(&probe, *index) {
                Err(error) => {
                    return fault(files::ENCODER, format!("expected an embedding for {name:?}, found: {error}"));
                }
                Ok(embedding) => {
                    if let Some(value) = embedding.iter().find(|value| !value.is_finite()) {
                        let problem = format!("expected finite embeddings, found {value} for {name:?}");
                        return fault(files::ENCODER, problem);
                    }
                }
            }
        }
        Ok(())
    }

    /// What is learned with this bundle is made with.
    pub fn origin(&self, index: u32, front_end: FrontEnd) -> Origin {
        let bundle = format!("{}@{}", self.name, self.version);
        Origin { bundle, encoder_sha256: self.encoder_sha256.clone(), index, front_end }
    }

    /// Index and front-end for a machine that the bundle does not have. Any index will do: it adds a constant to every
    /// embedding, which no distance within one machine sees.
    pub fn default_conditioning(&self) -> (u32, FrontEnd) {
        let front_end = self.manifest.as_ref().and_then(|manifest| manifest.front_end(None).ok()).unwrap_or_default();
        (self.machines.first().map_or(0, |machine| machine.index), front_end)
    }

    /// The machine of that name.
    ///
    /// # Errors
    /// Names the machines that there are.
    pub fn machine(&self, name: &str) -> Result<&BundleMachine, BundleError> {
        self.machines.iter().find(|machine| machine.name == name).ok_or_else(|| {
            let known: Vec<_> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
            let problem = format!("expected one of {}, found no machine {name:?}", known.join(", "));
            BundleError::new(self.dir.join(files::NAMES), problem)
        })
    }
}
