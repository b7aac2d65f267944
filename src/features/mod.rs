//! The front-end: 5 s of mono audio become the mel spectrogram that the encoder was trained on.

pub(crate) mod canvas;
pub(crate) mod decibels;
mod front_end;
mod mel;
pub mod picture;

pub use front_end::{FeatureError, FrontEnd};
pub use mel::MelExtractor;
pub(crate) use mel::emphasise;
