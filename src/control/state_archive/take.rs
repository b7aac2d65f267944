//! What was imported is put in place of what was set and learned here, before an agent runs on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::import::{WAITING, revoke};
use super::{Contents, export, imported};
use crate::config::{BrokerOrigin, Config};
use crate::control::store::StateStore;
use crate::fs::UNFINISHED;
use crate::monitor::alarm_store;
use crate::monitor::baseline_store::BaselineStore;
use crate::mqtt::broker::{self, BrokerSettings};
use crate::numbers::counted;
use crate::state_files::StateFiles;

/// Why an import was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is gone; all is as it was before.
    #[error("what was imported is lost: {0}")]
    Damaged(String),
    /// It waits for the next start; all is as it was before.
    #[error("what was imported waits for the next start: {0}")]
    Waits(String),
    /// A part of it is in place: no agent may run on that.
    #[error(
        "what was imported cannot be put in place: {0}; make room on the disk of the state directory and start again, or \
         remove its directory `import` to go on with what is there"
    )]
    Halfway(String),
}

/// Takes what was imported, if something was; what to say of it. Also removes what an interrupted export or import left.
///
/// # Errors
/// Why it was not taken.
pub fn take(config: &Config, store: &mut StateStore, now: DateTime<Utc>) -> Result<Option<String>, TakeError> {
    let state_dir = &config.agent.state_dir;
    sweep(state_dir);
    let dir = state_dir.join(WAITING);
    if !dir.exists() {
        return Ok(None);
    }
    let contents = Contents::read(&dir, config).map_err(|problem| {
        // Kept for whoever wants to know.
        let aside = dir.with_extension(format!("corrupt-{}", now.format("%Y%m%dT%H%M%S%3fZ")));
        match fs::rename(&dir, &aside) {
            Ok(()) => TakeError::Damaged(format!("{problem}; set aside as {}", aside.display())),
            Err(error) => TakeError::Damaged(format!("{problem}; could not be set aside: {error}")),
        }
    })?;
    let waits = |error: &dyn std::fmt::Display| TakeError::Waits(error.to_string());
    // The numbers first: that they go on higher does no harm whatever follows.
    imported::note(&StateFiles::new(state_dir), &contents, now).map_err(|error| waits(&error))?;
    store.replace_all(&contents.settings, &contents.machines, now).map_err(|error| waits(&error))?;
    let said = put(&dir, state_dir, &contents).map_err(TakeError::Halfway)?;
    revoke(state_dir).map_err(|error| TakeError::Halfway(error.to_string()))?;
    Ok(Some(said))
}

/// The files. Done again after a power cut, it comes to the same.
fn put(dir: &Path, state_dir: &Path, contents: &Contents) -> Result<String, String> {
    let fault = |error: std::io::Error| error.to_string();
    let files = StateFiles::new(state_dir);
    let alarms = serde_json::to_string(&contents.alarms).map_err(|error| error.to_string())?;
    files.write(alarm_store::FILE, &alarms).map_err(fault)?;
    let baselines = BaselineStore::new(state_dir);
    for name in baselines.names().iter().filter(|name| !contents.baselines.contains(name)) {
        baselines.remove_text(&name.0, &name.1).map_err(fault)?;
    }
    // What was before what was here is no way back from what comes.
    for (machine, file) in baselines.previous_names() {
        baselines.remove_text(&machine, &file).map_err(fault)?;
    }
    for (machine, file) in &contents.baselines {
        let text = contents.baseline(dir, machine, file)?;
        baselines.put_text(machine, file, &text).map_err(fault)?;
    }
    if let Some(chosen) = &contents.broker {
        let settings = BrokerSettings {
            urls: chosen.url.clone(),
            username: chosen.username.clone(),
            origin: BrokerOrigin::Page,
            ..BrokerSettings::default()
        };
        broker::save(state_dir, Some(&settings)).map_err(fault)?;
    }
    let manifest = &contents.manifest;
    let learned: BTreeSet<_> = contents.baselines.iter().map(|(machine, _)| machine).collect();
    Ok(format!(
        "from {}, exported {}: {} added, {} with settings, {} with what was learned",
        manifest.agent,
        manifest.exported,
        counted(contents.machines.len(), "machine"),
        counted(contents.settings.len(), "machine"),
        counted(learned.len(), "machine"),
    ))
}

/// Removes what was not finished.
fn sweep(state_dir: &Path) {
    let _ = export::sweep(state_dir);
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let remove = if is_dir { fs::remove_dir_all } else { fs::remove_file };
            if let Err(error) = remove(entry.path()) {
                tracing::debug!(file = %entry.path().display(), %error, "unfinished work cannot be removed");
            }
        }
    }
}
