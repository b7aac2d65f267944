//! The section `[evidence]` of the configuration.

use serde::{Deserialize, Serialize};

use crate::validate::check_range;

/// Clips of alarms, on this computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvidenceConfig {
    /// Room for clips in the state directory, in millions of bytes; the oldest go first. 0: no sound is kept, neither on
    /// the disk nor in memory. Default 500.
    pub keep_mb: u64,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        EvidenceConfig { keep_mb: 500 }
    }
}

impl EvidenceConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        check_range("evidence.keep_mb", self.keep_mb as f64, 0.0, 1e6)
    }
}
