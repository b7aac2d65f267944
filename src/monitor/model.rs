//! A bundle fitted to the configured machines: what each of them is judged with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::baseline_store::BaselineStore;
use crate::bundle::{Bundle, BundleError, FitError, FittedModel, Learning, Overrides};
use crate::config::{BaselineMode, Config, MachineConfig};
#[cfg(test)]
use crate::encoder::{EncoderShape, Engine};
use crate::features::FrontEnd;
use crate::scoring::baseline::Origin;
use crate::scoring::{Baseline, MachineModel, Scorer};
use crate::state_files::Lost;

/// The bundle that comes with auscult: its machines are simulated.
const DEMO: &str = "demo";

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
    /// By the machine's number; every machine has one.
    pub(super) setups: BTreeMap<usize, MachineSetup>,
}

/// What becomes of a machine whose model or threshold the bundle does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// The bundle cannot be used.
    Refused,
    /// The machine has no bank: its windows are `unknown`, `learning`, until its normal is learned.
    Unlearned,
}

/// What one machine is judged with.
pub struct MachineSetup {
    /// As the bundle and the configuration have it; without rows where the normal is still to be learned.
    bundled: MachineModel,
    /// The bundle's own threshold, where its bank counts.
    threshold: Option<f64>,
    /// What is learned now is made with.
    pub(super) origin: Origin,
    /// `bundled`, or with what was learned on site.
    pub(super) model: MachineModel,
    /// The baseline in `model` was learned on site, not enrolled with the bundle.
    on_site: bool,
    /// The baseline in `model` is what has been learned until now.
    provisional: Option<ProvisionalBaseline>,
    /// Why a baseline that is there is not used.
    problem: Option<String>,
    /// Why the bundle's own does not count.
    misfit: Option<String>,
}

