//! All that was set and learned, as one archive: to a new card and back. What is in it is what a restart would find; what
//! is not: secrets, messages that wait, distances of the past, the bundle itself.
//!
//! ```text
//! export  state directory, rows of state.db -> .tar.gz
//! import  .tar.gz -> checked whole -> <state_dir>/import, by one rename
//! take    <state_dir>/import -> in place of what was there, before an agent starts
//! ```
//! A process that is killed leaves `<state_dir>/import` whole or not at all; while it is there, each start takes it from
//! the beginning. No agent ever runs on a part of it.

pub mod export;
pub mod import;
pub mod imported;
pub mod take;
pub mod transaction;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use chrono::{DateTime, Datelike, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::{self, Allowed};
use crate::clock::Timestamp;
use crate::config::{Config, MachineConfig, check_id};
use crate::monitor::baseline_store::{self, BaselineStore};
use crate::monitor::settings::MachineSettings;
use crate::mqtt::address::BrokerUrls;
use crate::numbers::LARGEST_COUNT;
use crate::scoring::alarm::SavedAlarm;
use crate::scoring::baseline::check_rate;
use crate::scoring::threshold::Threshold;
use crate::sha256::sha256_hex;

/// Version of the archive's layout; a later one is refused.
pub const FORMAT: u32 = 1;
/// Largest archive that is taken, bytes.
pub const ARCHIVE_LIMIT: u64 = 64 << 20;

const MANIFEST: &str = "manifest.json";
const SETTINGS: &str = "settings.json";
const MACHINES: &str = "machines.json";
const ALARMS: &str = "alarms.json";
const SEQ: &str = "seq.json";
/// The broker that was chosen on the page; without its password.
const BROKER: &str = "broker.json";
/// Before a machine's id and the name of its file, with dots between.
const BASELINE: &str = "baseline";

/// Each file's largest size, bytes; of a baseline or learner and of the others.
const BASELINE_LIMIT: u64 = 32 << 20;
const FILE_LIMIT: u64 = 4 << 20;
/// Of all files together.
const TOTAL_LIMIT: u64 = 256 << 20;
const MEMBER_LIMIT: usize = 1024;
/// An agent that counts further lives some billion years.
const LARGEST_SEQ: u64 = 1 << 52;
/// As a command may bring them.
const LONGEST_BY: usize = 64;
const LONGEST_REASON: usize = 200;
/// Of any text in settings and alarms.
const LONGEST_TEXT: usize = 1000;

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the program that wrote it.
    pub auscult: String,
    /// Id of the agent that wrote it, and when.
    pub agent: String,
    pub exported: Timestamp,
    /// Label of the bundle that was in use.
    pub bundle: Option<String>,
    /// SHA-256 of each file beside this one, hex.
    pub files: BTreeMap<String, String>,
}

/// The broker that was chosen on the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    pub url: BrokerUrls,
    pub username: Option<String>,
    /// It has one, which is not in the archive.
    pub needs_password: bool,
}

/// What an archive holds, checked.
#[derive(Debug)]
pub struct Contents {
    pub manifest: Manifest,
    pub settings: BTreeMap<String, MachineSettings>,
    /// Machines that commands added, as JSON, by their ids.
    pub machines: BTreeMap<String, String>,
    pub alarms: BTreeMap<String, SavedAlarm>,
    /// A number for each machine that its `seq` had not reached.
    pub seqs: BTreeMap<String, u64>,
    pub broker: Option<Broker>,
    /// Machines and names of the files that are kept of them; they are read one by one.
    pub baselines: Vec<(String, String)>,
}

/// Unpacks an archive into `dir`, which is there and empty: nothing but files of an export, within their limits.
///
/// # Errors
/// One line: what was expected, what was found. `dir` then holds a part.
pub fn unpack(archive: &mut File, dir: &Path) -> Result<(), String> {
    let allowed = Allowed { of: "an export", limit: &limit, total: TOTAL_LIMIT, members: MEMBER_LIMIT };
    archive::unpack(archive, dir, &allowed)
}

/// The largest size of the file of this name, bytes; `None` where an archive has no such file.
pub fn limit(name: &str) -> Option<u64> {
    match name {
        MANIFEST | SETTINGS | MACHINES | ALARMS | SEQ | BROKER => Some(FILE_LIMIT),
        _ => baseline_of(name).map(|_| BASELINE_LIMIT),
    }
}

