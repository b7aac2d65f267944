//! What the tests of the client share: a client with short pauses, and what it published.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use auscult::clock::Clock;
use auscult::mqtt::broker::BrokerSettings;
use auscult::mqtt::outbox::Bounds;
use auscult::mqtt::payload::{Status, VerdictMsg};
use auscult::mqtt::tls::TlsFiles;
use auscult::mqtt::topics::{MachinePart, Topic};
use auscult::mqtt::version::{Version, VersionSetting};
use auscult::mqtt::{IncomingReceiver, Mqtt, MqttOptions};
use auscult::scoring::judge;

use crate::common::broker::Message;
use crate::common::wait::wait_until;

pub const AGENT: &str = "pi-7";

/// With short pauses, and all else as by default.
pub fn options(url: &str, state_dir: &Path) -> MqttOptions {
    MqttOptions {
        agent: AGENT.into(),
        root: "auscult".into(),
        broker: BrokerSettings { urls: url.parse().expect("a broker's URL"), ..BrokerSettings::default() },
        tls: TlsFiles::default(),
        version: VersionSetting::Auto,
        will_delay: Duration::from_secs(10),
        keep_session: Duration::from_secs(3600),
        keep_alive: Duration::from_secs(20),
        pause: (Duration::from_millis(50), Duration::from_millis(400)),
        drain_per_s: 5000.0,
        compat_topic: None,
        homeassistant_status: None,
        state_dir: state_dir.to_owned(),
        bounds: Bounds { max_bytes: 200_000_000, max_age_s: 30 * 86_400 },
        least_seqs: std::collections::BTreeMap::new(),
    }
}

/// This version, whatever the broker would speak.
pub fn only(version: Version) -> VersionSetting {
    VersionSetting::Only(version)
}

pub fn start(options: MqttOptions) -> (Mqtt, IncomingReceiver) {
    Mqtt::start(options, Clock::new(true)).expect("threads")
}

pub fn state_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub fn window(mqtt: &Mqtt, machine: &str) -> u64 {
    mqtt.verdict(verdict(machine))
}

pub fn verdict(machine: &str) -> VerdictMsg {
    let assessment = judge(rand::random_range(0.0..0.4), 0.25, -31.0);
    VerdictMsg::new(AGENT, machine, Clock::new(true).now(), &assessment, Some("fan 1"), None)
}

pub fn connected(mqtt: &Mqtt) {
    wait_until("the client is connected", || mqtt.is_connected());
}

pub fn drained(mqtt: &Mqtt) {
    wait_until("the outbox is empty", || mqtt.stats().outbox_depth == 0);
}

pub fn is_verdict(message: &Message) -> bool {
    matches!(message.kind(), Some(Topic::Machine { part: MachinePart::Verdict, .. }))
}

pub fn read_verdict(message: &Message) -> VerdictMsg {
    serde_json::from_slice(&message.payload).expect("a verdict")
}

pub fn read_status(message: &Message) -> Status {
    serde_json::from_slice(&message.payload).expect("a status")
}

/// The `seq`s of each machine that came, and how many came twice. The same `seq` with another content fails.
pub fn seqs(messages: &[Message]) -> (BTreeMap<String, Vec<u64>>, usize) {
    let mut by_seq: BTreeMap<(String, u64), VerdictMsg> = BTreeMap::new();
    let mut duplicates = 0;
    for message in messages.iter().filter(|message| is_verdict(message)) {
        let mut verdict = read_verdict(message);
        verdict.late = false;
        if let Some(earlier) = by_seq.insert((verdict.machine.clone(), verdict.seq), verdict.clone()) {
            assert_eq!(earlier, verdict, "one seq, two contents");
            duplicates += 1;
        }
    }
    let mut seqs: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (machine, seq) in by_seq.into_keys() {
        seqs.entry(machine).or_default().push(seq);
    }
    (seqs, duplicates)
}
