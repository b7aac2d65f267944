//! The encoder: a mel spectrogram and a machine's index become an embedding. The engines are a crate of their own.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use auscult_encoder::{EncoderError, EncoderShape, Engine, EngineChoice, instruction_sets, load_native};

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

/// Loads `model` (the bytes of `encoder.tflite`) with the chosen engine.
///
/// # Errors
/// `Model` for anything wrong with the bytes, `Engine` where the engine asked for cannot be had.
pub fn load(model: Arc<[u8]>, config: &EncoderConfig) -> Result<Box<dyn Engine>, EncoderError> {
    auscult_encoder::load(model, config.engine, config.library.as_deref())
}
