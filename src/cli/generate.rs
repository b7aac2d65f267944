//! `auscult generate`: what packages bring along, made from the command line's own description. Hidden from users.

use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::Failure;

/// Writes man pages (DIR/man1) and shell completions (DIR/bash, DIR/zsh, DIR/fish)
///
/// Example: auscult generate target/package
#[derive(clap::Args)]
pub struct Args {
    /// Where to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Runs the command; `auscult` is the whole command line.
pub fn run(args: &Args, mut auscult: Command) -> Result<(), Failure> {
    let folder = |name: &str| -> std::io::Result<PathBuf> {
        let folder = args.dir.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        clap_complete::generate_to(shell, &mut auscult, "auscult", folder(name)?)?;
    }
    clap_mangen::generate_to(auscult, folder("man1")?)?;
    Ok(())
}
