//! What breaks in a plant, seen from the client: the broker, its process, the network, the disk.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use auscult::mqtt::payload::{EventKind, EventMsg, OutboxState};
use auscult::mqtt::topics::AgentPart;
use auscult::mqtt::version::Version;
use auscult::mqtt::{Mqtt, MqttOptions};
use rumqttc::QoS;

use crate::agent_process::read_health;
use crate::client_process::{AgentProcess, Setup};
use crate::common::broker::{Broker, BrokerOptions, Message, Subscriber, free_port};
use crate::common::disk::SmallDisk;
use crate::common::network::Network;
use crate::common::wait::{TIMEOUT, pace, random_moment, wait_or_explain, wait_until, wait_within};
use crate::rig::{connected, drained, is_verdict, only, options, read_verdict, seqs, start, state_dir, window};

const MACHINES: usize = 8;

/// Panics unless every machine's `seq`s run from 0 without a gap.
pub fn assert_complete(messages: &[Message], machines: usize) -> usize {
    let (seqs, duplicates) = seqs(messages);
    assert_eq!(seqs.len(), machines);
    for (machine, seqs) in &seqs {
        let missing: Vec<u64> = (0..=seqs.last().copied().unwrap_or(0)).filter(|seq| !seqs.contains(seq)).collect();
        assert!(missing.is_empty(), "{machine}: seq {missing:?} of 0..={:?} are missing", seqs.last());
    }
    duplicates
}

/// Broker killed at random moments, with and without its own persistence in turn, while 8 machines publish. What counts is
/// its PUBACK, read off the wire: mosquitto acknowledges before it has written anything down, and may then lose what nobody
/// has read (benches/broker_loss.py).
fn broker_killed(version: Version, rounds: usize) {
    let persistence = |on| BrokerOptions { persistence: on, ..BrokerOptions::default() };
    let mut broker = Broker::start_with(&persistence(true));
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) = start(MqttOptions { version: only(version), ..options(&network.url(), dir.path()) });
    connected(&mqtt);
    let publishing = Publishing::start(&mqtt, MACHINES, Duration::from_millis(40));
    for round in 0..rounds {
        random_moment(Duration::from_millis(100)..Duration::from_millis(700));
        // Without persistence the broker forgets the subscriber too: it has to be back before anything is sent.
        network.let_in(false);
        let subscribed = subscriber.subscribed();
        broker.kill();
        broker.configure(&persistence(round % 2 == 1));
        random_moment(Duration::ZERO..Duration::from_millis(200));
        broker.restart();
        subscriber.wait_subscribed(subscribed + 1);
        network.let_in(true);
        wait_until("the client is back", || mqtt.is_connected());
    }
    let pushed = publishing.end();
    wait_within(Duration::from_secs(300), "the outbox is empty", || mqtt.stats().outbox_depth == 0);
    let sent = || pushed.values().sum::<u64>();
    let count = |seqs: &BTreeMap<String, Vec<u64>>| seqs.values().map(|seqs| seqs.len() as u64).sum::<u64>();
    // The depth does not count what is being written at this moment: an empty outbox alone does not mean that all is sent.
    // What has left it without a PUBACK never gets here.
    let explain = || {
        let (acknowledged, came) = (seqs(&network.acknowledged()).0, seqs(&subscriber.messages()).0);
        let lacks = |seqs: &BTreeMap<String, Vec<u64>>, machine: &str, pushed: u64| -> Vec<u64> {
            (0..pushed).filter(|seq| !seqs.get(machine).is_some_and(|seqs| seqs.contains(seq))).collect()
        };
        let machines = pushed.iter().map(|(machine, pushed)| {
            let (no_puback, not_there) = (lacks(&acknowledged, machine, *pushed), lacks(&came, machine, *pushed));
            format!("\n{machine}: {pushed}, not acknowledged: {no_puback:?}, did not come: {not_there:?}")
        });
        let machines: String = machines.collect();
        format!("the broker has acknowledged every message; {:?}{machines}", mqtt.stats())
    };
    wait_or_explain(TIMEOUT, explain, || count(&seqs(&network.acknowledged()).0) == sent());
    assert_complete(&network.acknowledged(), MACHINES);
    // Behind everything that the broker still has for the subscriber.
    subscriber.publish("test/last", false, "");
    subscriber.wait_for("what was published last", |message| message.topic == "test/last");
    let (came, duplicates) = seqs(&subscriber.messages());
    println!(
        "{version}: {rounds} times kill -9 of the broker: {} verdicts, all acknowledged; {} of them lost by the broker afterwards, \
         {duplicates} came twice",
        sent(),
        sent() - count(&came)
    );
    mqtt.stop(Duration::from_secs(5));
}

#[test]
fn nothing_is_lost_when_the_broker_is_killed() {
    broker_killed(Version::V5, 3);
}

