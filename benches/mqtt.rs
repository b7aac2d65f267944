//! What the outbox costs and what it holds, against a real mosquitto on this machine: `cargo bench --bench mqtt`.
//!
//! Each figure is printed beside the same work done without the outbox, or beside its own size. The disk is that of the
//! temporary directory: set TMPDIR to measure another one (an SD card).

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use auscult::clock::Clock;
use auscult::mqtt::broker::BrokerSettings;
use auscult::mqtt::outbox::Bounds;
use auscult::mqtt::payload::{VerdictMsg, encode};
use auscult::mqtt::tls::TlsFiles;
use auscult::mqtt::version::VersionSetting;
use auscult::mqtt::{Mqtt, MqttOptions};
use auscult::scoring::judge;
use chrono::Utc;
use common::broker::{Broker, Message, Subscriber, free_port};
use common::wait::wait_within;
use rumqttc::{Client, Event, Packet, QoS};

const LONG: Duration = Duration::from_secs(600);

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    throughput(20_000);
    for machines in [1, 16, 64] {
        latency(machines);
    }
    for machines in [1, 16, 64] {
        whole(machines);
    }
    outage(100_000);
}

fn start(url: &str, state_dir: &std::path::Path, drain_per_s: f64) -> Mqtt {
    let options = MqttOptions {
        agent: "bench".into(),
        root: "auscult".into(),
        broker: BrokerSettings { urls: url.parse().expect("a URL"), ..BrokerSettings::default() },
        tls: TlsFiles::default(),
        version: VersionSetting::Auto,
        will_delay: Duration::from_secs(10),
        keep_session: Duration::from_secs(3600),
        keep_alive: Duration::from_secs(20),
        pause: (Duration::from_millis(50), Duration::from_millis(500)),
        drain_per_s,
        compat_topic: None,
        homeassistant_status: None,
        state_dir: state_dir.to_owned(),
        bounds: Bounds { max_bytes: 1_000_000_000, max_age_s: 30 * 86_400 },
        least_seqs: std::collections::BTreeMap::new(),
    };
    let (mqtt, mut incoming) = Mqtt::start(options, Clock::new(true)).expect("threads");
    std::thread::spawn(move || while incoming.blocking_recv().is_some() {});
    mqtt
}

fn verdict(machine: &str) -> VerdictMsg {
    let assessment = judge(rand::random_range(0.0..0.4), 0.25, -31.0);
    VerdictMsg::new("bench", machine, Clock::new(true).now(), &assessment, Some("fan 1"), None)
}

/// Messages a second to their acknowledgement, through the outbox and straight through rumqttc.
fn throughput(messages: usize) {
    let broker = Broker::start();
    let begun = Instant::now();
    let mut settings = rumqttc::MqttOptions::new("straight", "127.0.0.1", broker.port());
    settings.set_inflight(20);
    let (client, mut connection) = Client::new(settings, 1000);
    let publisher = std::thread::spawn(move || {
        for _ in 0..messages {
            let payload = encode(&verdict("m0"));
            client.publish("auscult/bench/m0/verdict", QoS::AtLeastOnce, true, payload).expect("it runs");
        }
        client
    });
    let mut acknowledged = 0;
    for event in connection.iter() {
        if let Ok(Event::Incoming(Packet::PubAck(_))) = event {
            acknowledged += 1;
            if acknowledged == messages {
                break;
            }
        }
    }
    let straight = messages as f64 / begun.elapsed().as_secs_f64();
    drop(publisher.join().expect("no panic"));

    let dir = tempfile::tempdir().expect("a temporary directory");
    let mqtt = start(&broker.url(), dir.path(), 1e6);
    wait_within(LONG, "connected", || mqtt.is_connected());
    let begun = Instant::now();
    for _ in 0..messages {
        mqtt.verdict(verdict("m0"));
    }
    wait_within(LONG, "all acknowledged", || mqtt.stats().outbox_depth == 0);
    let through = messages as f64 / begun.elapsed().as_secs_f64();
    println!(
        "throughput: {through:.0} messages/s through the outbox, {straight:.0} straight (both 20 in flight): {:.0} % is the price of durability; {} commits",
        100.0 * (1.0 - through / straight),
        mqtt.commits()
    );
    mqtt.stop(Duration::from_secs(5));
}

