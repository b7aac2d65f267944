//! Times the encoder's engines: loading, and one window, on one thread.
//!
//! ```text
//! cargo run --release --example encoder_speed -- MODEL.tflite [RUNS] [libLiteRt.so]
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use auscult::encoder::{EncoderConfig, EngineChoice, load};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("expected the path of a model")?;
    let runs: usize = arguments.next().map_or(Ok(200), |runs| runs.parse()).context("runs")?;
    let library = arguments.next().map(PathBuf::from);
    let model: Arc<[u8]> = std::fs::read(&path).with_context(|| path.clone())?.into();
    let mut engines = Vec::new();
    for engine in [EngineChoice::Tract, EngineChoice::Litert] {
        let config = EncoderConfig { engine, library: library.clone() };
        let mut loading = Vec::new();
        for _ in 0..10 {
            let begun = Instant::now();
            match load(model.clone(), &config) {
                Ok(_) => loading.push(begun.elapsed()),
                Err(error) => {
                    println!("{engine:?}: {error}");
                    break;
                }
            }
        }
        if !loading.is_empty() {
            engines.push((load(model.clone(), &config)?, loading, Vec::new()));
        }
    }
    // In turns, so that whatever else the machine does meets both.
    for run in 0..runs + 5 {
        for (engine, _, embedding) in &mut engines {
            let shape = engine.shape();
            let image: Vec<f32> =
                (0..shape.bands * shape.frames).map(|n| ((n * 31 + run) % 97) as f32 / 97.0).collect();
            let begun = Instant::now();
            engine.embed(&image, 0)?;
            if run >= 5 {
                embedding.push(begun.elapsed());
            }
        }
    }
    println!("{:<8} {:>9} {:>12} {:>9}", "engine", "load ms", "window ms", "min ms");
    let mut windows = Vec::new();
    for (engine, loading, embedding) in &mut engines {
        let (load, window) = (median(loading), median(embedding));
        println!("{:<8} {load:>9.1} {window:>12.2} {:>9.2}", engine.name(), milliseconds(embedding[0]));
        windows.push(window);
    }
    if let [tract, litert] = windows[..] {
        println!("tract / litert: {:.2}", tract / litert);
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    milliseconds(times[times.len() / 2])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
