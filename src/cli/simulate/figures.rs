//! What is counted while a fleet is simulated, and what comes of it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::numbers::counted;
/// Width of a latency class: 2 %.
const CLASS: f64 = 1.02;
/// From 1 microsecond to 20 minutes.
const CLASSES: usize = 1060;

/// Counters that all agents share.
pub struct Figures {
    pub connects: AtomicU64,
    pub failed_connects: AtomicU64,
    pub lost_connections: AtomicU64,
    pub connected: AtomicU64,
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Handed over and never acknowledged: the connection broke before.
    pub lost: AtomicU64,
    /// Not even handed over: too much was without acknowledgement, or there was no connection.
    pub held_back: AtomicU64,
    /// Microseconds until the connection stood, summed.
    connect_us: AtomicU64,
    latency: Vec<AtomicU64>,
    last_error: Mutex<Option<String>>,
    length_us: AtomicU64,
    acknowledged_at_end: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Figures {
            connects: zero(),
            failed_connects: zero(),
            lost_connections: zero(),
            connected: zero(),
            sent: zero(),
            acknowledged: zero(),
            lost: zero(),
            held_back: zero(),
            connect_us: zero(),
            latency: (0..CLASSES).map(|_| zero()).collect(),
            last_error: Mutex::default(),
            length_us: zero(),
            acknowledged_at_end: zero(),
        }
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Figures {
    pub fn connected_after(&self, time: Duration) {
        count(&self.connects);
        count(&self.connected);
        self.connect_us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn acknowledged_after(&self, time: Duration) {
        count(&self.acknowledged);
        let class = (time.as_secs_f64() * 1e6).max(1.0).ln() / CLASS.ln();
        count(&self.latency[(class as usize).min(CLASSES - 1)]);
    }

    pub fn error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The time that counts is over.
    pub fn end(&self, length: Duration) {
        self.length_us.store(length.as_micros() as u64, Ordering::Relaxed);
        self.acknowledged_at_end.store(read(&self.acknowledged), Ordering::Relaxed);
    }

    /// For the progress bar.
    pub fn line(&self) -> String {
        format!("{} connected, {} acknowledged", read(&self.connected), read(&self.acknowledged))
    }

    /// Latency that this share of the acknowledgements did not exceed, ms.
    fn latency_ms(&self, share: f64) -> Option<f64> {
        let total: u64 = self.latency.iter().map(read).sum();
        let mut left = (share * total as f64).ceil().max(1.0) as u64;
        let class = self.latency.iter().position(|class| {
            let here = read(class);
            let found = here >= left;
            left = left.saturating_sub(here);
            found
        })?;
        Some(CLASS.powf(class as f64 + 0.5) / 1000.0)
    }

    pub fn result(&self, agents: u32, machines: u32) -> Outcome {
        let seconds = read(&self.length_us) as f64 / 1e6;
        let connects = read(&self.connects);
        Outcome {
            agents,
            machines,
            seconds,
            connects,
            failed_connects: read(&self.failed_connects),
            lost_connections: read(&self.lost_connections),
            connect_ms: (connects > 0).then(|| read(&self.connect_us) as f64 / 1000.0 / connects as f64),
            sent: read(&self.sent),
            acknowledged: read(&self.acknowledged),
            per_s: read(&self.acknowledged_at_end) as f64 / seconds.max(1e-9),
            median_ms: self.latency_ms(0.5),
            p99_ms: self.latency_ms(0.99),
            most_ms: self.latency_ms(1.0),
            lost: read(&self.lost),
            held_back: read(&self.held_back),
            error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// What is printed.
#[derive(Debug, Clone)]
pub struct Outcome {
    agents: u32,
    machines: u32,
    seconds: f64,
    connects: u64,
    failed_connects: u64,
    lost_connections: u64,
    connect_ms: Option<f64>,
    sent: u64,
    acknowledged: u64,
    per_s: f64,
    median_ms: Option<f64>,
    p99_ms: Option<f64>,
    most_ms: Option<f64>,
    lost: u64,
    held_back: u64,
    error: Option<String>,
}

impl Outcome {
    /// Everybody came, everything was acknowledged.
    pub fn is_good(&self) -> bool {
        self.connects >= u64::from(self.agents) && self.lost + self.held_back == 0 && self.acknowledged > 0
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| writeln!(text, "{name:<12} {value}").expect("a string takes all");
        let ms = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.2} ms"));
        let (agents, machines) = (counted(self.agents, "agent"), counted(self.machines, "machine"));
        row("fleet", format!("{agents} with {machines} each, {:.0} s", self.seconds));
        row("connects", format!("{}, {} each; {} failed", self.connects, ms(self.connect_ms), self.failed_connects));
        row("messages", format!("{} acknowledged, {:.0} a second", self.acknowledged, self.per_s));
        let (median, p99, most) = (ms(self.median_ms), ms(self.p99_ms), ms(self.most_ms));
        row("PUBACK", format!("median {median}, 99 % within {p99}, all within {most}"));
        let (lost, connections) = (counted(self.lost, "message"), counted(self.lost_connections, "connection"));
        let held_back = self.held_back;
        row("losses", format!("{lost}, {held_back} held back, {connections}"));
        if let Some(error) = &self.error {
            row("last error", error.clone());
        }
        text
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "agents": self.agents, "machines": self.machines, "seconds": self.seconds, "connects": self.connects,
            "failed_connects": self.failed_connects, "lost_connections": self.lost_connections,
            "connect_ms": self.connect_ms, "sent": self.sent, "acknowledged": self.acknowledged,
            "messages_per_s": self.per_s, "puback_median_ms": self.median_ms, "puback_p99_ms": self.p99_ms,
            "puback_max_ms": self.most_ms, "lost": self.lost, "held_back": self.held_back, "last_error": self.error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_came_within_a_class() {
        let figures = Figures::default();
        for ms in 1..=100 {
            figures.acknowledged_after(Duration::from_millis(ms));
        }
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = figures.latency_ms(share).expect("there are some");
            assert!((found / expected - 1.0_f64).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(Figures::default().latency_ms(0.5), None);
    }
}
