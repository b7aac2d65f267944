//! The machines and what their windows are judged with: the bundle in use, each machine's settings and alarm. All of it
//! lies behind one lock, held for the time of one window, so that a new bundle or threshold takes effect between two
//! windows. Nobody reads, writes or syncs a file while holding it.
//!
//! Scoring wakes the [`state_writer`], which writes alarms and learners; commands write their files themselves. Locks are
//! taken in this order: whoever writes the alarms' file, the state, the alarms that are written but do not count yet, the
//! ids. Only the first is held while a file is written, and scoring never takes it.

pub mod alarm_stats;
pub mod alarm_store;
pub mod answers;
pub mod baseline_store;
pub mod baseline_switch;
pub mod clips;
pub mod heard;
pub mod hearing;
pub mod history;
pub mod journal;
pub mod last_window;
pub mod machine;
pub mod machines;
pub mod model;
pub mod preview;
pub mod settings;
pub mod state_writer;
pub mod trend;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard, RwLock};

use self::hearing::{HeardWindow, Hearing, SharedEngines};
use self::machine::{Machine, WantedBetween};
use self::machines::Machines;
use self::model::{ActiveBundle, MachineSetup};
use self::settings::{Effective, MachineSettings};
use crate::scoring::alarm::{AlarmStatus, StatusChange};
use crate::scoring::baseline::LearnProgress;
use crate::scoring::gate::debounce::SignalChange;
use crate::scoring::threshold::ThresholdSource;
use crate::scoring::{Assessment, Judge, MachineModel, Reason, Scored, Verdict, Why};
use crate::window::Window;
use crate::window::level_dbfs;

/// What is behind the lock.
pub struct MonitorState {
    /// `None`: no valid bundle; every verdict is `unknown`, `no_bundle` until one is loaded.
    pub loaded: Option<ActiveBundle>,
    pub machines: Machines,
    /// Changed alarms that wait to be saved and then published, in the order in which they changed.
    changes: Vec<AlarmChange>,
}

/// An alarm that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmChange {
    /// Number of the machine.
    pub machine: usize,
    pub change: StatusChange,
}

/// A window's assessment and what follows from it.
pub struct Assessed {
    pub assessment: Assessment,
    /// Label of the bundle that it was judged with.
    pub bundle: Option<String>,
    /// The alarm changed: the change waits to be saved.
    pub alarm_changed: bool,
    /// With this window.
    pub alarm: AlarmStatus,
    /// How far learning has come, where this window was taken in or left out.
    pub learning: Option<LearnProgress>,
    /// What is to be learned between this window and the one before, where this one was taken in.
    pub wanted_between: Option<WantedBetween>,
    /// Faults of the signal that began to last, or ended.
    pub signal: Vec<SignalChange>,
    /// From the machine's windows to the next, s.
    pub hop_s: f64,
}

/// Everything that windows are judged with.
pub struct Monitor {
    /// Ids of all machines that ever were, by number, apart from the state, so that messages are named without waiting for
    /// a window.
    ids: RwLock<Vec<Named>>,
    state: Mutex<MonitorState>,
}

/// What a number stands for.
struct Named {
    id: Arc<str>,
    /// The machine was removed.
    removed: bool,
}

impl Monitor {
    /// `machines` are numbered from 0.
    pub fn new(loaded: Option<ActiveBundle>, machines: Vec<Machine>) -> Monitor {
        let ids = machines.iter().map(|machine| Named { id: machine.config.id.as_str().into(), removed: false });
        let ids = RwLock::new(ids.collect());
        let machines = Machines::new(machines);
        Monitor { ids, state: Mutex::new(MonitorState { loaded, machines, changes: Vec::new() }) }
    }

