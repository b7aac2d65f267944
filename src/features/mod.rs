//! The front-end: 5 s of mono audio become the mel spectrogram that the encoder was trained on.

pub(crate) mod canvas;
mod front_end;
mod mel;
pub mod picture;
mod stft;

pub use front_end::{FeatureError, FrontEnd};
pub use mel::MelExtractor;
