//! `auscult enroll`: a machine's normal learned from recordings instead of on site; the result is a new bundle.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use serde_json::json;

use super::normal_running::NormalRunning;
use super::recordings::RecordingArgs;
use super::{Failure, terminal};
use crate::bundle::enroll::enroll;
use crate::bundle::{Bundle, FittedModel, Learning, Overrides};
use crate::config::default_false_alarm_rate;
use crate::numbers::counted;
use crate::scoring::baseline::{LANES_LEAST_S, LearnSettings, ModeLevel, check_rate, propose};
use crate::scoring::{Baseline, ScorerPool};

/// Learn a machine's normal from recordings of normal running, and write a new bundle with it.
///
/// The new bundle has the old one's encoder and machines; NAME gets a bank, a threshold and lanes of its own, or is added
/// where the old bundle does not have it. 100 windows of 5 s or more, over all that is normal (loads, speeds, hours of the
/// day), make a good baseline. Windows that cannot be assessed and single ones that stand out are left out.
#[derive(ClapArgs)]
#[command(
    override_usage = "auscult enroll --bundle DIR --machine NAME --out DIR [OPTIONS] FILE|DIR...",
    after_help = "Example:
  auscult enroll --bundle ./site-fans --machine blower-7 --out ./site-fans-2 recordings/blower-7/
  auscult score --bundle ./site-fans-2 --machine blower-7 today.wav"
)]
#[command(mut_arg("paths", |arg| arg.help("WAV, FLAC, Ogg Vorbis and MP3 files of normal running, and directories to be searched for them")))]
#[command(mut_arg("bundle", |arg| arg.help("Directory of the bundle to learn with")))]
#[command(mut_arg("machine", |arg| arg.help("The machine: one of the bundle's, or a new name")))]
pub struct Args {
    #[command(flatten)]
    recordings: RecordingArgs,
    /// Directory of the new bundle; it must not hold anything yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Wanted share of normal windows that are called anomalous, above 0, at most 0.5
    #[arg(long, value_name = "P", default_value_t = default_false_alarm_rate(), value_parser = rate)]
    false_alarm_rate: f64,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    check_rate(value).map(|()| value).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let name = &args.recordings.machine;
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
        return Err(Failure::usage(anyhow::anyhow!("--machine: expected 1 to 128 printable characters")));
    }
    let (bundle, engine) = args.recordings.open()?;
    let overrides = Overrides { learning: Learning::Now, ..Overrides::default() };
    let FittedModel { model, origin, .. } = args.recordings.model(&bundle, &overrides, "")?;
    if args.recordings.sound.front_end(&model.front_end)? != model.front_end {
        let message = "--fmin, --fmax: the new bundle keeps the machine's own band; set it in bundle.toml first";
        return Err(Failure::usage(anyhow::anyhow!(message)));
    }
    let mut files = args.recordings.files();
    files.explain_interrupt(format!("nothing was learned, {} was not made", args.out.display()));
    let (model, mut pool) = (Arc::new(model), ScorerPool::new(engine)?);
    let heard = NormalRunning::hear(&mut files, |_| None, args.recordings.sound.channel, &model, &mut pool)?;
    files.bar.finish_and_clear();

    let settings = LearnSettings {
        machine: name.clone(),
        origin,
        hop_s: heard.hop_s,
        wanted_s: 0.0,
        false_alarm_rate: args.false_alarm_rate,
        previous_threshold: bundle.machine(name).ok().and_then(|known| known.threshold),
    };
    let mut baseline = propose(&heard.samples, &settings).map_err(Failure::data)?;
    baseline.learned = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    for (reason, count) in heard.left_out {
        *baseline.left_out.entry(reason).or_default() += count;
    }
    let new = enroll(&bundle, name, &baseline, &args.out)?;
    if args.json {
        print_json(&args, &new.version, &baseline, heard.recordings)?;
    } else {
        print(&args, &new, &baseline, heard.recordings)?;
    }
    files.verdict()
}

