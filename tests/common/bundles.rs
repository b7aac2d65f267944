//! Bundles made for a test: small, valid, and then changed where the test wants them wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use auscult::features::FrontEnd;
use auscult::scoring::baseline::{LearnSettings, Origin, Sample, propose};
use auscult::scoring::lanes::Features;
use ndarray::{Array1, Array2};
use ndarray_npy::{WritableElement, WriteNpyExt};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

pub const BANK: &str = "emb_train.npy";
pub const ENCODER: &str = "encoder.tflite";
pub const NAMES: &str = "id_to_int.pkl";
pub const ROW_IDS: &str = "ids_train.npy";
pub const THRESHOLDS: &str = "thresholds_by_machine.pkl";
pub const MANIFEST: &str = "bundle.toml";
pub const GOLDEN_WINDOWS: &str = "golden_windows.npy";
pub const GOLDEN_EMBEDDINGS: &str = "golden_embeddings.npy";

/// The encoder of the real bundle: image 128 x 128, embedding 32, indices 0 to 4. `None` where `../shared` is missing.
pub fn encoder() -> Option<Vec<u8>> {
    Some(fs::read(super::shared()?.join("escoita-bundle/encoder.tflite")).expect("the real bundle's encoder"))
}

/// The files of a bundle in memory, by their names.
#[derive(Clone)]
pub struct Parts(pub BTreeMap<String, Vec<u8>>);

impl Parts {
    /// Machines `fan-1` (index 0, 6 rows) and `fan-2` (index 3, 4 rows) with thresholds 0.25 and 0.5, no manifest.
    pub fn valid(encoder: &[u8]) -> Parts {
        let mut parts = Parts(BTreeMap::new());
        parts.set(ENCODER, encoder.to_vec());
        parts.set(BANK, npy(&Array2::from_shape_fn((10, 32), |(row, column)| (row * 32 + column) as f32 / 100.0)));
        parts.set(ROW_IDS, npy(&Array1::from(vec![0i64, 0, 0, 3, 3, 0, 0, 0, 3, 3])));
        parts.set(NAMES, pickle(&BTreeMap::from([("fan-1", 0), ("fan-2", 3)])));
        parts.set(THRESHOLDS, pickle(&BTreeMap::from([(0, 0.25), (3, 0.5)])));
        parts
    }

    pub fn set(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), bytes.into());
    }

    /// Adds a manifest with the hashes of what is there, and `rest` after it.
    pub fn manifest(&mut self, name: &str, version: &str, rest: &str) {
        self.0.remove(MANIFEST);
        let line = |(name, bytes): (&String, &Vec<u8>)| format!("{name:?} = \"{}\"\n", sha256(bytes));
        let hashes: String = self.0.iter().map(line).collect();
        let head = format!("format = 1\nname = {name:?}\nversion = {version:?}\n");
        self.set(MANIFEST, format!("{head}\n[files]\n{hashes}\n{rest}"));
    }

    /// Writes the files to a directory, made if need be.
    pub fn write(&self, dir: &Path) -> PathBuf {
        fs::create_dir_all(dir).expect("a directory to write to");
        for (name, bytes) in &self.0 {
            fs::write(dir.join(name), bytes).expect("a file to write to");
        }
        dir.to_owned()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn npy<A: WritableElement, D: ndarray::Dimension>(array: &ndarray::Array<A, D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    array.write_npy(&mut bytes).expect("an array that can be written");
    bytes
}

/// An npy file of version 1.0 with this header and data.
pub fn npy_of(header: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{header}\n");
    [b"\x93NUMPY\x01\x00", (text.len() as u16).to_le_bytes().as_slice(), text.as_bytes(), data].concat()
}

pub fn pickle(value: &impl serde::Serialize) -> Vec<u8> {
    serde_pickle::to_vec(value, serde_pickle::SerOptions::new()).expect("a value that can be pickled")
}

/// A learned baseline as it is written; of noise.
pub fn noise_baseline() -> String {
    let origin = Origin { bundle: "b@1".into(), encoder_sha256: "00".into(), index: 0, front_end: FrontEnd::default() };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut noise = |length: usize| (0..length).map(|_| random.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
    let samples: Vec<_> = (0..20)
        .map(|number| Sample {
            recording: 0,
            confirmed: false,
            at_s: 5.0 * f64::from(number),
            level_dbfs: -30.0,
            embedding: noise(8),
            features: Features { spectrum: noise(32), envelope: noise(40), burst: noise(6), texture: noise(6) },
        })
        .collect();
    let settings = LearnSettings {
        machine: "fan-1".into(),
        origin,
        hop_s: 5.0,
        wanted_s: 60.0,
        false_alarm_rate: 0.05,
        previous_threshold: None,
    };
    let baseline = propose(&samples, &settings).expect("a baseline");
    baseline.to_json()
}
