//! `auscult score`: recordings in, a verdict for each window out, as the agent would have judged it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use indicatif::ProgressBar;
use ndarray::ArrayView2;
use ndarray_npy::WriteNpyExt;
use serde::Serialize;

use super::recordings::{JudgingArgs, RecordingArgs};
use super::{Failure, terminal};
use crate::bundle::FittedModel;
use crate::fs::Output;
use crate::numbers::{counted, short};
use crate::scoring::{Done, Heard, Judge, Lane, Reason, Recent, Scored, ScorerPool, Verdict};

/// Score recordings offline: a row for each window.
///
/// WAV, FLAC, Ogg Vorbis and MP3 are read; directories are searched for files with these endings. Any rate from 8 to 192 kHz is resampled, 1 to 32 channels, 8 to 32-bit integer
/// and 32 or 64-bit float. What cannot be read is named on stderr and passed over; the exit code is 65 then. A remainder shorter
/// than one window gets no verdict. A machine that was enrolled is judged by all lanes together, and `score`, `p_value` and
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
    let FittedModel { mut model, .. } = args.recordings.model(&bundle, &overrides, "give one with --threshold")?;
    // Nothing else looks at them here.
    model.lanes = model.baseline.is_some();
    // Nor at the other machines' embeddings.
    drop(bundle);
    let width = engine.shape().embedding;
    let mut embeddings = args.embeddings.as_deref().map(|path| Embeddings::create(path, width)).transpose()?;
    let mut files = args.recordings.files();
    files.explain_interrupt(match &args.embeddings {
        Some(path) => format!("the rows above are what there is, {} was not written", path.display()),
        None => "the rows above are what there is".to_owned(),
    });
    // Lanes that do not decide are for the JSON's reader alone.
    let by_lanes = model.baseline.is_some() && model.judge == Judge::Combined;
    let mut rows = Rows::new(&args, files.longest_name(), by_lanes)?;
    let model = Arc::new(model);
    let (mut pool, mut recent) = (ScorerPool::hearing(engine)?, Recent::default());
    let mut take = |bar: &ProgressBar, done: Done<(Arc<Path>, u64), Heard>| -> Result<(), Failure> {
        let (file, number) = done.tag;
        if number == 0 {
            recent = Recent::default();
        }
        let end_s = (number + 1) as f64 * model.front_end.window_s;
        let scored = model.judge_next(done.scored?, &mut recent, end_s);
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
    columns: Columns,
    /// Of the last window.
    threshold: Option<f64>,
    out: io::StdoutLock<'static>,
    windows: u64,
    anomalous: u64,
    unknown: u64,
}

/// Which columns there are. Machine and threshold are the same in each row: where there is no room they are told once, at
/// the end; the reason and the lane, of which a window has one at most, share a column; then the name of the file is cut.
struct Columns {
    file: usize,
    /// `None` where there is no room.
    machine: Option<usize>,
    lanes: bool,
}

impl Columns {
    /// Columns that are always there, without the file's name.
    const ALWAYS: usize = 8 + 10 + 11 + 12 + 10 + 12;
    /// The same where there is no room.
    const NARROW: usize = Self::ALWAYS - 1 - 4;

    fn fit(file: usize, machine: usize, lanes: bool, width: Option<usize>) -> Columns {
        let (file, machine) = (file.max(4), machine.max(7));
        let all = Columns { file, machine: Some(machine), lanes };
        let Some(width) = width else { return all };
        let needed = Self::ALWAYS + if lanes { 18 } else { 0 };
        if needed + file + machine + 2 + 11 <= width {
            return all;
        }
        let needed = Self::NARROW + if lanes { 8 } else { 0 };
        let file = file.min(width.saturating_sub(needed)).max(8);
        Columns { file, machine: None, lanes }
    }

    fn head(&self) -> String {
        let Columns { file, machine, lanes } = *self;
        let Some(machine) = machine else {
            let (why, score) = if lanes { ("why", "   score") } else { ("reason", "") };
            return format!(
                "{:file$}  {:>6}  {:>7}  {:9}  {why:10}  {:>8}  {:>6}{score}",
                "file", "window", "start_s", "verdict", "distance", "dBFS",
            );
        };
        let lanes = if lanes { "   score  lane" } else { "" };
        format!(
            "{:file$}  {:>6}  {:>8}  {:machine$}  {:9}  {:10}  {:>8}  threshold  {:>10}{lanes}",
            "file", "window", "start_s", "machine", "verdict", "reason", "distance", "level_dbfs",
        )
    }

