//! How a command fails: its exit code, and the message for stderr.

/// Wrong usage, as clap has it.
pub const EXIT_USAGE: u8 = 2;
/// Bad input data: a bundle, audio.
pub const EXIT_DATA: u8 = 65;
/// Bad configuration.
pub const EXIT_CONFIG: u8 = 78;

/// What ends a command without success: an exit code, and a message unless all was reported already.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub error: Option<anyhow::Error>,
}

impl Failure {
    /// Wrong usage (exit code 2).
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_USAGE, error: Some(error.into()) }
    }

    /// Bad input data (exit code 65).
    pub fn data(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_DATA, error: Some(error.into()) }
    }

    /// Bad configuration (exit code 78).
    pub fn config(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: EXIT_CONFIG, error: Some(error.into()) }
    }

    /// Everything was reported already; only the code is left.
    pub fn reported(code: u8) -> Self {
        Failure { code, error: None }
    }

    /// Whoever read the output has had enough (`| head`): no failure of ours.
    pub fn is_closed_pipe(&self) -> bool {
        let cause = self.error.as_ref().map(|error| error.root_cause());
        let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    /// Failed at run time (exit code 1).
    fn from(error: E) -> Self {
        Failure { code: 1, error: Some(error.into()) }
    }
}
