//! MQTT 5 and 3.1.1: which is spoken, and what a broker says with 5. The broker is scripted where no real one does it.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use auscult::mqtt::payload::{AgentState, EventKind};
use auscult::mqtt::topics::AgentPart;
use auscult::mqtt::version::{Version, VersionSetting};
use auscult::mqtt::{Mqtt, MqttOptions};
use rumqttc::v5;

use crate::common::broker::{Broker, BrokerOptions, Message, Subscriber};
use crate::common::cluster::nats_server;
use crate::common::network::Network;
use crate::common::program::Program;
use crate::common::wait::wait_until;
use crate::rig::{
    connected, drained, is_verdict, only, options, read_status, read_verdict, seqs, start, state_dir, window,
};
use crate::scripted::{Answer, Publish, ScriptedBroker, TAKEN, Welcome};

const NOT_AUTHORIZED: u8 = 0x87;
const TOPIC_INVALID: u8 = 0x90;
const TOO_LARGE: u8 = 0x95;
const QUOTA_EXCEEDED: u8 = 0x97;
const UNSPECIFIED: u8 = 0x80;

fn version(mqtt: &Mqtt) -> Option<u8> {
    mqtt.stats().mqtt_version
}

/// Whether this event came, with these words.
fn is_event(kind: EventKind, words: &str) -> impl Fn(&Message) -> bool {
    move |message| {
        message.is_agent(AgentPart::Event) && {
            let event = message.json();
            event["event"] == kind.to_string() && event["detail"].as_str().is_some_and(|detail| detail.contains(words))
        }
    }
}

fn of_seq(seq: u64) -> impl Fn(&Message) -> bool {
    move |message| is_verdict(message) && read_verdict(message).seq == seq
}

/// A login as the agent's, and nothing changes from outside, whichever version it is.
#[test]
fn both_versions_say_the_same_of_an_agent() {
    for (number, wanted) in [(5, VersionSetting::Auto), (4, only(Version::V4)), (5, only(Version::V5))] {
        let broker = ScriptedBroker::start(|_| TAKEN);
        let dir = state_dir();
        let (mqtt, _incoming) = start(MqttOptions { version: wanted, ..options(&broker.url(), dir.path()) });
        connected(&mqtt);
        window(&mqtt, "blower-1");
        let verdict = broker.wait_taken("a verdict", is_verdict);
        assert_eq!(version(&mqtt), Some(number));
        assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
        assert_eq!(version(&mqtt), None);

        let connects = broker.connects();
        assert_eq!(connects.len(), 1, "{connects:?}");
        let connect = &connects[0];
        assert_eq!((connect.version, connect.clean, connect.keep_alive_s), (number, false, 20));
        assert_eq!(connect.client_id, "auscult-pi-7");
        let will = connect.will.as_ref().expect("a will");
        assert!(will.retained && will.topic == "auscult/pi-7/status", "{will:?}");
        assert_eq!(read_status(will).state, AgentState::Offline);
        let of_five = number == 5;
        assert_eq!(connect.session_s, of_five.then_some(3600));
        assert_eq!(connect.will_delay_s, of_five.then_some(10));
        let json = of_five.then(|| "application/json".to_owned());
        assert_eq!(connect.will_content_type, json);
        assert!(verdict.retained);
        for publish in broker.published() {
            assert_eq!((publish.content_type, publish.expiry_s), (json.clone(), None), "{:?}", publish.message);
        }
    }
}

/// A broker that does not speak 5 is asked for it once in the life of the process, whichever way it says so.
#[test]
fn a_broker_without_five_is_spoken_to_in_three() {
    for refusal in [Welcome::OtherVersion, Welcome::Close, Welcome::Refuse(0x84), Welcome::Silence] {
        let no = refusal.clone();
        let greet = move |version| if version == 5 { no.clone() } else { Welcome::Accept(Vec::new()) };
        let broker = ScriptedBroker::greeting(greet, |_| TAKEN);
        let dir = state_dir();
        let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
        // What there is before the connection is not lost to the attempt.
        window(&mqtt, "blower-1");
        broker.wait_taken("the first verdict", of_seq(0));
        assert_eq!((version(&mqtt), mqtt.stats().last_error), (Some(4), None), "{refusal:?}");
        broker.break_off();
        window(&mqtt, "blower-1");
        broker.wait_taken("the second verdict", of_seq(1));
        assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
        let versions: Vec<u8> = broker.connects().iter().map(|connect| connect.version).collect();
        assert_eq!(versions, [5, 4, 4], "{refusal:?}");
    }
}

