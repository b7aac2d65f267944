//! Errors in one line: each cause behind what it caused.

use std::error::Error;

/// The error and its causes, parted by `: `.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