fn print_json(args: &Args, version: &str, baseline: &Baseline, recordings: u32) -> io::Result<()> {
    let projected = &baseline.projected;
    let row = json!({
        "bundle": args.out, "version": version, "machine": args.recordings.machine, "recordings": recordings,
        "windows": projected.windows, "left_out": baseline.left_out, "rows": baseline.rows().len(),
        "threshold": baseline.threshold, "threshold_by": baseline.threshold_by,
        "false_alarm_rate": baseline.false_alarm_rate, "lanes": baseline.has_lanes(), "modes": baseline.modes(),
        "mode_levels": baseline.mode_levels(),
        "distance_share": projected.distance_share, "combined_share": projected.combined_share,
        "expected_share": projected.expected_share, "expected_most": projected.expected_most,
        "missing_minutes": projected.missing_minutes, "level_dbfs": baseline.level_dbfs, "off_below_dbfs": baseline.off_below_dbfs,
    });
    writeln!(io::stdout().lock(), "{row}")
}

fn print(args: &Args, new: &Bundle, baseline: &Baseline, recordings: u32) -> io::Result<()> {
    let projected = &baseline.projected;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let left: Vec<_> = baseline.left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let lanes = match projected.combined_share {
        Some(share) => format!("yes: {} of these windows would have been anomalous by all lanes", percent(share)),
        None => format!("none: they need {LANES_LEAST_S:.0} s of sound, and windows that overlap"),
    };
    let modes = match baseline.modes() {
        1 => "one way of running".to_owned(),
        modes => format!("{modes} ways of running were found{}", describe_modes(baseline)),
    };
    let before = projected
        .previous_share
        .map_or(String::new(), |share| format!("; with the threshold that it had, {}", percent(share)));
    let by = serde_json::to_value(baseline.threshold_by).ok();
    let by = by.as_ref().and_then(|by| by.as_str()).unwrap_or_default();
    let mut out = io::stdout().lock();
    for (name, value) in [
        ("machine", args.recordings.machine.clone()),
        ("bundle", format!("{}@{} in {}", new.name, new.version, args.out.display())),
        ("heard", format!("{} of {}", counted(projected.windows, "window"), counted(recordings, "recording"))),
        ("left out", if left.is_empty() { "none".into() } else { left.join(", ") }),
        ("bank", counted(baseline.rows().len(), "row")),
        ("threshold", format!("{:.4} by {by} for {} false alarms", baseline.threshold, percent(args.false_alarm_rate))),
        ("would mean", format!("{} of these windows anomalous by distance{before}", percent(projected.distance_share))),
        ("lanes", lanes),
        ("modes", modes),
        (
            "expect",
            projected.promise(baseline.false_alarm_rate).unwrap_or_else(|| "nothing of other hours is known".into()),
        ),
        (
            "level",
            format!("{:.1} dBFS; below {:.1} dBFS it stands still", baseline.level_dbfs, baseline.off_below_dbfs),
        ),
    ] {
        write!(out, "{}", terminal::hang(&format!("{name:10}  "), &value, terminal::width()))?;
    }
    Ok(())
}

/// How often each way of running was heard and how loud it is: `: 1 of 2, 40 % of the windows at -38.2 dBFS (-39.5 to -37.0); ...`.
fn describe_modes(baseline: &Baseline) -> String {
    let modes = baseline.mode_levels();
    let describe = |(number, mode): (usize, &ModeLevel)| {
        let (from, to) = (mode.from_dbfs, mode.to_dbfs);
        let share = 100.0 * mode.share;
        let (own, all) = (number + 1, modes.len());
        format!("{own} of {all}, {share:.0} % of the windows at {:.1} dBFS ({from:.1} to {to:.1})", mode.level_dbfs)
    };
    let described: Vec<_> = modes.iter().enumerate().map(describe).collect();
    if described.is_empty() { String::new() } else { format!(": {}", described.join("; ")) }
}
