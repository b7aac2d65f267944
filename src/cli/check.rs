//! `auscult check`

use super::Failure;

/// Not built yet.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Result<(), Failure> {
    Err(anyhow::anyhow!("not built yet").into())
}
