//! What windows are judged with: the bundle in use, and each machine's settings and alarm. Everything behind one lock,
//! held for the time of one window, so that a new bundle or threshold always falls between two windows.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::baselines::Shelf;
use crate::bundle::{Bundle, BundleError};
use crate::config::{BaselineMode, Config, MachineConfig};
use crate::control::settings::{Effective, MachineSettings, ThresholdSource};
use crate::features::FrontEnd;
use crate::scoring::alarm::{Alarm, AlarmState, Change};
use crate::scoring::baseline::{Learner, Origin, Progress};
use crate::scoring::gate::SignalHealth;
use crate::scoring::gate::debounce::{SignalChange, SignalDebounce};
use crate::scoring::{Assessment, Bank, Baseline, Judge, MachineModel, Reason, Scored, Scorer, Verdict};
use crate::window::Window;
use crate::window::level_dbfs;

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
    fitted: Vec<Fitted>,
}

/// What one configured machine is judged with.
struct Fitted {
    /// As the bundle and the configuration have it; without rows where the normal is still to be learned.
    bundled: MachineModel,
    /// The bundle's own threshold, where its bank counts.
    threshold: Option<f64>,
    /// What is learned now is made with.
    origin: Origin,
    /// `bundled`, or with what was learned on site.
    model: MachineModel,
    /// The baseline in `model` was learned on site, not enrolled with the bundle.
    on_site: bool,
    /// Why a baseline that is there is not used.
    problem: Option<String>,
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
        let shelf = Shelf::new(&config.agent.state_dir);
        let mut all = Vec::with_capacity(config.machine.len());
        for machine in &config.machine {
            let fault = |problem: String| LoadError::Machine { id: machine.id.clone(), problem };
            let mut fitted = fit(&bundle, machine, config).map_err(fault)?;
            scorer.prepare(&fitted.bundled).map_err(|error| fault(error.to_string()))?;
            match shelf.in_use(&machine.id, &bundle.encoder_sha256) {
                Some(baseline) => match baseline.check_origin(&fitted.origin) {
                    Ok(()) => fitted.learned(Some(Arc::new(baseline))),
                    Err(error) => fitted.problem = Some(format!("the learned baseline does not count: {error}")),
                },
                None if shelf.has_foreign(&machine.id) => {
                    fitted.problem = Some("the learned baseline was made with another encoder: learn it again".into());
                }
                None => {}
            }
            all.push(fitted);
        }
        Ok(Loaded { bundle, scorer, fitted: all })
    }

    /// What a baseline of machine number `machine` is made with now.
    pub fn origin(&self, machine: usize) -> &Origin {
        &self.fitted[machine].origin
    }

    /// The baseline that machine number `machine` is judged by, and whether it was learned on site.
    pub fn baseline(&self, machine: usize) -> Option<(&Arc<Baseline>, bool)> {
        let fitted = &self.fitted[machine];
        fitted.model.baseline.as_ref().map(|baseline| (baseline, fitted.on_site))
    }

    /// Why a baseline that machine number `machine` has is not used.
    pub fn baseline_problem(&self, machine: usize) -> Option<&str> {
        self.fitted[machine].problem.as_deref()
    }

    /// Whether machine number `machine` can be judged without a baseline of its own.
    pub fn has_bank(&self, machine: usize) -> bool {
        !self.fitted[machine].bundled.bank.is_empty()
    }

    /// Judges machine number `machine` by what was learned on site, or by the bundle again.
    pub fn use_baseline(&mut self, machine: usize, baseline: Option<Arc<Baseline>>) {
        self.fitted[machine].learned(baseline);
    }

    /// Thresholds of machine number `machine`: of a baseline that was learned on site, and of the bundle.
    fn thresholds(&self, machine: usize) -> (Option<f64>, Option<f64>) {
        let fitted = &self.fitted[machine];
        let learned = fitted.model.baseline.as_ref().filter(|_| fitted.on_site);
        (learned.map(|baseline| baseline.threshold), fitted.threshold)
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
        &self.fitted[machine].bundled.front_end
    }

    /// What capture must deliver for machine number `machine`: rate in Hz and samples in a window.
    pub fn window_of(&self, machine: usize) -> (u32, usize) {
        let front_end = &self.fitted[machine].bundled.front_end;
        (front_end.rate_hz, front_end.window_samples())
    }
}

