//! `auscult synth`: WAV files of simulated machines.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Failure;
use crate::audio::synth::{Cycle, FaultPlan, Kind, RATE_HZ, SynthMachine, fault_of, seed_of};
use crate::numbers::counted;

/// Write WAV files of a simulated machine
///
/// Mono, 16 bits, 16 kHz. The same machine, seed and take give the same file. Into a directory it writes clips, each a
/// recording (take) of its own: the same machine at another time.
#[derive(clap::Args)]
#[command(after_help = "Faults: rub, blocked, unbalance, bearing, loose, bursts; of a pump also cavitation.\n\n\
Examples:\n  auscult synth fan --seed 7 --fault rub --strength 0.6 --minutes 1 -o rub.wav\n  \
auscult synth pump --id pump-1 --minutes 10 -o clips/pump-1/normal")]
pub struct Args {
    /// fan, blower or pump
    #[arg(value_name = "MACHINE")]
    machine: Kind,
    /// Which individual machine [default: 0]
    #[arg(long, conflicts_with = "id")]
    seed: Option<u64>,
    /// Which individual machine, by the id that it has in an agent's configuration
    #[arg(long)]
    id: Option<String>,
    /// Which recording of it; of a directory's clips, the first
    #[arg(long, default_value_t = 0)]
    take: u64,
    /// The fault to develop
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
    /// Strength of the fault, 0 to 1
    #[arg(long, default_value_t = FaultPlan::STRENGTH, value_parser = share)]
    strength: f64,
    /// Seconds until the fault begins
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds, requires = "fault")]
    fault_after: f64,
    /// Seconds from then until its full strength
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds, requires = "fault")]
    fault_grow: f64,
    /// Let it start and stop: seconds running and seconds standing
    #[arg(long, num_args = 2, value_names = ["RUN_S", "STOP_S"], value_parser = seconds)]
    cycle: Option<Vec<f64>>,
    /// Speed of its shaft as a share of the nominal one, 0.2 to 1.5
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = shaft_speed)]
    shaft_speed: f64,
    /// Level of the machine over the background, dB [default: of the seed, 12 to 22]
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = decibel)]
    snr: Option<f64>,
    /// Length of what is written, all clips together
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Length of one clip in a directory, seconds
    #[arg(long, default_value_t = 10.0, value_parser = clip)]
    clip: f64,
    /// A file (its name ends in .wav) or a directory
    #[arg(short, long, value_name = "FILE|DIR")]
    output: PathBuf,
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("expected a number, found {text:?}"))?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("expected {least} to {most}, found {value}")) }
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1.0)
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1e9)
}

fn shaft_speed(text: &str) -> Result<f64, String> {
    within(text, 0.2, 1.5)
}

fn decibel(text: &str) -> Result<f64, String> {
    within(text, -40.0, 80.0)
}

fn minutes(text: &str) -> Result<f64, String> {
    within(text, 0.01, 1000.0)
}

fn clip(text: &str) -> Result<f64, String> {
    within(text, 1.0, 3600.0)
}

impl Args {
    fn machine(&self, take: u64, fault: FaultPlan) -> SynthMachine {
        let seed = self.seed.unwrap_or_else(|| self.id.as_deref().map_or(0, seed_of));
        let mut machine = SynthMachine::with_fault(self.machine, seed, take, fault).with_shaft_speed(self.shaft_speed);
        if let Some(&[run_s, stop_s]) = self.cycle.as_deref() {
            machine = machine.with_cycle(Cycle { run_s, stop_s });
        }
        match self.snr {
            Some(snr_db) => machine.with_snr_db(snr_db),
            None => machine,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let fault = match args.fault.as_deref().map(|name| fault_of(args.machine, name)).transpose() {
        Ok(fault) => fault,
        Err(error) => {
            eprintln!("error: --fault of a {}: {error}", args.machine);
            return Err(Failure::reported(2));
        }
    };
    let plan = FaultPlan { fault, strength: args.strength, after_s: args.fault_after, grow_s: args.fault_grow };
    let rate_hz = f64::from(RATE_HZ);
    let total = (args.minutes * 60.0 * rate_hz).round() as u64;
    let ending = args.output.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if let Some(ending) = ending.as_deref().filter(|ending| OTHER_SOUND.contains(ending) && !args.output.is_dir()) {
        let problem = format!("--output: expected a file that ends in .wav, or a directory, found .{ending}");
        return Err(Failure::usage(anyhow::anyhow!(problem)));
    }
    let is_file = ending.as_deref() == Some("wav") && !args.output.is_dir();
    let length_s = if is_file { args.minutes * 60.0 } else { args.clip };
    if args.fault.is_some() && args.fault_after >= length_s {
        let problem =
            format!("--fault-after: expected less than the {length_s} s of a recording, found {}", args.fault_after);
        return Err(Failure::usage(anyhow::anyhow!(problem)));
    }
    if is_file {
        let dir = args.output.parent().filter(|dir| !dir.as_os_str().is_empty());
        if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
            let problem = format!("--output: expected a directory that exists, found none at {}", dir.display());
            return Err(Failure::usage(anyhow::anyhow!(problem)));
        }
        let bar = progress(total.div_ceil(u64::from(RATE_HZ)), "s of sound");
        write(&args.output, &mut args.machine(args.take, plan), total, |s| bar.set_position(s))?;
        bar.finish_and_clear();
        writeln!(std::io::stdout().lock(), "{}", args.output.display())?;
        return Ok(());
    }
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let length = (args.clip * rate_hz).round() as u64;
    let clips = total.div_ceil(length);
    let bar = progress(clips, "clips");
    for take in (args.take..).take(clips as usize) {
        write(&args.output.join(format!("{take:08}.wav")), &mut args.machine(take, plan), length, |_| {})?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let clips = counted(clips, "clip");
    writeln!(std::io::stdout().lock(), "{}: {clips} of {} s", args.output.display(), args.clip)?;
    Ok(())
}

/// Endings of sound files that are not written.
const OTHER_SOUND: [&str; 9] = ["mp3", "flac", "ogg", "oga", "opus", "m4a", "aac", "aiff", "wma"];

/// A bar on a terminal.
fn progress(total: u64, what: &str) -> indicatif::ProgressBar {
    let template = format!("{{bar:40}} {{pos}} of {{len}} {what}, {{eta}} left");
    let style = indicatif::ProgressStyle::with_template(&template).expect("a valid template");
    indicatif::ProgressBar::new(total).with_style(style)
}

/// Calls `at` with each second that is written.
fn write(file: &Path, machine: &mut SynthMachine, samples: u64, at: impl Fn(u64)) -> anyhow::Result<()> {
    let name = || file.display().to_string();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut output = crate::fs::Output::create(file).with_context(name)?;
    let mut writer = hound::WavWriter::new(&mut output, spec).with_context(name)?;
    let mut chunk = vec![0f32; RATE_HZ as usize];
    let mut left = samples;
    while left > 0 {
        let count = left.min(chunk.len() as u64) as usize;
        machine.fill(&mut chunk[..count]);
        for sample in &chunk[..count] {
            writer.write_sample((sample * f32::from(i16::MAX)).round() as i16).with_context(name)?;
        }
        left -= count as u64;
        at((samples - left) / u64::from(RATE_HZ));
    }
    writer.finalize().with_context(name)?;
    output.finish().with_context(name)
}
