//! The command line: one file per command. Human output by default, `--json` for one JSON object a line on stdout;
//! logs go to stderr. Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 65 bad input data, 78 bad configuration.

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
mod generate;
mod logging;
mod record;
mod replay;
mod run;
mod schema;
mod score;
mod simulate;
mod sound;
mod spectrogram;
mod synth;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Wrong usage, as clap has it.
pub const EXIT_USAGE: u8 = 2;
/// Bad input data: a bundle, audio.
pub const EXIT_DATA: u8 = 65;
/// Bad configuration.
pub const EXIT_CONFIG: u8 = 78;

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
    Replay(replay::Args),
    Spectrogram(spectrogram::Args),
    Bundle(bundle::Args),
    Devices(devices::Args),
    Record(record::Args),
    Check(check::Args),
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

/// What ends a command without success: an exit code, and a message unless all was reported already.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub error: Option<anyhow::Error>,
}

impl Failure {
    /// Wrong usage (exit code 2).
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_USAGE, error: Some(error.into()) }
    }

    /// Bad input data (exit code 65).
    pub fn data(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_DATA, error: Some(error.into()) }
    }

    /// Bad configuration (exit code 78).
    pub fn config(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_CONFIG, error: Some(error.into()) }
    }

    /// Everything was reported already; only the code is left.
    pub fn reported(code: u8) -> Self {
        Failure { code, error: None }
    }

    /// Whoever read the output has had enough (`| head`): no failure of ours.
    fn is_closed_pipe(&self) -> bool {
        let cause = self.error.as_ref().map(|error| error.root_cause());
        let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    /// Failed at run time (exit code 1).
    fn from(error: E) -> Self {
        Failure { code: 1, error: Some(error.into()) }
    }
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
        Command::Score(args) => score::run(args),
        Command::Enroll(args) => enroll::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Spectrogram(args) => spectrogram::run(args),
        Command::Bundle(args) => bundle::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Record(args) => record::run(args),
        Command::Check(args) => check::run(args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Watch(args) => watch::run(args),
        #[cfg(feature = "web")]
        Command::Console(args) => console::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Generate(args) => generate::run(args),
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
