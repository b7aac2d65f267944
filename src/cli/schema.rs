//! `auscult schema`: JSON Schema of every payload, made from the Rust types.

use std::io::Write;

use serde_json::{Map, Value};

use super::Failure;
use crate::mqtt::payload;

/// Print the JSON Schema of every payload, by name, or of one
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult schema verdict > verdict.schema.json")]
pub struct Args {
    /// Only this payload: status, info, health, verdict, alarm, settings, event, evidence, control, reply, threshold_set, compat
    name: Option<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let all = payload::schemas();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let known = names.join(", ");
    let mut by_name: Map<String, Value> =
        all.into_iter().map(|(name, schema)| (name.to_owned(), schema.to_value())).collect();
    let shown = match args.name {
        None => Value::Object(by_name),
        Some(name) => match by_name.remove(&name) {
            Some(schema) => schema,
            None => {
                eprintln!("error: expected one of {known}, found {name:?}");
                return Err(Failure::reported(2));
            }
        },
    };
    let mut text = serde_json::to_string_pretty(&shown)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
