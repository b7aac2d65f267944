//! A disk of a few megabytes, to be filled.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A tmpfs, mounted for one test.
pub struct SmallDisk<'a> {
    pub path: &'a Path,
    as_root: Vec<&'static str>,
}

impl SmallDisk<'_> {
    /// `None`, said so, where mounting is allowed neither to this user nor through sudo: as in an unprivileged container.
    pub fn mount(path: &Path, mb: u32) -> Option<SmallDisk<'_>> {
        for as_root in [vec![], vec!["sudo", "-n"]] {
            let disk = SmallDisk { path, as_root };
            let options = format!("size={mb}m,mode=1777");
            if disk.run(&["mount", "-t", "tmpfs", "-o", &options, "auscult-test"]) {
                return Some(disk);
            }
            // Nothing was mounted: nothing to take away.
            std::mem::forget(disk);
        }
        eprintln!(
            "SKIPPED: a small disk cannot be mounted here; what remains is the outbox's unit test without a disk"
        );
        None
    }

    /// Runs a command on the path as root.
    fn run(&self, command: &[&str]) -> bool {
        let mut words = self.as_root.iter().chain(command);
        let program = words.next().expect("a command");
        Command::new(program).args(words).arg(self.path).output().is_ok_and(|output| output.status.success())
    }

    /// To the last byte.
    pub fn fill(&self) {
        let mut size = 1 << 20;
        while size >= 512 {
            let filler = fs::File::options().create(true).append(true).open(self.path.join("filler"));
            if filler.and_then(|mut file| file.write_all(&vec![0; size])).is_err() {
                size /= 2;
            }
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.path.join("filler")).expect("our own file");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        self.run(&["umount", "-l"]);
    }
}
