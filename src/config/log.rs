//! The section `[log]` of the configuration.

use serde::{Deserialize, Serialize};

use crate::validate::one_of;

/// How the log is written, to stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `human` or `json`; default `human`.
    #[serde(deserialize_with = "one_of")]
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as of tracing's `EnvFilter`; default `info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Human, level: "info".into() }
    }
}

impl LogConfig {
    /// Refuses a word that is no level: it would be taken for a module's name, and the log would be silent.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in self.level.split(',') {
            let level = directive.rsplit('=').next().unwrap_or_default().trim().to_lowercase();
            if !LEVELS.contains(&level.as_str()) {
                let expected = LEVELS.join(", ");
                return Err(format!("log.level: expected one of {expected}, found {level:?}"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}