    fn row(&self, row: &Row) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let file = self.file;
        let (name, window, start_s, verdict) =
            (shown_name(row.file, file), row.window, row.start_s, word(&row.verdict));
        let (distance, level_dbfs) = (number(row.distance), row.level_dbfs);
        let (reason, lane) = (row.reason.map(|reason| word(&reason)), row.lane.map(|lane| word(&lane)));
        let Some(machine) = self.machine else {
            let why = reason.or(lane.filter(|_| self.lanes)).unwrap_or("-".into());
            let score = row.score.filter(|_| self.lanes).map_or(String::new(), |score| format!("  {score:>6.2}"));
            return format!(
                "{name:file$}  {window:>6}  {start_s:>7.1}  {verdict:9}  {why:10}  {distance:>8}  {level_dbfs:>6.1}{score}"
            );
        };
        let reason = reason.unwrap_or("-".into());
        let lanes = match (row.score, lane) {
            (Some(score), Some(lane)) if self.lanes => format!("  {score:>6.2}  {lane}"),
            _ => String::new(),
        };
        format!(
            "{name:file$}  {window:>6}  {start_s:>8.1}  {:machine$}  {verdict:9}  {reason:10}  {distance:>8}  {:>9}  \
             {level_dbfs:>10.1}{lanes}",
            row.machine,
            number(row.threshold),
        )
    }
}

/// The end of a file's name, where most names differ; without what would break the table.
fn shown_name(name: &str, width: usize) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let length = name.chars().count();
    match length > width {
        true => std::iter::once('…').chain(name.chars().skip(length + 1 - width).map(plain)).collect(),
        false => name.chars().map(plain).collect(),
    }
}

impl<'a> Rows<'a> {
    fn new(args: &'a Args, longest_name: usize, lanes: bool) -> io::Result<Self> {
        let machine = args.recordings.machine.as_str();
        let columns = Columns::fit(longest_name, machine.chars().count(), lanes, terminal::width());
        let mut out = io::stdout().lock();
        if !args.json {
            writeln!(out, "{}", columns.head())?;
        }
        Ok(Rows { machine, json: args.json, columns, threshold: None, out, windows: 0, anomalous: 0, unknown: 0 })
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
        self.threshold = row.threshold.or(self.threshold);
        let out = &mut self.out;
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&row)?),
            false => writeln!(out, "{}", self.columns.row(&row)),
        }
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
        if let (None, Some(threshold)) = (self.columns.machine, self.threshold) {
            writeln!(self.out, "machine {}, threshold {}", self.machine, short(threshold))?;
        }
        let windows = counted(windows, "window");
        let sum = format!("{windows}: {anomalous} anomalous{share}, {unknown} unknown; engine {engine}");
        write!(self.out, "{}", terminal::hang("", &sum, terminal::width()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_the_terminal_and_keeps_the_end_of_the_name() {
        let file = "/var/lib/auscult/recordings/2026-03-01/ventilator_north_00000126.wav";
        let row = Row {
            file,
            window: 3,
            start_s: 15.0,
            machine: "ventilator",
            verdict: Verdict::Anomalous,
            reason: None,
            distance: Some(0.314_159),
            threshold: Some(0.3),
            level_dbfs: -31.5,
            score: None,
            p_value: None,
            lane: None,
        };
        let enrolled = Row { score: Some(12.5), lane: Some(Lane::Envelope), ..row };
        for (row, lanes, width) in
            [(&row, false, 80), (&row, false, 120), (&enrolled, true, 80), (&enrolled, true, 120)]
        {
            let columns = Columns::fit(file.len(), row.machine.len(), lanes, Some(width));
            let (head, text) = (columns.head(), columns.row(row));
            assert!(head.chars().count() <= width && text.chars().count() <= width, "{head}\n{text}");
            assert!(text.contains("126.wav") && text.contains("0.3142"), "{text}");
            assert_eq!(text.contains("envelope"), lanes, "{text}");
        }
        let columns = Columns::fit(file.len(), row.machine.len(), false, None);
        assert!(columns.row(&row).starts_with(file) && columns.row(&row).contains("ventilator  anomalous"));
    }
}