    /// Between two windows: whatever is changed here, the next window is judged with. Nobody touches a file while
    /// holding this.
    ///
    /// A panic while the lock was held leaves data that is still whole, because each field is replaced in one step.
    pub fn lock(&self) -> MutexGuard<'_, MonitorState> {
        self.state.lock()
    }

    /// Id of machine number `machine`, also of one that was removed. Does not wait for a window.
    pub fn id(&self, machine: usize) -> Arc<str> {
        self.ids.read()[machine].id.clone()
    }

    /// Whether machine number `machine` was not removed. Does not wait for a window.
    pub fn has(&self, machine: usize) -> bool {
        self.ids.read().get(machine).is_some_and(|named| !named.removed)
    }

    /// Number of the machine called `id`. Does not wait for a window.
    pub fn number(&self, id: &str) -> Option<usize> {
        self.ids.read().iter().position(|named| !named.removed && *named.id == *id)
    }

    /// The number that the next machine gets.
    pub fn next_number(&self) -> usize {
        self.ids.read().len()
    }

    /// A machine joins the others, as number [`Monitor::next_number`]; `setup` is what it is judged with, where there is a
    /// bundle.
    pub fn add(&self, state: &mut MonitorState, machine: Machine, setup: Option<MachineSetup>) -> usize {
        let mut ids = self.ids.write();
        let number = ids.len();
        ids.push(Named { id: machine.config.id.as_str().into(), removed: false });
        if let (Some(loaded), Some(setup)) = (&mut state.loaded, setup) {
            loaded.insert(number, setup);
        }
        state.machines.insert(number, machine);
        number
    }

    /// A machine goes on under the next number, because it is heard in another way: windows that were captured before
    /// are dropped.
    pub fn renumber(&self, state: &mut MonitorState, number: usize) -> usize {
        let Some(machine) = state.machines.remove(number) else { return number };
        let setup = state.loaded.as_mut().and_then(|loaded| loaded.remove(number));
        if let Some(named) = self.ids.write().get_mut(number) {
            named.removed = true;
        }
        let new = self.add(state, machine, setup);
        state.changes.iter_mut().filter(|change| change.machine == number).for_each(|change| change.machine = new);
        new
    }

    /// A machine is judged with another setup from its next window on.
    pub fn judge_by(&self, state: &mut MonitorState, number: usize, setup: Option<MachineSetup>) {
        if let (Some(loaded), Some(setup)) = (&mut state.loaded, setup) {
            loaded.insert(number, setup);
        }
    }

    /// A machine leaves; changes of its alarm that wait go with it. Windows of it that are still on their way are dropped.
    pub fn remove(&self, state: &mut MonitorState, number: usize) -> Option<Machine> {
        if let Some(named) = self.ids.write().get_mut(number) {
            named.removed = true;
        }
        if let Some(loaded) = &mut state.loaded {
            loaded.remove(number);
        }
        state.changes.retain(|change| change.machine != number);
        state.machines.remove(number)
    }

    /// Time passes: shelving ends, deafness becomes an alarm. Returns whether an alarm changed.
    pub fn tick(&self, now: DateTime<Utc>) -> bool {
        let mut state = self.lock();
        let mut changed = false;
        let ticked: Vec<_> =
            state.machines.iter_mut().map(|(number, machine)| (number, machine.alarm.tick(now))).collect();
        for (number, change) in ticked {
            changed |= state.note_alarm(number, change);
        }
        changed
    }

    /// Judges one window; `None` where its machine was removed.
    pub fn assess(&self, window: &Window) -> Option<Assessed> {
        self.assess_heard(window, None)
    }

    /// The same with what was heard of it ahead, as far as that counts still.
    pub fn assess_heard(&self, window: &Window, heard: Option<HeardWindow>) -> Option<Assessed> {
        let mut state = self.lock();
        let end = DateTime::<Utc>::from(window.end);
        state.machines.get(window.machine)?;
        let effective = state.threshold(window.machine, end);
        let MonitorState { loaded, machines, .. } = &mut *state;
        let machine = machines.get_mut(window.machine)?;
        let baseline = loaded.as_ref().and_then(|loaded| loaded.baseline(window.machine));
        let widening = machine.widening(baseline.map(|(baseline, _)| &**baseline), end);
        let mut scored = assess(loaded.as_mut(), machine, effective, widening, (window, heard), end);
        let had_fault = machine.alarm.has_fault();
        let setup = loaded.as_ref().and_then(|loaded| loaded.setups.get(&window.machine));
        if let (Some(setup), Some(features)) = (setup, &scored.features) {
            machine.usual.note(&mut scored.assessment, features, &setup.model.front_end, !had_fault);
        }
        let change = machine.alarm.on_verdict(&scored.assessment, end);
        if let Some(adapted) = scored.assessment.adapted {
            machine.adaptation.note(end, adapted.needed);
        }
        let learned = setup.and_then(|setup| machine.learn(&scored, end, &setup.origin, had_fault));
        let (learning, wanted_between) = learned.map_or((None, None), |(progress, wanted)| (Some(progress), wanted));
        machine.heard.note(&scored, end, machine.config.hop_s);
        let (assessment, signal) = (scored.assessment, scored.signal);
        let mut changes = Vec::new();
        // A machine that stands still is quiet, and says nothing about its microphone.
        if let (Some(signal), true) = (&signal, assessment.reason != Some(Reason::MachineOff)) {
            changes = machine.signal.watch.observe(signal.fault);
        }
        machine.signal.signal = signal.or(machine.signal.signal.take());
        machine.counts.windows += 1;
        machine.counts.assessed += u64::from(assessment.verdict != Verdict::Unknown);
        machine.last = Some(assessment.clone());
        let alarm = machine.alarm.status();
        let hop_s = machine.config.hop_s;
        let bundle = loaded.as_ref().map(ActiveBundle::label);
        let alarm_changed = state.note_alarm(window.machine, change);
        let signal = changes;
        Some(Assessed { assessment, bundle, alarm_changed, alarm, learning, wanted_between, signal, hop_s })
    }

    /// What a window would be heard with now; `None` where its verdict needs no look at its sound.
    pub fn hearing(&self, window: &Window) -> Option<Hearing> {
        let state = self.lock();
        let machine = state.machines.get(window.machine)?;
        if window.fault.is_some() || machine.settings.maintenance(DateTime::from(window.end)).is_some() {
            return None;
        }
        state.loaded.as_ref()?.setups.get(&window.machine).map(Hearing::of)
    }

    /// Engines for so many other threads; `None` where there is no bundle.
    pub fn share_engines(&self, count: usize) -> Option<SharedEngines> {
        self.lock().loaded.as_ref().map(|loaded| SharedEngines::of(loaded, count))
    }

    /// Has the learner of this generation take in a window that ended `back_s` before the last one that it took in. Neither
    /// verdict nor alarm comes of it.
    pub fn learn_between(&self, number: usize, generation: u64, samples: &[f32], back_s: f64) {
        let mut state = self.lock();
        let MonitorState { loaded, machines, .. } = &mut *state;
        let (Some(loaded), Some(machine)) = (loaded, machines.get_mut(number)) else { return };
        let Some(setup) = loaded.setups.get(&number).filter(|_| machine.learning.generation == generation) else {
            return;
        };
        // What cannot be scored has been told by the window before.
        if let Ok(scored) = loaded.scorer.score(&setup.model, samples) {
            machine.learn_between(&scored, back_s, &setup.origin);
        }
    }

    /// Generation of what is being learned of a machine, where something is.
    pub fn learner_generation(&self, number: usize) -> Option<u64> {
        let state = self.lock();
        let learning = &state.machines.get(number)?.learning;
        learning.learner.as_ref().map(|_| learning.generation)
    }
}

