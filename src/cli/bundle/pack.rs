//! `auscult bundle pack`: a bundle's manifest and the archive that `bundle.install` takes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::bundle::{Bundle, draft_manifest, files, manifest, pack};
use crate::cli::Failure;
use crate::cli::engine::EngineArgs;

/// Make the manifest (bundle.toml) and an archive for `bundle.install`; the same files give the same archive.
///
/// A bundle.toml that fits the files is left as it is. To sign: pack, sign bundle.toml with minisign, pack again.
#[derive(ClapArgs)]
#[command(
    after_help = "Example:\n  auscult bundle pack ./site-fans --bundle-version 2025.2\n  minisign -Sm ./site-fans/bundle.toml\n  auscult bundle pack ./site-fans"
)]
pub struct Args {
    /// Directory of the bundle
    dir: PathBuf,
    /// Name in the manifest [default: that of the manifest, else the directory's]
    #[arg(long, value_parser = word)]
    name: Option<String>,
    /// Version in the manifest [default: that of the manifest, else made from the files]
    #[arg(long, value_parser = word)]
    bundle_version: Option<String>,
    /// Archive to write [default: NAME-VERSION.tar.gz]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A bundle's name or version.
fn word(text: &str) -> Result<String, String> {
    manifest::check_word(text).map(|()| text.to_owned())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let written =
        draft_manifest(&args.dir, args.name.as_deref(), args.bundle_version.as_deref()).map_err(Failure::data)?;
    let (bundle, mut engine) = Bundle::open(&args.dir, &args.engine.config()).map_err(Failure::data)?;
    for outcome in bundle.run_golden(engine.as_mut()) {
        outcome.in_words().map_err(|problem| Failure::data(anyhow::anyhow!("golden case {problem}")))?;
    }
    let archive = args.out.clone().unwrap_or_else(|| format!("{}-{}.tar.gz", bundle.name, bundle.version).into());
    let packed = pack(&bundle, &archive)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = json!({
            "archive": packed.path, "bytes": packed.bytes, "sha256": packed.sha256, "signed": packed.signed,
            "manifest_written": written, "bundle": bundle.name, "version": bundle.version,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    if written {
        writeln!(out, "manifest  {} written", args.dir.join(files::MANIFEST).display())?;
    }
    writeln!(out, "archive   {}, {} bytes", packed.path.display(), packed.bytes)?;
    writeln!(out, "sha256    {}", packed.sha256)?;
    if !packed.signed && std::io::stdout().is_terminal() {
        writeln!(
            out,
            "not signed; to sign: minisign -Sm {}, then pack again",
            args.dir.join(files::MANIFEST).display()
        )?;
    }
    Ok(())
}
