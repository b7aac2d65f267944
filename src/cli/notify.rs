//! `auscult notify`: are people told?

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::Failure;
use crate::config::{Config, NotifyConfig};
use crate::notify;

/// Test the notification targets
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult notify test --config /etc/auscult/agent.toml")]
pub struct Args {
    /// Configuration file (TOML); AUSCULT__SECTION__KEY environment variables override it
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/auscult/agent.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send a test message to each target of the configuration; needs no running agent
    #[command(after_help = "Example:\n  auscult notify test --config /etc/auscult/agent.toml")]
    Test {
        /// Only to the target of this name
        #[arg(long)]
        name: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let Command::Test { name, json } = args.command;
    let config = Config::load(&args.config).map_err(Failure::config)?;
    let wanted = |target: &&NotifyConfig| name.as_ref().is_none_or(|name| target.name() == *name);
    let targets: Vec<_> = config.notify.iter().filter(wanted).collect();
    if targets.is_empty() {
        let known: Vec<_> = config.notify.iter().map(NotifyConfig::name).collect();
        return Err(match name {
            Some(name) if !known.is_empty() => {
                Failure::usage(anyhow::anyhow!("--name: expected one of {}, found {name:?}", known.join(", ")))
            }
            _ => Failure::config(anyhow::anyhow!("{}: expected a [[notify]], found none", args.config.display())),
        });
    }
    let outcomes = notify::send_test(&config.agent.id, config.web.url.as_deref(), &targets);
    let mut out = std::io::stdout().lock();
    for outcome in &outcomes {
        match &outcome.problem {
            _ if json => writeln!(out, "{}", json!(outcome))?,
            None => writeln!(out, "ok    {} ({}): sent", outcome.name, outcome.kind)?,
            Some(problem) => writeln!(out, "FAIL  {} ({}): {problem}", outcome.name, outcome.kind)?,
        }
    }
    if outcomes.iter().all(|outcome| outcome.sent) { Ok(()) } else { Err(Failure::reported(1)) }
}
