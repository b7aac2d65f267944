//! One agent a state directory: two would write into one outbox and take each other's `seq`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::AgentError;

/// Held while the agent runs; the kernel gives it back however the process ends.
pub struct StateLock(#[expect(dead_code, reason = "held open")] Option<File>);

impl StateLock {
    /// # Errors
    /// Another agent runs on this directory. Where nothing can be written there is nothing to share, which is only logged.
    pub fn take(state_dir: &Path) -> Result<StateLock, AgentError> {
        let file = state_dir.join("agent.lock");
        // Without waiting: a named pipe in its place would block for ever.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).custom_flags(libc::O_NONBLOCK);
        let open = || options.open(&file);
        let opened = match fs::create_dir_all(state_dir).and_then(|()| open()) {
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
