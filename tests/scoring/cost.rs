//! What a run of `auscult` costs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What was said, and what it took.
pub struct Cost {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    /// Time of the processor, of all threads.
    pub cpu: Duration,
    /// Largest resident memory, bytes.
    pub peak: u64,
}

/// Runs it to its end. Python is in between, which is small: what a process had in memory when it started another one, the
/// kernel counts as that one's, and these tests have much.
pub fn of<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Cost {
    let script = "import resource, subprocess, sys\n\
                  code = subprocess.run(sys.argv[1:]).returncode\n\
                  used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
                  print('COST', used.ru_maxrss * 1024, used.ru_utime + used.ru_stime, file=sys.stderr)\n\
                  sys.exit(code if code >= 0 else 255)";
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_auscult")]).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("python3 starts");
    let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).expect("UTF-8"));
    let (err, cost) = err.rsplit_once("COST ").expect("what it took");
    let (peak, cpu) = cost.trim().split_once(' ').expect("two numbers");
    Cost {
        code: output.status.code(),
        out,
        err: err.to_owned(),
        cpu: Duration::from_secs_f64(cpu.parse().expect("seconds")),
        peak: peak.parse().expect("bytes"),
    }
}