impl Assessed {
    /// What a person should know of the machine now, where there is something: of its alarm, else of this window.
    pub fn sentence(&self) -> Option<String> {
        let of_window = || self.assessment.why.as_ref().filter(|_| self.assessment.verdict == Verdict::Anomalous);
        let of_window = || of_window().map(Why::to_string).filter(|why| !why.is_empty());
        self.alarm.sentence(self.assessment.reason).or_else(of_window)
    }
}

impl MonitorState {
    /// Notes a change of an alarm for whoever saves and publishes it. Returns whether there is one.
    pub fn note_alarm(&mut self, machine: usize, change: Option<StatusChange>) -> bool {
        let changed = change.is_some();
        self.changes.extend(change.map(|change| AlarmChange { machine, change }));
        changed
    }

    /// The number of the machine called `id`.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.machines.iter().find(|(_, machine)| machine.config.id == id).map(|(number, _)| number)
    }

    /// The threshold that machine number `machine` is judged with at `now`, and where it comes from.
    pub fn threshold(&self, machine: usize, now: DateTime<Utc>) -> Option<Effective> {
        self.threshold_with(machine, &self.machines[machine].settings, now)
    }

    /// The same with other settings.
    pub fn threshold_with(&self, machine: usize, settings: &MachineSettings, now: DateTime<Utc>) -> Option<Effective> {
        let (learned, bundled) = self.loaded.as_ref().map_or((None, None), |loaded| loaded.thresholds(machine));
        settings.threshold(now, learned, self.machines[machine].config.threshold, bundled)
    }

    /// Share of normal windows that all lanes together call anomalous with these settings; `None` where they do not decide.
    pub fn rate_with(&self, machine: usize, settings: &MachineSettings, now: DateTime<Utc>) -> Option<f64> {
        let baseline = self.loaded.as_ref()?.judging(machine)?;
        let decides = self.judge_with(machine, settings, now) == Judge::Combined;
        decides.then(|| settings.false_alarm_rate.unwrap_or(baseline.false_alarm_rate))
    }

    /// What decides over machine number `machine` with these settings.
    pub fn judge_with(&self, machine: usize, settings: &MachineSettings, now: DateTime<Utc>) -> Judge {
        let loaded = self.loaded.as_ref();
        let lanes = loaded.and_then(|loaded| loaded.judging(machine)).is_some_and(|baseline| baseline.has_lanes());
        let effective = self.threshold_with(machine, settings, now);
        match lanes {
            true => judge_under(self.machines[machine].config.judge, effective),
            false => Judge::Distance,
        }
    }
}

