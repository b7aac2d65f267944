//! The command line: one file per command. Human output by default, `--json` for one JSON object a line on stdout;
//! logs go to stderr. Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 65 bad input data, 78 bad configuration.

mod announce;
mod broker;
mod bundle;
mod check;
#[cfg(feature = "web")]
mod console;
mod ctl;
#[cfg(feature = "demo")]
mod demo;
mod devices;
mod engine;
mod enroll;
mod examples;
mod export;
mod failure;
mod generate;
mod interrupt;
mod logging;
mod normal_running;
mod notify;
mod record;
mod recordings;
mod replay;
mod run;
mod schema;
mod score;
#[cfg(feature = "web")]
#[allow(clippy::print_stdout, reason = "talks with a person at a terminal")]
mod setup;
mod simulate;
mod sound;
mod spectrogram;
mod stored;
mod synth;
mod terminal;
#[cfg(test)]
mod tests;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::failure::{EXIT_CONFIG, EXIT_DATA, EXIT_USAGE, Failure};

/// The agent that listens to machines.
#[derive(Parser)]
#[command(name = "auscult", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    Score(score::Args),
    Enroll(enroll::Args),
    Export(export::Args),
    Replay(replay::Args),
    Spectrogram(spectrogram::Args),
    Bundle(bundle::Args),
    Devices(devices::Args),
    Record(record::Args),
    Check(check::Args),
    #[cfg(feature = "web")]
    Setup(setup::Args),
    Notify(notify::Args),
    Ctl(Box<ctl::Args>),
    Watch(watch::Args),
    #[cfg(feature = "web")]
    Console(console::Args),
    Schema(schema::Args),
    Simulate(simulate::Args),
    Synth(synth::Args),
    #[command(hide = true)]
    Generate(generate::Args),
}

/// Parses the arguments; ends the process where they are wrong, or ask for help.
fn parse() -> Cli {
    Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
}

/// The command line, with the examples below each `--help`.
fn command() -> clap::Command {
    examples::with_examples(Cli::command())
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let outcome = match parse().command {
        Command::Run(args) => run::run(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
        Command::Score(args) => score::run(args),
        Command::Enroll(args) => enroll::run(args),
        Command::Export(args) => export::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Spectrogram(args) => spectrogram::run(args),
        Command::Bundle(args) => bundle::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Record(args) => record::run(args),
        Command::Check(args) => check::run(args),
        #[cfg(feature = "web")]
        Command::Setup(args) => setup::run(&args),
        Command::Notify(args) => notify::run(args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Watch(args) => watch::run(args),
        #[cfg(feature = "web")]
        Command::Console(args) => console::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Generate(args) => generate::run(&args, command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(error) = failure.error {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(failure.code)
        }
    }
}
