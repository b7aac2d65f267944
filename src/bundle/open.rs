//! Opening a bundle: its files, the engine, and both against each other.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Bundle, BundleConfig, BundleError, BundleMachine, TrimOnDrop, TrustedKey, files, read};
use crate::encoder::{self, EncoderConfig, Engine};

/// No further machine's index is tried after this time.
const TRY_WITHIN: Duration = Duration::from_secs(1);

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
        let wrong = |file: &str, problem: String| Err(BundleError::new(self.dir.join(file), problem));
        // Something between black and white, unlike in every pixel.
        let (mut tried, begun) = (HashSet::new(), Instant::now());
        let probe: Vec<f32> = (0..shape.bands * shape.frames).map(|pixel| (pixel % 97) as f32 / 96.0).collect();
        for BundleMachine { name, index, bank, front_end, .. } in &self.machines {
            if bank.width() != shape.embedding {
                let (expected, found) = (shape.embedding, bank.width());
                return wrong(files::BANK, format!("expected rows of {expected} as the encoder gives, found {found}"));
            }
            if let Some(machines) = shape.machines
                && *index as usize >= machines
            {
                let last = machines.saturating_sub(1);
                let problem = format!("expected indices 0 to {last} as the encoder has, found {index} for {name:?}");
                return wrong(files::NAMES, problem);
            }
            if (front_end.n_mels, front_end.frames) != (shape.bands, shape.frames) {
                let (bands, frames) = (front_end.n_mels, front_end.frames);
                return wrong(
                    files::ENCODER,
                    format!(
                        "expected an image of {bands} x {frames} as the front-end of {name:?} makes, found {} x {}",
                        shape.bands, shape.frames
                    ),
                );
            }
            // A model that overflows does so on any index or on few; a thousand runs of a large one take minutes.
            if !tried.insert(index) || begun.elapsed() > TRY_WITHIN {
                continue;
            }
            match engine.embed(&probe, *index) {
                Err(error) => {
                    return wrong(files::ENCODER, format!("expected an embedding for {name:?}, found: {error}"));
                }
                Ok(embedding) => {
                    if let Some(value) = embedding.iter().find(|value| !value.is_finite()) {
                        let problem = format!("expected finite embeddings, found {value} for {name:?}");
                        return wrong(files::ENCODER, problem);
                    }
                }
            }
        }
        Ok(())
    }
}
