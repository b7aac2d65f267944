//! Windows that other threads hear before it is their turn to be judged: what takes time is done without the monitor's lock.
//! What they were heard with may have changed meanwhile: then they are heard again.

use std::sync::Arc;

use super::model::{ActiveBundle, MachineSetup};
use crate::encoder::{EncoderError, Engine};
use crate::features::FeatureError;
use crate::scoring::baseline::Origin;
use crate::scoring::{Heard, MachineModel};

/// What a window is heard with.
#[derive(Clone)]
pub struct Hearing {
    pub model: Arc<MachineModel>,
    origin: Origin,
}

/// Engines that share the weights of the monitor's own.
pub struct SharedEngines {
    /// The encoder that they run, by its SHA-256.
    pub encoder: String,
    pub engines: Vec<Box<dyn Engine>>,
    /// Why there are not more of them.
    pub problem: Option<EncoderError>,
}

/// A window that was heard ahead.
pub struct HeardWindow {
    pub hearing: Hearing,
    pub heard: Result<Heard, FeatureError>,
}

impl Hearing {
    pub(super) fn of(setup: &MachineSetup) -> Hearing {
        Hearing { model: Arc::new(setup.model.clone()), origin: setup.origin.clone() }
    }

    /// The encoder that it takes, by its SHA-256.
    pub fn encoder(&self) -> &str {
        &self.origin.encoder_sha256
    }
}

impl SharedEngines {
    /// So many, or fewer where the engine does not let itself be shared.
    pub(super) fn of(loaded: &ActiveBundle, count: usize) -> SharedEngines {
        let encoder = loaded.bundle.encoder_sha256.clone();
        let mut shared = SharedEngines { encoder, engines: Vec::with_capacity(count), problem: None };
        while shared.engines.len() < count && shared.problem.is_none() {
            match loaded.scorer.share_engine() {
                Ok(engine) => shared.engines.push(engine),
                Err(error) => shared.problem = Some(error),
            }
        }
        shared
    }
}

impl HeardWindow {
    /// What was heard, where it is what `setup` would hear.
    pub(super) fn fitting(self, setup: &MachineSetup) -> Option<Result<Heard, FeatureError>> {
        let HeardWindow { hearing, heard } = self;
        let fits = hearing.origin.check(&setup.origin).is_ok() && hearing.model.gate == setup.model.gate;
        fits.then_some(heard)
    }
}
