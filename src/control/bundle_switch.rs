//! Another bundle is taken into use: installed, rolled back to or reloaded by its path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::error::CommandError;
use super::messages::{baseline_problems, event, settings_msg};
use super::output::Output;
use super::pieces::Pieces;
use super::shared::Shared;
use super::store::Commit;
use super::transaction::Transaction;
use crate::bundle::store::{BundleStore, Placed};
use crate::monitor::MonitorState;
use crate::monitor::model::ActiveBundle;
use crate::mqtt::payload::EventKind;

/// A bundle that is read, checked and warmed up. After [`BundleSwitch::apply`] it holds the one that was in use before, whose
/// memory is given back outside the monitor's lock.
pub struct BundleSwitch {
    pub shared: Arc<Shared>,
    pub bundle: Option<ActiveBundle>,
}

impl BundleSwitch {
    /// Every file of it is as in the bundle that is in use.
    pub fn is_running(&self) -> bool {
        let state = self.shared.monitor.lock();
        is_same(state.loaded.as_ref(), self.bundle.as_ref())
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let label =
            |bundle: &Option<ActiveBundle>| bundle.as_ref().map_or_else(|| "none".to_owned(), ActiveBundle::label);
        let shared = &self.shared;
        let (from, to) = (label(&state.loaded), label(&self.bundle));
        let same = is_same(state.loaded.as_ref(), self.bundle.as_ref());
        std::mem::swap(&mut state.loaded, &mut self.bundle);
        for (number, machine) in state.machines.iter_mut() {
            let baseline = state.loaded.as_ref().and_then(|loaded| loaded.baseline(number));
            machine.alarm.calibrate(baseline.and_then(|(baseline, _)| baseline.slow()));
            if !same {
                machine.forget_sound();
            }
        }
        let mut out = vec![Output::Info];
        for (number, machine) in state.machines.iter() {
            out.push(Output::Settings(settings_msg(shared, state, number, &machine.settings, now)));
            if !same {
                out.push(event(shared, number, EventKind::BundleChanged, format!("{from} -> {to}"), None, now));
            }
        }
        out.extend(baseline_problems(shared, state, now));
        out
    }

    fn finish(self) {
        let same = self.is_running();
        let to = self.shared.monitor.lock().loaded.as_ref().map(ActiveBundle::label);
        let from = self.bundle.as_ref().map(ActiveBundle::label);
        if let (true, Some(label)) = (same, &to) {
            return tracing::info!("the bundle {label} was read again, it is unchanged");
        }
        let label = |label: Option<String>| label.unwrap_or_else(|| "none".to_owned());
        tracing::info!("bundle switched from {} to {}", label(from), label(to));
    }
}

/// Every file of both is the same.
fn is_same(one: Option<&ActiveBundle>, other: Option<&ActiveBundle>) -> bool {
    let files = |bundle: &ActiveBundle| (bundle.bundle.digest.clone(), bundle.bundle.manifest_sha256.clone());
    one.is_some() && one.map(files) == other.map(files)
}

/// Takes an installed bundle into use.
pub struct InstallBundle {
    pub switch: BundleSwitch,
    pub bundles: Arc<BundleStore>,
    pub placed: Placed,
    /// Pieces of the archive, which are no longer needed then.
    pub pieces: Option<Pieces>,
}

impl Transaction for InstallBundle {
    fn persist(&mut self) -> Result<(), CommandError> {
        self.bundles.switch(&self.placed)?;
        self.bundles.spare(None);
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        Commit { bundle: Some(None), ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        self.switch.apply(state, now)
    }

    fn finish(self: Box<Self>) {
        if let Some(pieces) = &self.pieces {
            pieces.forget();
        }
        self.switch.finish();
    }
}

/// Goes back to the bundle that was installed before.
pub struct Rollback {
    pub switch: BundleSwitch,
    pub bundles: Arc<BundleStore>,
    pub previous: Placed,
}

impl Transaction for Rollback {
    fn persist(&mut self) -> Result<(), CommandError> {
        Ok(self.bundles.switch_back(&self.previous)?)
    }

    fn rows(&self) -> Commit<'_> {
        Commit { bundle: Some(None), ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        self.switch.apply(state, now)
    }

    fn finish(self: Box<Self>) {
        self.switch.finish();
    }
}

/// Takes a bundle into use by its path; no file changes.
pub struct ReloadBundle {
    pub switch: BundleSwitch,
    /// The bundle to load at the next start; `None`: the configured one.
    pub choice: Option<PathBuf>,
}

impl Transaction for ReloadBundle {
    fn persist(&mut self) -> Result<(), CommandError> {
        // The store must not remove the bundle that is in use by its path.
        if let Some(bundles) = self.switch.shared.bundles.get() {
            bundles.spare(self.choice.clone());
        }
        Ok(())
    }

    fn rows(&self) -> Commit<'_> {
        Commit { bundle: Some(self.choice.as_deref().and_then(Path::to_str)), ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        self.switch.apply(state, now)
    }

    fn finish(self: Box<Self>) {
        self.switch.finish();
    }
}
