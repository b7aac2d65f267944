//! What is wrong with a bundle.

use std::path::PathBuf;

use crate::causes::one_line;

/// One clear line: the file, what was expected, what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct BundleError {
    pub file: PathBuf,
    pub problem: String,
}

impl BundleError {
    /// Longest problem that is shown, characters; what a hostile file makes a library say can be longer.
    const LIMIT: usize = 400;

    /// Keeps the problem to one line of bounded length.
    pub fn new(file: impl Into<PathBuf>, problem: impl AsRef<str>) -> Self {
        BundleError { file: file.into(), problem: one_line(problem.as_ref(), Self::LIMIT) }
    }
}
