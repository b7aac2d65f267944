//! Ends a process of the rig, and removes its files, when the test binary itself is killed, aborted or timed out. A test
//! that only fails needs none: what it holds is dropped.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Lets go when dropped, and then does nothing.
pub struct KillOnDrop(Child);

impl KillOnDrop {
    /// For the process `pid`, which this process has started and not yet waited for, and its directory.
    pub fn new(pid: u32, dir: Option<&Path>) -> KillOnDrop {
        KillOnDrop::watch(&pid.to_string(), dir)
    }

    /// As [`KillOnDrop::new`], for the process and those that it starts: it leads a group of its own.
    pub fn group(pid: u32, dir: Option<&Path>) -> KillOnDrop {
        KillOnDrop::watch(&format!("-{pid}"), dir)
    }

    fn watch(target: &str, dir: Option<&Path>) -> KillOnDrop {
        // The pipe closes with this process, however it ends.
        let watcher = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM HUP; read -r _; kill -9 \"$1\"; [ -z \"$2\" ] || rm -rf \"$2\"",
                "kill-on-drop",
            ])
            .arg(target)
            .arg(dir.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        KillOnDrop(watcher.expect("sh"))
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
