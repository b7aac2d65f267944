//! `auscult bundle`: what is in a bundle, whether it holds, and how it is sent.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{EXIT_DATA, Failure};
use crate::bundle::{Bundle, BundleMachine, GoldenOutcome, SAMPLE_LIMIT, draft_manifest, files, manifest, pack};
use crate::encoder::{self, EncoderConfig, EncoderShape, EngineChoice};

/// Shows, checks and packs model bundles.
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Pack(PackArgs),
}

/// Shows what is in a bundle.
///
/// "above" is the share of a machine's own normal windows that its threshold would call anomalous: each window of the bank
/// against all others (leave-one-out; at most 4096 windows of each bank, evenly spread).
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  auscult bundle inspect /var/lib/auscult/bundles/current")]
struct InspectArgs {
    /// Directory of the bundle
    dir: PathBuf,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Checks a bundle and runs its golden cases on this device; a line for each check, exit code 65 on any fault.
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  auscult bundle verify ./site-fans && echo good")]
struct VerifyArgs {
    /// Directory of the bundle
    dir: PathBuf,
    /// One JSON object for each check instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Makes the manifest (bundle.toml) and an archive for `bundle.install`; the same files give the same archive.
///
/// A bundle.toml that fits the files is left as it is. To sign: pack, sign bundle.toml with minisign, pack again.
#[derive(ClapArgs)]
#[command(
    after_help = "Example:\n  auscult bundle pack ./site-fans --bundle-version 2025.2\n  minisign -Sm ./site-fans/bundle.toml\n  auscult bundle pack ./site-fans"
)]
struct PackArgs {
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

#[derive(ClapArgs)]
pub(super) struct EngineArgs {
    /// Engine to run the encoder with
    #[arg(long, default_value = "auto", value_parser = ["auto", "native", "litert", "tract"])]
    engine: String,
    /// Path of libLiteRt.so [default: wherever the loader finds it]
    #[arg(long)]
    library: Option<PathBuf>,
}

impl EngineArgs {
    pub(super) fn config(&self) -> EncoderConfig {
        let engine = match self.engine.as_str() {
            "native" => EngineChoice::Native,
            "tract" => EngineChoice::Tract,
            "litert" => EngineChoice::Litert,
            _ => EngineChoice::Auto,
        };
        EncoderConfig { engine, library: self.library.clone() }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect(&args),
        Command::Verify(args) => verify(&args),
        Command::Pack(args) => pack_bundle(&args),
    }
}

/// What `inspect` shows of the encoder: the engine that took it and its shape, or why none did.
type Encoder = Result<(&'static str, EncoderShape), String>;

fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let bundle = Bundle::read(&args.dir).map_err(Failure::data)?;
    let loaded = encoder::load(bundle.encoder.clone(), &args.engine.config());
    let encoder: Encoder = loaded.map(|engine| (engine.name(), engine.shape())).map_err(|error| error.to_string());
    let shares = shares(&bundle);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", inspection(&bundle, &encoder, &shares))?;
    } else {
        write!(out, "{}", overview(&bundle, &encoder, &shares))?;
    }
    if encoder.is_err() { Err(Failure::said(EXIT_DATA)) } else { Ok(()) }
}

fn shares(bundle: &Bundle) -> Vec<Option<f64>> {
    let rows: usize = bundle.machines.iter().map(BundleMachine::sampled_rows).sum();
    let bar = ProgressBar::new(rows as u64);
    bar.set_style(ProgressStyle::with_template("leave-one-out {bar:40} {pos}/{len} {eta}").expect("a valid template"));
    let shares = bundle.machines.iter().map(|machine| machine.share_above(|| bar.inc(1))).collect();
    bar.finish_and_clear();
    shares
}

fn inspection(bundle: &Bundle, encoder: &Encoder, shares: &[Option<f64>]) -> Value {
    let machine = |(machine, share): (&BundleMachine, &Option<f64>)| {
        json!({
            "name": machine.name, "index": machine.index, "rows": machine.bank.len(), "threshold": machine.threshold,
            "above_share": share, "above_rows": share.map(|_| machine.sampled_rows()), "front_end": machine.front_end,
        })
    };
    let machines: Vec<_> = bundle.machines.iter().zip(shares).map(machine).collect();
    let encoder = match encoder {
        Ok((engine, shape)) => json!({
            "engine": engine, "bands": shape.bands, "frames": shape.frames, "embedding": shape.embedding,
            "machines": shape.machines,
        }),
        Err(problem) => json!({ "error": problem }),
    };
    let golden: Vec<_> =
        bundle.golden.iter().map(|case| json!({ "name": case.name, "machine": case.machine })).collect();
    json!({
        "bundle": bundle.name, "version": bundle.version, "digest": bundle.digest, "encoder": encoder,
        "description": bundle.manifest.as_ref().and_then(|manifest| manifest.description.as_ref()),
        "manifest": bundle.manifest.is_some(), "signature": has_signature(&bundle.dir), "golden": golden,
        "machines": machines,
    })
}

fn has_signature(dir: &Path) -> bool {
    dir.join(files::SIGNATURE).is_file()
}

