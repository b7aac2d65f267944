//! What is remembered of an import: from whom it was, and how far `seq` had come there.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Contents;
use crate::clock::Timestamp;
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

/// Notes an import.
///
/// # Errors
/// Any I/O error.
pub fn note(files: &StateFiles, contents: &Contents, now: DateTime<Utc>) -> std::io::Result<()> {
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
