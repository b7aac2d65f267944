//! `bundle.toml`: name, version, front-end, sha256 of every file, golden cases. `docs/bundle.md` describes the format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files;
use crate::features::FrontEnd;

/// The only format so far.
pub const FORMAT: u32 = 1;
/// Most golden cases in one bundle.
const GOLDEN_LIMIT: usize = 64;
/// Most values that all different front-ends together compute for one window each: 64 MiB as f32, as much as a single
/// one may have. 75 front-ends of the default size.
const FRONT_END_VALUES: usize = 1 << 24;
/// Most samples and mel bands that the golden cases take through the front-end, overlaps counted: a second or so of work.
/// 64 cases of the default front-end take 26 million.
const GOLDEN_WORK: usize = 1 << 25;

/// The manifest as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest's format: 1.
    pub format: u32,
    /// `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`; with `version` it names the directory that the bundle is installed in.
    pub name: String,
    /// As `name`.
    pub version: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What differs from the default front-end, for all machines; keys as in [`FrontEnd`].
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub front_end: toml::Table,
    /// What differs for single machines, by their name in `id_to_int.pkl`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machine: BTreeMap<String, ManifestMachine>,
    /// SHA-256 in hex of every file of the bundle but this one and its signature.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What the bundle must compute on any device: one entry for each row of the two golden arrays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub golden: Vec<ManifestGolden>,
}

/// What differs for one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManifestMachine {
    /// Laid over the front-end of all.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub front_end: toml::Table,
    /// Index that the encoder is conditioned on, where it is not the one of `id_to_int.pkl`: a machine that was
    /// enrolled after training has its own rows but no entry in the encoder's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_index: Option<u32>,
}

/// What one golden window must come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestGolden {
    /// Shown to people.
    pub name: String,
    /// Whose front-end, index and rows.
    pub machine: String,
    /// Expected Euclidean distance to the machine's nearest row.
    pub distance: f64,
    /// Largest difference of any element of the embedding; default 0.005.
    #[serde(default = "default_embedding_tolerance")]
    pub embedding_tolerance: f64,
    /// Largest difference of the distance; default 0.001.
    #[serde(default = "default_distance_tolerance")]
    pub distance_tolerance: f64,
}

/// Five times the largest difference that any two engines and front-ends in use have shown, and far below what a wrong
/// front-end costs.
pub fn default_embedding_tolerance() -> f64 {
    0.005
}

/// Thresholds are some tenths; a wrong front-end moves the distance by hundredths and more.
pub fn default_distance_tolerance() -> f64 {
    0.001
}

impl Manifest {
    /// Parses and checks what can be checked without the other files.
    ///
    /// # Errors
    /// One line: what was expected, what was found.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest = Self::parse_draft(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Parses what may still lack its hashes.
    ///
    /// # Errors
    /// Keys and types only.
    pub fn parse_draft(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "expected UTF-8 text, found other bytes".to_owned())?;
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            match line {
                Some(line) => format!("line {line}: {}", error.message()),
                None => error.message().to_owned(),
            }
        })
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// One line: what was expected, what was found.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format: expected {FORMAT}, found {}", self.format));
        }
        for (key, word) in [("name", &self.name), ("version", &self.version)] {
            check_word(word).map_err(|problem| format!("{key}: {problem}"))?;
        }
        self.check_front_ends()?;
        for (name, hash) in &self.files {
            if matches!(name.as_str(), files::MANIFEST | files::SIGNATURE) || files::limit(name).is_none() {
                return Err(format!("files: expected names of a bundle's files, found {name:?}"));
            }
            if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("files: expected 64 lower-case hex digits for {name}, found {hash:?}"));
            }
        }
        let golden: &[&str] =
            if self.golden.is_empty() { &[] } else { &[files::GOLDEN_WINDOWS, files::GOLDEN_EMBEDDINGS] };
        for name in files::REQUIRED.iter().chain(golden) {
            if !self.files.contains_key(*name) {
                return Err(format!("files: expected the sha256 of {name}, found none"));
            }
        }
        if self.golden.len() > GOLDEN_LIMIT {
            return Err(format!("golden: expected at most {GOLDEN_LIMIT} cases, found {}", self.golden.len()));
        }
        let mut work = 0usize;
        for case in &self.golden {
            let front_end = self.front_end(Some(&case.machine))?;
            let frame = front_end.n_fft + 4 * front_end.n_mels;
            work = work.saturating_add(front_end.frames_total().saturating_mul(frame));
            if work > GOLDEN_WORK {
                return Err(
                    "golden: expected fewer or smaller frames of all cases together, found too much work".into()
                );
            }
            let values = [
                ("distance", case.distance),
                ("embedding_tolerance", case.embedding_tolerance),
                ("distance_tolerance", case.distance_tolerance),
            ];
            if let Some((key, value)) = values.iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
                return Err(format!("golden {:?}: {key}: expected a number from 0, found {value}", case.name));
            }
        }
        Ok(())
    }

    /// Checks every front-end, and what they need together.
    fn check_front_ends(&self) -> Result<(), String> {
        let (mut different, mut values) = (Vec::new(), 0usize);
        for name in std::iter::once(None).chain(self.machine.keys().map(|name| Some(name.as_str()))) {
            let front_end = self.front_end(name).map_err(|problem| match name {
                Some(name) => format!("machine {name:?}: {problem}"),
                None => problem,
            })?;
            if different.contains(&front_end) {
                continue;
            }
            values = values.saturating_add(values_of(&front_end));
            if values > FRONT_END_VALUES {
                return Err(format!(
                    "front_end: expected at most {FRONT_END_VALUES} values in a window of every front-end together, \
                     found more"
                ));
            }
            different.push(front_end);
        }
        Ok(())
    }

    /// The front-end of a machine, or of all machines that have none of their own.
    ///
    /// # Errors
    /// An unknown key, a value of another type or out of range.
    pub fn front_end(&self, machine: Option<&str>) -> Result<FrontEnd, String> {
        let mut table = self.front_end.clone();
        if let Some(own) = machine.and_then(|name| self.machine.get(name)) {
            table.extend(own.front_end.clone());
        }
        let front_end: FrontEnd =
            table.try_into().map_err(|error: toml::de::Error| format!("front_end: {}", error.message()))?;
        // Before anything is made from it: a front-end can cost gigabytes.
        front_end.check().map_err(|error| format!("front_end.{error}"))?;
        Ok(front_end)
    }
}

/// Power spectrum, mel spectrum twice and image of one window.
fn values_of(front_end: &FrontEnd) -> usize {
    front_end.frames_total().saturating_mul(front_end.bins() + 3 * front_end.n_mels)
}

/// A name or version: part of a directory's name.
///
/// # Errors
/// What was expected, and what was found.
pub fn check_word(word: &str) -> Result<(), String> {
    let valid = word.len() <= 64
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-'));
    if valid { Ok(()) } else { Err(format!("expected [A-Za-z0-9][A-Za-z0-9._+-]{{0,63}}, found {word:?}")) }
}
