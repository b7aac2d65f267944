//! What was imported is put in place of what was set and learned here, before an agent runs on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::import::{WAITING, revoke};
use super::{Contents, export};
use crate::clock::Timestamp;
use crate::config::{BrokerOrigin, Config};
use crate::control::store::StateStore;
use crate::fs::UNFINISHED;
use crate::monitor::alarm_store;
use crate::monitor::baseline_store::BaselineStore;
use crate::mqtt::broker::{self, BrokerSettings};
use crate::state_files::{Lost, StateFiles};

/// Where the imports of this state directory are noted.
const IMPORTED: &str = "imported.json";
/// So far above the exported numbers `seq` goes on at least: the agent that wrote them went on until its card failed.
const STEP: u64 = 10_000_000;
/// And so many for each second since: windows come no faster.
const A_SECOND: u64 = 2;

/// The last import.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Imported {
    agent: String,
    exported: String,
    imported: String,
    /// No machine's `seq` goes on below this.
    seqs: BTreeMap<String, u64>,
}

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
    note(&StateFiles::new(state_dir), &contents, now).map_err(|error| waits(&error))?;
    store.replace_all(&contents.settings, &contents.machines, now).map_err(|error| waits(&error))?;
    let said = put(&dir, state_dir, &contents).map_err(TakeError::Halfway)?;
    revoke(state_dir).map_err(|error| TakeError::Halfway(error.to_string()))?;
    Ok(Some(said))
}

/// Numbers that no machine's `seq` goes on below, because a card whose state was imported had used them.
pub fn least_seqs(state_dir: &Path) -> BTreeMap<String, u64> {
    let imported = StateFiles::read_only(state_dir).read_json::<Imported>(IMPORTED);
    let imported = imported.unwrap_or_else(|Lost(problem)| {
        // The outbox knows them since its first message.
        tracing::error!("what was imported last is lost: {problem}");
        None
    });
    imported.unwrap_or_default().seqs
}

fn note(files: &StateFiles, contents: &Contents, now: DateTime<Utc>) -> std::io::Result<()> {
    let before = files.read_json::<Imported>(IMPORTED).unwrap_or_default().unwrap_or_default();
    let since_s = (now - contents.manifest.exported.utc()).num_seconds();
    let above = STEP + A_SECOND * u64::try_from(since_s).unwrap_or(0);
    let mut seqs = before.seqs;
    for (machine, seq) in &contents.seqs {
        let entry = seqs.entry(machine.clone()).or_insert(0);
        *entry = (*entry).max(seq + above);
    }
    let imported = Imported {
        agent: contents.manifest.agent.clone(),
        exported: contents.manifest.exported.to_string(),
        imported: Timestamp::from(now).to_string(),
        seqs,
    };
    files.write(IMPORTED, &serde_json::to_string(&imported)?)
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
    Ok(format!(
        "from {}, exported {}: {} added, {} with settings, {} with what was learned",
        manifest.agent,
        manifest.exported,
        plural(contents.machines.len()),
        plural(contents.settings.len()),
        plural(contents.baselines.iter().map(|(machine, _)| machine).collect::<std::collections::BTreeSet<_>>().len()),
    ))
}

fn plural(machines: usize) -> String {
    format!("{machines} {}", if machines == 1 { "machine" } else { "machines" })
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
