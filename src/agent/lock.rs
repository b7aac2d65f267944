//! One agent a state directory: two would write into one outbox and take each other's `seq`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::AgentError;
use crate::fs;

/// Held while the agent runs; the kernel gives it back however the process ends.
pub struct StateLock(#[expect(dead_code, reason = "held open")] Option<File>);

impl StateLock {
    /// # Errors
    /// It is no directory; another agent runs on it. Where nothing can be written there is nothing to share, which is only logged.
    pub fn take(state_dir: &Path) -> Result<StateLock, AgentError> {
        if let Some(file) = fs::not_a_directory(state_dir) {
            let message = format!("agent.state_dir: expected a directory, {} is a file", file.display());
            return Err(AgentError::Config(message));
        }
        let file = state_dir.join("agent.lock");
        // Without waiting: a named pipe in its place would block for ever.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).custom_flags(libc::O_NONBLOCK);
        let open = || options.open(&file);
        // As systemd makes it: what is heard and set is nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o750).create(state_dir);
        let opened = match made.and_then(|()| open()) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the state directory cannot be locked");
                return Ok(StateLock(None));
            }
        };
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(StateLock(Some(opened))),
            Err(Errno::WOULDBLOCK) => Err(AgentError::Taken(format!(
                "agent.state_dir: another agent runs on {}: stop it, or give this one its own",
                state_dir.display()
            ))),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the state directory cannot be locked");
                Ok(StateLock(None))
            }
        }
    }
}
