//! The whole agent: `auscult run` with machines, through what a plant does to it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auscult::clock::system_clock_synchronised;
use auscult::mqtt::payload::{EventKind, EventMsg, OutboxState, SettingsMsg};
use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::json;

use crate::agent_process::{Notified, Site, ask, faketime, health, listener, wait_until_it_answers};
use crate::common::broker::{Broker, BrokerOptions, Message, Subscriber, free_port};
use crate::common::disk::SmallDisk;
use crate::common::network::Network;
use crate::common::wait::{random_moment, wait_until, wait_within};
use crate::faults::assert_complete;
use crate::rig::{is_verdict, read_status, read_verdict, seqs};

/// There is none: every verdict is `unknown`, `no_bundle`, and all else is as ever.
const NO_BUNDLE: &str = "nowhere";

fn is_event(kind: EventKind) -> impl Fn(&Message) -> bool {
    move |message| message.is_agent(AgentPart::Event) && read_event(message).event == kind
}

fn read_event(message: &Message) -> EventMsg {
    serde_json::from_slice(&message.payload).expect("an event")
}

/// Every machine's windows up to the last one that the outbox counted have come.
fn assert_all_came(site: &Site, subscriber: &Subscriber) {
    let (next, waiting) = site.kept();
    assert_eq!(waiting, 0, "messages wait");
    wait_until("all have come", || {
        let (seqs, _) = seqs(&subscriber.messages());
        next.iter().all(|(machine, next)| seqs.get(machine).is_some_and(|seqs| seqs.len() as u64 == *next))
    });
    assert_complete(&subscriber.messages(), next.len());
}

#[test]
fn systemd_is_notified_and_the_stop_is_clean() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let site = Site::new(&network.url(), Path::new(NO_BUNDLE), 8, 20.0);
    let systemd = Notified::new(&site);
    let with_systemd = |command: &mut Command| {
        command.env("NOTIFY_SOCKET", &systemd.socket).env("WATCHDOG_USEC", "400000");
    };
    let agent = site.start_with(with_systemd);
    systemd.wait_for("READY=1", 1);
    systemd.wait_for("WATCHDOG=1", 3);
    systemd.wait_for(&format!("STATUS=connected to {}", network.url()), 1);
    subscriber.wait_for_count("verdicts", 40, is_verdict);
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    systemd.wait_for("STOPPING=1", 1);
    assert_all_came(&site, &subscriber);
    let last = subscriber
        .wait_for("stopped", |message| message.is_agent(AgentPart::Status) && message.json()["state"] == "stopped");
    let online = subscriber.messages().into_iter().find(|message| message.is_agent(AgentPart::Status));
    assert_eq!(read_status(&last).boot, read_status(&online.expect("a birth")).boot);

    // The network swallows everything: the stop is as quick, and nothing is lost.
    systemd.forget();
    let agent = site.start_with(with_systemd);
    systemd.wait_for("STATUS=connected to", 1);
    network.cut();
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    network.mend();

    // The next start sends what waited.
    let agent = site.start();
    agent.wait_connected();
    wait_until("the outbox is empty", || health(&subscriber).mqtt.outbox_depth < 16);
    agent.stop();
    assert_all_came(&site, &subscriber);
}

#[test]
fn without_a_broker_the_agent_is_ready_and_says_why_once() {
    let url = format!("mqtt://127.0.0.1:{}", free_port());
    let site = Site::new(&url, Path::new(NO_BUNDLE), 1, 20.0);
    let systemd = Notified::new(&site);
    let agent = site.start_with(|command| {
        command.env("NOTIFY_SOCKET", &systemd.socket).env("RUST_LOG", "debug");
    });
    systemd.wait_for("READY=1", 1);
    wait_until("attempts", || agent.log().matches(&format!("connecting to {url}")).count() >= 3);
    let printed = agent.log();
    let warnings: Vec<_> = printed.lines().filter(|line| line.contains("WARN") && line.contains("mqtt://")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("nothing listens there"), "{warnings:?}");
    agent.stop();
}

