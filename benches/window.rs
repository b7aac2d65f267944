//! What one window costs, on one thread and by stages, for each engine; beside it the original's way (librosa and LiteRT in
//! Python) on the same window, in turns. `benches/figures.py` prepares everything and runs it:
//!
//! ```text
//! taskset -c 0 cargo bench --bench window -- --bundle DIR --machine NAME --wav FILE [--library libLiteRt.so]
//!     [--python PYTHON --reference reference.py] [--rounds 20]
//! ```

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use auscult::audio::resample::Resampler;
use auscult::audio::wav::files::Windows;
use auscult::bundle::Bundle;
use auscult::config::Channel;
use auscult::encoder::{EncoderConfig, Engine, EngineChoice, load};
use auscult::features::MelExtractor;
use auscult::scoring::gate::{Gate, inspect};
use auscult::scoring::lanes::FeatureExtractor;
use auscult::scoring::{MachineModel, Scorer};
use clap::Parser;

/// What it is measured with.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    bundle: PathBuf,
    #[arg(long)]
    machine: String,
    /// At the bundle's rate, long enough for a window.
    #[arg(long)]
    wav: PathBuf,
    #[arg(long)]
    library: Option<PathBuf>,
    /// An interpreter that has what the reference needs.
    #[arg(long, requires = "reference")]
    python: Option<PathBuf>,
    /// `reference.py`, whose functions are timed.
    #[arg(long)]
    reference: Option<PathBuf>,
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// As cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Runs of each stage in one round; their median is the round's.
const RUNS: usize = 15;
/// What a window is resampled from, Hz.
const CARD_HZ: u32 = 48_000;
const STAGES: [&str; 7] = [
    "resampling 48 to 16 kHz",
    "signal checks",
    "spectrogram",
    "encoder",
    "features of the lanes",
    "distance",
    "whole window",
];

/// Milliseconds by column and stage, one for each round.
type Times = BTreeMap<(String, String), Vec<f64>>;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let args = Args::parse();
    let mut subjects = Vec::new();
    for engine in [EngineChoice::Native, EngineChoice::Litert, EngineChoice::Tract] {
        match Subject::new(&args, engine) {
            Ok(subject) => subjects.push(subject),
            Err(error) => eprintln!("{engine:?}: {error:#}"),
        }
    }
    let mut original = match (&args.python, &args.reference) {
        (Some(python), Some(reference)) => Some(Original::start(python, reference, &args)?),
        _ => None,
    };
    let mut times = Times::new();
    // In turns, so that whatever else the machine does meets all.
    for _ in 0..args.rounds {
        for subject in &mut subjects {
            subject.round(&mut times)?;
        }
        if let Some(original) = &mut original {
            original.round(&mut times)?;
        }
    }
    print(&times, &subjects, original.is_some());
    guard(&times)
}

/// auscult with one engine.
struct Subject {
    window: Vec<f32>,
    at_card_hz: Vec<f32>,
    resampler: Resampler,
    extractor: MelExtractor,
    features: FeatureExtractor,
    engine: Box<dyn Engine>,
    model: MachineModel,
    scorer: Scorer,
}

impl Subject {
    fn new(args: &Args, engine: EngineChoice) -> anyhow::Result<Self> {
        let config = EncoderConfig { engine, library: args.library.clone() };
        let (bundle, engine) = Bundle::open(&args.bundle, &config)?;
        let machine = bundle.machine(&args.machine)?;
        let front_end = machine.front_end.clone();
        let mut windows = Windows::open(&args.wav, Channel::Mix, front_end.rate_hz, front_end.window_samples())?;
        let window = windows.next().context("expected a window")??;
        let mut at_card_hz = Vec::new();
        let mut up = Resampler::new(front_end.rate_hz, CARD_HZ)?;
        up.push(&window, &mut at_card_hz);
        up.finish(&mut at_card_hz);
        let threshold = machine.threshold.context("expected a threshold")?;
        Ok(Subject {
            at_card_hz,
            window,
            resampler: Resampler::new(CARD_HZ, front_end.rate_hz)?,
            extractor: MelExtractor::new(&front_end)?,
            features: FeatureExtractor::new(&front_end),
            engine: load(bundle.encoder.clone(), &config)?,
            model: MachineModel::new(machine.index, machine.bank.clone(), threshold, front_end, Gate::default()),
            scorer: Scorer::new(engine),
        })
    }