/// What a machine is judged by while its normal is being learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProvisionalBaseline {
    /// Of the learner that it was made from.
    pub generation: u64,
    /// The learner's, when it was made.
    pub windows: u64,
    pub heard_s: f64,
    pub wanted_s: f64,
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
        let machines = machines.iter().enumerate().map(|(number, machine)| (number, machine, Misfit::Refused));
        ActiveBundle::open_for(dir, config, machines, baselines)
    }

    /// As [`ActiveBundle::open`], for machines with numbers of their own.
    ///
    /// # Errors
    /// As there, but for machines that need not fit.
    pub fn open_for<'a>(
        dir: &Path,
        config: &Config,
        machines: impl IntoIterator<Item = (usize, &'a MachineConfig, Misfit)>,
        baselines: &BaselineStore,
    ) -> Result<ActiveBundle, LoadError> {
        let (mut bundle, engine) = Bundle::open_for_use(dir, &config.bundle, &config.encoder)?;
        // The engine has what it needs of the file's bytes.
        bundle.encoder = Arc::default();
        let mut loaded = ActiveBundle { bundle, scorer: Scorer::new(engine), setups: BTreeMap::new() };
        for (number, machine, misfit) in machines {
            let mut setup = match (loaded.fit(machine, config), misfit) {
                (Ok(setup), _) => setup,
                (Err(problem), Misfit::Refused) => return Err(LoadError::Machine { id: machine.id.clone(), problem }),
                (Err(problem), Misfit::Unlearned) => loaded.without_bank(machine, config, problem)?,
            };
            setup.restore(&machine.id, baselines);
            loaded.insert(number, setup);
            if let Some(warning) = loaded.foreign_bank(number, machine) {
                tracing::warn!("{warning}");
            }
        }
        Ok(loaded)
    }

    /// What `machine` would be judged with, before what was learned of it is read; nothing changes for the others.
    ///
    /// # Errors
    /// Why it cannot be judged with this bundle.
    pub fn fit(&mut self, machine: &MachineConfig, config: &Config) -> Result<MachineSetup, String> {
        let setup = fit(&self.bundle, machine, config)?;
        self.scorer.prepare(&setup.bundled).map_err(|error| error.to_string())?;
        Ok(setup)
    }

    /// The same for one that does not fit: its normal can only be learned.
    fn without_bank(
        &mut self,
        machine: &MachineConfig,
        config: &Config,
        problem: String,
    ) -> Result<MachineSetup, LoadError> {
        let manual = BaselineMode::Manual;
        let baseline = Some(machine.baseline.unwrap_or(manual));
        let stranger = MachineConfig { model: None, baseline, fmin_hz: None, fmax_hz: None, ..machine.clone() };
        let mut setup =
            self.fit(&stranger, config).map_err(|problem| LoadError::Machine { id: machine.id.clone(), problem })?;
        setup.misfit = Some(problem);
        Ok(setup)
    }

    pub(super) fn insert(&mut self, machine: usize, setup: MachineSetup) {
        self.setups.insert(machine, setup);
    }

    pub(super) fn remove(&mut self, machine: usize) -> Option<MachineSetup> {
        self.setups.remove(&machine)
    }

    /// What a baseline of machine number `machine` is made with now.
    pub fn origin(&self, machine: usize) -> &Origin {
        &self.setups[&machine].origin
    }

    /// The baseline that machine number `machine` is judged by, and whether it was learned on site; `None` also while it is
    /// provisional.
    pub fn baseline(&self, machine: usize) -> Option<(&Arc<Baseline>, bool)> {
        let setup = self.setups.get(&machine)?;
        setup.baseline().map(|baseline| (baseline, setup.on_site))
    }

    /// What machine number `machine` is judged by while its normal is being learned.
    pub fn provisional(&self, machine: usize) -> Option<&ProvisionalBaseline> {
        self.setups.get(&machine)?.provisional.as_ref()
    }

    /// The baseline that windows of machine number `machine` are judged by, provisional or not.
    pub fn judging(&self, machine: usize) -> Option<&Arc<Baseline>> {
        self.setups.get(&machine)?.model.baseline.as_ref()
    }

    /// Why a baseline that machine number `machine` has is not used.
    pub fn baseline_problem(&self, machine: usize) -> Option<&str> {
        let setup = self.setups.get(&machine)?;
        setup.misfit.as_deref().or(setup.problem.as_deref())
    }

    /// What a person should know who has `machine` (number `number`) judged by sound that was recorded elsewhere; `None`
    /// where there is no microphone, or where it is judged by what was learned from it.
    pub fn foreign_bank(&self, number: usize, machine: &MachineConfig) -> Option<String> {
        machine.source.device.as_ref()?;
        let setup = self.setups.get(&number)?;
        if setup.bundled.bank.is_empty() || setup.model.baseline.is_some() {
            return None;
        }
        let (id, model) = (&machine.id, machine.model());
        let cure = "baseline = \"auto\" learns what is normal here";
        Some(match self.bundle.name.as_str() {
            DEMO => {
                format!("{id}: a real microphone is judged by {model}, a simulated machine, and will alarm: {cure}")
            }
            name => format!(
                "{id}: judged by {model} of the bundle {name}; unless that was recorded at this very machine with this very \
                 microphone, it will alarm: {cure}"
            ),
        })
    }

    /// Whether machine number `machine` can be judged without its own baseline.
    pub fn has_bank(&self, machine: usize) -> bool {
        self.setups.get(&machine).is_some_and(|setup| !setup.bundled.bank.is_empty())
    }

    /// Judges machine number `machine` by what was learned on site, or by the bundle again.
    pub fn use_baseline(&mut self, machine: usize, baseline: Option<Arc<Baseline>>) {
        if let Some(setup) = self.setups.get_mut(&machine) {
            setup.learned(baseline);
        }
    }

    /// Judges machine number `machine` by what has been learned until now, or no longer so.
    pub fn use_provisional(&mut self, machine: usize, baseline: Option<(Arc<Baseline>, ProvisionalBaseline)>) {
        let Some(setup) = self.setups.get_mut(&machine) else { return };
        match baseline {
            Some((baseline, provisional)) => {
                let model = setup.bundled.clone().with_baseline(baseline, setup.bundled.judge);
                setup.model = MachineModel { provisional: true, ..model };
                (setup.on_site, setup.provisional) = (true, Some(provisional));
            }
            None => setup.learned(None),
        }
    }

    /// Thresholds of machine number `machine`: of a baseline that was learned on site, and of the bundle.
    pub(super) fn thresholds(&self, machine: usize) -> (Option<f64>, Option<f64>) {
        let Some(setup) = self.setups.get(&machine) else { return (None, None) };
        let learned = setup.model.baseline.as_ref().filter(|_| setup.on_site);
        (learned.map(|baseline| baseline.threshold), setup.threshold)
    }

    /// What verdicts call this bundle.
    pub fn label(&self) -> String {
        format!("{}@{}", self.bundle.name, self.bundle.version)
    }

    pub fn engine(&self) -> &'static str {
        self.scorer.engine_name()
    }

    /// Another engine in place of the one that it was opened with.
    #[cfg(test)]
    pub fn use_engine(&mut self, of: impl FnOnce(EncoderShape) -> Box<dyn Engine>) {
        let engine = self.scorer.share_engine().expect("an engine that can be shared");
        self.scorer = Scorer::new(of(engine.shape()));
    }

    /// How machine number `machine`'s windows become pictures.
    pub fn front_end(&self, machine: usize) -> &FrontEnd {
        &self.setups[&machine].bundled.front_end
    }

    /// What a machine that is judged is scored with; `None` where there is none of this number.
    pub fn origin_of(&self, machine: usize) -> Option<&Origin> {
        self.setups.get(&machine).map(|setup| &setup.origin)
    }

    /// What capture must deliver for machine number `machine`: rate in Hz and samples in a window.
    pub fn window_of(&self, machine: usize) -> (u32, usize) {
        self.setups[&machine].window()
    }
}

