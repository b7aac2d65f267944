//! `auscult record`: the sound of a machine's microphone into WAV files for training.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Failure;
use crate::audio::wav::recorder::{Bits, RecordError, Recorder, RecorderOptions, Recording};
use crate::audio::{self, Capture, CaptureEvent, Captured, MachineInput, SourceError};
use crate::config::Config;
use crate::numbers::counted;
use crate::window::level_dbfs;

/// Sound is written in pieces of this length, s.
const PIECE_S: f64 = 1.0;

/// Record what a machine's source hears to WAV files, for training
///
/// Mono, at the rate that the encoder is fed, as the agent hears it. A new file begins every --file-minutes and wherever
/// sound is missing; files are named MACHINE_TIME.wav. A card can be opened once: stop the agent that listens to it, or
/// ask it for its last window with the control command `evidence.get`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  auscult record --config /etc/auscult/agent.toml --machine blower-1 -o clips --minutes 60"
)]
pub struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/auscult/agent.toml")]
    config: PathBuf,
    /// The machine, by its id
    #[arg(long, value_name = "ID")]
    machine: String,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// End after so many minutes of sound [default: at Ctrl-C, or the source's end]
    #[arg(long, value_parser = positive)]
    minutes: Option<f64>,
    /// Minutes of one file
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    file_minutes: f64,
    /// Rate of the files
    #[arg(long, value_name = "HZ", default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(8000..=192_000))]
    rate_hz: u32,
    /// Bits of a sample
    #[arg(long, value_enum, default_value = "16")]
    bits: Bits,
    /// Space that stays free on the disk
    #[arg(long, value_name = "MB", default_value_t = 500)]
    keep_free: u64,
    /// When less is free, delete the machine's oldest recordings in DIR instead of ending
    #[arg(long)]
    delete_oldest: bool,
    /// One JSON object for each complete file
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < 1e6 => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = Config::load(&args.config).map_err(Failure::config)?;
    let Some(machine) = config.machine.iter().find(|machine| machine.id == args.machine) else {
        let known: Vec<_> = config.machine.iter().map(|machine| machine.id.as_str()).collect();
        let problem = format!("machine: expected one of {}, found {:?}", known.join(", "), args.machine);
        return Err(Failure::config(anyhow::anyhow!("{}: {problem}", args.config.display())));
    };
    let input = MachineInput {
        machine: 0,
        id: machine.id.clone(),
        source: machine.source.clone(),
        hop_s: PIECE_S,
        rate_hz: args.rate_hz,
        window_samples: (f64::from(args.rate_hz) * PIECE_S) as usize,
    };
    let capture = audio::start(vec![input]).map_err(|error| match error {
        SourceError::Config(_) => Failure::config(error),
        SourceError::Data(_) => Failure::data(error),
        SourceError::Lost(_) => Failure::from(error),
    })?;
    let recorder = Recorder::new(RecorderOptions {
        dir: args.output.clone(),
        machine: args.machine.clone(),
        rate_hz: args.rate_hz,
        bits: args.bits,
        file_length: Duration::from_secs_f64(args.file_minutes * 60.0),
        keep_free: args.keep_free.saturating_mul(1_000_000),
        delete_oldest: args.delete_oldest,
    });
    let stop = Arc::new(AtomicBool::new(false));
    stop_at_a_signal(stop.clone())?;
    let mut session = Session { args: &args, recorder, written_s: 0.0, progress: progress(&args) };
    let outcome = session.record(&capture, &stop);
    // What came until now is written, whatever happened.
    let closed = session.close();
    session.progress.finish_and_clear();
    outcome.and(closed)?;
    Ok(())
}

struct Session<'a> {
    args: &'a Args,
    recorder: Recorder,
    written_s: f64,
    progress: ProgressBar,
}

impl Session<'_> {
    fn record(&mut self, capture: &Capture, stop: &AtomicBool) -> Result<(), RecordError> {
        let begun = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match capture.next(Duration::from_millis(200)) {
                Some(Captured::Window(window)) if window.fault.is_none() => {
                    let level = level_dbfs(&window.samples);
                    let complete = self.recorder.write(&window.samples, window.end)?;
                    self.report(complete);
                    self.written_s += PIECE_S;
                    let of = self.args.minutes.map_or(String::new(), |minutes| format!(" of {:.0}", minutes * 60.0));
                    self.progress.set_message(format!("{:.0}{of} s recorded, {level:.1} dBFS", self.written_s));
                    if self.args.minutes.is_some_and(|minutes| self.written_s >= minutes * 60.0) {
                        return Ok(());
                    }
                }
                // Sound is missing: what comes after it begins a new file.
                Some(Captured::Window(_)) => {
                    self.close()?;
                    self.progress.set_message(format!("{:.0} s recorded, nothing is heard", self.written_s));
                }
                Some(Captured::Event { event, .. }) => self.progress.suspend(|| match event {
                    CaptureEvent::MicLost { why } => eprintln!("lost: {why}; trying again"),
                    CaptureEvent::MicBack => eprintln!("back after {:.0} s", begun.elapsed().as_secs_f64()),
                    CaptureEvent::Overrun { gaps, lost_s } => {
                        eprintln!("sound was lost: {}, {lost_s:.2} s", counted(gaps, "gap"));
                    }
                }),
                Some(Captured::End { .. }) => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), RecordError> {
        let complete = self.recorder.close()?;
        self.report(complete);
        Ok(())
    }

    fn report(&self, complete: Option<Recording>) {
        let Some(Recording { file, begin, seconds, peak }) = complete else { return };
        // What nobody reads any more is recorded nevertheless.
        let _ = self.progress.suspend(|| {
            let mut out = std::io::stdout().lock();
            if self.args.json {
                let begin = chrono::DateTime::<chrono::Utc>::from(begin);
                let begin = begin.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
                writeln!(out, "{}", json!({"file": file, "begin": begin, "seconds": seconds, "peak": peak}))
            } else {
                writeln!(out, "{}  {seconds:.0} s  peak {:.1} dBFS", file.display(), 20.0 * peak.max(1e-6).log10())
            }
        });
    }
}

fn progress(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::default_spinner());
    progress.enable_steady_tick(Duration::from_millis(200));
    progress.set_message("waiting for sound");
    progress
}

/// Sets `stop` at SIGINT and SIGTERM.
fn stop_at_a_signal(stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            if let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                stop.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(())
}
