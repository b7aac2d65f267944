//! `auscult spectrogram`: what the encoder is fed, for the eye and for training.

use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::sound::{FileQueue, SoundArgs};
use super::{Failure, terminal};
use crate::bundle::Bundle;
use crate::features::picture::Picture;
use crate::features::{FeatureError, FrontEnd, MelExtractor};
use crate::fs::{Output, write_output};
use crate::numbers::counted;
use crate::scoring::gate::{self, Gate};

/// Show what the encoder is fed: a window's mel spectrogram, as a picture and as numbers.
///
/// For one FILE it is one window, [bands, frames] in 0..1. For several, a directory, or with --all, it is every window of
/// all files, [windows, bands, frames], one file after the other: the front-end for training. With --json, stdout then
/// has a line for each window: its row in the array, its file, number and start. A window that holds NaN has no row.
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  auscult spectrogram fan.wav
  auscult spectrogram fan.wav --window 3 --png fan.png --npy fan.npy
  auscult spectrogram --bundle ./site-fans --machine id_08 recordings/ --npy train.npy --json > train.jsonl")]
pub struct Args {
    /// WAV, FLAC, Ogg Vorbis and MP3 files, and directories to be searched for them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Number of the window, from 0 [default: the first]
    #[arg(long, value_name = "N")]
    window: Option<u64>,
    /// Every window, of a single file too
    #[arg(long, conflicts_with = "window")]
    all: bool,
    #[command(flatten)]
    sound: SoundArgs,
    /// Take the front-end from this bundle, for the machine named
    #[arg(long, value_name = "DIR", requires = "machine")]
    bundle: Option<PathBuf>,
    /// Which of the bundle's machines
    #[arg(long, value_name = "NAME", requires = "bundle")]
    machine: Option<String>,
    /// Write a picture of one window
    #[arg(long, value_name = "OUT.png")]
    png: Option<PathBuf>,
    /// Write the numbers, f32
    #[arg(long, value_name = "OUT.npy")]
    npy: Option<PathBuf>,
    /// One JSON object for each window on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let front_end = args.sound.front_end(&bundles_front_end(&args)?)?;
    let extractor = MelExtractor::new(&front_end).map_err(Failure::usage)?;
    let many = args.all || args.paths.len() > 1 || args.paths.iter().any(|path| path.is_dir());
    if many { all_windows(&args, extractor) } else { one_window(&args, extractor) }
}

fn bundles_front_end(args: &Args) -> Result<FrontEnd, Failure> {
    let (Some(dir), Some(name)) = (&args.bundle, &args.machine) else { return Ok(FrontEnd::default()) };
    let bundle = Bundle::read(dir).map_err(Failure::data)?;
    Ok(bundle.machine(name).map_err(Failure::data)?.front_end.clone())
}

fn one_window(args: &Args, mut extractor: MelExtractor) -> Result<(), Failure> {
    let front_end = extractor.front_end().clone();
    let mut files = FileQueue::new(&args.paths);
    let Some(file) = files.next() else { return files.verdict() };
    let Some(mut windows) = files.open(&file, args.sound.channel, &front_end) else { return files.verdict() };
    let wanted = args.window.unwrap_or(0);
    let (mut window, mut count) = (None, 0);
    while window.is_none()
        && let Some(next) = files.next_window(&mut windows)
    {
        window = (count == wanted).then_some(next);
        count += 1;
    }
    let name = file.display();
    let Some(window) = window else {
        files.verdict()?;
        return Err(Failure::data(match count {
            0 => anyhow::anyhow!("{name}: expected at least one window, found none"),
            _ => anyhow::anyhow!("{name}: expected a window of 0 to {}, found {wanted}", count - 1),
        }));
    };
    extractor.compute(&window).map_err(|error| Failure::data(anyhow::anyhow!("{name}: {error}")))?;
    let image = extractor.image();
    if let Some(path) = &args.npy {
        let mut out = NpyWriter::create(path, &[front_end.n_mels, front_end.frames])?;
        out.add(image)?;
        out.finish(None)?;
    }
    let (least_db, most_db) = extractor.range_db();
    let (fmin_hz, fmax_hz) = (front_end.fmin_hz, front_end.fmax_hz);
    let title = format!("{name}   window {wanted}   {fmin_hz} to {fmax_hz} Hz");
    let picture = Picture { title: &title, front_end: &front_end, image, range_db: most_db - least_db };
    if let Some(path) = &args.png {
        let bytes = picture.to_png()?;
        write_output(path, &bytes).with_context(|| path.display().to_string())?;
    }
    let mut row = describe(&file, wanted, &front_end, &window);
    let figures = json!({
        "bands": front_end.n_mels, "frames": front_end.frames, "fmin_hz": fmin_hz, "fmax_hz": fmax_hz,
        "least_db": least_db, "most_db": most_db,
    });
    let mut out = io::stdout().lock();
    if args.json {
        merge(&mut row, figures);
        writeln!(out, "{row}")?;
        return files.verdict();
    }
    if args.png.is_none() && args.npy.is_none() {
        // What is below it: two lines of figures, and the prompt.
        let rows = terminal::size().map_or(26, |(_, rows)| rows.saturating_sub(3));
        let columns = terminal::width().unwrap_or(100);
        let colour = out.is_terminal() && terminal::takes_colours();
        write!(out, "{}", picture.to_text(columns, rows, colour)?)?;
    }
    let (bands, frames, total) = (front_end.n_mels, front_end.frames, front_end.frames_total());
    let figures = format!(
        "window {wanted} from {:.1} s: {bands} bands x {frames} of {total} frames, {least_db:.1} to {most_db:.1} dB, level {:.1} dBFS{}",
        wanted as f64 * front_end.window_s,
        row["level_dbfs"].as_f64().unwrap_or_default(),
        row["reason"].as_str().map_or(String::new(), |reason| format!(" ({reason})")),
    );
    write!(out, "{}", terminal::hang("", &figures, terminal::width()))?;
    files.verdict()
}