/// A threshold that was set by hand is meant to decide: remotely always, in the configuration unless that says otherwise.
fn judge_under(configured: Option<Judge>, effective: Option<Effective>) -> Judge {
    match (effective.map(|found| found.source), configured) {
        (Some(ThresholdSource::Override), _) | (Some(ThresholdSource::Config), None) => Judge::Distance,
        (_, judge) => judge.unwrap_or(Judge::Combined),
    }
}

/// The assessment of one window: what capture knows first, then maintenance, then the score.
fn assess(
    loaded: Option<&mut ActiveBundle>,
    machine: &mut Machine,
    effective: Option<Effective>,
    widening: Option<f64>,
    (window, heard): (&Window, Option<HeardWindow>),
    end: DateTime<Utc>,
) -> Scored {
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
    let Some(setup) = loaded.setups.get(&window.machine) else { return unknown(Reason::NoBundle) };
    let model = &setup.model;
    let judge = judge_under(machine.config.judge, effective);
    let threshold = threshold.unwrap_or(model.threshold);
    let false_alarm_rate = machine.settings.false_alarm_rate;
    let model = MachineModel { threshold, judge, false_alarm_rate, widening, ..model.clone() };
    let heard = heard.and_then(|heard| heard.fitting(setup));
    match heard.unwrap_or_else(|| loaded.scorer.hear(&model, &window.samples)) {
        Ok(heard) => {
            let end_s = machine.heard.dated(end, machine.config.hop_s);
            let mut scored = model.judge_next(heard, &mut machine.recent, end_s);
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
