//! What is wrong with a configuration, in one clear line.

use crate::validate::nearest;

/// One clear line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

impl From<String> for ConfigError {
    fn from(problem: String) -> ConfigError {
        ConfigError(problem)
    }
}

/// The `config` crate's words with `source`, the file or the environment variable, first; for an unknown key, the nearest
/// known one.
pub(super) fn describe(source: &str, message: &str) -> String {
    // The line of the file that TOML's errors quote may hold a password.
    let quoted =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let message: Vec<&str> = message.trim().lines().filter(|line| !quoted(line)).map(str::trim).collect();
    let message = message.join(": ").replace(&format!(" in {source}"), "");
    // What has just been taken away may have been a line of its own.
    let message = message.trim_end_matches([':', ' ']);
    // `machine[0]hop_s` is how the crate writes `machine[0].hop_s`.
    let mut dotted = String::with_capacity(message.len());
    for letter in message.chars() {
        if dotted.ends_with(']') && letter.is_ascii_lowercase() {
            dotted.push('.');
        }
        dotted.push(letter);
    }
    let mut message = dotted;
    if message.contains("invalid type: map, expected a sequence for key `machine`") {
        message = "machine: expected [[machine]] in double brackets, one for each machine, found [machine]".into();
    }
    let hint = nearest(&message);
    if message.contains(source) { format!("{message}{hint}") } else { format!("{source}: {message}{hint}") }
}

/// What is wrong inside a table that a machine lays over the one for all.
pub(super) fn within(key: &str, problem: &str) -> String {
    let link = if problem.starts_with("unknown field") { ": " } else { "." };
    format!("{key}{link}{problem}")
}
