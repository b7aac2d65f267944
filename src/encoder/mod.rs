//! The encoder: a mel spectrogram and a machine's index become an embedding.
//!
//! One [`Engine`] trait, three engines: `native` (our own kernels, for what encoders are usually made of), `litert`
//! (LiteRT's C API, opened at run time where its library is installed) and `tract` (pure Rust, always there).

mod graph;
mod interface;
mod litert;
mod native;
mod operator;
mod slice;
mod tract;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use litert::LitertEngine;
use native::{NativeEngine, Refusal};
use tract::TractEngine;

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

/// How to load an encoder: the `[encoder]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The engine; default `auto`.
    #[serde(deserialize_with = "crate::validate::one_of")]
    pub engine: EngineChoice,
    /// Path of `libLiteRt.so`; default: wherever the dynamic loader finds it.
    pub library: Option<PathBuf>,
}

/// What a loaded model expects and gives; read from the model, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// Rows of the image: mel bands.
    pub bands: usize,
    /// Columns of the image: frames.
    pub frames: usize,
    /// Length of the embedding.
    pub embedding: usize,
    /// Number of machine indices that the model's table holds (valid: `0..machines`), where the model tells.
    pub machines: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The model file is wrong: not a flatbuffer, unexpected shapes, unsupported operator.
    #[error("{0}")]
    Model(String),
    /// The engine itself cannot be used: library missing or of an unknown version.
    #[error("{0}")]
    Engine(String),
    /// One inference failed or was given what the model does not take.
    #[error("{0}")]
    Run(String),
}

/// A loaded encoder. `Send`, used by one thread at a time.
pub trait Engine: Send {
    /// `"native"`, `"litert"` or `"tract"`.
    fn name(&self) -> &'static str;

    /// What the model expects and gives.
    fn shape(&self) -> EncoderShape;

    /// Runs the encoder: `image` is `[bands, frames]` row-major in 0..1, the answer is `[embedding]`.
    ///
    /// # Errors
    /// `Run` where the image's length or the index does not fit the model, or inference fails.
    fn embed(&mut self, image: &[f32], machine_index: u32) -> Result<Vec<f32>, EncoderError>;

    /// The same encoder once more, for another thread; what is only read, above all the weights, is shared.
    ///
    /// # Errors
    /// Where the engine cannot make another one.
    fn share(&self) -> Result<Box<dyn Engine>, EncoderError>;
}

/// Loads `model` (the bytes of `encoder.tflite`) with the chosen engine.
///
/// # Errors
/// `Model` for anything wrong with the bytes, `Engine` where the engine asked for cannot be had.
pub fn load(model: Arc<[u8]>, config: &EncoderConfig) -> Result<Box<dyn Engine>, EncoderError> {
    let library = config.library.as_deref();
    let engine: Box<dyn Engine> = match config.engine {
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
    tracing::info!(engine = engine.name(), "encoder loaded");
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

/// What is wrong with a model, as far as the engines differ in it.
#[derive(Debug)]
enum ModelError {
    /// The engine at hand lacks it.
    Unsupported(String),
    /// No engine can run it.
    Invalid(String),
}

impl From<ModelError> for EncoderError {
    fn from(error: ModelError) -> Self {
        EncoderError::Model(match error {
            ModelError::Unsupported(what) => {
                format!("{what} is not supported by the tract engine; LiteRT can run it (encoder.engine = \"litert\")")
            }
            ModelError::Invalid(message) => message,
        })
    }
}

/// A library's message as part of a one-line error.
fn one_line(message: &str) -> String {
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(300) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}
