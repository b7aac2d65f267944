//! From a message's fields to a command's arguments; whatever is wrong is refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::control::error::{Code, CommandError};
use crate::validate::read_fields;

/// Reads a command's arguments; a mistake is named with its field.
pub(super) fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, CommandError> {
    read_fields(fields).map_err(|problem| CommandError::new(Code::BadArgument, problem))
}

/// A name that is no command, with the nearest that is.
pub(super) fn unknown_command(name: &str, names: &[&str]) -> CommandError {
    let nearest = names
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, known)| format!("; did you mean {known:?}?")).unwrap_or_default();
    let known = names.join(", ");
    CommandError::new(Code::UnknownCommand, format!("command: expected one of {known}, found {name:?}{hint}"))
}
