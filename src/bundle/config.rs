//! The section `[bundle]` of the configuration.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::signature::TrustedKey;
use crate::validate::words;

/// Which bundle is used, and which ones are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BundleConfig {
    /// Directory of the model bundle; default `/var/lib/auscult/bundles/current`. `bundle.install` wants it to be a link
    /// to one of the directories beside it, or not there yet; a plain directory works but can only be reloaded. While
    /// nothing is at the default, the demo's bundle is in use.
    pub path: PathBuf,
    /// Hosts that `bundle.install` may download from, `HOST` or `HOST:PORT`; redirects are checked too. Default: none.
    #[serde(deserialize_with = "words")]
    pub allow_from: Vec<String>,
    /// PEM file of the authorities that may sign a download server's certificate; default: the public ones.
    pub ca_file: Option<PathBuf>,
    /// Minisign public key (`RW...`): only bundles whose `bundle.toml` it has signed are taken. Default: none, any is.
    pub public_key: Option<String>,
    /// Whether `bundle.install` and `bundle.reload` may take an older version of the running bundle. Default: only where
    /// there is no `public_key`, because a signature stays good for ever.
    pub allow_downgrade: Option<bool>,
}

impl Default for BundleConfig {
    fn default() -> Self {
        BundleConfig {
            path: "/var/lib/auscult/bundles/current".into(),
            allow_from: Vec::new(),
            ca_file: None,
            public_key: None,
            allow_downgrade: None,
        }
    }
}

/// Where packages put the demo's bundle, seen from the program, and where it lies beside a program that was just built.
const DEMO: [&str; 2] = ["../share/auscult/models/demo", "../../models/demo"];

impl BundleConfig {
    /// The demo's bundle, which is in use where nobody has configured one: nothing is at the default `path`.
    pub fn demo(&self) -> Option<PathBuf> {
        let is_free = self.path == BundleConfig::default().path && self.path.symlink_metadata().is_err();
        if is_free { demo_bundle() } else { None }
    }

    /// Whether `dir` is the demo's bundle, which came in place of a configured one.
    pub fn is_demo(&self, dir: &Path) -> bool {
        dir != self.path && demo_bundle().is_some_and(|demo| demo == dir)
    }

    /// The key that bundles must be signed with, if any.
    ///
    /// # Errors
    /// A `public_key` that is not one.
    pub fn trusted_key(&self) -> Result<Option<TrustedKey>, String> {
        let key = self.public_key.as_deref().map(str::parse).transpose();
        key.map_err(|problem: String| format!("bundle.public_key: {problem}"))
    }

    /// Whether an older version of the running bundle may take its place.
    pub fn allows_downgrade(&self) -> bool {
        self.allow_downgrade.unwrap_or(self.public_key.is_none())
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        for host in &self.allow_from {
            let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b));
            if !valid {
                return Err(format!("bundle.allow_from: expected HOST or HOST:PORT, found {host:?}"));
            }
        }
        self.trusted_key().map(|_| ())
    }
}

fn demo_bundle() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    DEMO.iter()
        .filter_map(|demo| folder.join(demo).canonicalize().ok())
        .find(|demo| demo.join("encoder.tflite").is_file())
}
