//! The files of a bundle, read within limits: what is not a regular file of a sensible size is not read at all.

use std::io::ErrorKind;
use std::path::Path;

use super::BundleError;
use crate::fs::read_bounded;
use crate::sha256::sha256_hex;

pub const ENCODER: &str = "encoder.tflite";
pub const BANK: &str = "emb_train.npy";
pub const ROW_IDS: &str = "ids_train.npy";
pub const NAMES: &str = "id_to_int.pkl";
pub const THRESHOLDS: &str = "thresholds_by_machine.pkl";
pub const MANIFEST: &str = "bundle.toml";
pub const SIGNATURE: &str = "bundle.toml.minisig";
pub const GOLDEN_WINDOWS: &str = "golden_windows.npy";
/// Baselines of machines that were enrolled, by their names.
pub const BASELINES: &str = "baselines.json";
pub const GOLDEN_EMBEDDINGS: &str = "golden_embeddings.npy";

/// Directory of pictures and figures that training writes beside the files; nothing of it is read, packed or sent.
pub const REPORT: &str = "report";

/// The files that every bundle has, in the order of their names.
pub const REQUIRED: [&str; 5] = [BANK, ENCODER, NAMES, ROW_IDS, THRESHOLDS];

/// Every name that a bundle may hold, and the largest size that is read, bytes. Together they bound what loading a
/// bundle can allocate. 32 MiB of bank are 262 144 rows of 32.
pub const LIMITS: [(&str, u64); 10] = [
    (BANK, 32 << 20),
    (ENCODER, 40 << 20),
    (NAMES, 256 << 10),
    (ROW_IDS, 4 << 20),
    (THRESHOLDS, 256 << 10),
    (MANIFEST, 256 << 10),
    (SIGNATURE, 4 << 10),
    (GOLDEN_WINDOWS, 8 << 20),
    (GOLDEN_EMBEDDINGS, 1 << 20),
    (BASELINES, 32 << 20),
];

/// The largest size that is read of the file of this name, bytes.
pub fn limit(name: &str) -> Option<u64> {
    LIMITS.iter().find(|(known, _)| *known == name).map(|(_, limit)| *limit)
}

/// Reads the file `name` of `dir`; `None` where there is none.
pub fn read_optional(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, BundleError> {
    let path = dir.join(name);
    match read_bounded(&path, limit(name).expect("only files with a limit are read")) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::NotADirectory => {
                let expected =
                    "expected the directory of a bundle, found a file: an archive is unpacked first (tar xf)";
                Err(BundleError::new(dir, expected))
            }
            ErrorKind::InvalidData => Err(BundleError::new(path, error.to_string())),
            _ => Err(BundleError::new(path, format!("expected a readable file, found: {error}"))),
        },
    }
}

/// Reads the file `name` of `dir`.
pub fn read(dir: &Path, name: &str) -> Result<Vec<u8>, BundleError> {
    read_optional(dir, name)?.ok_or_else(|| {
        let found = if dir.is_dir() { "none" } else { "no such directory" };
        BundleError::new(dir.join(name), format!("expected a file, found {found}"))
    })
}

/// The digest of a bundle: SHA-256 over what `sha256sum` prints for its five files, in the order of their names.
pub fn digest(hashes: &[(&str, String)]) -> String {
    let listing: String = hashes.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    sha256_hex(listing.as_bytes())
}
