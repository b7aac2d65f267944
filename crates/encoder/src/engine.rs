//! What every engine has in common: its trait, its errors, the shape of what it runs.

/// What a loaded model expects and gives; read from the model, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// Rows of the image: mel bands.
    pub bands: usize,
    /// Columns of the image: frames.
    pub frames: usize,
    /// Length of the embedding.
    pub embedding: usize,
    /// Number of machine indices that the model's table holds (valid: `0..machines`), where the model states it.
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

impl EncoderError {
    /// The model looked `index` up in a table of `size` rows.
    pub(super) fn beyond_table(machine_index: u32, size: usize, index: impl std::fmt::Display) -> EncoderError {
        EncoderError::Run(format!(
            "machine index {machine_index}: expected 0 to {} in the model's table, found {index}",
            size - 1
        ))
    }
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

/// What is wrong with a model, as far as the engines differ in it.
#[derive(Debug)]
pub(super) enum ModelError {
    /// The engine at hand lacks it.
    Unsupported(String),
    /// No engine can run it.
    Invalid(String),
}

pub(super) type ModelResult<T> = Result<T, ModelError>;

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
pub(super) fn one_line(message: &str) -> String {
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(300) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}
