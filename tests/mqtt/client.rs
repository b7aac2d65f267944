//! The outbox and the client against a real mosquitto.

use std::time::{Duration, Instant};

use auscult::mqtt::payload::AgentState;
use auscult::mqtt::topics::{AgentPart, MachinePart, Topic};
use auscult::mqtt::version::{Version, VersionSetting};
use auscult::mqtt::{Mqtt, MqttOptions};

use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::network::Network;
use crate::common::wait::wait_until;
use crate::rig::{connected, drained, is_verdict, options, read_status, read_verdict, start, state_dir, window};

#[test]
fn verdicts_arrive_in_order_and_the_newest_is_retained() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) =
        start(MqttOptions { compat_topic: Some("logs/app".into()), ..options(&broker.url(), dir.path()) });
    connected(&mqtt);
    for _ in 0..100 {
        window(&mqtt, "blower-1");
    }
    let verdicts = subscriber.wait_for_count("verdicts", 100, is_verdict);
    let seqs: Vec<u64> = verdicts.iter().map(|message| read_verdict(message).seq).collect();
    assert_eq!(seqs, (0..100).collect::<Vec<_>>());
    assert!(verdicts.iter().all(|message| !read_verdict(message).late));
    subscriber.wait_for_count("records as of the original", 100, |message| message.topic == "logs/app");
    drained(&mqtt);

    let later = Subscriber::start(&broker);
    let kept = later.wait_for("the retained verdict", is_verdict);
    assert!(kept.retained);
    assert_eq!(read_verdict(&kept).seq, 99);
    let report = mqtt.stop(Duration::from_secs(5));
    assert!(report.stopped_published);
    assert_eq!(report.left, 0);
}

#[test]
fn an_outage_is_caught_up_with_late_and_in_order_while_news_goes_first() {
    let mut broker = Broker::start();
    let network = Network::to(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) = start(MqttOptions { drain_per_s: 200.0, ..options(&network.url(), dir.path()) });
    connected(&mqtt);
    // The broker forgets all: the subscriber has to be there before anything is sent.
    network.let_in(false);
    broker.kill();
    wait_until("the loss is noticed", || !mqtt.is_connected());
    for _ in 0..300 {
        window(&mqtt, "blower-1");
    }
    broker.restart();
    let subscriber = Subscriber::start(&broker);
    network.let_in(true);
    connected(&mqtt);
    let first_live = window(&mqtt, "blower-1");
    assert_eq!(first_live, 300);
    let live =
        subscriber.wait_for("the live verdict", |message| is_verdict(message) && read_verdict(message).seq == 300);
    assert!(!read_verdict(&live).late);
    let all = subscriber.wait_for_count("late verdicts", 301, is_verdict);
    let position = all.iter().position(|message| read_verdict(message).seq == 300).expect("it came");
    assert!(position < 200, "the live verdict came after {position} late ones");
    let late: Vec<u64> =
        all.iter().map(read_verdict).filter(|verdict| verdict.late).map(|verdict| verdict.seq).collect();
    assert_eq!(late, (0..300).collect::<Vec<_>>());
    drained(&mqtt);

    let kept = Subscriber::start(&broker).wait_for("the retained verdict", is_verdict);
    assert_eq!(read_verdict(&kept).seq, 300);
    mqtt.stop(Duration::from_secs(5));
}

fn birth_death_and_an_old_will_of(version: Version) {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let dir = state_dir();
    let setup = MqttOptions {
        version: VersionSetting::Only(version),
        will_delay: Duration::ZERO,
        ..options(&network.url(), dir.path())
    };
    let (mqtt, _incoming) = start(setup);
    let is_state = |state: AgentState| {
        let boot = mqtt.boot().to_owned();
        move |message: &Message| {
            message.is_agent(AgentPart::Status) && {
                let status = read_status(message);
                status.state == state && status.boot == boot
            }
        }
    };
    subscriber.wait_for("online", is_state(AgentState::Online));

    // The link breaks: the will is told, and then the agent is back.
    network.close_all();
    subscriber.wait_for("the will", is_state(AgentState::Offline));
    subscriber.wait_for_count("online again", 2, is_state(AgentState::Online));

    // A will of an earlier start comes late.
    subscriber.clear();
    let old = r#"{"schema":1,"state":"offline","boot":"0000000000000001","ts":"2026-01-01T00:00:00.000Z"}"#;
    subscriber.publish("auscult/pi-7/status", true, old);
    subscriber.wait_for("online once more", is_state(AgentState::Online));
    let kept =
        Subscriber::start(&broker).wait_for("the retained status", |message| message.is_agent(AgentPart::Status));
    assert_eq!(read_status(&kept).state, AgentState::Online);

    subscriber.clear();
    let started = Instant::now();
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
    assert!(started.elapsed() < Duration::from_secs(5));
    subscriber.wait_for("stopped", is_state(AgentState::Stopped));
    let kept =
        Subscriber::start(&broker).wait_for("the retained status", |message| message.is_agent(AgentPart::Status));
    assert_eq!(read_status(&kept).state, AgentState::Stopped);
}

#[test]
fn birth_death_and_an_old_will() {
    birth_death_and_an_old_will_of(Version::V5);
    birth_death_and_an_old_will_of(Version::V4);
}

#[test]
fn two_agents_of_one_id_find_each_other_out() {
    let broker = Broker::start();
    let (one_dir, other_dir) = (state_dir(), state_dir());
    let (one, _incoming) = start(options(&broker.url(), one_dir.path()));
    connected(&one);
    let (other, _incoming) = start(options(&broker.url(), other_dir.path()));
    let found = |mqtt: &Mqtt| mqtt.stats().last_error.is_some_and(|error| error.contains("another agent"));
    wait_until("one of them says so", || found(&one) || found(&other));
    one.stop(Duration::from_secs(5));
    other.stop(Duration::from_secs(5));
}

#[test]
fn control_messages_come_in_with_their_flags() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    subscriber.publish("auscult/pi-7/control", true, r#"{"id":"1","command":"ping"}"#);
    let dir = state_dir();
    let (mqtt, mut incoming) = start(options(&broker.url(), dir.path()));
    let first = incoming.blocking_recv().expect("the retained one");
    assert!(first.retained);
    assert_eq!(first.payload.as_deref(), Ok(r#"{"id":"1","command":"ping"}"#.as_bytes()));
    subscriber.publish("auscult/fleet/control", false, "x");
    subscriber.publish("auscult/pi-7/blower-1/threshold/set", false, "0.3");
    subscriber.publish("auscult/pi-8/control", false, "not for us");
    subscriber.publish("auscult/pi-7/control", false, vec![b'['; 300 * 1024]);
    let fleet = incoming.blocking_recv().expect("the fleet's");
    assert_eq!((fleet.topic, fleet.retained), (Topic::FleetControl, false));
    let set = incoming.blocking_recv().expect("a threshold");
    assert!(
        matches!(set.topic, Topic::Machine { machine, part: MachinePart::ThresholdSet, .. } if machine == "blower-1")
    );
    let large = incoming.blocking_recv().expect("the large one");
    assert_eq!(large.payload, Err(300 * 1024));
    mqtt.stop(Duration::from_secs(5));
    assert!(incoming.blocking_recv().is_none());
}