/// Agent killed at random moments; after every `ok` what was set is there for good.
fn killed(rounds: usize) {
    let broker = Broker::start_with(&BrokerOptions { persistence: true, ..BrokerOptions::default() });
    let subscriber = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), Path::new(NO_BUNDLE), 4, 40.0);
    let is_settings = |message: &Message| message.is_machine("m1", MachinePart::Settings);
    for round in 0..rounds {
        let mut agent = site.start();
        agent.wait_connected();
        let threshold = (round + 1) as f64 / 64.0;
        let set = ask(&subscriber, "threshold.set", json!({ "machine": "m1", "threshold": threshold, "by": "ana" }));
        assert_eq!(set["status"], "ok", "{set}");
        random_moment(Duration::ZERO..Duration::from_millis(400));
        agent.kill();
        subscriber.wait_for("the will", |message| {
            message.is_agent(AgentPart::Status) && message.json()["state"] == "offline"
        });
        subscriber.clear_but(is_verdict);
        let mut agent = site.start();
        let kept = subscriber.wait_for("the settings", is_settings);
        let kept: SettingsMsg = serde_json::from_slice(&kept.payload).expect("settings");
        assert_eq!((kept.threshold, kept.by.as_deref()), (Some(threshold), Some("ana")), "round {round}");
        random_moment(Duration::ZERO..Duration::from_millis(200));
        agent.kill();
    }
    let agent = site.start();
    agent.wait_connected();
    wait_within(Duration::from_secs(300), "the outbox is empty", || health(&subscriber).mqtt.outbox_depth < 16);
    agent.stop();
    assert_all_came(&site, &subscriber);
    let (_, duplicates) = seqs(&subscriber.messages());
    let verdicts = subscriber.messages().iter().filter(|message| is_verdict(message)).count();
    println!(
        "{} times kill -9 of the whole agent: {verdicts} verdicts, none missing, {duplicates} came twice, settings kept",
        2 * rounds
    );
}

#[test]
fn a_killed_agent_keeps_its_settings_and_its_seq() {
    killed(2);
}

#[test]
#[ignore = "heavy: 20 rounds"]
fn a_killed_agent_keeps_its_settings_and_its_seq_20_times() {
    killed(20);
}

#[test]
fn on_a_full_disk_the_agent_goes_on_scoring_and_says_so() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), 1, 20.0);
    let state = site.state();
    let Some(disk) = SmallDisk::mount(&state, 8) else { return };
    let scored = |message: &Message| is_verdict(message) && read_verdict(message).distance.is_some();
    let set = |threshold| ask(&subscriber, "threshold.set", json!({ "machine": "m0", "threshold": threshold }));
    let agent = site.start();
    subscriber.wait_for_count("verdicts", 3, scored);
    assert_eq!(health(&subscriber).mqtt.outbox_state, OutboxState::Disk);

    disk.fill();
    subscriber.wait_for("the event", is_event(EventKind::OutboxFailed));
    let sick = health(&subscriber).mqtt;
    assert_eq!(sick.outbox_state, OutboxState::Memory);
    assert!(sick.outbox_error.as_ref().is_some_and(|error| error.contains("full")), "{sick:?}");
    let before = subscriber.messages().into_iter().filter(scored).count();
    let live = subscriber.wait_for_count("verdicts from memory", before + 8, scored);
    assert!(live.iter().all(|message| !read_verdict(message).late));
    let refused = set(0.25);
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("error"), &json!("failed")), "{refused}");

    disk.free();
    subscriber.wait_for("the event", is_event(EventKind::OutboxBack));
    assert_eq!(health(&subscriber).mqtt.outbox_state, OutboxState::Disk);
    assert_eq!(set(0.25)["status"], "ok");
    agent.stop();
    assert_all_came(&site, &subscriber);
}

#[test]
fn a_damaged_outbox_is_set_aside_loudly_and_no_seq_comes_twice() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), Path::new(NO_BUNDLE), 1, 20.0);
    let agent = site.start();
    subscriber.wait_for("its start", is_event(EventKind::Started));
    subscriber.wait_for_count("verdicts", 4, is_verdict);
    agent.stop();
    let before = site.kept().0[0].1;
    std::fs::write(site.state().join("outbox.sqlite"), vec![0x5a; 50_000]).expect("written over");

    subscriber.clear();
    let agent = site.start();
    let notified = read_event(&subscriber.wait_for("the event", is_event(EventKind::OutboxCorrupt)));
    assert!(notified.detail.is_some_and(|detail| detail.contains("set aside as")));
    let after = subscriber.wait_for_count("verdicts", 4, is_verdict);
    assert!(after.iter().all(|message| read_verdict(message).seq >= before), "{:?}", after[0].json());
    assert!(agent.log().contains("the outbox is damaged"), "{}", agent.log());
    agent.stop();
    let names = std::fs::read_dir(site.state()).expect("a directory").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().starts_with("outbox.corrupt-")));
}

