//! Reading a bundle's files and checking them against each other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2, Axis, Ix1, Ix2};

use super::files::{
    self, BANK, BASELINES, ENCODER, GOLDEN_EMBEDDINGS, GOLDEN_WINDOWS, MANIFEST, NAMES, REPORT, ROW_IDS, SIGNATURE,
    THRESHOLDS,
};
use super::manifest::Manifest;
use super::signature::TrustedKey;
use super::{Bundle, BundleError, BundleMachine, GoldenCase, npy, pickle};
use crate::features::FrontEnd;
use crate::scoring::{Bank, Baseline};
use crate::sha256::sha256_hex;

/// Longest name of a machine, characters.
const NAME_LIMIT: usize = 128;
/// Most machines of one bundle: the encoder is tried for each when a bundle is opened.
const MACHINE_LIMIT: usize = 1024;
/// The index reaches the encoder as an f32, which holds whole numbers up to here.
const INDEX_LIMIT: u32 = 1 << 24;

/// Most files without a name in the manifest that are listed.
const UNNAMED_LIMIT: usize = 8;
/// Most commas and colons in `baselines.json`. Long numbers lie there in base64, which has none; each comma or colon
/// stands for a value that takes up to a hundred bytes of memory, so that these bound what parsing can make.
const BASELINES_SEPARATORS: usize = 1 << 19;
const UNNAMED: &str = "expected a file that the signed bundle.toml names, as bundle.public_key is set, found one that it \
                       does not";

/// Reads the files of one directory, noting the hash of each.
struct Reader<'a> {
    dir: &'a Path,
    manifest: Option<Manifest>,
    /// The manifest is signed: what it does not name is not read.
    signed: bool,
    hashes: Vec<(&'static str, String)>,
}

impl Reader<'_> {
    /// Reads a file and compares it with the manifest's hash.
    fn read(&mut self, name: &'static str) -> Result<Vec<u8>, BundleError> {
        let bytes = files::read(self.dir, name)?;
        self.check(name, &bytes)?;
        Ok(bytes)
    }

    /// Reads a file that need not be there, unless the manifest names it.
    fn read_optional(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, BundleError> {
        if self.manifest.as_ref().is_some_and(|manifest| manifest.files.contains_key(name)) {
            return self.read(name).map(Some);
        }
        let bytes = files::read_optional(self.dir, name)?;
        if let Some(bytes) = &bytes {
            self.check(name, bytes)?;
        }
        Ok(bytes)
    }

    fn check(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), BundleError> {
        let hash = sha256_hex(bytes);
        let expected = self.manifest.as_ref().and_then(|manifest| manifest.files.get(name));
        if self.signed && expected.is_none() {
            return Err(self.error(name, UNNAMED.into()));
        }
        if let Some(expected) = expected
            && *expected != hash
        {
            return Err(self.error(name, format!("expected sha256 {expected} of {MANIFEST}, found {hash}")));
        }
        self.hashes.push((name, hash));
        Ok(())
    }

    /// What lies in the directory and is not named by the manifest.
    ///
    /// # Errors
    /// Under a key the first of them: nobody has signed it.
    fn unnamed(&self) -> Result<Vec<String>, BundleError> {
        let Some(manifest) = &self.manifest else { return Ok(Vec::new()) };
        let unreadable =
            |error: io::Error| BundleError::new(self.dir, format!("expected a readable directory, found: {error}"));
        let mut unnamed = BTreeSet::new();
        for entry in std::fs::read_dir(self.dir).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let name = name.to_string_lossy();
            if matches!(&*name, MANIFEST | SIGNATURE) || manifest.files.contains_key(&*name) {
                continue;
            }
            // Training's own is no news, unless the bundle is one that somebody has signed.
            if name == REPORT && !self.signed && !self.dir.join(SIGNATURE).exists() {
                continue;
            }
            unnamed.insert(name.escape_debug().to_string());
            if unnamed.len() > UNNAMED_LIMIT {
                unnamed.pop_last();
            }
        }
        match unnamed.first() {
            Some(name) if self.signed => Err(self.error(name, UNNAMED.into())),
            _ => Ok(unnamed.into_iter().collect()),
        }
    }

    fn error(&self, name: &str, problem: String) -> BundleError {
        BundleError::new(self.dir.join(name), problem)
    }
}

