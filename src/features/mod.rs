//! The front-end: 5 s of mono audio become the mel spectrogram that the encoder was trained on; pictures of it.

pub(crate) mod canvas;
pub mod picture;

pub use auscult_signal::{FeatureError, FrontEnd, MelExtractor};