    fn round(&mut self, times: &mut Times) -> anyhow::Result<()> {
        let name = self.engine.name();
        let mut note = |stage: usize, took: f64| {
            times.entry((name.to_owned(), STAGES[stage].to_owned())).or_default().push(took);
        };
        let mut output = Vec::with_capacity(2 * self.window.len());
        let resampled = median(|| {
            output.clear();
            self.resampler.push(&self.at_card_hz, &mut output);
            Ok(output.len())
        })?;
        note(0, resampled);
        note(1, median(|| Ok(inspect(&self.window, &self.model.gate)))?);
        note(2, median(|| Ok(self.extractor.compute(&self.window)?.len()))?);
        let image = self.extractor.image().to_vec();
        note(3, median(|| Ok(self.engine.embed(&image, self.model.index)?))?);
        let (mel_db, n_mels) = (self.extractor.mel_db(), self.model.front_end.n_mels);
        note(4, median(|| Ok(self.features.extract(&self.window, mel_db, n_mels)))?);
        let embedding = self.engine.embed(&image, self.model.index)?;
        note(5, median(|| self.model.bank.nearest(&embedding).context("expected a distance"))?);
        note(6, median(|| Ok(self.scorer.score(&self.model, &self.window)?))?);
        Ok(())
    }
}

/// The original's way, in a process of its own that does a round when it is told to.
struct Original {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Original {
    fn start(python: &PathBuf, reference: &PathBuf, args: &Args) -> anyhow::Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/original.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([reference, &args.bundle, &args.wav])
            .args([&args.machine, &RUNS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| python.display().to_string())?;
        let (ask, answers) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        Ok(Original { child, ask, answers: BufReader::new(answers) })
    }

    fn round(&mut self, times: &mut Times) -> anyhow::Result<()> {
        writeln!(self.ask, "go")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: BTreeMap<String, f64> = serde_json::from_str(&line).context("the original's answer")?;
        for (stage, took) in answer {
            times.entry(("original".to_owned(), stage)).or_default().push(took);
        }
        Ok(())
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Median of [`RUNS`] runs, ms.
fn median<T>(mut run: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let mut took = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        black_box(run()?);
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(middle(&took))
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Largest share of LiteRT's time that the native engine may take, where nothing else disturbs; without vector
/// instructions beyond SSE2 the two are equal.
const NATIVE_OF_LITERT: f64 = 0.6;

/// Fails where the native engine has become slow beside LiteRT: a ratio, which is the same on a slow machine.
fn guard(times: &Times) -> anyhow::Result<()> {
    let rounds = |engine: &str| times.get(&(engine.to_owned(), "encoder".to_owned()));
    let (Some(native), Some(litert)) = (rounds("native"), rounds("litert")) else { return Ok(()) };
    let ratio = middle(&native.iter().zip(litert).map(|(native, litert)| native / litert).collect::<Vec<_>>());
    println!("\nencoder, native / litert: {ratio:.2}");
    let plain = auscult::encoder::instruction_sets().len() == 1 && cfg!(target_arch = "x86_64");
    anyhow::ensure!(plain || ratio <= NATIVE_OF_LITERT, "expected at most {NATIVE_OF_LITERT} of LiteRT's time");
    Ok(())
}

fn print(times: &Times, subjects: &[Subject], original: bool) {
    let engines: Vec<_> = subjects.iter().map(|subject| subject.engine.name()).collect();
    let of = |column: &str, stage: &str| times.get(&(column.to_owned(), stage.to_owned())).map(|rounds| middle(rounds));
    let mut head = format!("| {:<23} |", "ms a window");
    for engine in &engines {
        head += &format!(" {engine:>8} |");
    }
    if original {
        head += " original |";
        for engine in &engines {
            head += &format!(" {:>17} |", format!("{engine} / original"));
        }
    }
    println!("{head}");
    let rule = head.split('|').filter(|cell| !cell.is_empty()).enumerate();
    let rule: String = rule
        .map(|(n, cell)| if n == 0 { "-".repeat(cell.len()) + "|" } else { "-".repeat(cell.len() - 1) + ":|" })
        .collect();
    println!("|{rule}");
    for stage in STAGES {
        let mut line = format!("| {stage:<23} |");
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for engine in &engines {
            line += &format!(" {:>8} |", number(of(engine, stage)));
        }
        if original {
            line += &format!(" {:>8} |", number(of("original", stage)));
            for engine in &engines {
                let ratio = of(engine, stage).zip(of("original", stage)).map(|(ours, theirs)| ours / theirs);
                line += &format!(" {:>17} |", number(ratio));
            }
        }
        println!("{line}");
    }
}
