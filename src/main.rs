//! The `auscult` program: arguments in, one call per command, an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    auscult::cli::main()
}
