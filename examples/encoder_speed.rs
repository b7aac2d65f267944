//! Times the encoder's engines: loading, and one window, on one thread.
//!
//! ```text
//! cargo run --release --example encoder_speed -- MODEL.tflite [RUNS] [libLiteRt.so] [litert,native AVX2,...]
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use auscult::encoder::{EncoderConfig, EncoderError, Engine, EngineChoice, instruction_sets, load, load_native};

/// An engine, what it took, and how far its embeddings are from the first one's.
struct Timed {
    name: String,
    engine: Box<dyn Engine>,
    loading: Vec<Duration>,
    windows: Vec<Duration>,
    difference: f32,
}

impl Timed {
    /// `None`, said so, where it does not load.
    fn new(name: &str, load: impl Fn() -> Result<Box<dyn Engine>, EncoderError>) -> Option<Timed> {
        let mut loading = Vec::new();
        for _ in 0..10 {
            let begun = Instant::now();
            if let Err(error) = load() {
                println!("{name}: {error}");
                return None;
            }
            loading.push(begun.elapsed());
        }
        Some(Timed { name: name.to_owned(), engine: load().ok()?, loading, windows: Vec::new(), difference: 0.0 })
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("expected the path of a model")?;
    let runs: usize = arguments.next().map_or(Ok(200), |runs| runs.parse()).context("runs")?;
    let library = arguments.next().map(PathBuf::from);
    let model: Arc<[u8]> = std::fs::read(&path).with_context(|| path.clone())?.into();
    let chosen = arguments.next();
    let wanted = |name: &str| chosen.as_ref().is_none_or(|chosen| chosen.split(',').any(|chosen| chosen == name));
    let mut engines = Vec::new();
    for engine in [EngineChoice::Litert, EngineChoice::Tract] {
        let config = EncoderConfig { engine, library: library.clone() };
        let name = format!("{engine:?}").to_lowercase();
        if wanted(&name) {
            engines.extend(Timed::new(&name, || load(model.clone(), &config)));
        }
    }
    for instructions in instruction_sets() {
        let name = format!("native {instructions}");
        if wanted(&name) {
            engines.extend(Timed::new(&name, || load_native(&model, instructions)));
        }
    }
    // In turns, so that whatever else the machine does meets all.
    for run in 0..runs + 5 {
        let mut first: Option<Vec<f32>> = None;
        for timed in &mut engines {
            let shape = timed.engine.shape();
            let image: Vec<f32> =
                (0..shape.bands * shape.frames).map(|n| ((n * 31 + run) % 97) as f32 / 97.0).collect();
            let begun = Instant::now();
            let embedding = timed.engine.embed(&image, 0)?;
            if run >= 5 {
                timed.windows.push(begun.elapsed());
            }
            let first = first.get_or_insert_with(|| embedding.clone());
            let differences = first.iter().zip(&embedding).map(|(a, b)| (a - b).abs());
            timed.difference = differences.fold(timed.difference, f32::max);
        }
    }
    print(&mut engines);
    Ok(())
}

/// The median of the ratios of each turn tells more than milliseconds on a machine that is busy.
fn print(engines: &mut [Timed]) {
    println!(
        "{:<14} {:>8} {:>10} {:>8} {:>13} {:>13}",
        "engine", "load ms", "window ms", "least ms", "of the first", "difference"
    );
    let first: Vec<Duration> = engines.first().map(|timed| timed.windows.clone()).unwrap_or_default();
    for Timed { name, loading, windows, difference, .. } in engines {
        let ratios = windows.iter().zip(&first).map(|(own, first)| own.as_secs_f64() / first.as_secs_f64());
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        let (load, window) = (median(loading), median(windows));
        println!(
            "{:<14} {load:>8.1} {window:>10.2} {:>8.2} {ratio:>13.2} {difference:>13.1e}",
            name,
            milliseconds(windows[0])
        );
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    milliseconds(times[times.len() / 2])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