impl MachineSetup {
    /// Takes what was learned of the machine into use, where that was made with this encoder. Reads files.
    pub fn restore(&mut self, id: &str, baselines: &BaselineStore) {
        match baselines.in_use(id, &self.origin.encoder_sha256) {
            Err(Lost(problem)) => {
                tracing::error!(machine = id, "the learned baseline is lost: {problem}");
                self.problem = Some(format!("the learned baseline is lost: {problem}"));
            }
            Ok(Some(baseline)) => match baseline.check_origin(&self.origin) {
                Ok(()) => self.learned(Some(Arc::new(baseline))),
                Err(error) => self.problem = Some(format!("the learned baseline does not count: {error}")),
            },
            Ok(None) if baselines.has_foreign(id) => {
                self.problem = Some("the learned baseline was made with another encoder: learn it again".into());
            }
            Ok(None) => {}
        }
    }

    /// The baseline that the machine is judged by, unless it is provisional.
    pub fn baseline(&self) -> Option<&Arc<Baseline>> {
        self.model.baseline.as_ref().filter(|_| self.provisional.is_none())
    }

    /// What capture must deliver: rate in Hz and samples in a window.
    pub fn window(&self) -> (u32, usize) {
        let front_end = &self.bundled.front_end;
        (front_end.rate_hz, front_end.window_samples())
    }

    fn learned(&mut self, baseline: Option<Arc<Baseline>>) {
        self.on_site = baseline.is_some();
        self.problem = None;
        self.provisional = None;
        self.model = match baseline {
            Some(baseline) => self.bundled.clone().with_baseline(baseline, self.bundled.judge),
            None => self.bundled.clone(),
        };
    }
}

/// The window that is captured where there is no bundle: rate in Hz, samples.
pub fn standard_window() -> (u32, usize) {
    let standard = FrontEnd::default();
    (standard.rate_hz, standard.window_samples())
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
    let bundled = model.clone();
    Ok(MachineSetup {
        model,
        bundled,
        threshold,
        origin,
        on_site: false,
        provisional: None,
        problem: None,
        misfit: None,
    })
}
