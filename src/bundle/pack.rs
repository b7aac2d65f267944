//! Making a bundle ready to be sent: its manifest, then one archive, the same bytes from the same files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, BASELINES, GOLDEN_EMBEDDINGS, GOLDEN_WINDOWS, MANIFEST, REQUIRED, SIGNATURE};
use super::manifest::{FORMAT, Manifest};
use super::{Bundle, BundleError};
use crate::archive::Packer;
use crate::fs::{remove, write_output};
use crate::sha256::sha256_hex;

/// An archive that was written.
#[derive(Debug, Clone)]
pub struct Packed {
    pub path: PathBuf,
    /// Length of the archive, bytes.
    pub bytes: u64,
    /// SHA-256 of the archive, hex: what `bundle.install` asks for.
    pub sha256: String,
    /// Whether a signature is in it.
    pub signed: bool,
}

/// Brings `bundle.toml` of `dir` up to date with the files, or makes one; says whether it was written. One that fits
/// is left as it is, with its comments and its signature; a signature over an older one is removed.
///
/// # Errors
/// A manifest or file that cannot be read, or what is wrong with the manifest.
pub fn draft_manifest(dir: &Path, name: Option<&str>, version: Option<&str>) -> Result<bool, BundleError> {
    let path = dir.join(MANIFEST);
    let fault = |problem: String| BundleError::new(&path, problem);
    let before = match files::read_optional(dir, MANIFEST)? {
        None => None,
        Some(bytes) => Some(Manifest::parse_draft(&bytes).map_err(fault)?),
    };
    let mut hashes = Vec::new();
    for name in REQUIRED {
        hashes.push((name, sha256_hex(&files::read(dir, name)?)));
    }
    let digest = files::digest(&hashes);
    if before.as_ref().is_some_and(|manifest| !manifest.golden.is_empty()) {
        for name in [GOLDEN_WINDOWS, GOLDEN_EMBEDDINGS] {
            hashes.push((name, sha256_hex(&files::read(dir, name)?)));
        }
    }
    if let Some(bytes) = files::read_optional(dir, BASELINES)? {
        hashes.push((BASELINES, sha256_hex(&bytes)));
    }
    let mut manifest = before.clone().unwrap_or_else(|| Manifest {
        format: FORMAT,
        name: dir
            .canonicalize()
            .ok()
            .and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        version: digest[..12].to_owned(),
        description: None,
        front_end: toml::Table::new(),
        machine: BTreeMap::new(),
        files: BTreeMap::new(),
        golden: Vec::new(),
    });
    manifest.files = hashes.into_iter().map(|(name, hash)| (name.to_owned(), hash)).collect();
    if let Some(name) = name {
        manifest.name = name.to_owned();
    }
    if let Some(version) = version {
        manifest.version = version.to_owned();
    }
    manifest.check().map_err(fault)?;
    if before.as_ref() == Some(&manifest) {
        return Ok(false);
    }
    let text =
        toml::to_string(&manifest).map_err(|error| fault(format!("expected a manifest to write, found: {error}")))?;
    let written = write_output(&path, text.as_bytes());
    written
        .and_then(|()| remove(&dir.join(SIGNATURE)))
        .map_err(|error| fault(format!("expected to write it, found: {error}")))?;
    Ok(true)
}

/// Writes the files that the manifest of `bundle` lists, the manifest, and its signature if there is one, as a
/// `.tar.gz` without times and owners, in a fixed order.
///
/// # Errors
/// Whatever reading or writing says; a file that changed since it was read.
pub fn pack(bundle: &Bundle, archive: &Path) -> Result<Packed, BundleError> {
    let manifest = bundle
        .manifest
        .as_ref()
        .ok_or_else(|| BundleError::new(bundle.dir.join(MANIFEST), "expected a manifest to pack by, found none"))?;
    let mut members = vec![(MANIFEST, files::read(&bundle.dir, MANIFEST)?)];
    if Manifest::parse(&members[0].1).as_ref() != Ok(manifest) {
        return Err(BundleError::new(bundle.dir.join(MANIFEST), "expected the manifest as it was read, found another"));
    }
    let signature = files::read_optional(&bundle.dir, SIGNATURE)?;
    let signed = signature.is_some();
    members.extend(signature.map(|bytes| (SIGNATURE, bytes)));
    for (name, expected) in &manifest.files {
        let bytes = files::read(&bundle.dir, name)?;
        if sha256_hex(&bytes) != *expected {
            return Err(BundleError::new(bundle.dir.join(name), "expected the file as it was read, found another"));
        }
        members.push((name, bytes));
    }
    let fault = |error: io::Error| BundleError::new(archive, format!("expected to write it, found: {error}"));
    let bytes = tar_gz(&members).map_err(fault)?;
    write_output(archive, &bytes).map_err(fault)?;
    Ok(Packed { path: archive.into(), bytes: bytes.len() as u64, sha256: sha256_hex(&bytes), signed })
}

fn tar_gz(members: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut packer = Packer::new(Vec::new());
    for (name, bytes) in members {
        packer.add(name, bytes)?;
    }
    packer.finish()
}