#[test]
fn nothing_is_lost_with_mqtt_3_when_the_broker_is_killed() {
    broker_killed(Version::V4, 3);
}

#[test]
#[ignore = "heavy: 20 rounds"]
fn nothing_is_lost_when_the_broker_is_killed_20_times() {
    broker_killed(Version::V5, 20);
}

#[test]
#[ignore = "heavy: 20 rounds"]
fn nothing_is_lost_with_mqtt_3_when_the_broker_is_killed_20_times() {
    broker_killed(Version::V4, 20);
}

/// Agent killed at random moments while 8 machines publish, the broker away in every third round.
fn agent_killed(version: Version, rounds: usize) {
    let mut broker = Broker::start_with(&BrokerOptions { persistence: true, ..BrokerOptions::default() });
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let dir = state_dir();
    let setup = Setup {
        url: network.url(),
        state_dir: dir.path().to_owned(),
        machines: MACHINES,
        every_ms: 30,
        version: only(version),
        ..Setup::default()
    };
    let mut offline_rounds = 0;
    for round in 0..rounds {
        if round % 3 == 2 {
            broker.kill();
            offline_rounds += 1;
        }
        let mut agent = AgentProcess::start(&setup);
        random_moment(Duration::from_millis(30)..Duration::from_millis(600));
        agent.kill();
        if round % 3 == 2 {
            let subscribed = subscriber.subscribed();
            broker.restart();
            subscriber.wait_subscribed(subscribed + 1);
        }
    }
    // Slow enough for a broker that writes every message to disk.
    let mut agent = AgentProcess::start(&Setup { every_ms: 500, ..setup });
    wait_until("the last start is connected", || !agent.lines_with("connected to").is_empty());
    wait_within(Duration::from_secs(300), "the outbox is empty", || {
        let messages = subscriber.messages();
        let last = messages.iter().rev().find(|message| message.is_agent(AgentPart::Health));
        last.is_some_and(|health| read_health(health).mqtt.outbox_depth < 2 * MACHINES as u64)
    });
    agent.stop();
    assert_eq!(agent.lines_with("stopped_published: true, left: 0").len(), 1, "{:?}", agent.lines());
    subscriber
        .wait_for("stopped", |message| message.is_agent(AgentPart::Status) && message.json()["state"] == "stopped");
    assert_complete(&network.acknowledged(), MACHINES);
    let messages = subscriber.messages();
    let (_, duplicates) = seqs(&messages);
    let verdicts = messages.iter().filter(|message| is_verdict(message)).count();
    println!(
        "{version}: {rounds} times kill -9 of the agent ({offline_rounds} without a broker): {verdicts} verdicts, every seq acknowledged, \
         {duplicates} came twice"
    );
}

#[test]
fn nothing_is_lost_or_sent_twice_differently_when_the_agent_is_killed() {
    agent_killed(Version::V5, 3);
}

#[test]
#[ignore = "heavy: 20 rounds"]
fn nothing_is_lost_or_sent_twice_differently_when_the_agent_is_killed_20_times() {
    agent_killed(Version::V5, 20);
}

#[test]
#[ignore = "heavy: 20 rounds"]
fn nothing_is_lost_or_sent_twice_differently_with_mqtt_3_when_the_agent_is_killed_20_times() {
    agent_killed(Version::V4, 20);
}

/// The network swallows packets without a word.
fn network_cut(version: Version, keep_alive: Duration) {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let network = Network::to(&broker);
    let dir = state_dir();
    let version = only(version);
    let (mqtt, _incoming) = start(MqttOptions { version, keep_alive, ..options(&network.url(), dir.path()) });
    connected(&mqtt);
    let publishing = Publishing::start(&mqtt, MACHINES, Duration::from_millis(50));
    wait_until("messages flow", || network.acknowledged().len() > 4 * MACHINES);
    network.cut();
    let cut = Instant::now();
    wait_until("the loss is noticed", || !mqtt.is_connected());
    let noticed = cut.elapsed();
    assert!(noticed < keep_alive.mul_f64(1.5) + Duration::from_secs(1), "noticed after {noticed:?}");
    // Longer than the keep-alive.
    wait_until("the cut has lasted", || cut.elapsed() > 2 * keep_alive);
    network.mend();
    wait_until("the client is back", || mqtt.is_connected());
    let pushed = publishing.end();
    drained(&mqtt);
    wait_until("all have come", || {
        let (seqs, _) = seqs(&subscriber.messages());
        seqs.values().map(|seqs| seqs.len() as u64).sum::<u64>() == pushed.values().sum::<u64>()
    });
    assert_complete(&subscriber.messages(), MACHINES);
    mqtt.stop(Duration::from_secs(5));
}

#[test]
fn a_cut_network_is_noticed_in_time_and_survived() {
    // rumqttc takes no shorter one with MQTT 5.
    network_cut(Version::V5, Duration::from_secs(5));
}

