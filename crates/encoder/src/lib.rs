//! The encoder: a mel spectrogram and a machine's index become an embedding.
//!
//! One [`Engine`] trait, three engines: `native` (our own kernels, for what encoders are usually made of), `litert`
//! (LiteRT's C API, opened at run time where its library is installed) and `tract` (pure Rust, always there).

mod engine;
mod graph;
mod interface;
mod litert;
mod native;
mod operator;
mod slice;
mod tract;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::engine::{EncoderError, EncoderShape, Engine};

use self::litert::LitertEngine;
use self::native::{NativeEngine, Refusal};
use self::tract::TractEngine;

/// Which engine to use, as configured by `encoder.engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Our own where it can run the model, else LiteRT where its library loads, else tract.
    #[default]
    Auto,
    Native,
    Tract,
    Litert,
}

/// Loads `model` (the bytes of `encoder.tflite`) with the chosen engine; `library` is the path of `libLiteRt.so`, without it
/// the dynamic loader looks for it.
///
/// # Errors
/// `Model` for anything wrong with the bytes, `Engine` where the engine asked for cannot be had.
pub fn load(model: Arc<[u8]>, engine: EngineChoice, library: Option<&Path>) -> Result<Box<dyn Engine>, EncoderError> {
    let engine: Box<dyn Engine> = match engine {
        EngineChoice::Tract => Box::new(TractEngine::load(&model)?),
        EngineChoice::Litert => Box::new(LitertEngine::load(model, library)?),
        EngineChoice::Native => match NativeEngine::load(&model) {
            Ok(engine) => Box::new(engine),
            Err(Refusal::Broken(error)) => return Err(error),
            Err(Refusal::Lacking(what)) => return Err(not_native(&model, &what)),
        },
        EngineChoice::Auto => match NativeEngine::load(&model) {
            Ok(engine) => Box::new(engine),
            Err(Refusal::Broken(error)) => return Err(error),
            Err(Refusal::Lacking(lacking)) => {
                tracing::info!(lacking, "the model is not for the native engine");
                litert_or_tract(model, library)?
            }
        },
    };
    tracing::debug!(engine = engine.name(), "encoder loaded");
    Ok(engine)
}

/// The instruction sets that the native engine can use on this processor, the best one last.
pub fn instruction_sets() -> Vec<&'static str> {
    native::instruction_sets()
}

/// The native engine on one of [`instruction_sets`]; for measuring, [`load`] takes the best one.
///
/// # Errors
/// As [`load`].
pub fn load_native(model: &[u8], instructions: &str) -> Result<Box<dyn Engine>, EncoderError> {
    match NativeEngine::load_for(model, instructions) {
        Ok(engine) => Ok(Box::new(engine)),
        Err(Refusal::Broken(error)) => Err(error),
        Err(Refusal::Lacking(what)) => Err(not_native(model, &what)),
    }
}

fn litert_or_tract(model: Arc<[u8]>, library: Option<&Path>) -> Result<Box<dyn Engine>, EncoderError> {
    match LitertEngine::load(model.clone(), library) {
        Ok(engine) => Ok(Box::new(engine)),
        Err(error) => {
            // A library that was named should have been there.
            match library {
                Some(_) => tracing::warn!(%error, "not LiteRT"),
                None => tracing::debug!(%error, "not LiteRT"),
            }
            Ok(Box::new(TractEngine::load(&model)?))
        }
    }
}

/// Why the native engine does not run a model: because of what the others find wrong with it, or because it lacks `what`.
fn not_native(model: &[u8], what: &str) -> EncoderError {
    match TractEngine::check(model) {
        Err(error) => error,
        Ok(()) => EncoderError::Model(format!(
            "{what} is not supported by the native engine; another may run it (encoder.engine = \"auto\")"
        )),
    }
}
