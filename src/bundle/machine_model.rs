//! What one machine is judged with: the bundle's model of it, with what a configuration or a command line changes.

use super::{Bundle, BundleError};
use crate::features::FrontEnd;
use crate::scoring::baseline::Origin;
use crate::scoring::gate::Gate;
use crate::scoring::{Bank, Judge, MachineModel};

/// What a configuration or a command line changes of a bundle's machine.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of the bundle's.
    pub threshold: Option<f64>,
    pub fmin_hz: Option<f64>,
    pub fmax_hz: Option<f64>,
    /// What decides; `None`: all lanes together, where the machine was enrolled.
    pub judge: Option<Judge>,
    pub gate: Gate,
    pub learning: Learning,
}

/// Whether the machine's normal is learned elsewhere than in the bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Learning {
    /// The bundle must have the machine.
    #[default]
    Never,
    /// By command: until then the bundle's bank counts, where it has the machine.
    Later,
    /// At once: the bundle's bank does not count.
    Now,
}

/// A machine's model, before anything that was learned on site.
pub struct FittedModel {
    /// Its threshold is infinite where the normal is still to be learned and nobody gave one.
    pub model: MachineModel,
    /// The bundle's own threshold, where its bank counts.
    pub threshold: Option<f64>,
    /// What is learned now is made with.
    pub origin: Origin,
}

/// Why a bundle has no model of a machine.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(transparent)]
    Unknown(BundleError),
    #[error("{dir}: no threshold for {name:?}")]
    NoThreshold { dir: String, name: String },
}

impl Bundle {
    /// The machine `name` with `overrides`. A front-end that cannot be computed is the caller's to check.
    ///
    /// # Errors
    /// A machine that is neither in the bundle nor to be learned; one without a threshold from anywhere.
    pub fn machine_model(&self, name: &str, overrides: &Overrides) -> Result<FittedModel, FitError> {
        let known = match self.machine(name) {
            Ok(known) => Some(known),
            Err(error) if overrides.learning == Learning::Never => return Err(FitError::Unknown(error)),
            Err(_) => None,
        };
        let (index, standard) = match known {
            Some(known) => (known.index, known.front_end.clone()),
            None => self.default_conditioning(),
        };
        let front_end = FrontEnd {
            fmin_hz: overrides.fmin_hz.unwrap_or(standard.fmin_hz),
            fmax_hz: overrides.fmax_hz.unwrap_or(standard.fmax_hz),
            ..standard
        };
        let origin = self.origin(index, front_end.clone());
        let known = known.filter(|_| overrides.learning != Learning::Now);
        let bank = known.map_or_else(|| Bank::empty(self.machines[0].bank.width()), |known| known.bank.clone());
        let bundled = known.and_then(|known| known.threshold);
        let threshold = match (overrides.threshold.or(bundled), known) {
            (Some(threshold), _) => threshold,
            (None, None) => f64::INFINITY,
            (None, Some(known)) => {
                let dir = self.dir.display().to_string();
                return Err(FitError::NoThreshold { dir, name: known.name.clone() });
            }
        };
        let mut model = MachineModel::new(index, bank, threshold, front_end, overrides.gate.clone());
        model.judge = overrides.judge.unwrap_or(Judge::Combined);
        // Enrolled with the bundle: its bank and threshold are in the bundle's own files already.
        let enrolled = known.and_then(|known| known.baseline.clone());
        model.baseline = enrolled.filter(|baseline| baseline.check_origin(&origin).is_ok());
        Ok(FittedModel { model, threshold: bundled, origin })
    }

    /// Index and front-end for a machine that the bundle does not have. Any index will do: it adds a constant to every
    /// embedding, which no distance within one machine sees.
    fn default_conditioning(&self) -> (u32, FrontEnd) {
        let front_end = self.manifest.as_ref().and_then(|manifest| manifest.front_end(None).ok()).unwrap_or_default();
        (self.machines.first().map_or(0, |machine| machine.index), front_end)
    }
}
