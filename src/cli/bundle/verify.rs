//! `auscult bundle verify`: whether a bundle holds on this device.

use std::io::Write;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::bundle::{Bundle, files};
use crate::cli::engine::EngineArgs;
use crate::cli::{EXIT_DATA, Failure, terminal};
use crate::encoder;
use crate::numbers::counted;

/// Check a bundle and run its golden cases on this device; a line for each check, exit code 65 on any fault.
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  auscult bundle verify ./site-fans && echo good")]
pub struct Args {
    /// Directory of the bundle
    dir: PathBuf,
    /// One JSON object for each check instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The lines of `verify`, as they come.
struct Checks {
    json: bool,
    failed: bool,
}

impl Checks {
    fn report(&mut self, check: &str, outcome: Result<String, String>) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let (ok, message) = match outcome {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        self.failed |= !ok;
        if self.json {
            writeln!(out, "{}", json!({ "check": check, "ok": ok, "message": message }))?;
        } else {
            let head = format!("{}  {check:<9} ", if ok { "ok  " } else { "FAIL" });
            write!(out, "{}", terminal::hang(&head, &message, terminal::width()))?;
        }
        Ok(())
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut checks = Checks { json: args.json, failed: false };
    verify_each(args, &mut checks)?;
    if checks.failed { Err(Failure::reported(EXIT_DATA)) } else { Ok(()) }
}

fn verify_each(args: &Args, checks: &mut Checks) -> Result<(), Failure> {
    let bundle = match Bundle::read(&args.dir) {
        Ok(bundle) => bundle,
        Err(error) => return checks.report("files", Err(error.to_string())),
    };
    let rows: usize = bundle.machines.iter().map(|machine| machine.bank.len()).sum();
    let machines = counted(bundle.machines.len(), "machine");
    checks.report("files", Ok(format!("{machines}, {}, digest {}", counted(rows, "row"), bundle.digest)))?;
    checks.report(
        "manifest",
        Ok(match &bundle.manifest {
            None => "none".into(),
            Some(manifest) => format!("{} {}, {}", bundle.name, bundle.version, counted(manifest.files.len(), "hash")),
        }),
    )?;
    if !bundle.unnamed.is_empty() {
        let names = bundle.unnamed.join(", ");
        let message = format!("{names}: not named by bundle.toml; an agent with bundle.public_key refuses the bundle");
        checks.report("unnamed", Ok(message))?;
    }
    let without: Vec<_> = bundle.machines.iter().filter(|machine| machine.threshold.is_none()).collect();
    let without: Vec<_> = without.iter().map(|machine| machine.name.as_str()).collect();
    checks.report(
        "threshold",
        Ok(if without.is_empty() {
            "of every machine".into()
        } else {
            format!("none of {}: the configuration must give one", without.join(", "))
        }),
    )?;
    let mut engine = match encoder::load(bundle.encoder.clone(), &args.engine.config()) {
        Ok(engine) => engine,
        Err(error) => {
            return checks.report("encoder", Err(format!("{}: {error}", args.dir.join(files::ENCODER).display())));
        }
    };
    if let Err(error) = bundle.check_engine(engine.as_mut()) {
        return checks.report("encoder", Err(error.to_string()));
    }
    let shape = engine.shape();
    let (bands, frames, embedding) = (shape.bands, shape.frames, shape.embedding);
    checks.report("encoder", Ok(format!("{}: image {bands} x {frames}, embedding {embedding}", engine.name())))?;
    if bundle.golden.is_empty() {
        return checks.report("golden", Ok("no cases".into()));
    }
    for outcome in bundle.run_golden_on_all_cores(engine.as_mut()) {
        checks.report("golden", outcome.in_words())?;
    }
    Ok(())
}