impl Fitted {
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
fn fit(bundle: &Bundle, machine: &MachineConfig, config: &Config) -> Result<Fitted, String> {
    let known = match bundle.machine(machine.model()) {
        Ok(known) => Some(known),
        Err(_) if machine.baseline.is_some() => None,
        Err(error) => return Err(format!("model: {error}; baseline = \"auto\" learns one that is not in the bundle")),
    };
    let (index, standard) = match known {
        Some(known) => (known.index, known.front_end.clone()),
        None => bundle.stranger(),
    };
    let front_end = FrontEnd {
        fmin_hz: machine.fmin_hz.unwrap_or(standard.fmin_hz),
        fmax_hz: machine.fmax_hz.unwrap_or(standard.fmax_hz),
        ..standard
    };
    let known = known.filter(|_| machine.baseline != Some(BaselineMode::Auto));
    let bank = known.map_or_else(|| Bank::empty(bundle.machines[0].bank.width()), |known| known.bank.clone());
    let bundled = known.and_then(|known| known.threshold);
    let threshold = match (machine.threshold.or(bundled), known) {
        (Some(threshold), _) => threshold,
        (None, None) => f64::INFINITY,
        (None, Some(known)) => {
            let dir = bundle.dir.display();
            return Err(format!(
                "threshold: expected one in the bundle or the configuration, {dir} has none for {:?}",
                known.name
            ));
        }
    };
    let gate = machine.gate(&config.gate)?;
    let origin = bundle.origin(index, front_end.clone());
    let mut model = MachineModel::new(index, bank, threshold, front_end, gate);
    model.judge = machine.judge.unwrap_or(Judge::Combined);
    // Enrolled with the bundle: its bank and threshold are in the bundle's own files already.
    let enrolled = known.and_then(|known| known.baseline.clone());
    model.baseline = enrolled.filter(|baseline| baseline.check_origin(&origin).is_ok());
    Ok(Fitted { model: model.clone(), bundled: model, threshold: bundled, origin, on_site: false, problem: None })
}

/// One machine as the agent runs it.
pub struct Machine {
    pub config: MachineConfig,
    pub settings: MachineSettings,
    pub alarm: Alarm,
    pub tally: Tally,
    /// The last verdict, for `state.get` and the health message.
    pub last: Option<Assessment>,
    pub site: Site,
    pub hearing: Hearing,
}

/// What is being learned of a machine.
#[derive(Debug, Default)]
pub struct Site {
    /// Takes in every window until it has enough.
    pub learner: Option<Learner>,
    /// Waits to be applied or discarded.
    pub proposal: Option<Arc<Baseline>>,
    /// Why learning came to nothing.
    pub failed: Option<String>,
}

impl Site {
    /// What an earlier run has left.
    pub fn restore(shelf: &Shelf, machine: &str) -> Site {
        let (learner, proposal) = (shelf.learner(machine), shelf.proposal(machine).map(Arc::new));
        Site { learner, proposal, failed: None }
    }
}

/// How a machine's microphone is doing, by its signal.
#[derive(Debug, Default)]
pub struct Hearing {
    /// Figures of the last window that was looked at.
    pub signal: Option<SignalHealth>,
    /// From the faults of windows to those that last.
    pub watch: SignalDebounce,
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
    /// With this window.
    pub alarm_state: AlarmState,
    /// How far learning has come, where this window was taken in or left out.
    pub learning: Option<Progress>,
    /// Faults of the signal that began to last, or ended.
    pub signal: Vec<SignalChange>,
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
        let scored = assess(loaded.as_mut(), machine, window, end);
        let origin = loaded.as_ref().map(|loaded| loaded.origin(window.machine));
        let learner = machine.site.learner.as_mut().filter(|learner| {
            origin.is_some_and(|origin| learner.settings().origin.check(origin).is_ok()) && !learner.progress().complete
        });
        let learning = learner.map(|learner| learner.on_window(&scored, end));
        let (assessment, signal) = (scored.assessment, scored.signal);
        let mut changes = Vec::new();
        // A machine that stands still is quiet, and says nothing about its microphone.
        if let (Some(signal), true) = (&signal, assessment.reason != Some(Reason::MachineOff)) {
            changes = machine.hearing.watch.observe(signal.fault);
        }
        machine.hearing.signal = signal.or(machine.hearing.signal.take());
        machine.tally.windows += 1;
        machine.tally.assessed += u64::from(assessment.verdict != Verdict::Unknown);
        machine.last = Some(assessment.clone());
        let alarm = machine.alarm.on_verdict(&assessment, end);
        let alarm_state = machine.alarm.status().state;
        let bundle = loaded.as_ref().map(Loaded::label);
        Judged { assessment, bundle, alarm, alarm_state, learning, signal: changes }
    }
}