/// It spoke 5 before: one connection that was closed says nothing of it.
#[test]
fn a_broker_that_has_spoken_five_is_asked_for_it_again() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let greet = move |_| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Welcome::Close,
        _ => Welcome::Accept(Vec::new()),
    };
    let broker = ScriptedBroker::greeting(greet, |_| TAKEN);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    for seq in 0..3 {
        window(&mqtt, "blower-1");
        broker.wait_taken("a verdict", of_seq(seq));
        broker.break_off();
    }
    wait_until("a fourth connection", || attempts.load(Ordering::SeqCst) >= 5 && mqtt.is_connected());
    mqtt.stop(Duration::from_secs(5));
    let versions: Vec<u8> = broker.connects().iter().map(|connect| connect.version).collect();
    assert_eq!(versions[..5], [5, 5, 4, 5, 5]);
}

/// Each would keep a message in the agent's memory.
#[test]
fn a_broker_that_uses_topic_aliases_is_left_and_nothing_is_lost() {
    let broker = ScriptedBroker::start(|_| TAKEN);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    window(&mqtt, "blower-1");
    broker.wait_taken("the first verdict", of_seq(0));
    broker.use_alias();
    wait_until("it says so", || mqtt.stats().last_error.is_some_and(|error| error.contains("topic aliases")));
    window(&mqtt, "blower-1");
    broker.wait_taken("the second verdict", of_seq(1));
    mqtt.stop(Duration::from_secs(5));
    assert!(broker.connects().len() >= 2);
}

#[test]
fn a_broker_that_was_told_to_speak_five_and_does_not_is_named() {
    let broker = ScriptedBroker::greeting(|_| Welcome::Refuse(0x84), |_| TAKEN);
    let dir = state_dir();
    let (mqtt, _incoming) = start(MqttOptions { version: only(Version::V5), ..options(&broker.url(), dir.path()) });
    wait_until("it says so", || mqtt.stats().last_error.is_some_and(|error| error.contains("does not speak MQTT 5")));
    mqtt.stop(Duration::from_secs(1));
    assert!(broker.connects().iter().all(|connect| connect.version == 5));
}

