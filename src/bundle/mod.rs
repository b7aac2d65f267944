//! The model bundle: read, checked against itself and against the engine that runs it.

mod archive;
pub mod config;
pub mod download;
pub mod enroll;
mod error;
pub mod files;
mod golden;
mod machine_model;
pub mod manifest;
mod memory;
pub mod npy;
mod open;
mod pack;
pub mod pickle;
mod read;
mod signature;
pub mod store;
mod threshold_fit;
pub mod upload;
mod version;

use std::path::PathBuf;
use std::sync::Arc;

pub use archive::{ARCHIVE_LIMIT, unpack};
pub use config::BundleConfig;
pub use error::BundleError;
pub use golden::{GoldenCase, GoldenOutcome};
pub use machine_model::{FitError, FittedModel, Learning, Overrides};
pub use manifest::Manifest;
pub use memory::TrimOnDrop;
pub use pack::{Packed, draft_manifest, pack};
pub use signature::TrustedKey;
pub use threshold_fit::SAMPLE_LIMIT;

use crate::features::FrontEnd;
use crate::scoring::baseline::Origin;
use crate::scoring::{Bank, Baseline};

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
    /// What is learned with this bundle is made with.
    pub fn origin(&self, index: u32, front_end: FrontEnd) -> Origin {
        let bundle = format!("{}@{}", self.name, self.version);
        Origin { bundle, encoder_sha256: self.encoder_sha256.clone(), index, front_end }
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
