//! `auscult generate`: what packages bring along, made from the command line's own description. Hidden from users.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

/// Writes man pages (DIR/man1) and shell completions (DIR/bash, DIR/zsh, DIR/fish)
///
/// Example: auscult generate target/package
#[derive(clap::Args)]
pub struct Args {
    /// Where to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let folder = |name: &str| -> std::io::Result<PathBuf> {
        let folder = args.dir.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        clap_complete::generate_to(shell, &mut Cli::command(), "auscult", folder(name)?)?;
    }
    clap_mangen::generate_to(Cli::command(), folder("man1")?)?;
    Ok(())
}
