//! The minisign signature over `bundle.toml`, which lists the hash of every other file.

use std::path::Path;

use minisign_verify::{PublicKey, Signature};

use super::BundleError;
use super::files::{self, SIGNATURE};

/// A minisign public key: the second line of `minisign.pub`.
#[derive(Debug, Clone)]
pub struct TrustedKey(PublicKey);

impl std::str::FromStr for TrustedKey {
    type Err = String;

    /// From the key itself or the two lines of a `.pub` file.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let key = text.lines().next_back().unwrap_or_default().trim();
        let shown: String = key.chars().take(80).collect();
        let problem = |_| format!("expected a minisign public key (RW... of 56 characters), found {shown:?}");
        PublicKey::from_base64(key).map(TrustedKey).map_err(problem)
    }
}

impl TrustedKey {
    /// Whether the signature in `dir` is this key's over the manifest's bytes.
    pub(super) fn check(&self, dir: &Path, manifest: &[u8]) -> Result<(), BundleError> {
        let fault = |problem: String| BundleError::new(dir.join(SIGNATURE), problem);
        let bytes = files::read_optional(dir, SIGNATURE)?
            .ok_or_else(|| fault("expected a signature, as bundle.public_key is set, found none".into()))?;
        self.verify(manifest, &bytes).map_err(fault)
    }

    /// Whether `signature`, the content of its file, is this key's over the manifest's bytes.
    ///
    /// # Errors
    /// What was expected, and what was found.
    pub fn verify(&self, manifest: &[u8], signature: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(signature).map_err(|_| "expected a minisign signature, found other bytes")?;
        let signature =
            Signature::decode(text).map_err(|error| format!("expected a minisign signature, found: {error}"))?;
        let verified = self.0.verify(manifest, &signature, false);
        verified.map_err(|error| format!("expected a signature of bundle.public_key over bundle.toml, found: {error}"))
    }
}
