//! Why a command was refused: a code for scripts, and a message that says what to do.

use std::fmt::Display;

pub use crate::mqtt::payload::ErrorCode as Code;
use crate::sqlite::SqliteError;

impl From<std::io::Error> for CommandError {
    /// The disk does not take what was to be changed.
    fn from(error: std::io::Error) -> CommandError {
        CommandError::new(Code::Failed, format_args!("nothing was changed, because it cannot be kept: {error}"))
    }
}

/// A refusal: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: Code,
    pub message: String,
}

impl CommandError {
    pub fn new(code: Code, message: impl Display) -> CommandError {
        CommandError { code, message: message.to_string() }
    }

    /// `name: expected ..., found ...`
    pub fn argument(name: &str, expected: &str, found: impl Display) -> CommandError {
        CommandError::new(Code::BadArgument, format!("{name}: expected {expected}, found {found}"))
    }

    /// The journal of the alarms cannot be read.
    pub fn journal(error: SqliteError) -> CommandError {
        CommandError::new(Code::Failed, format_args!("the alarms' journal cannot be read: {error}"))
    }

    /// Worth trying again with the same id: nothing was wrong with the command.
    pub fn is_passing(&self) -> bool {
        matches!(self.code, Code::Busy | Code::Failed)
    }
}
