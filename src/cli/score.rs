//! `auscult score`: WAV files in, a verdict for each window out, as the agent would have judged it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use indicatif::ProgressBar;
use ndarray::ArrayView2;
use ndarray_npy::WriteNpyExt;
use serde::Serialize;

use super::Failure;
use super::recordings::{JudgingArgs, RecordingArgs};
use crate::bundle::FittedModel;
use crate::fs::Output;
use crate::scoring::{Done, Lane, Reason, Scored, ScorerPool, Verdict};

/// Scores WAV files offline: a row for each window.
///
/// Directories are searched for .wav files. Any rate from 8 to 192 kHz is resampled, 1 to 32 channels, 8 to 32-bit integer
/// and 32 or 64-bit float. What cannot be read is named on stderr and passed over; the exit code is 65 then. A rest shorter
/// than a window has no verdict. A machine that was enrolled is judged by all lanes together, and `score`, `p_value` and
/// `lane` tell of them; with --threshold, or with --judge distance, by its distance alone.
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  auscult score --bundle ./site-fans --machine id_04 recordings/
  auscult score --bundle ./site-fans --machine id_04 --json a.wav b.wav | jq 'select(.verdict == \"anomalous\")'")]
pub struct Args {
    #[command(flatten)]
    recordings: RecordingArgs,
    #[command(flatten)]
    judging: JudgingArgs,
    /// One JSON object for each window instead of the table
    #[arg(long)]
    json: bool,
    /// Write the embeddings, [windows, embedding] f32; a row of NaN where a window has none
    #[arg(long, value_name = "OUT.npy")]
    embeddings: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let (bundle, engine) = args.recordings.open()?;
    let overrides = args.judging.overrides(&args.recordings.sound);
    let FittedModel { model, .. } = args.recordings.model(&bundle, &overrides, "give one with --threshold")?;
    let width = engine.shape().embedding;
    let mut embeddings = args.embeddings.as_deref().map(|path| Embeddings::create(path, width)).transpose()?;
    let mut files = args.recordings.files();
    let mut rows = Rows::new(&args, files.longest_name(), model.baseline.is_some())?;
    let model = Arc::new(model);
    let mut pool = ScorerPool::new(engine)?;
    let mut take = |bar: &ProgressBar, done: Done<(Arc<Path>, u64)>| -> Result<(), Failure> {
        let ((file, number), scored) = (done.tag, done.scored?);
        bar.suspend(|| rows.add(&file, number, model.front_end.window_s, &scored))?;
        if let Some(embeddings) = &mut embeddings {
            embeddings.add(scored.embedding.as_deref());
        }
        Ok(())
    };
    while let Some(file) = files.next() {
        let Some(mut windows) = files.open(&file, args.recordings.sound.channel, &model.front_end) else { continue };
        let file: Arc<Path> = file.into();
        let mut number = 0;
        while let Some(window) = files.next_window(&mut windows) {
            if let Some(done) = pool.push((file.clone(), number), &model, window)? {
                take(&files.bar, done)?;
            }
            number += 1;
        }
    }
    while let Some(done) = pool.oldest()? {
        take(&files.bar, done)?;
    }
    files.bar.finish_and_clear();
    rows.sum_up(pool.engine_name())?;
    if let Some(embeddings) = embeddings {
        embeddings.write()?;
    }
    files.verdict()
}

/// One window's row.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    window: u64,
    start_s: f64,
    machine: &'a str,
    verdict: Verdict,
    reason: Option<Reason>,
    distance: Option<f64>,
    threshold: Option<f64>,
    level_dbfs: f64,
    score: Option<f64>,
    p_value: Option<f64>,
    lane: Option<Lane>,
}

/// Writes the rows as they come: the widest file name is known before.
struct Rows<'a> {
    machine: &'a str,
    json: bool,
    widths: (usize, usize),
    out: io::StdoutLock<'static>,
    windows: u64,
    anomalous: u64,
    unknown: u64,
}