/// See [`Bundle::read`] and [`Bundle::read_signed`].
pub fn bundle(dir: &Path, key: Option<&TrustedKey>) -> Result<Bundle, BundleError> {
    let manifest_bytes = files::read_optional(dir, MANIFEST)?;
    let manifest_sha256 = manifest_bytes.as_deref().map(sha256_hex);
    let manifest = manifest(dir, manifest_bytes.as_deref(), key)?;
    let mut reader = Reader { dir, manifest, signed: key.is_some(), hashes: Vec::new() };
    let unnamed = reader.unnamed()?;

    let bank = bank(&mut reader)?;
    let encoder: Arc<[u8]> = reader.read(ENCODER)?.into();
    if encoder.is_empty() {
        return Err(reader.error(ENCODER, "expected a tflite model, found 0 bytes".into()));
    }
    let names = names(&mut reader)?;
    let rows = rows(&mut reader, &names, bank.nrows())?;
    let thresholds = thresholds(&mut reader, &names)?;
    let digest = files::digest(&reader.hashes);
    let encoder_sha256 = reader.hashes.iter().find(|(name, _)| *name == ENCODER).map(|(_, hash)| hash.clone());
    let baselines = baselines(&mut reader)?;

    let mut bundle = Bundle {
        dir: dir.into(),
        name: dir.file_name().map_or("bundle".into(), |name| name.to_string_lossy().into_owned()),
        version: digest[..12].to_owned(),
        digest,
        encoder,
        encoder_sha256: encoder_sha256.expect("the encoder was read"),
        machines: machines(&reader, names, &rows, &thresholds, &bank)?,
        golden: Vec::new(),
        manifest: None,
        manifest_sha256,
        unnamed,
    };
    give_baselines(&reader, &mut bundle, baselines)?;
    if let Some(manifest) = reader.manifest.clone() {
        for name in manifest.machine.keys().chain(manifest.golden.iter().map(|case| &case.machine)) {
            bundle.machine(name).map_err(|error| reader.error(MANIFEST, error.problem))?;
        }
        bundle.golden = golden(&mut reader, &manifest, &bundle)?;
        (bundle.name, bundle.version) = (manifest.name.clone(), manifest.version.clone());
        bundle.manifest = Some(manifest);
    }
    Ok(bundle)
}

/// `bundle.toml`, where there is one; under a key there must be, and signed.
fn manifest(dir: &Path, bytes: Option<&[u8]>, key: Option<&TrustedKey>) -> Result<Option<Manifest>, BundleError> {
    let error = |problem: String| BundleError::new(dir.join(MANIFEST), problem);
    let Some(bytes) = bytes else {
        return match key {
            None => Ok(None),
            Some(_) => Err(error("expected a signed manifest, as bundle.public_key is set, found none".into())),
        };
    };
    if let Some(key) = key {
        key.check(dir, bytes)?;
    }
    Manifest::parse(bytes).map(Some).map_err(error)
}

/// The machines in the order of their index, without baselines.
fn machines(
    reader: &Reader,
    names: BTreeMap<u32, String>,
    rows: &BTreeMap<u32, Vec<usize>>,
    thresholds: &BTreeMap<u32, f64>,
    bank: &Array2<f32>,
) -> Result<Vec<BundleMachine>, BundleError> {
    let machine = |(index, name): (u32, String)| {
        let (front_end, encoder_index) = match &reader.manifest {
            None => (FrontEnd::default(), None),
            Some(manifest) => {
                let front_end = manifest.front_end(Some(&name)).map_err(|problem| reader.error(MANIFEST, problem))?;
                (front_end, manifest.machine.get(&name).and_then(|machine| machine.encoder_index))
            }
        };
        let Some(own) = rows.get(&index) else {
            let problem = format!("expected rows of every machine, found none of {name:?} ({index})");
            return Err(reader.error(ROW_IDS, problem));
        };
        Ok(BundleMachine {
            threshold: thresholds.get(&index).copied(),
            bank: Bank::new(bank.select(Axis(0), own)),
            index: encoder_index.unwrap_or(index),
            baseline: None,
            name,
            front_end,
        })
    };
    names.into_iter().map(machine).collect()
}

