//! `auscult bundle`: what is in a bundle, whether it holds, and how it is sent.

mod inspect;
mod pack;
mod verify;

use clap::{Args as ClapArgs, Subcommand};

use super::Failure;

/// Show, check and pack model bundles.
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