impl<'a> Rows<'a> {
    fn new(args: &'a Args, longest_name: usize, lanes: bool) -> io::Result<Self> {
        let machine = args.recordings.machine.as_str();
        let widths = (longest_name.max(4), machine.chars().count().max(7));
        let mut out = io::stdout().lock();
        if !args.json {
            let (file, machine) = widths;
            writeln!(
                out,
                "{:file$}  {:>6}  {:>8}  {:machine$}  {:9}  {:10}  {:>8}  {:>9}  {:>10}{}",
                "file",
                "window",
                "start_s",
                "machine",
                "verdict",
                "reason",
                "distance",
                "threshold",
                "level_dbfs",
                if lanes { "   score  lane" } else { "" }
            )?;
        }
        Ok(Rows { machine, json: args.json, widths, out, windows: 0, anomalous: 0, unknown: 0 })
    }

    fn add(&mut self, file: &Path, window: u64, window_s: f64, scored: &Scored) -> io::Result<()> {
        let assessment = &scored.assessment;
        self.windows += 1;
        self.anomalous += u64::from(assessment.verdict == Verdict::Anomalous);
        self.unknown += u64::from(assessment.verdict == Verdict::Unknown);
        let row = Row {
            file: &file.to_string_lossy(),
            window,
            start_s: window as f64 * window_s,
            machine: self.machine,
            verdict: assessment.verdict,
            reason: assessment.reason,
            distance: assessment.distance,
            threshold: assessment.threshold,
            level_dbfs: assessment.level_dbfs,
            score: assessment.score,
            p_value: assessment.p_value,
            lane: assessment.lane,
        };
        let out = &mut self.out;
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(&row)?);
        }
        // A name may hold what would break the table.
        let name: String = row.file.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let (file, machine) = self.widths;
        writeln!(
            out,
            "{:file$}  {:>6}  {:>8.1}  {:machine$}  {:9}  {:10}  {:>8}  {:>9}  {:>10.1}{}",
            name,
            row.window,
            row.start_s,
            row.machine,
            word(&row.verdict),
            row.reason.map_or("-".into(), |reason| word(&reason)),
            number(row.distance),
            number(row.threshold),
            row.level_dbfs,
            match (row.score, row.lane) {
                (Some(score), Some(lane)) => format!("  {score:>6.2}  {}", word(&lane)),
                _ => String::new(),
            },
        )
    }

    fn sum_up(&mut self, engine: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let Rows { windows, anomalous, unknown, .. } = *self;
        let share = match windows - unknown {
            0 => String::new(),
            assessed => format!(" ({:.1} % of the {assessed} assessed)", 100.0 * anomalous as f64 / assessed as f64),
        };
        writeln!(self.out, "{windows} windows: {anomalous} anomalous{share}, {unknown} unknown; engine {engine}")
    }
}

/// How JSON spells it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The embeddings of all windows, for one file at the end.
struct Embeddings {
    file: Output,
    path: PathBuf,
    width: usize,
    values: Vec<f32>,
}

impl Embeddings {
    /// Opened before the work begins, so that a path that cannot be written is known at once.
    fn create(path: &Path, width: usize) -> anyhow::Result<Self> {
        let file = Output::create(path).with_context(|| path.display().to_string())?;
        Ok(Embeddings { file, path: path.to_owned(), width, values: Vec::new() })
    }

    fn add(&mut self, embedding: Option<&[f32]>) {
        match embedding {
            Some(embedding) => self.values.extend_from_slice(embedding),
            None => self.values.extend(std::iter::repeat_n(f32::NAN, self.width)),
        }
    }

    fn write(mut self) -> anyhow::Result<()> {
        let shape = (self.values.len() / self.width.max(1), self.width);
        let rows = ArrayView2::from_shape(shape, &self.values)?;
        rows.write_npy(&mut self.file)?;
        self.file.finish().with_context(|| self.path.display().to_string())
    }
}