fn all_windows(args: &Args, mut extractor: MelExtractor) -> Result<(), Failure> {
    if args.png.is_some() {
        return Err(Failure::usage(anyhow::anyhow!("--png draws one window of one FILE")));
    }
    if args.npy.is_none() && !args.json {
        return Err(Failure::usage(anyhow::anyhow!(
            "several windows go to a file with --npy, or are listed with --json"
        )));
    }
    let front_end = extractor.front_end().clone();
    let (bands, frames) = (front_end.n_mels, front_end.frames);
    let mut npy = args.npy.as_deref().map(|path| NpyWriter::create(path, &[usize::MAX, bands, frames])).transpose()?;
    let mut files = FileQueue::new(&args.paths);
    let mut out = io::stdout().lock();
    let (mut rows, mut left_out) = (0, 0);
    while let Some(file) = files.next() {
        let Some(mut windows) = files.open(&file, args.sound.channel, &front_end) else { continue };
        let mut number = 0;
        while let Some(window) = files.next_window(&mut windows) {
            let (this, wanted) = (number, args.window.is_none_or(|wanted| wanted == number));
            number += 1;
            if !wanted {
                continue;
            }
            let mut line = describe(&file, this, &front_end, &window);
            match extractor.compute(&window) {
                Ok(image) => {
                    if let Some(npy) = &mut npy {
                        npy.add(image)?;
                    }
                    merge(&mut line, json!({ "row": rows }));
                    rows += 1;
                }
                Err(FeatureError::NotFinite) => {
                    merge(&mut line, json!({ "row": null }));
                    left_out += 1;
                }
                Err(error) => return Err(error.into()),
            }
            if args.json {
                files.bar.suspend(|| writeln!(out, "{line}"))?;
            }
        }
    }
    files.bar.finish_and_clear();
    if let Some(npy) = npy {
        npy.finish(Some(rows))?;
    }
    if !args.json {
        let without = match left_out {
            0 => String::new(),
            left_out => format!("; {} left out, not finite", counted(left_out, "window")),
        };
        writeln!(out, "[{rows}, {bands}, {frames}] f32{without}")?;
    }
    files.verdict()
}

/// What is printed of every window.
fn describe(file: &Path, window: u64, front_end: &FrontEnd, samples: &[f32]) -> Value {
    let signal = gate::inspect(samples, &Gate::default());
    json!({
        "file": file.to_string_lossy(), "window": window, "start_s": window as f64 * front_end.window_s,
        "level_dbfs": signal.level_dbfs, "reason": signal.fault,
    })
}

fn merge(row: &mut Value, more: Value) {
    if let (Value::Object(row), Value::Object(more)) = (row, more) {
        row.extend(more);
    }
}

/// Writes an array of f32 as it comes: the number of rows is filled in at the end, so that no training set needs to fit
/// into memory. Format 1.0 of numpy's npy.
struct NpyWriter {
    out: Output,
    path: PathBuf,
    shape: Vec<usize>,
}

impl NpyWriter {
    /// `shape` is that of the array; its first length may be given at the end.
    fn create(path: &Path, shape: &[usize]) -> anyhow::Result<Self> {
        let out = Output::create(path).with_context(|| path.display().to_string())?;
        let mut writer = NpyWriter { out, path: path.to_owned(), shape: shape.to_vec() };
        writer.header()?;
        Ok(writer)
    }

    /// Always 128 bytes, so that it can be written again.
    fn header(&mut self) -> anyhow::Result<()> {
        let shape: String = self.shape.iter().map(|length| format!("{length}, ")).collect();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{header:<117}\n").bytes());
        self.write(&bytes)
    }

    fn add(&mut self, values: &[f32]) -> anyhow::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(&bytes)
    }

    fn finish(mut self, rows: Option<usize>) -> anyhow::Result<()> {
        if let Some(rows) = rows {
            self.shape[0] = rows;
            self.out.seek(SeekFrom::Start(0))?;
            self.header()?;
        }
        self.out.finish().with_context(|| self.path.display().to_string())
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes).with_context(|| self.path.display().to_string())
    }
}
