//! An agent that is started for the set-up, where none runs, and ends with it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use super::http::Site;
use super::link::Page;
use crate::config::Config;

/// The agent's page answers within this time.
const STARTED_WITHIN: Duration = Duration::from_secs(20);

/// An agent of our own; asked to stop when dropped, and waited for.
pub struct Companion {
    agent: Child,
    site: Site,
    log: tempfile::NamedTempFile,
}

impl Companion {
    /// Starts `auscult run` with the same configuration.
    ///
    /// # Errors
    /// A state directory that belongs to the service; an agent that does not start, with the end of its log.
    pub fn start(file: Option<&Path>, config: &Config, site: Site) -> anyhow::Result<Companion> {
        use std::os::unix::fs::MetadataExt as _;
        let state = &config.agent.state_dir;
        if let Ok(there) = std::fs::metadata(state)
            && std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() != there.uid())
        {
            let state = state.display();
            bail!(
                "no agent runs, and {state} belongs to another user: start the service (`sudo systemctl start auscult`)"
            );
        }
        println!("No agent runs yet: one is started here.");
        let log = tempfile::NamedTempFile::new().context("a file for the agent's log")?;
        let stderr = File::create(log.path()).context("a file for the agent's log")?;
        let mut command = Command::new(std::env::current_exe().context("this program's own place")?);
        command.arg("run");
        if let Some(file) = file {
            command.arg("--config").arg(file);
        }
        let agent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut companion = Companion { agent: agent.context("the agent cannot be started")?, site, log };
        let until = Instant::now() + STARTED_WITHIN;
        while companion.page().is_err() {
            if companion.agent.try_wait()?.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(companion.log.path()).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(3).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                return Err(anyhow!("the agent does not start:\n{}", tail.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(companion)
    }

    /// Its page.
    ///
    /// # Errors
    /// It does not answer.
    pub fn page(&self) -> anyhow::Result<Page> {
        Page::find(self.site.clone())
    }

    /// Waits until the agent ends, as with Ctrl-C, which reaches it too.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(mut self) -> std::io::Result<()> {
        self.agent.wait().map(drop)
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if matches!(self.agent.try_wait(), Ok(None)) {
            terminate(&self.agent);
            let _ = self.agent.wait();
        }
    }
}

/// Asks a process of ours to end.
#[allow(unsafe_code, reason = "the standard library sends SIGKILL only")]
fn terminate(child: &Child) {
    // SAFETY: a system call with two numbers; the child has not been waited for, so the number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}
