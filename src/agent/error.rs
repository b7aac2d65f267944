//! Why an agent does not run.

use std::error::Error;

use crate::audio::SourceError;
use crate::control::state_archive::take::TakeError;

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What is configured cannot be run, and waiting does not mend it.
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A part of what was imported is in place: no agent may run on that.
    #[error(transparent)]
    Import(#[from] TakeError),
    /// Another agent has what this one needs.
    #[error("{0}")]
    Taken(String),
    /// The system refuses what every agent needs.
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A part of the agent has ended by itself.
    #[error("the {0} has ended by itself")]
    Ended(&'static str),
}

impl AgentError {
    pub(crate) fn system<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> AgentError + Copy {
        move |error| AgentError::System { what, source: error.into() }
    }

    /// Whether somebody has to change the configuration.
    pub fn is_config(&self) -> bool {
        match self {
            AgentError::Config(_) => true,
            AgentError::Source(error) => matches!(error, SourceError::Config(_) | SourceError::Data(_)),
            AgentError::Import(_) | AgentError::Taken(_) | AgentError::System { .. } | AgentError::Ended(_) => false,
        }
    }
}
