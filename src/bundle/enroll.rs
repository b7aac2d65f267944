//! A new bundle from an old one and a baseline: the same encoder, and one machine's bank and threshold as learned.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use ndarray_npy::WriteNpyExt;
use serde::Serialize;

use super::files::{self, BANK, BASELINES, ENCODER, GOLDEN_EMBEDDINGS, GOLDEN_WINDOWS, MANIFEST, NAMES};
use super::files::{ROW_IDS, THRESHOLDS};
use super::manifest::{FORMAT, Manifest, ManifestMachine};
use super::{Bundle, BundleError, draft_manifest};
use crate::scoring::Baseline;
use crate::sha256::sha256_hex;

/// Writes a bundle to `dir`, which must not hold anything yet: that of `bundle`, but machine `name` is what `baseline`
/// says. A machine that `bundle` does not have is added.
///
/// # Errors
/// A directory that is not empty or cannot be written; a bundle that cannot be read again.
pub fn enroll(bundle: &Bundle, name: &str, baseline: &Baseline, dir: &Path) -> Result<Bundle, BundleError> {
    let unwritable = |error: io::Error| BundleError::new(dir, format!("expected a directory to write, found: {error}"));
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BundleError::new(dir, "expected a new or empty directory, found files in it"));
    }
    // Made beside its place, so that a bundle is there whole or not at all.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(unwritable)?;
    let made = tempfile::tempdir_in(parent).map_err(unwritable)?;
    let title = dir.file_name().map_or("enrolled".into(), |name| name.to_string_lossy().into_owned());
    let parts = Parts::new(bundle, name, baseline);
    parts.write(bundle, made.path(), &title)?;
    Bundle::read(made.path())?;
    fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(unwritable)?;
    fs::rename(made.keep(), dir).map_err(unwritable)?;
    Bundle::read(dir)
}

/// What the files will hold.
struct Parts {
    names: BTreeMap<String, u32>,
    thresholds: BTreeMap<u32, f64>,
    bank: Array2<f32>,
    ids: Vec<i64>,
    baselines: BTreeMap<String, Baseline>,
    machines: BTreeMap<String, ManifestMachine>,
    keep_golden: bool,
}

impl Parts {
    fn new(bundle: &Bundle, name: &str, baseline: &Baseline) -> Parts {
        let manifest = bundle.manifest.as_ref();
        let mut machines = manifest.map_or_else(BTreeMap::new, |manifest| manifest.machine.clone());
        // Machines of the encoder's own table keep their index; others get numbers of their own.
        let own = |machine: &str| machines.get(machine).is_none_or(|entry| entry.encoder_index.is_none());
        let trained: Vec<_> = bundle.machines.iter().filter(|machine| own(&machine.name)).collect();
        let mut names: BTreeMap<String, u32> =
            trained.iter().map(|machine| (machine.name.clone(), machine.index)).collect();
        let enrolled: Vec<_> = bundle.machines.iter().map(|m| &m.name).filter(|m| !names.contains_key(*m)).collect();
        let mut free = names.values().max().map_or(0, |most| most + 1);
        for machine in enrolled.into_iter().map(String::as_str).chain([name]) {
            if !names.contains_key(machine) {
                names.insert(machine.to_owned(), free);
                free += 1;
            }
        }
        if bundle.machine(name).is_err() {
            machines.insert(
                name.to_owned(),
                ManifestMachine { encoder_index: Some(baseline.origin.index), ..ManifestMachine::default() },
            );
        }

        let (mut rows, mut ids): (Vec<ArrayView2<f32>>, _) = (Vec::new(), Vec::new());
        let learned = baseline.bank();
        let mut thresholds = BTreeMap::new();
        let mut baselines = BTreeMap::new();
        for (machine, &id) in &names {
            let known = bundle.machines.iter().find(|known| known.name == *machine && machine != name);
            let bank = known.map_or(learned.rows(), |known| known.bank.rows());
            ids.extend(std::iter::repeat_n(i64::from(id), bank.nrows()));
            rows.push(bank.view());
            let threshold = known.map_or(Some(baseline.threshold), |known| known.threshold);
            thresholds.extend(threshold.map(|threshold| (id, threshold)));
            let own = known.map_or(Some(baseline), |known| known.baseline.as_deref());
            baselines.extend(own.map(|own| (machine.clone(), own.clone())));
        }
        let bank = concatenate(Axis(0), &rows).expect("rows of one encoder are of one width");
        // A golden case of this machine was made with its old bank.
        let keep_golden = bundle.golden.iter().all(|case| case.machine != name);
        Parts { names, thresholds, bank, ids, baselines, machines, keep_golden }
    }

    fn write(&self, bundle: &Bundle, dir: &Path, title: &str) -> Result<(), BundleError> {
        let put = |name: &str, bytes: &[u8]| {
            fs::write(dir.join(name), bytes)
                .map_err(|error| BundleError::new(dir.join(name), format!("expected to write it, found: {error}")))
        };
        put(ENCODER, &bundle.encoder)?;
        put(BANK, &npy(&self.bank))?;
        put(ROW_IDS, &npy(&Array1::from(self.ids.clone())))?;
        put(NAMES, &pickle(&self.names))?;
        put(THRESHOLDS, &pickle(&self.thresholds))?;
        put(BASELINES, &serde_json::to_vec(&self.baselines).expect("baselines have string keys"))?;
        let old = bundle.manifest.as_ref();
        let golden = old.filter(|_| self.keep_golden).map_or_else(Vec::new, |manifest| manifest.golden.clone());
        if !golden.is_empty() {
            for name in [GOLDEN_WINDOWS, GOLDEN_EMBEDDINGS] {
                let bytes = files::read(&bundle.dir, name)?;
                let expected = old.and_then(|manifest| manifest.files.get(name));
                if expected != Some(&sha256_hex(&bytes)) {
                    let problem = "expected the file as it was read, found another";
                    return Err(BundleError::new(bundle.dir.join(name), problem));
                }
                put(name, &bytes)?;
            }
        }
        let mut hashes = Vec::new();
        for name in files::REQUIRED {
            hashes.push((name, sha256_hex(&files::read(dir, name)?)));
        }
        let fits = |title: &&str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            title.len() <= 64 && title.starts_with(|c: char| c.is_ascii_alphanumeric()) && title.chars().all(plain)
        };
        let draft = Manifest {
            format: FORMAT,
            name: Some(title).filter(fits).unwrap_or("enrolled").to_owned(),
            version: files::digest(&hashes)[..12].to_owned(),
            description: old.and_then(|manifest| manifest.description.clone()),
            front_end: old.map_or_else(toml::Table::new, |manifest| manifest.front_end.clone()),
            machine: self.machines.clone(),
            files: BTreeMap::new(),
            golden,
        };
        let text = toml::to_string(&draft).map_err(|error| BundleError::new(dir.join(MANIFEST), error.to_string()))?;
        put(MANIFEST, text.as_bytes())?;
        draft_manifest(dir, None, None).map(|_| ())
    }
}

fn npy<A: ndarray_npy::WritableElement, D: ndarray::Dimension>(array: &ndarray::Array<A, D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).expect("memory takes what is written");
    bytes
}

/// Plain Python values: what training writes holds numpy's scalars, and both are read.
fn pickle(dict: &impl Serialize) -> Vec<u8> {
    serde_pickle::to_vec(dict, serde_pickle::SerOptions::new()).expect("a dict of names and numbers")
}