#[test]
fn a_cut_network_is_noticed_in_time_and_survived_with_mqtt_3() {
    network_cut(Version::V4, Duration::from_secs(2));
}

#[test]
fn an_absent_broker_is_reported_once_and_waited_for() {
    let port = free_port();
    let dir = state_dir();
    let setup = Setup {
        url: format!("mqtt://127.0.0.1:{port}"),
        state_dir: dir.path().to_owned(),
        machines: 1,
        every_ms: 20,
        ..Setup::default()
    };
    let mut agent = AgentProcess::start(&setup);
    agent.wait_for_attempts(6);
    assert_eq!(agent.lines_with("WARN").len(), 1, "{:?}", agent.lines());
    assert_eq!(
        agent.lines_with("nothing listens there").len(),
        1 + agent.lines_with("DEBUG").iter().filter(|line| line.contains("nothing listens there")).count()
    );
    agent.kill();

    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let mut agent = AgentProcess::start(&Setup { url: broker.url(), ..setup });
    let all = subscriber.wait_for_count("late and live verdicts", 30, is_verdict);
    assert!(read_verdict(&all[0]).late || all.iter().any(|message| read_verdict(message).late));
    wait_until("late ones are through", || {
        let messages = subscriber.messages();
        let (seqs, _) = seqs(&messages);
        seqs.values().all(|seqs| seqs.first() == Some(&0) && seqs.windows(2).all(|pair| pair[1] == pair[0] + 1))
    });
    agent.stop();
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    let place = state_dir();
    let Some(disk) = SmallDisk::mount(place.path(), 4) else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let (mqtt, _incoming) = start(options(&broker.url(), disk.path));
    connected(&mqtt);
    for _ in 0..10 {
        window(&mqtt, "blower-1");
    }
    drained(&mqtt);
    disk.fill();
    let publishing = Publishing::start(&mqtt, 1, Duration::from_millis(10));
    wait_until("the outbox says so", || mqtt.stats().outbox_state == OutboxState::Memory);
    assert!(mqtt.stats().outbox_error.is_some());
    let before = subscriber.messages().iter().filter(|message| is_verdict(message)).count();
    let live = subscriber.wait_for_count("verdicts from memory", before + 100, is_verdict);
    assert!(live.iter().all(|message| !read_verdict(message).late), "they are news");
    subscriber.wait_for("the event", is_event(EventKind::OutboxFailed));
    disk.free();
    wait_until("the outbox is back on disk", || mqtt.stats().outbox_state == OutboxState::Disk);
    subscriber.wait_for("the event", is_event(EventKind::OutboxBack));
    let pushed = publishing.end();
    drained(&mqtt);
    let expected = 10 + pushed["m0"];
    wait_until("all have come", || {
        let (seqs, _) = seqs(&subscriber.messages());
        seqs.values().map(Vec::len).sum::<usize>() as u64 == expected
    });
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

fn is_event(kind: EventKind) -> impl Fn(&Message) -> bool {
    move |message| {
        message.is_agent(AgentPart::Event)
            && serde_json::from_slice::<EventMsg>(&message.payload).expect("an event").event == kind
    }
}

/// Threads that publish windows of `m0`, `m1`, ... until told to end.
struct Publishing {
    ending: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<thread::JoinHandle<(String, u64)>>,
}

impl Publishing {
    fn start(mqtt: &Mqtt, machines: usize, every: Duration) -> Publishing {
        let ending = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let threads = (0..machines).map(|number| {
            let (mqtt, ending) = (mqtt.clone(), std::sync::Arc::clone(&ending));
            thread::spawn(move || {
                let machine = format!("m{number}");
                let mut count = 0;
                while !ending.load(std::sync::atomic::Ordering::SeqCst) {
                    window(&mqtt, &machine);
                    count += 1;
                    pace(every);
                }
                (machine, count)
            })
        });
        Publishing { threads: threads.collect(), ending }
    }

    /// How many windows each machine published.
    fn end(self) -> BTreeMap<String, u64> {
        self.ending.store(true, std::sync::atomic::Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    }
}

#[test]
fn everything_goes_with_quality_of_service_1() {
    let broker = Broker::start();
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    let mut settings = rumqttc::MqttOptions::new("qos", "127.0.0.1", broker.port());
    settings.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = rumqttc::Client::new(settings, 10);
    client.subscribe("auscult/#", QoS::ExactlyOnce).expect("room");
    connected(&mqtt);
    let publishing = Publishing::start(&mqtt, 1, Duration::from_millis(20));
    let mut seen = 0;
    for event in connection.iter() {
        if let Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) = event {
            assert_eq!(publish.qos, QoS::AtLeastOnce, "{}", publish.topic);
            seen += 1;
            if seen == 10 {
                break;
            }
        }
    }
    publishing.end();
    mqtt.stop(Duration::from_secs(5));
}