impl Inner {
    /// The threshold that machine number `machine` is judged with at `now`, and where it comes from.
    pub fn threshold(&self, machine: usize, now: DateTime<Utc>) -> Option<Effective> {
        self.threshold_with(machine, &self.machines[machine].settings, now)
    }

    /// The same with other settings.
    pub fn threshold_with(&self, machine: usize, settings: &MachineSettings, now: DateTime<Utc>) -> Option<Effective> {
        let (learned, bundled) = self.loaded.as_ref().map_or((None, None), |loaded| loaded.thresholds(machine));
        settings.threshold(now, learned, self.machines[machine].config.threshold, bundled)
    }

    /// What decides over machine number `machine` with these settings.
    pub fn judge_with(&self, machine: usize, settings: &MachineSettings, now: DateTime<Utc>) -> Judge {
        let loaded = self.loaded.as_ref();
        let lanes =
            loaded.and_then(|loaded| loaded.baseline(machine)).is_some_and(|(baseline, _)| baseline.has_lanes());
        let effective = self.threshold_with(machine, settings, now);
        match lanes {
            true => judge_under(self.machines[machine].config.judge, effective),
            false => Judge::Distance,
        }
    }
}

/// A threshold that was set by hand is meant to decide: from afar always, in the configuration unless that says otherwise.
fn judge_under(configured: Option<Judge>, effective: Option<Effective>) -> Judge {
    match (effective.map(|found| found.source), configured) {
        (Some(ThresholdSource::Override), _) | (Some(ThresholdSource::Config), None) => Judge::Distance,
        (_, judge) => judge.unwrap_or(Judge::Combined),
    }
}

/// The assessment of one window: what capture knows first, then maintenance, then the score.
fn assess(loaded: Option<&mut Loaded>, machine: &Machine, window: &Window, end: DateTime<Utc>) -> Scored {
    let (learned, bundled) = loaded.as_ref().map_or((None, None), |loaded| loaded.thresholds(window.machine));
    let effective = machine.settings.threshold(end, learned, machine.config.threshold, bundled);
    let threshold = effective.map(|found| found.threshold);
    let unknown = |reason| {
        let assessment = Assessment::unknown(reason, threshold, level_dbfs(&window.samples));
        Scored { assessment, embedding: None, features: None, signal: None }
    };
    if let Some(fault) = window.fault {
        return unknown(fault);
    }
    if machine.settings.maintenance(end).is_some() {
        return unknown(Reason::Maintenance);
    }
    let Some(loaded) = loaded else { return unknown(Reason::NoBundle) };
    let model = &loaded.fitted[window.machine].model;
    let judge = judge_under(machine.config.judge, effective);
    let model = MachineModel { threshold: threshold.unwrap_or(model.threshold), judge, ..model.clone() };
    match loaded.scorer.score(&model, &window.samples) {
        Ok(mut scored) => {
            // Without a bank there is no threshold either.
            scored.assessment.threshold = scored.assessment.threshold.filter(|limit| limit.is_finite());
            scored
        }
        Err(error) => {
            // The front-end was prepared with the same parameters, so capture delivers what another bundle wanted.
            tracing::error!(machine = machine.config.id, %error, "a window could not be scored");
            unknown(Reason::NoBundle)
        }
    }
}
