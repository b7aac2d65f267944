//! `auscult enroll`: a machine's normal learned from WAV files instead of on site; the result is a new bundle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Failure;
use super::engine::EngineArgs;
use super::sound::{FileQueue, SoundArgs};
use crate::bundle::Bundle;
use crate::bundle::enroll::enroll;
use crate::config::{Channel, default_false_alarm_rate};
use crate::encoder::Engine;
use crate::scoring::baseline::{LANES_LEAST, LearnSettings, Sample, check_rate, propose};
use crate::scoring::gate::Gate;
use crate::scoring::{Bank, Done, MachineModel, ScorerPool};

/// Learns a machine's normal from recordings of normal running, and writes a new bundle with it.
///
/// The new bundle has the old one's encoder and machines; NAME gets a bank, a threshold and lanes of its own, or is added
/// where the old bundle does not have it. 100 windows of 5 s or more, over all that is normal (loads, speeds, hours of the
/// day), make a good baseline. Windows that cannot be assessed and single ones that stand out are left out.
#[derive(ClapArgs)]
#[command(after_help = "Example:
  auscult enroll --bundle ./site-fans --machine blower-7 --out ./site-fans-2 recordings/blower-7/
  auscult score --bundle ./site-fans-2 --machine blower-7 today.wav")]
pub struct Args {
    /// WAV files of normal running, and directories to be searched for them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Directory of the bundle to learn with
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The machine: one of the bundle's, or a new name
    #[arg(long, value_name = "NAME")]
    machine: String,
    /// Directory of the new bundle; it must not hold anything yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Wanted share of normal windows that are called anomalous, above 0, at most 0.5
    #[arg(long, value_name = "P", default_value_t = default_false_alarm_rate(), value_parser = rate)]
    false_alarm_rate: f64,
    #[command(flatten)]
    sound: SoundArgs,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    check_rate(value).map(|()| value).map_err(|error| error.to_string())
}

/// What the recordings hold.
#[derive(Default)]
struct Recorded {
    samples: Vec<Sample>,
    /// Windows that cannot be assessed, by reason.
    left_out: BTreeMap<String, u64>,
    recordings: u32,
}

impl Recorded {
    fn take(&mut self, done: Done<(u32, f64)>) -> Result<(), Failure> {
        let ((recording, at_s), scored) = (done.tag, done.scored?);
        let level_dbfs = scored.assessment.level_dbfs;
        match (scored.embedding, scored.features) {
            (Some(embedding), Some(features)) => {
                self.samples.push(Sample { recording, at_s, level_dbfs, embedding, features });
            }
            _ => {
                let reason = scored.assessment.reason.map_or("not_assessed".into(), |reason| reason.to_string());
                *self.left_out.entry(reason).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// All windows of all files, through the encoder.
fn record(
    files: &mut FileQueue,
    channel: Channel,
    model: MachineModel,
    engine: Box<dyn Engine>,
) -> Result<Recorded, Failure> {
    let (model, mut pool, mut recorded) = (Arc::new(model), ScorerPool::new(engine)?, Recorded::default());
    while let Some(file) = files.next() {
        let Some(mut windows) = files.open(&file, channel, &model.front_end) else { continue };
        let mut number = 0;
        while let Some(window) = files.next_window(&mut windows) {
            let tag = (recorded.recordings, f64::from(number) * model.front_end.window_s);
            if let Some(done) = pool.push(tag, &model, window)? {
                recorded.take(done)?;
            }
            number += 1;
        }
        recorded.recordings += 1;
    }
    while let Some(done) = pool.oldest()? {
        recorded.take(done)?;
    }
    Ok(recorded)
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let valid =
        !args.machine.is_empty() && args.machine.chars().count() <= 128 && !args.machine.chars().any(char::is_control);
    if !valid {
        return Err(Failure::usage(anyhow::anyhow!("--machine: expected 1 to 128 printable characters")));
    }
    let (bundle, engine) = Bundle::open(&args.bundle, &args.engine.config()).map_err(Failure::data)?;
    let known = bundle.machine(&args.machine).ok();
    let (index, standard) =
        known.map_or_else(|| bundle.default_conditioning(), |known| (known.index, known.front_end.clone()));
    let front_end = args.sound.front_end(&standard)?;
    if front_end != standard {
        let message = "--fmin, --fmax: the new bundle keeps the machine's own band; set it in bundle.toml first";
        return Err(Failure::usage(anyhow::anyhow!(message)));
    }
    let empty = Bank::empty(bundle.machines[0].bank.width());
    let model = MachineModel::new(index, empty, f64::INFINITY, front_end.clone(), Gate::default());
    let mut files = FileQueue::new(&args.paths);
    let Recorded { samples, left_out, recordings } = record(&mut files, args.sound.channel, model, engine)?;
    files.bar.finish_and_clear();

    let settings = LearnSettings {
        machine: args.machine.clone(),
        origin: bundle.origin(index, front_end.clone()),
        hop_s: front_end.window_s,
        wanted_s: 0.0,
        false_alarm_rate: args.false_alarm_rate,
        previous_threshold: known.and_then(|known| known.threshold),
    };
    let mut baseline = propose(&samples, &settings).map_err(Failure::data)?;
    baseline.learned = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    for (reason, count) in left_out {
        *baseline.left_out.entry(reason).or_default() += count;
    }
    let new = enroll(&bundle, &args.machine, &baseline, &args.out)?;

    let projected = &baseline.projected;
    if args.json {
        let row = json!({
            "bundle": args.out, "version": new.version, "machine": args.machine, "recordings": recordings,
            "windows": projected.windows, "left_out": baseline.left_out, "rows": baseline.rows().len(),
            "threshold": baseline.threshold, "threshold_by": baseline.threshold_by,
            "false_alarm_rate": baseline.false_alarm_rate, "lanes": baseline.has_lanes(),
            "distance_share": projected.distance_share, "combined_share": projected.combined_share,
            "level_dbfs": baseline.level_dbfs, "off_below_dbfs": baseline.off_below_dbfs,
        });
        println!("{row}");
        return files.verdict();
    }
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let left: Vec<_> = baseline.left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let lanes = match projected.combined_share {
        Some(share) => format!("yes: {} of these windows would have been anomalous by all lanes", percent(share)),
        None => format!("none: they need {LANES_LEAST} windows"),
    };
    let before = projected
        .previous_share
        .map_or(String::new(), |share| format!("; with the threshold that it had, {}", percent(share)));
    let by = serde_json::to_value(baseline.threshold_by).ok();
    let by = by.as_ref().and_then(|by| by.as_str()).unwrap_or_default();
    for (name, value) in [
        ("machine", args.machine.clone()),
        ("bundle", format!("{}@{} in {}", new.name, new.version, args.out.display())),
        ("heard", format!("{} windows of {recordings} recordings", projected.windows)),
        ("left out", if left.is_empty() { "none".into() } else { left.join(", ") }),
        ("bank", format!("{} rows", baseline.rows().len())),
        ("threshold", format!("{:.4} by {by} for {} false alarms", baseline.threshold, percent(args.false_alarm_rate))),
        ("would mean", format!("{} of these windows anomalous by distance{before}", percent(projected.distance_share))),
        ("lanes", lanes),
        (
            "level",
            format!("{:.1} dBFS; below {:.1} dBFS it stands still", baseline.level_dbfs, baseline.off_below_dbfs),
        ),
    ] {
        println!("{name:10}  {value}");
    }
    files.verdict()
}