/// One server is enough to see which version it speaks.
#[test]
fn nats_is_spoken_to_in_three() {
    let dir = state_dir();
    let port = crate::common::broker::free_port();
    let (config, log) = (dir.path().join("nats.conf"), dir.path().join("log"));
    let text = format!(
        "server_name: one\nlisten: 127.0.0.1:{}\njetstream {{ store_dir: {:?} }}\nmqtt {{ listen: 127.0.0.1:{port} }}\n",
        crate::common::broker::free_port(),
        dir.path().join("store")
    );
    std::fs::write(&config, text).expect("a writable file");
    let _server = Program::start(Command::new(nats_server(1)).arg("-c").arg(&config), log);
    let url = format!("mqtt://127.0.0.1:{port}");
    let state = dir.path().join("state");
    let (mqtt, _incoming) = start(options(&url, &state));
    window(&mqtt, "blower-1");
    drained(&mqtt);
    assert_eq!(version(&mqtt), Some(4));
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// What the rules of a real broker deny is known at once, the rest goes on, and nothing is lost.
#[test]
fn a_topic_that_is_denied_waits_while_the_rest_goes_on() {
    let rules = |verdict: &str| {
        format!("topic readwrite auscult/pi-7/status\ntopic readwrite auscult/pi-7/event\ntopic read #\n{verdict}")
    };
    let prepare = |dir: &Path| {
        let rules = "topic readwrite auscult/pi-7/status\ntopic readwrite auscult/pi-7/event\ntopic read #\n\
                     topic write auscult/pi-7/fan-2/#\n";
        std::fs::write(dir.join("acl"), rules).expect("a file");
    };
    let config = "acl_file {dir}/acl".into();
    let broker = Broker::start_with(&BrokerOptions { config, prepare: Some(prepare), ..BrokerOptions::default() });
    let subscriber = Subscriber::start(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    for _ in 0..50 {
        window(&mqtt, "fan-1");
        window(&mqtt, "fan-2");
    }
    let of = |machine: &'static str| move |message: &Message| is_verdict(message) && message.topic.contains(machine);
    subscriber.wait_for_count("verdicts of the other machine", 50, of("fan-2"));
    let told = is_event(EventKind::PublishDenied, "auscult/pi-7/fan-1/verdict: the broker denies");
    let told = subscriber.wait_for("the event", told).json();
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("not authorised")), "{told}");
    assert_eq!(mqtt.stats().denied, ["auscult/pi-7/fan-1/verdict"]);
    wait_until("the rest is through", || mqtt.stats().outbox_depth == 50);
    assert!(!subscriber.messages().iter().any(of("fan-1")));

    // Somebody corrects the rules. What waited is late, and what comes now is kept by the broker.
    std::fs::write(broker.dir().join("acl"), rules("topic write auscult/pi-7/+/verdict\n")).expect("a file");
    broker.reload();
    subscriber.wait_for_count("what waited", 50, of("fan-1"));
    drained(&mqtt);
    assert_eq!((mqtt.stats().denied, mqtt.stats().refused), (Vec::new(), 0));
    window(&mqtt, "fan-1");
    let came = subscriber.wait_for_count("news", 51, of("fan-1"));
    let (late, news): (Vec<_>, Vec<_>) = came.iter().map(read_verdict).partition(|verdict| verdict.late);
    assert_eq!(late.iter().map(|verdict| verdict.seq).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert_eq!(news.iter().map(|verdict| verdict.seq).collect::<Vec<_>>(), [50]);
    drained(&mqtt);
    let kept = Subscriber::of(&broker, &["auscult/pi-7/fan-1/verdict"]).wait_for("the retained one", of("fan-1"));
    assert_eq!(read_verdict(&kept).seq, 50);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// A quota that is exceeded for a while.
#[test]
fn what_may_be_taken_later_is_kept() {
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let rule = move |publish: &Publish| match is_verdict(&publish.message) && is_full.load(Ordering::SeqCst) {
        true => Answer::Ack(QUOTA_EXCEEDED),
        false => TAKEN,
    };
    let broker = ScriptedBroker::start(rule);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    for _ in 0..100 {
        window(&mqtt, "fan-1");
    }
    broker.wait_taken("the event", is_event(EventKind::PublishDenied, "a quota of the broker is exceeded"));
    // It is asked again, but seldom, and with one message at a time.
    let refused = || broker.published().iter().filter(|publish| publish.answer == Answer::Ack(QUOTA_EXCEEDED)).count();
    let first = refused();
    assert!(first <= 20, "{first} messages were refused before it stopped");
    wait_until("it asks again", || refused() > first);
    assert_eq!(refused(), first + 1);
    full.store(false, Ordering::SeqCst);
    drained(&mqtt);
    assert_eq!(seqs(&broker.taken()).0["fan-1"], (0..100).collect::<Vec<_>>());
    assert_eq!(broker.connects().len(), 1);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// Whichever way the broker says that it will never take a message, it is not asked for ever.
#[test]
fn what_is_never_taken_is_given_up_and_told() {
    for (name, bad, reconnects) in [
        ("refused", Answer::Ack(TOPIC_INVALID), 0),
        // mosquitto 2.0 says it so, and the library cannot read it.
        ("unknown code", Answer::Ack(TOO_LARGE), 2),
        ("ended", Answer::Disconnect(TOO_LARGE), 2),
    ] {
        let rule = move |publish: &Publish| if of_seq(7)(&publish.message) { bad } else { TAKEN };
        let broker = ScriptedBroker::start(rule);
        let dir = state_dir();
        let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
        for _ in 0..40 {
            window(&mqtt, "fan-1");
        }
        drained(&mqtt);
        broker.wait_taken("the event", is_event(EventKind::MessageRefused, "auscult/pi-7/fan-1/verdict"));
        assert_eq!(mqtt.stats().refused, 1, "{name}");
        let came = &seqs(&broker.taken()).0["fan-1"];
        assert_eq!(*came, (0..40).filter(|seq| *seq != 7).collect::<Vec<_>>(), "{name}");
        let tried = broker.published().iter().filter(|publish| of_seq(7)(&publish.message)).count();
        assert!(tried <= 2, "{name}: tried {tried} times");
        assert!(broker.connects().len() <= 1 + reconnects, "{name}: {} connections", broker.connects().len());
        assert!(mqtt.stop(Duration::from_secs(5)).stopped_published, "{name}");
    }
}

/// mosquitto's DISCONNECT has a form that the library cannot read, and 3.1.1 has none: the connection just ends, each time that the
/// message is sent. It may be the broker's fault, so the message stays on the disk; what comes after it goes on.
#[test]
fn what_ends_every_connection_without_a_word_is_set_aside() {
    for number in [Version::V5, Version::V4] {
        let rule = |publish: &Publish| match of_seq(7)(&publish.message) {
            true => Answer::ShortDisconnect(TOO_LARGE),
            false => TAKEN,
        };
        let broker = ScriptedBroker::start(rule);
        let dir = state_dir();
        let (mqtt, _incoming) = start(MqttOptions { version: only(number), ..options(&broker.url(), dir.path()) });
        for _ in 0..40 {
            window(&mqtt, "fan-1");
        }
        broker.wait_taken("the event", is_event(EventKind::MessageRefused, "auscult/pi-7/fan-1/verdict"));
        wait_until("the others are taken", || mqtt.stats().outbox_depth == 1);
        let came = &seqs(&broker.taken()).0["fan-1"];
        assert_eq!(*came, (0..40).filter(|seq| *seq != 7).collect::<Vec<_>>(), "{number}");
        assert_eq!(mqtt.stats().refused, 1, "{number}");
        let tried = || broker.published().iter().filter(|publish| of_seq(7)(&publish.message)).count();
        let before = tried();
        assert!(before <= 6, "{number}: tried {before} times");
        // Nor on later connections; the others do not wait for it.
        broker.break_off();
        window(&mqtt, "fan-1");
        broker.wait_taken("what came later", of_seq(40));
        assert_eq!(tried(), before, "{number}");
        assert!(mqtt.stop(Duration::from_secs(5)).stopped_published, "{number}");
    }
}

/// Retained state is said on every connection: what ends the connection must not be said at once again.
#[test]
fn state_that_ends_the_connection_waits() {
    let rule = |publish: &Publish| match publish.message.topic.ends_with("/large") {
        true => Answer::Disconnect(TOO_LARGE),
        false => TAKEN,
    };
    let broker = ScriptedBroker::start(rule);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    mqtt.retained("homeassistant/large".into(), b"{}".to_vec());
    mqtt.retained("homeassistant/small".into(), b"{}".to_vec());
    window(&mqtt, "fan-1");
    broker.wait_taken("a verdict", of_seq(0));
    broker.wait_taken("the other state", |message| message.topic == "homeassistant/small");
    assert_eq!(mqtt.stats().denied, ["homeassistant/large"]);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// The broker does not say why: the message waits, and blocks nothing.
#[test]
fn what_is_refused_without_a_reason_is_tried_on_the_next_connection() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times);
    let rule = move |publish: &Publish| match of_seq(3)(&publish.message) && count.fetch_add(1, Ordering::SeqCst) == 0 {
        true => Answer::Ack(UNSPECIFIED),
        false => TAKEN,
    };
    let broker = ScriptedBroker::start(rule);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    for _ in 0..30 {
        window(&mqtt, "fan-1");
    }
    wait_until("the others are taken", || mqtt.stats().outbox_depth == 1);
    assert_eq!(times.load(Ordering::SeqCst), 1);
    broker.break_off();
    drained(&mqtt);
    assert_eq!(seqs(&broker.taken()).0["fan-1"], (0..30).collect::<Vec<_>>());
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// CONNACK's receive maximum 3, maximum packet size 700, server keep-alive 600.
const LIMITS: [u8; 11] = [33, 0, 3, 39, 0, 0, 2, 188, 19, 2, 88];

#[test]
fn the_brokers_limits_are_kept() {
    let greet = |_| Welcome::Accept(LIMITS.to_vec());
    let broker = ScriptedBroker::greeting(greet, |_| TAKEN);
    let dir = state_dir();
    let keep_alive = Duration::from_secs(1);
    let (mqtt, _incoming) = start(MqttOptions { keep_alive, ..options(&broker.url(), dir.path()) });
    broker.shuffle(3);
    mqtt.reply(vec![b' '; 2000]);
    for _ in 0..60 {
        window(&mqtt, "fan-1");
    }
    drained(&mqtt);
    broker.wait_taken("the event", is_event(EventKind::MessageRefused, "takes no packet over 700 bytes"));
    assert_eq!(mqtt.stats().refused, 1);
    assert_eq!(seqs(&broker.taken()).0["fan-1"], (0..60).collect::<Vec<_>>());
    assert!(broker.most_in_flight() <= 3, "{} in flight", broker.most_in_flight());
    // One that asks for a longer silence is not taken for dead.
    let quiet = Instant::now();
    wait_until("it has been quiet for long", || quiet.elapsed() > 10 * keep_alive);
    assert_eq!((broker.connects().len(), mqtt.stats().reconnects), (1, 0));
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// Acknowledgements in the wrong order, with every message in flight, and connections that break meanwhile.
#[test]
fn the_order_of_acknowledgements_does_not_matter() {
    for number in [Version::V4, Version::V5] {
        let broker = ScriptedBroker::start(|_| TAKEN);
        broker.shuffle(7);
        let dir = state_dir();
        let (mqtt, _incoming) = start(MqttOptions { version: only(number), ..options(&broker.url(), dir.path()) });
        for round in 0..5 {
            for _ in 0..60 {
                window(&mqtt, "fan-1");
            }
            wait_until("some are taken", || broker.taken().len() > 30 * round);
            broker.break_off();
        }
        drained(&mqtt);
        assert_eq!(seqs(&broker.taken()).0["fan-1"], (0..300).collect::<Vec<_>>(), "{number}");
        assert!(broker.most_in_flight() <= 20);
        assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
    }
}

/// The own status is denied: said at once, nothing leaves the disk, and all goes once it is allowed.
#[test]
fn a_status_that_is_denied_is_told_at_once() {
    let denied = Arc::new(AtomicBool::new(true));
    let is_denied = Arc::clone(&denied);
    let rule = move |publish: &Publish| match is_denied.load(Ordering::SeqCst) {
        true => Answer::Ack(NOT_AUTHORIZED),
        false => {
            let _ = publish;
            TAKEN
        }
    };
    let broker = ScriptedBroker::start(rule);
    let dir = state_dir();
    let begun = Instant::now();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    window(&mqtt, "fan-1");
    wait_until("it is told", || {
        mqtt.stats().last_error.is_some_and(|error| error.contains("the broker denies the agent's own status"))
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(mqtt.stats().denied, ["auscult/pi-7/status"]);
    assert!(!broker.published().iter().any(|publish| is_verdict(&publish.message)));
    denied.store(false, Ordering::SeqCst);
    broker.wait_taken("the verdict", of_seq(0));
    broker.wait_taken("the event", is_event(EventKind::PublishDenied, "auscult/pi-7/status"));
    assert!(mqtt.stats().denied.is_empty());
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

#[test]
fn a_subscription_that_is_denied_is_told() {
    let broker = ScriptedBroker::start(|_| TAKEN);
    broker.answer_subscriptions(NOT_AUTHORIZED);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    let told = is_event(EventKind::SubscribeDenied, "auscult/fleet/control: the broker denies the subscription");
    broker.wait_taken("the event", told);
    assert!(mqtt.stats().denied.contains(&"auscult/pi-7/control".to_owned()), "{:?}", mqtt.stats());
    // It is asked again on the same connection.
    broker.answer_subscriptions(1);
    wait_until("it is accepted", || mqtt.stats().denied.is_empty());
    assert_eq!(broker.connects().len(), 1);
    mqtt.stop(Duration::from_secs(5));
}

/// The library would ping such a broker without a pause.
#[test]
fn a_broker_that_wants_no_signs_of_life_is_left_in_peace() {
    let broker = ScriptedBroker::greeting(|_| Welcome::Accept(vec![19, 0, 0]), |_| TAKEN);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    for seq in 0..50 {
        window(&mqtt, "fan-1");
        broker.wait_taken("a verdict", of_seq(seq));
    }
    assert_eq!(broker.connects().len(), 1);
    mqtt.stop(Duration::from_secs(5));
}

/// A short break is no reason to say `offline`; a long one is.
#[test]
fn a_reconnect_raises_no_false_offline() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let dir = state_dir();
    let is =
        |state| move |message: &Message| message.is_agent(AgentPart::Status) && read_status(message).state == state;
    let will_delay = Duration::from_secs(2);
    let (mqtt, _incoming) = start(MqttOptions { will_delay, ..options(&network.url(), dir.path()) });
    subscriber.wait_for("online", is(AgentState::Online));
    for times in 2..6 {
        network.close_all();
        subscriber.wait_for_count("online again", times, is(AgentState::Online));
    }
    let quiet = Instant::now();
    wait_until("the delay is over", || quiet.elapsed() > 2 * will_delay);
    assert!(!subscriber.messages().iter().any(is(AgentState::Offline)));

    network.let_in(false);
    let away = Instant::now();
    network.close_all();
    subscriber.wait_for("the will", is(AgentState::Offline));
    assert!(away.elapsed() >= will_delay.mul_f64(0.4), "{:?}", away.elapsed());
    network.let_in(true);
    subscriber.wait_for_count("online again", 6, is(AgentState::Online));
    mqtt.stop(Duration::from_secs(5));
    subscriber.wait_for("stopped", is(AgentState::Stopped));
    let states: Vec<_> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_agent(AgentPart::Status))
        .map(|message| read_status(message).state)
        .collect();
    assert_eq!(states.iter().filter(|state| **state == AgentState::Offline).count(), 1, "{states:?}");
    assert_eq!(states.last(), Some(&AgentState::Stopped));
}

/// A message over mosquitto's `message_size_limit` is dropped by it: with 3.1.1 it says nothing, with 5 it says so.
#[test]
fn what_a_real_broker_finds_too_large_is_told() {
    let config = "message_size_limit 2000".into();
    let broker = Broker::start_with(&BrokerOptions { config, ..BrokerOptions::default() });
    let subscriber = Subscriber::start(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    for _ in 0..20 {
        window(&mqtt, "fan-1");
    }
    mqtt.reply(vec![b' '; 5000]);
    for _ in 0..20 {
        window(&mqtt, "fan-1");
    }
    subscriber.wait_for("the event", is_event(EventKind::MessageRefused, "auscult/pi-7/reply"));
    drained(&mqtt);
    subscriber.wait_for("the last verdict", of_seq(39));
    assert_eq!(seqs(&subscriber.messages()).0["fan-1"], (0..40).collect::<Vec<_>>());
    assert_eq!(mqtt.stats().refused, 1);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// What others see of a message: its content type; and that a command is not kept longer than it is good for.
#[test]
fn content_type_and_expiry_reach_others() {
    let broker = Broker::start();
    let mut settings = v5::MqttOptions::new("five", "127.0.0.1", broker.port());
    settings.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = v5::Client::new(settings, 10);
    client.subscribe("auscult/#", v5::mqttbytes::QoS::AtLeastOnce).expect("room");
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    let mut asked = None;
    for event in connection.iter() {
        let Ok(v5::Event::Incoming(v5::Incoming::Publish(publish))) = event else { continue };
        let properties = publish.properties.clone().unwrap_or_default();
        assert_eq!(properties.content_type.as_deref(), Some("application/json"), "{publish:?}");
        if publish.topic == "auscult/pi-7/status" && asked.is_none() {
            assert_eq!(properties.message_expiry_interval, None);
            let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
            ctl.args([
                "ctl",
                "--broker",
                &broker.url(),
                "--agent",
                "pi-7",
                "--timeout",
                "1",
                "--expires",
                "+2h",
                "ping",
            ]);
            asked = Some(std::thread::spawn(move || ctl.output().expect("ctl")));
        }
        if publish.topic == "auscult/pi-7/control" {
            let expiry = properties.message_expiry_interval.expect("the command expires");
            assert!((7190..=7200).contains(&expiry), "{expiry}");
            break;
        }
    }
    let output = asked.expect("it was asked").join().expect("no panic");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no reply within"), "{output:?}");
    mqtt.stop(Duration::from_secs(5));
}

/// A viewer who commands hears at once that the broker denies it.
#[test]
fn a_command_that_is_denied_is_told_at_once() {
    let prepare = |dir: &Path| {
        let rules = "topic read #\nuser pi-7\ntopic readwrite #\n";
        std::fs::write(dir.join("acl"), rules).expect("a file");
        let mut file = std::fs::File::create(dir.join("plain")).expect("a file");
        file.write_all(b"pi-7:secret\n").expect("a writable file");
        let made =
            Command::new("mosquitto_passwd").arg("-U").arg(dir.join("plain")).status().expect("mosquitto_passwd");
        assert!(made.success());
    };
    let config = "acl_file {dir}/acl\npassword_file {dir}/plain".into();
    let broker = Broker::start_with(&BrokerOptions { config, prepare: Some(prepare), ..BrokerOptions::default() });
    let dir = state_dir();
    let mut setup = options(&broker.url(), dir.path());
    (setup.broker.username, setup.broker.password) = (Some("pi-7".into()), Some("secret".into()));
    let (mqtt, _incoming) = start(setup);
    connected(&mqtt);
    let subscriber = Subscriber::start(&broker);
    subscriber.wait_for("online", |message| message.is_agent(AgentPart::Status));
    let begun = Instant::now();
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
    ctl.args(["ctl", "--broker", &broker.url(), "--agent", "pi-7", "--timeout", "30", "ping"]);
    let output = ctl.output().expect("ctl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not take what is published to auscult/pi-7/control: not authorised"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    mqtt.stop(Duration::from_secs(5));
}