/// Gives each machine its baseline, which must have been made with this bundle.
fn give_baselines(
    reader: &Reader,
    bundle: &mut Bundle,
    mut baselines: BTreeMap<String, Arc<Baseline>>,
) -> Result<(), BundleError> {
    let error = |problem: String| reader.error(BASELINES, problem);
    let given: Vec<_> = bundle.machines.iter().map(|machine| baselines.remove(&machine.name)).collect();
    if let Some(name) = baselines.keys().next() {
        return Err(error(format!("expected names of {NAMES}, found {name:?}")));
    }
    for (number, baseline) in given.into_iter().enumerate() {
        let (machine, Some(baseline)) = (&bundle.machines[number], baseline) else { continue };
        baseline
            .check_origin(&bundle.origin(machine.index, machine.front_end.clone()))
            .map_err(|problem| error(format!("{:?}: {problem}", machine.name)))?;
        let (expected, found) = (machine.bank.width(), baseline.rows().width());
        if expected != found {
            return Err(error(format!("{:?}: expected rows of {expected} as in {BANK}, found {found}", machine.name)));
        }
        bundle.machines[number].baseline = Some(baseline);
    }
    Ok(())
}

/// `emb_train.npy`: `[N, embedding]`, finite.
fn bank(reader: &mut Reader) -> Result<Array2<f32>, BundleError> {
    let bank: Array2<f32> =
        npy::read::<f32, Ix2>(&reader.read(BANK)?).map_err(|problem| reader.error(BANK, problem))?;
    if bank.is_empty() {
        return Err(reader.error(BANK, format!("expected rows and columns, found shape {:?}", bank.shape())));
    }
    if let Some(((row, column), value)) = bank.indexed_iter().find(|(_, value)| !value.is_finite()) {
        return Err(reader.error(BANK, format!("expected finite numbers, found {value} in row {row}, column {column}")));
    }
    Ok(bank)
}

/// `id_to_int.pkl`: the names by their index.
fn names(reader: &mut Reader) -> Result<BTreeMap<u32, String>, BundleError> {
    let dict = pickle::read_dict(&reader.read(NAMES)?).map_err(|problem| reader.error(NAMES, problem))?;
    if !(1..=MACHINE_LIMIT).contains(&dict.len()) {
        let problem = format!("expected 1 to {MACHINE_LIMIT} machines, found {}", dict.len());
        return Err(reader.error(NAMES, problem));
    }
    let (mut names, mut seen) = (BTreeMap::new(), HashSet::new());
    for (key, value) in dict {
        let name = match key {
            pickle::Atom::Text(name) if is_name(&name) => name,
            other => {
                let problem = format!("expected names of 1 to {NAME_LIMIT} printable characters, found {other}");
                return Err(reader.error(NAMES, problem));
            }
        };
        let Some(index) = value.index().filter(|index| *index < INDEX_LIMIT) else {
            let problem = format!("expected an index from 0 to {} for {name:?}, found {value}", INDEX_LIMIT - 1);
            return Err(reader.error(NAMES, problem));
        };
        if !seen.insert(name.clone()) {
            return Err(reader.error(NAMES, format!("expected each name once, found {name:?} twice")));
        }
        if let Some(other) = names.insert(index, name.clone()) {
            return Err(
                reader.error(NAMES, format!("expected each index once, found {index} for {other:?} and {name:?}"))
            );
        }
    }
    Ok(names)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= NAME_LIMIT && !name.chars().any(char::is_control)
}

/// `ids_train.npy`: the numbers of each machine's rows.
fn rows(
    reader: &mut Reader,
    names: &BTreeMap<u32, String>,
    expected: usize,
) -> Result<BTreeMap<u32, Vec<usize>>, BundleError> {
    let ids: Array1<i64> =
        npy::read::<i64, Ix1>(&reader.read(ROW_IDS)?).map_err(|problem| reader.error(ROW_IDS, problem))?;
    if ids.len() != expected {
        let problem = format!("expected {expected} rows as in {BANK}, found {}", ids.len());
        return Err(reader.error(ROW_IDS, problem));
    }
    let mut rows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, id) in ids.iter().enumerate() {
        let Some(index) = u32::try_from(*id).ok().filter(|index| names.contains_key(index)) else {
            let problem = format!("expected indices of {NAMES}, found {id} in row {row}");
            return Err(reader.error(ROW_IDS, problem));
        };
        rows.entry(index).or_default().push(row);
    }
    Ok(rows)
}