/// Nonsense of every kind on every topic that the agent listens to.
fn hostile(messages: usize, large: usize) {
    let broker = Broker::start();
    let subscriber = listener(&broker);
    let site = Site::new(&broker.url(), Path::new(NO_BUNDLE), 1, 20.0);
    let agent = site.start();
    agent.wait_connected();
    let before = health(&subscriber);

    let settings = rumqttc::MqttOptions::new("attacker", "127.0.0.1", broker.port());
    let attacker = Subscriber::start_with(settings, &["nothing"]);
    let topics =
        ["auscult/pi-7/control", "auscult/fleet/control", "auscult/pi-7/m0/threshold/set", "auscult/pi-7/status"];
    for number in 0..messages {
        for topic in topics {
            attacker.publish_fast(topic, nonsense(number));
        }
    }
    for number in 0..large {
        attacker.publish(topics[number % topics.len()], false, vec![b'['; 20 << 20]);
    }
    wait_until("the broker has all", || attacker.unacknowledged() == 0);
    wait_until_it_answers(&subscriber);
    let after = health(&subscriber);
    assert_eq!(after.mqtt.reconnects, 0);
    assert_eq!(after.boot, before.boot);
    let grown = after.memory_mb.expect("on Linux") - before.memory_mb.expect("on Linux");
    println!(
        "{} hostile messages, {large} of 20 MB: memory grew by {grown:.1} MB, {} not taken in",
        topics.len() * messages + large,
        after.mqtt.incoming_dropped
    );
    // Two large payloads may be on their way at once, and the allocator keeps some.
    assert!(grown < 64.0, "memory grew by {grown} MB");
    assert!(!agent.log().contains("panicked"));
    agent.stop();
}

fn nonsense(number: usize) -> Vec<u8> {
    match number % 6 {
        0 => (0..rand::random_range(0..2000)).map(|_| rand::random()).collect(),
        1 => vec![b'['; 100_000],
        2 => "{\"a\":".repeat(20_000).into_bytes(),
        3 => vec![0xc3, 0x28, 0xff, 0xfe],
        4 => Vec::new(),
        _ => br#"{"schema":1,"state":"offline","boot":"x","ts":"2026-01-01T00:00:00.000Z"}"#.to_vec(),
    }
}

#[test]
fn nonsense_does_no_harm() {
    hostile(300, 4);
}

#[test]
#[ignore = "heavy: 10 000 messages on each of 4 topics"]
fn ten_thousand_times_nonsense_does_no_harm() {
    hostile(10_000, 40);
}

/// A Pi without a clock battery starts in the past, has its clock set, and has it set back by an hour.
#[test]
fn a_clock_that_is_wrong_and_jumps_breaks_nothing() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let site = Site::new(&broker.url(), Path::new(NO_BUNDLE), 2, 20.0);
    let time = site.dir.path().join("time");
    let set = |offset: &str| {
        std::fs::write(time.with_extension("new"), format!("{offset}\n")).expect("a file");
        std::fs::rename(time.with_extension("new"), &time).expect("a file");
    };
    set("-3650d");
    let agent = site.start_with(|command| {
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", &time)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    let unsynced = subscriber.wait_for_count("verdicts", 8, is_verdict);
    assert!(unsynced.iter().all(|message| message.json()["clock"] == "unsynced"), "{:?}", unsynced[0].json());
    assert!(
        subscriber.messages().iter().filter(|m| m.is_agent(AgentPart::Status)).all(|m| m.json()["clock"] == "unsynced")
    );

    set("+0");
    let jump = read_event(&subscriber.wait_for("the jump", is_event(EventKind::ClockJumped)));
    assert!(jump.detail.as_ref().is_some_and(|detail| detail.contains("+31536")), "{jump:?}");
    if system_clock_synchronised(chrono::Utc::now()) {
        subscriber.wait_for("it is set", is_event(EventKind::ClockSynchronised));
        subscriber
            .wait_for("a mark that is gone", |message| is_verdict(message) && message.json().get("clock").is_none());
    }
    set("-1h");
    let back = subscriber.wait_for_count("the jump back", 2, is_event(EventKind::ClockJumped));
    assert!(read_event(&back[1]).detail.is_some_and(|detail| detail.contains("-3600")), "{:?}", back[1].json());
    let count = subscriber.messages().into_iter().filter(is_verdict).count();
    subscriber.wait_for_count("verdicts after it", count + 8, is_verdict);
    agent.stop();
    assert_all_came(&site, &subscriber);
    // In the order of their making, whatever the clock did.
    for machine in ["m0", "m1"] {
        let all = subscriber.messages();
        let mut seqs: Vec<u64> = all
            .iter()
            .filter(|message| message.is_machine(machine, MachinePart::Verdict))
            .map(|message| read_verdict(message).seq)
            .collect();
        seqs.dedup();
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    }
}