fn overview(bundle: &Bundle, encoder: &Encoder, shares: &[Option<f64>]) -> String {
    let encoder = match encoder {
        Ok((engine, shape)) => {
            let EncoderShape { bands, frames, embedding, machines } = shape;
            let table = machines.map_or(String::new(), |machines| format!(", {machines} machines"));
            format!("{engine}: image {bands} x {frames}, embedding {embedding}{table}")
        }
        Err(problem) => format!("not loaded: {problem}"),
    };
    let manifest = match &bundle.manifest {
        None => "none: default front-end".into(),
        Some(manifest) => {
            let signed = if has_signature(&bundle.dir) { "with a signature" } else { "not signed" };
            let described =
                manifest.description.as_ref().map_or(String::new(), |text| format!("; {}", text.escape_debug()));
            format!("sha256 of {} files, {signed}{described}", manifest.files.len())
        }
    };
    let golden: Vec<_> = bundle.golden.iter().map(|case| case.name.escape_debug().to_string()).collect();
    let golden = if golden.is_empty() { "none".into() } else { golden.join(", ") };
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["machine", "index", "rows", "threshold", "above", "band, Hz"]);
    for (machine, share) in bundle.machines.iter().zip(shares) {
        let sampled = if machine.bank.len() > SAMPLE_LIMIT { "~" } else { "" };
        table.add_row([
            machine.name.clone(),
            machine.index.to_string(),
            machine.bank.len().to_string(),
            machine.threshold.map_or("none".into(), |threshold| format!("{threshold:.4}")),
            share.map_or("-".into(), |share| format!("{sampled}{:.1} %", 100.0 * share)),
            format!("{}-{}", machine.front_end.fmin_hz, machine.front_end.fmax_hz),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "bundle    {}, version {}\ndigest    {}\nencoder   {encoder}\nmanifest  {manifest}\ngolden    {golden}\n{table}\n",
        bundle.name.escape_debug(),
        bundle.version,
        bundle.digest
    )
}

/// The lines of `verify`, as they come.
struct Checks {
    json: bool,
    failed: bool,
}

impl Checks {
    fn say(&mut self, check: &str, outcome: Result<String, String>) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let (ok, message) = match outcome {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        self.failed |= !ok;
        if self.json {
            writeln!(out, "{}", json!({ "check": check, "ok": ok, "message": message }))?;
        } else {
            writeln!(out, "{}  {check:<9} {message}", if ok { "ok  " } else { "FAIL" })?;
        }
        Ok(())
    }
}

fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let mut checks = Checks { json: args.json, failed: false };
    verify_each(args, &mut checks)?;
    if checks.failed { Err(Failure::said(EXIT_DATA)) } else { Ok(()) }
}

fn verify_each(args: &VerifyArgs, checks: &mut Checks) -> Result<(), Failure> {
    let bundle = match Bundle::read(&args.dir) {
        Ok(bundle) => bundle,
        Err(error) => return checks.say("files", Err(error.to_string())),
    };
    let rows: usize = bundle.machines.iter().map(|machine| machine.bank.len()).sum();
    checks.say("files", Ok(format!("{} machines, {rows} rows, digest {}", bundle.machines.len(), bundle.digest)))?;
    checks.say(
        "manifest",
        Ok(match &bundle.manifest {
            None => "none".into(),
            Some(manifest) => format!("{} {}, {} hashes", bundle.name, bundle.version, manifest.files.len()),
        }),
    )?;
    let without: Vec<_> = bundle.machines.iter().filter(|machine| machine.threshold.is_none()).collect();
    let without: Vec<_> = without.iter().map(|machine| machine.name.as_str()).collect();
    checks.say(
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
            return checks.say("encoder", Err(format!("{}: {error}", args.dir.join(files::ENCODER).display())));
        }
    };
    if let Err(error) = bundle.check_engine(engine.as_mut()) {
        return checks.say("encoder", Err(error.to_string()));
    }
    let shape = engine.shape();
    let (bands, frames, embedding) = (shape.bands, shape.frames, shape.embedding);
    checks.say("encoder", Ok(format!("{}: image {bands} x {frames}, embedding {embedding}", engine.name())))?;
    if bundle.golden.is_empty() {
        return checks.say("golden", Ok("no cases".into()));
    }
    for outcome in bundle.run_golden(engine.as_mut()) {
        checks.say("golden", golden_line(outcome))?;
    }
    Ok(())
}

fn golden_line(outcome: GoldenOutcome) -> Result<String, String> {
    let name = outcome.name.escape_debug();
    match (outcome.fault, outcome.embedding_difference, outcome.distance_difference) {
        (Some(fault), ..) => Err(format!("{name}: {fault}")),
        (None, Some(embedding), Some(distance)) => {
            Ok(format!("{name}: embedding {embedding:.6} off, distance {distance:.6} off"))
        }
        _ => Err(format!("{name}: not run")),
    }
}

fn pack_bundle(args: &PackArgs) -> Result<(), Failure> {
    let written =
        draft_manifest(&args.dir, args.name.as_deref(), args.bundle_version.as_deref()).map_err(Failure::data)?;
    let (bundle, mut engine) = Bundle::open(&args.dir, &args.engine.config()).map_err(Failure::data)?;
    for outcome in bundle.run_golden(engine.as_mut()) {
        golden_line(outcome).map_err(|problem| Failure::data(anyhow::anyhow!("golden case {problem}")))?;
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
