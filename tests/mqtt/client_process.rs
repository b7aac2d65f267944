//! The client in a process of its own, that can be killed: this test binary, started once more.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use auscult::clock::Clock;
use auscult::mqtt::payload::{Health, SchemaVersion};
use auscult::mqtt::tls::TlsFiles;
use auscult::mqtt::version::VersionSetting;
use auscult::mqtt::{Mqtt, MqttOptions};
use serde::{Deserialize, Serialize};

use crate::common::wait::wait_until;
use crate::rig::{AGENT, options, window};

const SETUP: &str = "AUSCULT_TEST_AGENT";

/// What the process is to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Setup {
    pub url: String,
    pub state_dir: PathBuf,
    /// Each publishes a window ...
    pub machines: usize,
    /// ... so often.
    pub every_ms: u64,
    #[serde(default)]
    pub version: VersionSetting,
    pub username: Option<String>,
    pub password: Option<String>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// A running process; killed when dropped.
pub struct AgentProcess {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl AgentProcess {
    pub fn start(setup: &Setup) -> AgentProcess {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "client_process::client_process", "--nocapture"])
            .env(SETUP, serde_json::to_string(setup).expect("JSON"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let copy = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lock().expect("no panic").push(line);
            }
        });
        AgentProcess { child, lines }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own process");
        self.child.wait().expect("our own process");
    }

    /// A clean stop; panics when it takes too long.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("our own process");
        assert!(status.success(), "{:?}", self.lines());
    }

    /// What it logged.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    pub fn lines_with(&self, words: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(words)).collect()
    }

    /// Waits until it tried so often to connect.
    pub fn wait_for_attempts(&self, attempts: usize) {
        wait_until("attempts to connect", || self.lines_with("connecting").len() >= attempts);
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process's own work; without its setup there is nothing to test.
#[test]
fn client_process() {
    let Ok(setup) = std::env::var(SETUP) else { return };
    let setup: Setup = serde_json::from_str(&setup).expect("the setup");
    tracing_subscriber::fmt()
        .with_env_filter("info,auscult::mqtt=debug")
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let tls = TlsFiles { ca: setup.ca, cert: setup.cert, key: setup.key };
    let (username, password) = (setup.username, setup.password.map(Into::into));
    let mut options = MqttOptions { tls, version: setup.version, ..options(&setup.url, &setup.state_dir) };
    (options.broker.username, options.broker.password) = (username, password);
    let (mqtt, mut incoming) = Mqtt::start(options, Clock::new(true)).expect("threads");
    thread::spawn(move || while incoming.blocking_recv().is_some() {});
    let ending = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&ending);
    thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ended.store(true, Ordering::SeqCst);
    });
    let start = Instant::now();
    let mut told_at = Duration::ZERO;
    while !ending.load(Ordering::SeqCst) {
        for machine in 0..setup.machines {
            window(&mqtt, &format!("m{machine}"));
        }
        if start.elapsed() >= told_at {
            told_at = start.elapsed() + Duration::from_millis(200);
            mqtt.health(&health(&mqtt, start.elapsed()));
        }
        crate::common::wait::pace(Duration::from_millis(setup.every_ms));
    }
    let report = mqtt.stop(Duration::from_secs(5));
    eprintln!("stopped: {report:?}");
}

fn health(mqtt: &Mqtt, uptime: Duration) -> Health {
    Health {
        schema: SchemaVersion,
        ts: mqtt.clock().now(),
        agent: AGENT.into(),
        boot: mqtt.boot().into(),
        uptime_s: uptime.as_secs_f64(),
        memory_mb: Some(memory_mb(Path::new("/proc/self/status"))),
        cpu_temp_c: None,
        disk_free_mb: None,
        mqtt: mqtt.stats(),
        trend_error: None,
        journal_error: None,
        evidence_error: None,
        alarms_error: None,
        alarms: None,
        alarms_per_day: None,
        acknowledge_median_s: None,
        alarm_fault_share: None,
        machines: Vec::new(),
        clock: None,
    }
}

/// Resident memory as `/proc/PID/status` tells it.
fn memory_mb(status: &Path) -> f64 {
    let text = std::fs::read_to_string(status).expect("/proc");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of kB");
    kib / 1024.0
}
