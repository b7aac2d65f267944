//! What windows are judged with: the bundle in use, and each machine's settings and alarm. Everything behind one lock,
//! held for the time of one window, so that a new bundle or threshold always falls between two windows.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::audio::Window;
use crate::audio::health::level_dbfs;
use crate::bundle::{Bundle, BundleError, BundleMachine};
use crate::config::{Config, MachineConfig};
use crate::control::settings::{Effective, MachineSettings};
use crate::features::FrontEnd;
use crate::scoring::alarm::{Alarm, Change};
use crate::scoring::{Assessment, MachineModel, Reason, Scorer, Verdict};

/// A bundle that the configured machines cannot be judged with, in one line.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bundle's files.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The configuration asks for what the bundle does not have.
    #[error("machine {id:?}: {problem}")]
    Machine { id: String, problem: String },
}

/// A bundle, ready to judge the configured machines.
pub struct Loaded {
    pub bundle: Bundle,
    scorer: Scorer,
    /// In the configuration's order.
    models: Vec<MachineModel>,
}

impl Loaded {
    /// Reads, checks and warms up the bundle in `dir`: its signature, where the configuration has a key, and its golden cases
    /// too.
    ///
    /// # Errors
    /// As [`Bundle::open_for_use`]; a machine whose model or threshold is not there, or whose front-end cannot be computed.
    pub fn open(dir: &Path, config: &Config) -> Result<Loaded, LoadError> {
        let (bundle, engine) = Bundle::open_for_use(dir, &config.bundle, &config.encoder)?;
        let mut scorer = Scorer::new(engine);
        let mut models = Vec::with_capacity(config.machine.len());
        for machine in &config.machine {
            let fault = |problem: String| LoadError::Machine { id: machine.id.clone(), problem };
            let model = model_of(&bundle, machine, config).map_err(fault)?;
            scorer.prepare(&model).map_err(|error| fault(error.to_string()))?;
            models.push(model);
        }
        Ok(Loaded { bundle, scorer, models })
    }

    /// What verdicts call this bundle.
    pub fn label(&self) -> String {
        format!("{}@{}", self.bundle.name, self.bundle.version)
    }

    pub fn engine(&self) -> &'static str {
        self.scorer.engine_name()
    }

    /// What capture must deliver for machine number `machine`: rate in Hz and samples in a window.
    pub fn window_of(&self, machine: usize) -> (u32, usize) {
        let front_end = &self.models[machine].front_end;
        (front_end.rate_hz, front_end.window_samples())
    }
}

/// The model of one configured machine: the bundle's, with what the configuration overrides.
fn model_of(bundle: &Bundle, machine: &MachineConfig, config: &Config) -> Result<MachineModel, String> {
    let known = bundle.machine(machine.model()).map_err(|error| format!("model: {error}"))?;
    let threshold = machine.threshold.or(known.threshold).ok_or_else(|| {
        let dir = bundle.dir.display();
        format!("threshold: expected one in the bundle or the configuration, {dir} has none for {:?}", known.name)
    })?;
    let gate = machine.gate.clone().unwrap_or_else(|| config.gate.clone());
    let front_end = front_end_of(known, machine);
    Ok(MachineModel::new(known.index, known.bank.clone(), threshold, front_end, gate))
}

fn front_end_of(known: &BundleMachine, machine: &MachineConfig) -> FrontEnd {
    FrontEnd {
        fmin_hz: machine.fmin_hz.unwrap_or(known.front_end.fmin_hz),
        fmax_hz: machine.fmax_hz.unwrap_or(known.front_end.fmax_hz),
        ..known.front_end.clone()
    }
}

/// One machine as the agent runs it.
pub struct Machine {
    pub config: MachineConfig,
    pub settings: MachineSettings,
    pub alarm: Alarm,
    pub tally: Tally,
    /// The last verdict, for `state.get` and the health message.
    pub last: Option<Assessment>,
}

/// Windows of a machine since the agent's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub windows: u64,
    /// Of them neither `unknown`.
    pub assessed: u64,
}

/// What is behind the lock.
pub struct Inner {
    /// `None`: no valid bundle; every verdict is `unknown`, `no_bundle` until one is loaded.
    pub loaded: Option<Loaded>,
    /// In the configuration's order.
    pub machines: Vec<Machine>,
}

/// A window's assessment and what follows from it.
pub struct Judged {
    pub assessment: Assessment,
    /// Label of the bundle that it was judged with.
    pub bundle: Option<String>,
    pub alarm: Option<Change>,
}

/// Everything that windows are judged with.
pub struct Station {
    inner: Mutex<Inner>,
}

impl Station {
    /// `machines` in the configuration's order.
    pub fn new(loaded: Option<Loaded>, machines: Vec<Machine>) -> Station {
        Station { inner: Mutex::new(Inner { loaded, machines }) }
    }

    /// Between two windows: whatever is changed here, the next window is judged with.
    ///
    /// A panic while the lock was held leaves data that is still whole, because each field is replaced in one step.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges one window.
    pub fn judge(&self, window: &Window) -> Judged {
        let mut inner = self.lock();
        let Inner { loaded, machines } = &mut *inner;
        let machine = &mut machines[window.machine];
        let end = DateTime::<Utc>::from(window.end);
        let assessment = assess(loaded.as_mut(), machine, window, end);
        machine.tally.windows += 1;
        machine.tally.assessed += u64::from(assessment.verdict != Verdict::Unknown);
        machine.last = Some(assessment.clone());
        let alarm = machine.alarm.on_verdict(&assessment, end);
        Judged { assessment, bundle: loaded.as_ref().map(Loaded::label), alarm }
    }
}

impl Inner {
    /// The threshold that machine number `machine` is judged with at `now`, and where it comes from.
    pub fn threshold(&self, machine: usize, now: DateTime<Utc>) -> Option<Effective> {
        let loaded = self.loaded.as_ref();
        let Machine { config, settings, .. } = &self.machines[machine];
        let bundled = loaded.and_then(|loaded| loaded.bundle.machine(config.model()).ok()?.threshold);
        settings.threshold(now, config.threshold, bundled)
    }
}

/// The assessment of one window: what capture knows first, then maintenance, then the score.
fn assess(loaded: Option<&mut Loaded>, machine: &Machine, window: &Window, end: DateTime<Utc>) -> Assessment {
    let model = loaded.map(|loaded| (&mut loaded.scorer, &loaded.models[window.machine]));
    let standard = model.as_ref().map(|(_, model)| model.threshold);
    let threshold = machine.settings.threshold(end, machine.config.threshold, standard).map(|found| found.threshold);
    let unknown = |reason| Assessment::unknown(reason, threshold, level_dbfs(&window.samples));
    if let Some(fault) = window.fault {
        return unknown(fault);
    }
    if machine.settings.maintenance(end).is_some() {
        return unknown(Reason::Maintenance);
    }
    let (Some((scorer, model)), Some(threshold)) = (model, threshold) else {
        return unknown(Reason::NoBundle);
    };
    match scorer.score(&MachineModel { threshold, ..model.clone() }, &window.samples) {
        Ok(scored) => scored.assessment,
        Err(error) => {
            // The front-end was prepared with the same parameters, so capture delivers what another bundle wanted.
            tracing::error!(machine = machine.config.id, %error, "a window could not be scored");
            unknown(Reason::NoBundle)
        }
    }
}
