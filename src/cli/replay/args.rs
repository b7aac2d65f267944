//! The arguments of `auscult replay`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::cli::Failure;
use crate::cli::recordings::{JudgingArgs, RecordingArgs};
use crate::config::default_false_alarm_rate;

/// Judge recordings as the agent would have, with its alarms; count false alarms a day and say how late a fault was found.
///
/// The files follow each other in the order of their names as if without a break. With --learn the first minutes are
/// learned, as `baseline = "auto"` does, and judged from then on; else the bundle's bank or what `auscult enroll` made
/// counts. With --fault-at, alarms that are raised before that time are false, and the first one after it found the fault.
///
/// With --evaluate a list says what is what: its normal recordings with the role "learn" are learned, all with the role
/// "test" are judged, and the table says how well faults are told from normal running, lane by lane.
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  auscult replay --bundle ./site-fans --machine id_04 --learn 60 --png week.png recordings/
  auscult replay --bundle ./site-fans --machine id_04 --alarm k=3 --alarm n=5 --fault-at 7200 recordings/
  auscult replay --bundle ./site-fans --machine blower-7 --evaluate blower-7.csv")]
#[command(mut_arg("paths", |arg| arg.required(false).required_unless_present("evaluate").conflicts_with("evaluate")))]
#[command(mut_arg("machine", |arg| arg.help("Which of the bundle's machines it is; with --learn or --evaluate it may be one that the bundle does not have")))]
pub struct Args {
    #[command(flatten)]
    pub(super) recordings: RecordingArgs,
    /// Learn the normal in the first so many minutes
    #[arg(long, value_name = "MINUTES")]
    pub(super) learn: Option<f64>,
    /// Wanted share of normal windows that a learned baseline calls anomalous
    #[arg(long, value_name = "P", default_value_t = default_false_alarm_rate())]
    pub(super) false_alarm_rate: f64,
    #[command(flatten)]
    pub(super) judging: JudgingArgs,
    /// A setting of [alarm], as in the configuration: k=3, clear_after_s=0, latching=true
    #[arg(long = "alarm", value_name = "KEY=VALUE")]
    pub(super) alarm: Vec<String>,
    /// Seconds from window to window [default: the window's length]
    #[arg(long, value_name = "SECONDS")]
    pub(super) hop: Option<f64>,
    /// When a fault is known to begin, seconds from the start of the recordings
    #[arg(long, value_name = "SECONDS", value_parser = crate::cli::synth::seconds, allow_negative_numbers = true)]
    pub(super) fault_at: Option<f64>,
    /// Judge the recordings of this list: a CSV file (commas, semicolons or tabs) with the columns file, label (normal, or
    /// a fault's name), block (what belongs together: a day, a speed), role (learn or test) and, if there are several,
    /// machine
    #[arg(long, value_name = "LIST.csv", conflicts_with_all = ["learn", "fault_at", "png", "alarm"])]
    pub(super) evaluate: Option<PathBuf>,
    /// Write the timeline as a picture
    #[arg(long, value_name = "OUT.png")]
    pub(super) png: Option<PathBuf>,
    /// One JSON object for each alarm, and one with the sums at the end; of a list, one for each machine
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// Seconds from window to window.
    pub(super) fn hop_s(&self, window_s: f64) -> Result<f64, Failure> {
        let hop_s = self.hop.unwrap_or(window_s);
        if (0.1..=window_s).contains(&hop_s) {
            return Ok(hop_s);
        }
        Err(Failure::usage(anyhow::anyhow!("--hop: expected 0.1 to {window_s} s, found {hop_s}")))
    }
}