/// `thresholds_by_machine.pkl`: finite, above 0.
fn thresholds(reader: &mut Reader, names: &BTreeMap<u32, String>) -> Result<BTreeMap<u32, f64>, BundleError> {
    let dict = pickle::read_dict(&reader.read(THRESHOLDS)?).map_err(|problem| reader.error(THRESHOLDS, problem))?;
    let mut thresholds = BTreeMap::new();
    for (key, value) in dict {
        let Some(index) = key.index().filter(|index| names.contains_key(index)) else {
            return Err(reader.error(THRESHOLDS, format!("expected indices of {NAMES} as keys, found {key}")));
        };
        let Some(threshold) = value.number().filter(|number| number.is_finite() && *number > 0.0) else {
            let problem = format!("expected a finite threshold above 0 for index {index}, found {value}");
            return Err(reader.error(THRESHOLDS, problem));
        };
        if thresholds.insert(index, threshold).is_some() {
            return Err(reader.error(THRESHOLDS, format!("expected each index once, found {index} twice")));
        }
    }
    Ok(thresholds)
}

/// `baselines.json`, where there is one.
fn baselines(reader: &mut Reader) -> Result<BTreeMap<String, Arc<Baseline>>, BundleError> {
    let Some(text) = reader.read_optional(BASELINES)? else { return Ok(BTreeMap::new()) };
    let separators = text.iter().filter(|byte| matches!(byte, b',' | b':')).count();
    if separators > BASELINES_SEPARATORS {
        let problem = format!("expected at most {BASELINES_SEPARATORS} values, found {separators}");
        return Err(reader.error(BASELINES, problem));
    }
    let all: BTreeMap<String, Baseline> =
        serde_json::from_slice(&text).map_err(|error| reader.error(BASELINES, error.to_string()))?;
    all.into_iter()
        .map(|(name, baseline)| match baseline.check() {
            Ok(()) => Ok((name, Arc::new(baseline))),
            Err(error) => Err(reader.error(BASELINES, format!("{name:?}: {error}"))),
        })
        .collect()
}

/// The golden arrays: `[cases, samples]` and `[cases, embedding]`, finite.
fn golden(reader: &mut Reader, manifest: &Manifest, bundle: &Bundle) -> Result<Vec<GoldenCase>, BundleError> {
    if manifest.golden.is_empty() {
        return Ok(Vec::new());
    }
    let windows = golden_array(reader, GOLDEN_WINDOWS, manifest.golden.len())?;
    let embeddings = golden_array(reader, GOLDEN_EMBEDDINGS, manifest.golden.len())?;
    let mut cases = Vec::with_capacity(manifest.golden.len());
    for (number, case) in manifest.golden.iter().enumerate() {
        let machine = bundle.machine(&case.machine)?;
        for (file, found, expected) in [
            (GOLDEN_WINDOWS, windows.ncols(), machine.front_end.window_samples()),
            (GOLDEN_EMBEDDINGS, embeddings.ncols(), machine.bank.width()),
        ] {
            if found != expected {
                return Err(
                    reader.error(file, format!("expected rows of {expected} for {:?}, found {found}", case.machine))
                );
            }
        }
        cases.push(GoldenCase {
            name: case.name.clone(),
            machine: case.machine.clone(),
            window: windows.row(number).iter().copied().collect(),
            embedding: embeddings.row(number).iter().copied().collect(),
            distance: case.distance,
            embedding_tolerance: case.embedding_tolerance,
            distance_tolerance: case.distance_tolerance,
        });
    }
    Ok(cases)
}

fn golden_array(reader: &mut Reader, name: &'static str, cases: usize) -> Result<Array2<f32>, BundleError> {
    let array: Array2<f32> =
        npy::read::<f32, Ix2>(&reader.read(name)?).map_err(|problem| reader.error(name, problem))?;
    if array.nrows() != cases {
        let found = array.nrows();
        return Err(
            reader.error(name, format!("expected {cases} rows, one for each case of {MANIFEST}, found {found}"))
        );
    }
    if let Some(((row, column), value)) = array.indexed_iter().find(|(_, value)| !value.is_finite()) {
        return Err(reader.error(name, format!("expected finite numbers, found {value} in row {row}, column {column}")));
    }
    Ok(array)
}
