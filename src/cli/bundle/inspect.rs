//! `auscult bundle inspect`: what is in a bundle.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::bundle::{Bundle, BundleMachine, SAMPLE_LIMIT, files};
use crate::cli::engine::EngineArgs;
use crate::cli::{EXIT_DATA, Failure, terminal};
use crate::encoder::{self, EncoderShape};
use crate::numbers::counted;

/// Show what is in a bundle.
///
/// "above" is the share of a machine's own normal windows that its threshold would call anomalous: each window of the bank
/// against all others (leave-one-out; at most 4096 windows of each bank, evenly spread).
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  auscult bundle inspect /var/lib/auscult/bundles/current")]
pub struct Args {
    /// Directory of the bundle
    dir: PathBuf,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What `inspect` shows of the encoder: the engine that took it and its shape, or why none did.
type Encoder = Result<(&'static str, EncoderShape), String>;

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
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
    if encoder.is_err() { Err(Failure::reported(EXIT_DATA)) } else { Ok(()) }
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
            let table = machines.map_or(String::new(), |machines| format!(", {}", counted(machines, "machine")));
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
            format!("sha256 of {}, {signed}{described}", counted(manifest.files.len(), "file"))
        }
    };
    let golden: Vec<_> = bundle.golden.iter().map(|case| case.name.escape_debug().to_string()).collect();
    let golden = if golden.is_empty() { "none".into() } else { golden.join("; ") };
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
    terminal::fit(&mut table);
    let head = [
        ("bundle", format!("{}, version {}", bundle.name.escape_debug(), bundle.version)),
        ("digest", bundle.digest.clone()),
        ("encoder", encoder),
        ("manifest", manifest),
        ("golden", golden),
    ];
    let head = head.map(|(name, value)| terminal::hang(&format!("{name:<8}  "), &value, terminal::width()));
    format!("{}{table}\n", head.concat())
}
