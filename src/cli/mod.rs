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
mod setup;
mod simulate;
mod sound;
mod spectrogram;
mod stored;
mod synth;
mod terminal;
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

/// The command line, with an example for each control command.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("ctl", |ctl| {
        ctl.mut_subcommands(|command| {
            let example = ctl::example(&command);
            command.after_help(example)
        })
    })
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

#[cfg(test)]
mod tests {
    use super::command;

    /// Every command that does something shows how it is called.
    #[test]
    fn every_help_has_an_example() {
        let mut lacking = Vec::new();
        let mut ahead = vec![(String::new(), command())];
        while let Some((path, mut command)) = ahead.pop() {
            let subcommands: Vec<_> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
            if subcommands.is_empty() && !command.render_long_help().to_string().contains("Example") {
                lacking.push(path.clone());
            }
            ahead.extend(subcommands.into_iter().map(|one| (format!("{path} {}", one.get_name()), one)));
        }
        assert!(lacking.is_empty(), "{lacking:?}");
    }
}
