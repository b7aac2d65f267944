//! `auscult bundle`: what is in a bundle, whether it holds, and how it is sent.

mod inspect;
mod pack;
mod verify;

use clap::{Args as ClapArgs, Subcommand};

use super::Failure;
use crate::bundle::GoldenOutcome;

/// Shows, checks and packs model bundles.
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Verify(verify::Args),
    Pack(pack::Args),
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Pack(args) => pack::run(&args),
    }
}

/// A golden case's outcome in words.
fn golden_line(outcome: GoldenOutcome) -> Result<String, String> {
    let name = outcome.name.escape_debug();
    match (outcome.fault, outcome.embedding_difference, outcome.distance_difference) {
        (Some(fault), ..) => Err(format!("{name}: {fault}")),
        (None, Some(embedding), Some(distance)) => {
            Ok(format!("{name}: embedding {embedding:.6} off, distance {distance:.6} off"))
        }
        _ => Err(format!("{name}: not run")),
    }
}
