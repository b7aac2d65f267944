//! `auscult run`: the agent.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use super::{Failure, logging};
use crate::agent::{self, End};
use crate::config::{self, Config};

/// Run the agent: listen to the configured machines and report over MQTT until stopped
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult run --config /etc/auscult/agent.toml")]
pub struct Args {
    /// Configuration file (TOML); AUSCULT__SECTION__KEY environment variables override it [default: /etc/auscult/agent.toml
    /// where it exists; else nothing is configured, and the agent waits for set-up]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    lean_heap();
    let config = Config::load_any(args.config.as_deref()).map_err(Failure::config)?;
    logging::start(&config.log)?;
    config::misspelt_variables().iter().for_each(|variable| tracing::warn!("{variable}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Asked to stop while it starts, it stops cleanly all the same.
    let end = runtime.block_on(async { agent::run(config, stop_signal()).await });
    // What still waits for a disk does not hold up the end.
    runtime.shutdown_background();
    let end = end.map_err(|error| match error.is_config() {
        true => Failure::config(error),
        false => Failure::from(error),
    })?;
    match end {
        End::Stopped => Ok(()),
        End::Restart => Err(Failure::from(start_anew())),
    }
}

/// Begins this process from the start, as it was called: nothing of this run can be in the way of the next. Returns only
/// where the system does not let it.
fn start_anew() -> anyhow::Error {
    // After an upgrade the program lies under its name again; without that, what runs is good enough.
    let program = std::env::current_exe().ok().filter(|path| path.is_file());
    let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let error = std::process::Command::new(program).arg0(name).args(words).exec();
    anyhow::Error::from(error).context("cannot start again")
}

/// All threads share one heap: glibc gives each its own, which costs some MB and helps only threads that allocate all the
/// time. Large blocks go back to the system when they are freed: glibc would keep all below the largest that ever was, and
/// what windows and clips leave in between would never be whole again.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "a setting of the C library's")]
fn lean_heap() {
    // glibc's own first value; that it is set keeps it.
    const LARGE: libc::c_int = 128 * 1024;
    // SAFETY: sets numbers of the allocator's, before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

#[cfg(not(target_env = "gnu"))]
fn lean_heap() {}

/// Resolves at SIGINT or SIGTERM.
pub(super) fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // Without handlers the signals end the process by themselves.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
    }
}
