//! A bundle fitted to the configured machines: what each of them is judged with.

use std::path::Path;
use std::sync::Arc;

use super::baseline_store::BaselineStore;
use crate::bundle::{Bundle, BundleError, FitError, FittedModel, Learning, Overrides};
use crate::config::{BaselineMode, Config, MachineConfig};
use crate::features::FrontEnd;
use crate::scoring::baseline::Origin;
use crate::scoring::{Baseline, MachineModel, Scorer};
use crate::state_files::Lost;

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
pub struct ActiveBundle {
    pub bundle: Bundle,
    pub(super) scorer: Scorer,
    /// By the machine's number.
    pub(super) setups: Vec<MachineSetup>,
}

/// What one configured machine is judged with.
pub(super) struct MachineSetup {
    /// As the bundle and the configuration have it; without rows where the normal is still to be learned.
    bundled: MachineModel,
    /// The bundle's own threshold, where its bank counts.
    threshold: Option<f64>,
    /// What is learned now is made with.
    origin: Origin,
    /// `bundled`, or with what was learned on site.
    pub(super) model: MachineModel,
    /// The baseline in `model` was learned on site, not enrolled with the bundle.
    on_site: bool,
    /// Why a baseline that is there is not used.
    problem: Option<String>,
}

impl ActiveBundle {
    /// Reads, checks and warms up the bundle in `dir` for `machines`, by number: its signature, where the configuration has
    /// a key, and its golden cases too.
    ///
    /// # Errors
    /// As [`Bundle::open_for_use`]; a machine whose model or threshold is not there, or whose front-end cannot be computed.
    pub fn open(
        dir: &Path,
        config: &Config,
        machines: &[MachineConfig],
        baselines: &BaselineStore,
    ) -> Result<ActiveBundle, LoadError> {
        let (bundle, engine) = Bundle::open_for_use(dir, &config.bundle, &config.encoder)?;
        let mut scorer = Scorer::new(engine);
        let mut all = Vec::with_capacity(machines.len());
        for machine in machines {
            let refused = |problem: String| LoadError::Machine { id: machine.id.clone(), problem };
            let mut setups = fit(&bundle, machine, config).map_err(refused)?;
            scorer.prepare(&setups.bundled).map_err(|error| refused(error.to_string()))?;
            match baselines.in_use(&machine.id, &bundle.encoder_sha256) {
                Err(Lost(problem)) => {
                    tracing::error!(machine = machine.id, "the learned baseline is lost: {problem}");
                    setups.problem = Some(format!("the learned baseline is lost: {problem}"));
                }
                Ok(Some(baseline)) => match baseline.check_origin(&setups.origin) {
                    Ok(()) => setups.learned(Some(Arc::new(baseline))),
                    Err(error) => setups.problem = Some(format!("the learned baseline does not count: {error}")),
                },
                Ok(None) if baselines.has_foreign(&machine.id) => {
                    setups.problem = Some("the learned baseline was made with another encoder: learn it again".into());
                }
                Ok(None) => {}
            }
            all.push(setups);
        }
        Ok(ActiveBundle { bundle, scorer, setups: all })
    }

    /// What a baseline of machine number `machine` is made with now.
    pub fn origin(&self, machine: usize) -> &Origin {
        &self.setups[machine].origin
    }

    /// The baseline that machine number `machine` is judged by, and whether it was learned on site.
    pub fn baseline(&self, machine: usize) -> Option<(&Arc<Baseline>, bool)> {
        let setups = &self.setups[machine];
        setups.model.baseline.as_ref().map(|baseline| (baseline, setups.on_site))
    }

    /// Why a baseline that machine number `machine` has is not used.
    pub fn baseline_problem(&self, machine: usize) -> Option<&str> {
        self.setups[machine].problem.as_deref()
    }

    /// Whether machine number `machine` can be judged without its own baseline.
    pub fn has_bank(&self, machine: usize) -> bool {
        !self.setups[machine].bundled.bank.is_empty()
    }

    /// Judges machine number `machine` by what was learned on site, or by the bundle again.
    pub fn use_baseline(&mut self, machine: usize, baseline: Option<Arc<Baseline>>) {
        self.setups[machine].learned(baseline);
    }

    /// Thresholds of machine number `machine`: of a baseline that was learned on site, and of the bundle.
    pub(super) fn thresholds(&self, machine: usize) -> (Option<f64>, Option<f64>) {
        let setups = &self.setups[machine];
        let learned = setups.model.baseline.as_ref().filter(|_| setups.on_site);
        (learned.map(|baseline| baseline.threshold), setups.threshold)
    }

    /// What verdicts call this bundle.
    pub fn label(&self) -> String {
        format!("{}@{}", self.bundle.name, self.bundle.version)
    }

    pub fn engine(&self) -> &'static str {
        self.scorer.engine_name()
    }

    /// How machine number `machine`'s windows become pictures.
    pub fn front_end(&self, machine: usize) -> &FrontEnd {
        &self.setups[machine].bundled.front_end
    }

    /// What capture must deliver for machine number `machine`: rate in Hz and samples in a window.
    pub fn window_of(&self, machine: usize) -> (u32, usize) {
        let front_end = &self.setups[machine].bundled.front_end;
        (front_end.rate_hz, front_end.window_samples())
    }
}

impl MachineSetup {
    fn learned(&mut self, baseline: Option<Arc<Baseline>>) {
        self.on_site = baseline.is_some();
        self.problem = None;
        self.model = match baseline {
            Some(baseline) => self.bundled.clone().with_baseline(baseline, self.bundled.judge),
            None => self.bundled.clone(),
        };
    }
}

/// One configured machine: the bundle's, with what the configuration overrides. Where the configuration wants its normal
/// to be learned, the bundle need not know it, and its bank does not count when it is to be learned at once.
fn fit(bundle: &Bundle, machine: &MachineConfig, config: &Config) -> Result<MachineSetup, String> {
    let overrides = Overrides {
        threshold: machine.threshold,
        fmin_hz: machine.fmin_hz,
        fmax_hz: machine.fmax_hz,
        judge: machine.judge,
        gate: machine.gate(&config.gate)?,
        learning: match machine.baseline {
            None => Learning::Never,
            Some(BaselineMode::Manual) => Learning::Later,
            Some(BaselineMode::Auto) => Learning::Now,
        },
    };
    let FittedModel { model, threshold, origin } =
        bundle.machine_model(machine.model(), &overrides).map_err(|error| match error {
            FitError::Unknown(error) => {
                format!("model: {error}; baseline = \"auto\" learns one that is not in the bundle")
            }
            FitError::NoThreshold { dir, name } => {
                format!("threshold: expected one in the bundle or the configuration, {dir} has none for {name:?}")
            }
        })?;
    Ok(MachineSetup { model: model.clone(), bundled: model, threshold, origin, on_site: false, problem: None })
}
