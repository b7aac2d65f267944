//! The encoder's engine as an argument of the commands that score.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::encoder::{EncoderConfig, EngineChoice};

#[derive(ClapArgs)]
pub(super) struct EngineArgs {
    /// Engine to run the encoder with
    #[arg(long, default_value = "auto", value_parser = ["auto", "native", "litert", "tract"])]
    engine: String,
    /// Path of libLiteRt.so [default: wherever the loader finds it]
    #[arg(long)]
    library: Option<PathBuf>,
}

impl EngineArgs {
    pub(super) fn config(&self) -> EncoderConfig {
        let engine = match self.engine.as_str() {
            "native" => EngineChoice::Native,
            "tract" => EngineChoice::Tract,
            "litert" => EngineChoice::Litert,
            _ => EngineChoice::Auto,
        };
        EncoderConfig { engine, library: self.library.clone() }
    }
}
