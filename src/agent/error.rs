//! Why an agent does not run.

use crate::audio::SourceError;
use crate::causes::with_causes;

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What is configured cannot be run, and waiting does not mend it.
    #[error("{0}")]
    Config(String),
    /// The system refuses what every agent needs.
    #[error("{0}")]
    Run(String),
}

impl From<SourceError> for AgentError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Config(_) | SourceError::Data(_) => AgentError::Config(with_causes(&error)),
            SourceError::Lost(_) => AgentError::Run(with_causes(&error)),
        }
    }
}