/// `baseline.fan-1.proposal.json` is the file `proposal.json` of the machine `fan-1`.
fn baseline_of(name: &str) -> Option<(&str, &str)> {
    let (machine, file) = name.strip_prefix(BASELINE)?.strip_prefix('.')?.split_once('.')?;
    (check_id("id", machine).is_ok() && baseline_store::is_file_name(file)).then_some((machine, file))
}

fn name_of_baseline(machine: &str, file: &str) -> String {
    format!("{BASELINE}.{machine}.{file}")
}

impl Contents {
    /// Reads and checks what [`unpack`] has laid into `dir`.
    ///
    /// # Errors
    /// One line: the file, what was expected, what was found.
    pub fn read(dir: &Path, config: &Config) -> Result<Contents, String> {
        let manifest = manifest_in(dir)?;
        check_names(dir, &manifest)?;
        let mut contents = Contents {
            settings: plain_json(dir, &manifest, SETTINGS)?,
            machines: BTreeMap::new(),
            alarms: plain_json(dir, &manifest, ALARMS)?,
            seqs: checked_json(dir, &manifest, SEQ)?,
            broker: None,
            baselines: Vec::new(),
            manifest,
        };
        let manifest = &contents.manifest;
        if manifest.files.contains_key(BROKER) {
            contents.broker = Some(json(BROKER, &sealed_text(dir, manifest, BROKER)?)?);
        }
        let machines: BTreeMap<String, Value> = checked_json(dir, manifest, MACHINES)?;
        for (id, value) in machines {
            let key = format!("{MACHINES}: {id}");
            let machine = MachineConfig::deserialize(&value).map_err(|error| format!("{key}: {error}"))?;
            if machine.id != id {
                return Err(format!("{key}: expected a machine of this id, found {:?}", machine.id));
            }
            machine.check(&key, &config.gate, &config.alarm)?;
            // As it was stored: a machine says nothing of what it leaves to its default.
            contents.machines.insert(id, value.to_string());
        }
        contents.settings.keys().try_for_each(|id| check_id(SETTINGS, id))?;
        contents.alarms.keys().try_for_each(|id| check_id(ALARMS, id))?;
        contents.seqs.keys().try_for_each(|id| check_id(SEQ, id))?;
        for (id, settings) in &contents.settings {
            check_settings(settings).map_err(|problem| format!("{SETTINGS}: {id}: {problem}"))?;
        }
        if let Some((id, seq)) = contents.seqs.iter().find(|(_, seq)| **seq > LARGEST_SEQ) {
            return Err(format!("{SEQ}: {id}: expected at most {LARGEST_SEQ}, found {seq}"));
        }
        let baselines = contents.manifest.files.keys().filter_map(|name| baseline_of(name));
        contents.baselines = baselines.map(|(machine, file)| (machine.to_owned(), file.to_owned())).collect();
        for (machine, file) in &contents.baselines {
            contents.baseline(dir, machine, file)?;
        }
        Ok(contents)
    }

    /// One of the baselines and learners, as it is written in the state directory.
    ///
    /// # Errors
    /// As of [`Contents::read`].
    pub fn baseline(&self, dir: &Path, machine: &str, file: &str) -> Result<String, String> {
        let name = name_of_baseline(machine, file);
        let text = sealed_text(dir, &self.manifest, &name)?;
        BaselineStore::checked_text(file, &text).map_err(|problem| format!("{name}: {problem}"))
    }
}

