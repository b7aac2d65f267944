//! Programs that a test starts.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::kill_on_drop::KillOnDrop;
use super::wait::wait_until;

/// A program of this test, ended with it; its output is shown when the test fails.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    pub fn start(command: &mut Command, log: PathBuf) -> Program {
        let file = std::fs::File::create(&log).expect("a writable file");
        let out = file.try_clone().expect("a file");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(file).spawn().expect("a program that starts");
        Program { child, log }
    }
}

impl Program {
    /// The file with all that it prints.
    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }

    /// As systemd stops it; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill starts");
        assert!(sent.success());
        let mut status = None;
        wait_until("the program's end", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let from = text.len().saturating_sub(4000);
            eprintln!("{}:\n{}", self.log.display(), String::from_utf8_lossy(&text.as_bytes()[from..]));
        }
    }
}

/// A process that leads a group, and its watcher; both end when it is dropped.
pub struct ProgramGroup(Child, KillOnDrop);

impl ProgramGroup {
    /// `log` is added to; `dir` is removed should the test be killed.
    pub fn start(mut command: Command, log: &Path, dir: &Path) -> ProgramGroup {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}; run tests/setup.sh"));
        let watcher = KillOnDrop::group(child.id(), Some(dir));
        ProgramGroup(child, watcher)
    }
}

impl Drop for ProgramGroup {
    fn drop(&mut self) {
        // The group is of this child, which has not been waited for.
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end; answers what it printed, and panics with all of it when it fails.
pub fn done(command: &mut Command) -> String {
    let output = command.output().expect("a program that starts");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}\n{errors}", output.status);
    printed.into_owned()
}

/// Lines of more than `columns` characters, but for those whose one long word, a path or an address, fits no line.
pub fn too_wide(printed: &str, columns: usize) -> Vec<&str> {
    let is_whole = |line: &str| {
        let longest = line.split_whitespace().max_by_key(|word| word.chars().count()).unwrap_or_default();
        longest.contains('/') && line.chars().count() - longest.chars().count() < 30
    };
    printed.lines().filter(|line| line.chars().count() > columns && !is_whole(line)).collect()
}
