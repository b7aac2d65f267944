//! Alarms on disk: `alarms.json` in the state directory, replaced in one step.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::station::Machine;
use crate::scoring::alarm::{Alarm, AlarmConfig, State};

/// The file and what it held at start.
pub struct AlarmBook {
    file: PathBuf,
    states: BTreeMap<String, State>,
    /// Whether the last attempt to write failed: said once, not at every window.
    failing: bool,
}

impl AlarmBook {
    /// Reads what an earlier run has kept. A file that cannot be read is set aside, loudly: alarms then begin anew.
    pub fn open(state_dir: &Path) -> AlarmBook {
        let file = state_dir.join("alarms.json");
        let states = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                let aside = file.with_extension("json.broken");
                let moved = fs::rename(&file, &aside);
                tracing::error!(file = %file.display(), %error, ?moved, "alarms are lost: the file is set aside");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "alarms of the last run cannot be read");
                BTreeMap::new()
            }
        };
        AlarmBook { file, states, failing: false }
    }

    /// The alarm of a machine as it was left, under the settings of today.
    pub fn restore(&mut self, machine: &str, config: AlarmConfig, now: DateTime<Utc>) -> Alarm {
        match self.states.remove(machine) {
            Some(state) => Alarm::restore(config, state),
            None => Alarm::new(config, now),
        }
    }

    /// Writes every machine's alarm; on disk when it returns, unless the disk fails, which is said once.
    pub fn keep(&mut self, machines: &[Machine]) {
        let states: BTreeMap<_, _> =
            machines.iter().map(|machine| (&machine.config.id, machine.alarm.state())).collect();
        let text = serde_json::to_vec(&states).expect("states have string keys and no failing fields");
        match replace(&self.file, &text) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    tracing::error!(file = %self.file.display(), %error, "alarms cannot be kept; they go on in memory");
                }
                self.failing = true;
            }
        }
    }
}

/// Replaces a file in one step: after a power cut it is the old one or the new one.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    File::open(dir)?.sync_all()
}
