//! Errors in one line: each cause behind what it caused, and nothing that would begin another.

use std::error::Error;

/// What others say, as a part of a line: no more characters than `most`, and none that a log or a terminal would obey.
pub fn one_line(words: &str, most: usize) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

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
