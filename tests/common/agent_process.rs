//! `auscult run` for a test: a directory with a configuration, and the running agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::wait::wait_until;

/// A directory with a configuration, for one agent `pi-1`.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub config: PathBuf,
}

impl Site {
    /// `machines` is the TOML of the `[[machine]]` tables, and of whatever else is to be set.
    pub fn new(url: &str, bundle: &Path, machines: &str) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("agent.toml");
        let state = dir.path().join("state");
        let text = format!(
            "[agent]\nid = \"pi-1\"\nstate_dir = {state:?}\n[mqtt]\nurl = {url:?}\n[bundle]\npath = {bundle:?}\n\
             [encoder]\nengine = \"tract\"\n{machines}"
        );
        std::fs::write(&config, text).expect("a writable file");
        Site { dir, config }
    }

    /// The program's `command` on this configuration.
    pub fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_auscult"));
        program.arg(command).arg("--config").arg(&self.config).current_dir(self.dir.path());
        program
    }

    pub fn output(&self, command: &str) -> Output {
        self.command(command).output().expect("auscult starts")
    }

    /// Starts the agent; its log goes on where an earlier one's ended.
    pub fn agent(&self) -> Agent {
        self.start(&mut self.command("run"))
    }

    /// Starts the agent by a `command` of its own making.
    pub fn start(&self, command: &mut Command) -> Agent {
        let path = self.dir.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("a writable file");
        let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("auscult starts");
        Agent { child, log: path }
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// As systemd stops it; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill starts");
        assert!(sent.success());
        let mut code = None;
        wait_until("the agent's end", || {
            code = self.child.try_wait().expect("a child");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}
