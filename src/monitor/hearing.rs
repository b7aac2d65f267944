//! Windows that other threads hear before it is their turn to be judged: what takes time is done without the monitor's lock.
//! What they were heard with may have changed meanwhile: then they are heard again.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Monitor;
use super::model::MachineSetup;
use crate::encoder::{EncoderError, Engine};
use crate::features::FeatureError;
use crate::scoring::baseline::Origin;
use crate::scoring::{Heard, MachineModel};
use crate::window::Window;

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
    /// The encoder that it takes, by its SHA-256.
    pub fn encoder(&self) -> &str {
        &self.origin.encoder_sha256
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

impl Monitor {
    /// What a window would be heard with now; `None` where its verdict needs no look at its sound.
    pub fn hearing(&self, window: &Window) -> Option<Hearing> {
        if window.fault.is_some() {
            return None;
        }
        let state = self.lock();
        let machine = state.machines.get(window.machine)?;
        if machine.settings.maintenance(DateTime::<Utc>::from(window.end)).is_some() {
            return None;
        }
        let setup = state.loaded.as_ref()?.setups.get(&window.machine)?;
        Some(Hearing { model: Arc::new(setup.model.clone()), origin: setup.origin.clone() })
    }

    /// Engines for so many other threads; `None` where there is no bundle.
    pub fn share_engines(&self, count: usize) -> Option<SharedEngines> {
        let state = self.lock();
        let loaded = state.loaded.as_ref()?;
        let mut engines = Vec::with_capacity(count);
        let mut problem = None;
        while engines.len() < count && problem.is_none() {
            match loaded.scorer.share_engine() {
                Ok(engine) => engines.push(engine),
                Err(error) => problem = Some(error),
            }
        }
        Some(SharedEngines { encoder: loaded.bundle.encoder_sha256.clone(), engines, problem })
    }
}