/// The manifest: first of all its format, so that a later one is called that.
fn manifest_in(dir: &Path) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
        auscult: Option<String>,
    }
    let text = text(dir, MANIFEST)?;
    let Format { format, auscult } = json(MANIFEST, &text)?;
    if format != FORMAT {
        let by = auscult.map(|version| format!(" of auscult {}", shortened(&version))).unwrap_or_default();
        return Err(format!(
            "{MANIFEST}: expected format {FORMAT}, found {format}{by}: this agent is auscult {}, update it first",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let manifest: Manifest = json(MANIFEST, &text)?;
    for (key, text) in [("agent", Some(&manifest.agent)), ("auscult", Some(&manifest.auscult))]
        .into_iter()
        .chain([("bundle", manifest.bundle.as_ref())])
    {
        if text.is_some_and(|text| text.chars().count() > 256 || text.contains(char::is_control)) {
            return Err(format!("{MANIFEST}: {key}: expected a line of at most 256 characters"));
        }
    }
    Ok(manifest)
}

/// The files that are there are those of the manifest.
fn check_names(dir: &Path, manifest: &Manifest) -> Result<(), String> {
    let fault = |error| format!("expected a readable directory, found: {error}");
    for entry in dir.read_dir().map_err(fault)? {
        let name = entry.map_err(fault)?.file_name().to_string_lossy().into_owned();
        if name != MANIFEST && !manifest.files.contains_key(&name) {
            return Err(format!("{name}: expected only files that the manifest names"));
        }
    }
    match manifest.files.keys().find(|name| *name == MANIFEST || limit(name).is_none()) {
        Some(name) => Err(format!("{MANIFEST}: expected files of an export, found {:?}", shortened(name))),
        None => Ok(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn text(dir: &Path, name: &str) -> Result<String, String> {
    let bytes = crate::fs::read(&dir.join(name)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{name}: expected this file in the archive, found none"),
        _ => format!("{name}: expected a readable file, found: {error}"),
    })?;
    String::from_utf8(bytes).map_err(|_| format!("{name}: expected text, found other bytes"))
}

/// A file whose SHA-256 is the manifest's.
fn sealed_text(dir: &Path, manifest: &Manifest, name: &str) -> Result<String, String> {
    let text = text(dir, name)?;
    let found = sha256_hex(&text);
    match manifest.files.get(name) {
        Some(expected) if *expected == found => Ok(text),
        Some(_) => Err(format!("{name}: its SHA-256 is not the manifest's: the archive is damaged")),
        None => Err(format!("{MANIFEST}: expected {name} among its files, found none")),
    }
}

fn json<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))
}

fn checked_json<T: DeserializeOwned>(dir: &Path, manifest: &Manifest, name: &str) -> Result<T, String> {
    json(name, &sealed_text(dir, manifest, name)?)
}

/// The same, of nothing but values that an agent may have written: they are reckoned with, and shown.
fn plain_json<T: DeserializeOwned>(dir: &Path, manifest: &Manifest, name: &str) -> Result<T, String> {
    let value: Value = checked_json(dir, manifest, name)?;
    check_plain(&value).map_err(|problem| format!("{name}: {problem}"))?;
    T::deserialize(value).map_err(|error| format!("{name}: {error}"))
}

/// Times of years with four digits from 1970 on, counts that nothing overflows, lines that fit a screen.
fn check_plain(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            if text.chars().count() > LONGEST_TEXT || text.contains(char::is_control) {
                return Err(format!(
                    "expected a line of at most {LONGEST_TEXT} characters, found {:?}",
                    shortened(text)
                ));
            }
            match text.parse::<DateTime<Utc>>() {
                Ok(time) if !(1970..=9999).contains(&time.year()) => {
                    Err(format!("expected a time of the years 1970 to 9999, found {}", shortened(text)))
                }
                _ => Ok(()),
            }
        }
        Value::Number(number) if number.as_u64().is_some_and(|count| count > LARGEST_COUNT) => {
            Err(format!("expected a count of at most {LARGEST_COUNT}, found {number}"))
        }
        Value::Array(values) => values.iter().try_for_each(check_plain),
        Value::Object(values) => values.values().try_for_each(check_plain),
        _ => Ok(()),
    }
}

/// What a command would have checked.
fn check_settings(settings: &MachineSettings) -> Result<(), String> {
    if let Some(over) = &settings.threshold
        && Threshold::new(over.threshold).is_none()
    {
        return Err(format!("expected {} as threshold, found {}", Threshold::EXPECTED, over.threshold));
    }
    if let Some(rate) = settings.false_alarm_rate {
        check_rate(rate).map_err(|error| error.to_string())?;
    }
    let changed = settings.changed.as_ref().map(|changed| (&changed.by, &changed.reason));
    let maintenance = settings.maintenance.as_ref().map(|maintenance| (&maintenance.by, &maintenance.reason));
    for (by, reason) in changed.into_iter().chain(maintenance) {
        for (text, most) in [(by, LONGEST_BY), (reason, LONGEST_REASON)] {
            if text.as_ref().is_some_and(|text| text.chars().count() > most || text.contains(char::is_control)) {
                return Err(format!("expected a line of at most {most} characters"));
            }
        }
    }
    Ok(())
}
