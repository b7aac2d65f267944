//! The archive of what was set and learned here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{
    ALARMS, ARCHIVE_LIMIT, BASELINE_LIMIT, BROKER, Broker, FILE_LIMIT, FORMAT, MACHINES, MANIFEST, Manifest, SEQ,
    SETTINGS, imported, name_of_baseline,
};
use crate::archive::{Packer, sha256_of};
use crate::clock::Timestamp;
use crate::monitor::alarm_store;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::settings::MachineSettings;
use crate::mqtt::{broker, outbox};
use crate::sha256::sha256_hex;
use crate::state_files::{Lost, StateFiles};

/// What the archive is called in the state directory, before its SHA-256; it stays until the next one or the next start.
const PREFIX: &str = "export-";
const SUFFIX: &str = ".tar.gz";

/// What the running agent knows of it.
#[derive(Debug, Clone)]
pub struct Exporter {
    pub state_dir: PathBuf,
    pub agent: String,
    pub bundle: Option<String>,
    pub settings: BTreeMap<String, MachineSettings>,
    /// Machines that commands added, as JSON, by their ids.
    pub machines: BTreeMap<String, String>,
    pub now: DateTime<Utc>,
}

/// An archive that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// What to call it.
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
    /// Files that are damaged, and why.
    pub left_out: Vec<String>,
}

impl Exporter {
    /// Makes the archive and keeps it in the state directory, in place of an earlier one.
    ///
    /// # Errors
    /// Any I/O error; an archive that nobody would take.
    pub fn keep(&self) -> io::Result<Exported> {
        sweep(&self.state_dir)?;
        let mut left_out = Vec::new();
        let mut file = tempfile::Builder::new().prefix(crate::fs::UNFINISHED).tempfile_in(&self.state_dir)?;
        self.write(file.as_file_mut(), &mut left_out)?;
        let bytes = file.as_file().metadata()?.len();
        if bytes > ARCHIVE_LIMIT {
            return Err(io::Error::other(format!(
                "the export has {bytes} bytes, more than the {ARCHIVE_LIMIT} of one"
            )));
        }
        let sha256 = sha256_of(file.as_file_mut())?;
        file.persist(kept(&self.state_dir, &sha256)).map_err(|error| error.error)?;
        let name = format!("auscult-{}-{}.tar.gz", self.agent, self.now.format("%Y%m%d-%H%M%S"));
        Ok(Exported { name, bytes, sha256, left_out })
    }

    /// Makes the archive and lays it at `path`, whole or not at all.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        crate::fs::replace_with(path, |file| self.write(file, &mut Vec::new())).map(drop)
    }

    fn write(&self, file: &mut File, left_out: &mut Vec<String>) -> io::Result<()> {
        let mut out = Writer { packer: Packer::new(BufWriter::new(file)), files: BTreeMap::new() };
        let files = StateFiles::read_only(&self.state_dir);
        out.json(SETTINGS, &self.settings)?;
        let parsed = self.machines.iter().map(|(id, text)| Ok((id, serde_json::from_str::<Value>(text)?)));
        out.json(MACHINES, &parsed.collect::<Result<BTreeMap<_, _>, serde_json::Error>>()?)?;
        let alarms = files.read(alarm_store::FILE).unwrap_or_else(|Lost(problem)| {
            left_out.push(problem);
            None
        });
        out.text(ALARMS, &alarms.unwrap_or_else(|| "{}".to_owned()))?;
        out.json(SEQ, &self.seqs())?;
        match broker::saved(&self.state_dir) {
            Ok(None) => {}
            Ok(Some(chosen)) => {
                let (url, needs_password) = (chosen.urls, chosen.password.is_some());
                out.json(BROKER, &Broker { url, username: chosen.username, needs_password })?;
            }
            Err(problem) => left_out.push(problem),
        }
        let baselines = BaselineStore::read_only(&self.state_dir);
        for (machine, name) in baselines.names() {
            match baselines.text(&machine, &name) {
                Ok(Some(text)) => out.text(&name_of_baseline(&machine, &name), &text)?,
                // Discarded meanwhile.
                Ok(None) => {}
                Err(Lost(problem)) => left_out.push(problem),
            }
        }
        let manifest = Manifest {
            format: FORMAT,
            auscult: env!("CARGO_PKG_VERSION").to_owned(),
            agent: self.agent.clone(),
            exported: Timestamp::from(self.now),
            bundle: self.bundle.clone(),
            files: std::mem::take(&mut out.files),
        };
        out.json(MANIFEST, &manifest)?;
        out.packer.finish()?.flush()
    }

    /// What no later window has yet: neither of this agent, nor of the one whose state it took.
    fn seqs(&self) -> BTreeMap<String, u64> {
        let mut seqs = outbox::reserved_seqs(&self.state_dir);
        for (machine, least) in imported::least_seqs(&self.state_dir) {
            let entry = seqs.entry(machine).or_insert(0);
            *entry = (*entry).max(least);
        }
        seqs
    }
}

struct Writer<W: Write> {
    packer: Packer<W>,
    files: BTreeMap<String, String>,
}

impl<W: Write> Writer<W> {
    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let most = if name.starts_with(super::BASELINE) { BASELINE_LIMIT } else { FILE_LIMIT };
        if text.len() as u64 > most {
            return Err(io::Error::other(format!(
                "{name} has {} bytes, more than the {most} of an export",
                text.len()
            )));
        }
        self.files.insert(name.to_owned(), sha256_hex(text));
        self.packer.add(name, text.as_bytes())
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.text(name, &serde_json::to_string(value)?)
    }
}

fn kept(state_dir: &Path, sha256: &str) -> PathBuf {
    state_dir.join(format!("{PREFIX}{sha256}{SUFFIX}"))
}

/// The bytes from `offset` on, `most` of them, of the archive that [`Exporter::keep`] has made; `None` where there is none
/// of this SHA-256 any more.
///
/// # Errors
/// Any I/O error.
pub fn piece(state_dir: &Path, sha256: &str, offset: u64, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(kept(state_dir, sha256)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Removes archives that were made earlier.
///
/// # Errors
/// Any I/O error.
pub fn sweep(state_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            crate::fs::remove(&entry.path())?;
        }
    }
    Ok(())
}
