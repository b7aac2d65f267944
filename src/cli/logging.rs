//! Logs go to stderr: for people on a terminal and in the journal, or as JSON for collectors.

use std::io::{self, IsTerminal, Write};

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::writer::{MakeWriter, MakeWriterExt as _, OptionalWriter};

use super::{Failure, terminal};
use crate::config::{LogConfig, LogFormat};
use crate::log_tail;

/// Starts logging as configured; `RUST_LOG` goes before `log.level`.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(config: &LogConfig) -> Result<(), Failure> {
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| config.level.clone());
    // rumqttc warns of every message that a broker refuses; the client says so once.
    let filter = EnvFilter::try_new(format!("rumqttc=error,{directives}"))
        .map_err(|error| Failure::config(anyhow::anyhow!("log.level: {directives:?}: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr.and(KeptTail));
    // A second start (two agents in one process) keeps the first one's subscriber.
    let _ = match config.format {
        LogFormat::Human => subscriber
            .with_ansi(io::stderr().is_terminal() && terminal::takes_colours())
            .with_target(false)
            .with_timer(Seconds)
            .try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The time to the second, as much as a person reads.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// Keeps the newest lines beside the log, but for those that hold a secret.
struct KeptTail;

impl<'a> MakeWriter<'a> for KeptTail {
    type Writer = OptionalWriter<Tail>;

    fn make_writer(&'a self) -> Self::Writer {
        OptionalWriter::none()
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self::Writer {
        if about.target() == log_tail::SECRET { OptionalWriter::none() } else { OptionalWriter::some(Tail) }
    }
}

struct Tail;

impl Write for Tail {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        log_tail::keep(written);
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