/// From handing in a window to its arrival at a subscriber; mosquitto acknowledges right after that. Windows every
/// 0.5 s for each machine, ten times as dense as by default, all machines at once: the worst case.
fn latency(machines: usize) {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mqtt = start(&broker.url(), dir.path(), 1e6);
    wait_within(LONG, "connected", || mqtt.is_connected());
    let names: Vec<String> = (0..machines).map(|number| format!("m{number}")).collect();
    let rounds = (200 / machines).max(20);
    let mut handed_in = HashMap::new();
    let begun = Instant::now();
    for round in 0..rounds {
        for name in &names {
            let now = Instant::now();
            let seq = mqtt.verdict(verdict(name));
            handed_in.insert((name.clone(), seq), now);
        }
        let next = Duration::from_millis(500) * (round as u32 + 1);
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    let wanted = rounds * machines;
    subscriber.wait_for_count("all verdicts", wanted, |message| message.topic.ends_with("/verdict"));
    let latencies: Vec<f64> = subscriber
        .messages_with_times()
        .into_iter()
        .filter(|(message, _)| message.topic.ends_with("/verdict"))
        .filter_map(|(message, came)| {
            let verdict: VerdictMsg = serde_json::from_slice(&message.payload).ok()?;
            let begun = handed_in.get(&(verdict.machine, verdict.seq))?;
            Some(came.duration_since(*begun).as_secs_f64() * 1000.0)
        })
        .collect();
    let words = format!("outbox to subscriber, {machines} machines, {} commits", mqtt.commits());
    print_latencies(&words, latencies);
    mqtt.stop(Duration::from_secs(5));
}

/// The whole agent, with the real bundle and simulated machines in real time, all of whose windows end at the same
/// moment: from the last sample of a window to its verdict at a subscriber.
fn whole(machines: usize) {
    let Some(shared) = common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (state, bundle) = (dir.path().join("state"), shared.join("escoita-bundle"));
    let mut text = format!(
        "[agent]\nid = \"bench\"\nstate_dir = {state:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = {bundle:?}\n\
         [encoder]\nengine = \"tract\"\n",
        broker.url()
    );
    for number in 0..machines {
        text += &format!("[[machine]]\nid = \"m{number}\"\nmodel = \"id_00\"\nsource = {{ synth = \"fan\" }}\n");
    }
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, text).expect("a writable file");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["run", "--config"])
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("auscult starts");
    // The first windows meet a cold cache and a connection in the making: as they do.
    let wanted = (24 / machines).max(6) * machines;
    let is_verdict = |message: &Message| message.topic.ends_with("/verdict");
    for count in (machines..=wanted).step_by(machines) {
        subscriber.wait_for_count("verdicts", count, is_verdict);
    }
    let (now, wall) = (Instant::now(), Utc::now());
    agent.kill().expect("our own process");
    agent.wait().expect("our own process");
    let latencies = subscriber.messages_with_times().into_iter().filter_map(|(message, came)| {
        let verdict: VerdictMsg = is_verdict(&message).then(|| serde_json::from_slice(&message.payload).ok())??;
        let waited = (wall - verdict.ts.utc()).as_seconds_f64() - now.duration_since(came).as_secs_f64();
        Some(waited * 1000.0)
    });
    let words = format!("whole agent, {machines} machines, from the last sample");
    print_latencies(&words, latencies.collect());
}

fn print_latencies(words: &str, mut latencies: Vec<f64>) {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{words}: median {:.1} ms, p99 {:.1} ms, worst {:.1} ms over {} windows",
        at(0.5),
        at(0.99),
        at(1.0),
        latencies.len()
    );
}

/// An outage of so many messages: memory while it lasts, and how fast it is caught up with afterwards.
fn outage(messages: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let before_mb = memory_mb();
    let mqtt = start(&format!("mqtt://127.0.0.1:{}", free_port()), dir.path(), 1e6);
    let begun = Instant::now();
    for number in 0..messages {
        mqtt.verdict(verdict(&format!("m{}", number % 8)));
        if number == messages / 10 {
            println!("outage: memory grew by {:.1} MB after {number} messages", memory_mb() - before_mb);
        }
    }
    let stored = messages as f64 / begun.elapsed().as_secs_f64();
    println!(
        "outage: memory grew by {:.1} MB after {messages} messages; {:.0} MB on disk, {stored:.0} messages/s stored",
        memory_mb() - before_mb,
        mqtt.stats().outbox_bytes as f64 / 1e6
    );
    mqtt.stop(Duration::from_secs(10));
    for (rate, words) in [(500.0, "as by default"), (1e6, "as fast as it goes")] {
        let broker = Broker::start();
        let begun = Instant::now();
        let mqtt = start(&broker.url(), dir.path(), rate);
        let depth = mqtt.stats().outbox_depth;
        // The throttled one only begins; the rest is arithmetic.
        let until = if rate > 1e5 { depth / 2 } else { depth.saturating_sub(10_000) };
        wait_within(LONG, "caught up", || mqtt.stats().outbox_depth <= until);
        let sent = depth - mqtt.stats().outbox_depth;
        println!("outage: caught up with {:.0} messages/s, {words}", sent as f64 / begun.elapsed().as_secs_f64());
        mqtt.stop(Duration::from_secs(10));
    }
}

fn memory_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of kB");
    kib / 1024.0
}
