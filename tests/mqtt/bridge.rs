//! Several mosquittos, as deploy/mosquitto/README.md has them: a site's broker that hands on to a central one, and a standby.

use std::path::Path;
use std::time::Duration;

use auscult::config::Config;
use auscult::mqtt::MqttOptions;
use auscult::mqtt::tls::TlsFiles;
use auscult::mqtt::topics::AgentPart;

use crate::common::broker::{Broker, BrokerOptions, Message, Subscriber};
use crate::common::cluster::deployed;
use crate::common::program::done;
use crate::common::wait::{random_moment, wait_until};
use crate::rig::{AGENT, connected, drained, is_verdict, options, seqs, start, state_dir, window};

/// The certificates of a plant: its brokers', an agent's and a site's.
fn certificates() -> tempfile::TempDir {
    let dir = state_dir();
    for arguments in [&["ca"][..], &["broker", "localhost", "127.0.0.1"], &["agent", AGENT], &["agent", "site-north"]] {
        let mut script = std::process::Command::new(deployed("mosquitto/certificates.sh"));
        done(script.args(arguments).env("CERTS", dir.path()).env("DAYS", "30"));
    }
    dir
}

/// A broker with `auscult.conf` and what is `more`. Whoever logs in with a password is let in without one.
fn broker(certificates: &Path, acl: &str, more: &str) -> Broker {
    let conf = std::fs::read_to_string(deployed("mosquitto/auscult.conf")).expect("the configuration");
    let (agents, people) = conf.split_once("listener 8884").expect("two listeners");
    let (_, rest) = people.split_once("acl_file /etc/mosquitto/auscult/acl-people\n").expect("its end");
    let people = "listener {port2} 127.0.0.1\nallow_anonymous true\n";
    let rules = certificates.join(format!("acl-{:08x}", rand::random::<u32>()));
    std::fs::write(&rules, acl).expect("a writable file");
    let config = format!("persistence true\npersistence_location {{dir}}/\nuser root\n{agents}{people}{rest}\n{more}")
        .replace("listener 8883", "listener {port} 127.0.0.1")
        .replace("/etc/mosquitto/auscult/acl-agents", &rules.display().to_string())
        .replace("/etc/mosquitto/auscult", &certificates.display().to_string());
    Broker::start_with(&BrokerOptions { bare: true, config, ..BrokerOptions::default() })
}

fn file(name: &str) -> String {
    std::fs::read_to_string(deployed("mosquitto").join(name)).expect("a file of deploy/mosquitto")
}

fn person(broker: &Broker, id: &str) -> Subscriber {
    Subscriber::start_with(rumqttc::MqttOptions::new(id, "127.0.0.1", broker.port2()), &["auscult/#"])
}

fn tls(certificates: &Path) -> TlsFiles {
    let file = |name: &str| Some(certificates.join(name));
    TlsFiles { ca: file("ca.pem"), cert: file(&format!("{AGENT}.pem")), key: file(&format!("{AGENT}.key")) }
}

fn of_agent(part: AgentPart) -> impl Fn(&Message) -> bool {
    move |message| message.is_agent(part)
}

#[test]
fn a_sites_broker_hands_on_to_the_central_one_and_brings_commands() {
    let certificates = certificates();
    let mut central = broker(certificates.path(), &(file("acl-agents") + &file("acl-sites")), "");
    let bridge = file("bridge.conf");
    let words = [
        ("central.plant.example:8883", format!("localhost:{}", central.port())),
        ("/etc/mosquitto/auscult/site", certificates.path().join("site-north").display().to_string()),
    ];
    let bridge = words.iter().fold(bridge, |bridge, (from, to)| {
        assert!(bridge.contains(from), "{bridge}");
        bridge.replace(from, to)
    });
    let site = broker(certificates.path(), &file("acl-agents"), &bridge);
    let watching = person(&central, "database");

    let dir = state_dir();
    let url = format!("mqtts://localhost:{}", site.port());
    let (mqtt, mut incoming) = start(MqttOptions { tls: tls(certificates.path()), ..options(&url, dir.path()) });
    connected(&mqtt);
    window(&mqtt, "fan-1");
    watching.wait_for("the status", of_agent(AgentPart::Status));
    watching.wait_for("a verdict", is_verdict);
    for topic in [format!("auscult/{AGENT}/control"), "auscult/fleet/control".into()] {
        watching.publish(&topic, false, "of the plant");
        let command = incoming.blocking_recv().expect("a command");
        assert_eq!(command.payload.as_deref(), Ok("of the plant".as_bytes()));
    }

    // The central broker goes and comes back, ten times; the agent does not notice, and nothing is lost.
    for _ in 0..10 {
        let subscribed = watching.subscribed();
        central.kill();
        for _ in 0..20 {
            window(&mqtt, "fan-1");
        }
        drained(&mqtt);
        central.restart();
        wait_until("the database is back", || watching.subscribed() > subscribed);
    }
    wait_until("every verdict has come", || seqs(&watching.messages()).0["fan-1"] == (0..201).collect::<Vec<_>>());
    assert_eq!(mqtt.stats().reconnects, 0);
    println!("ten kills of the central broker behind a bridge: 201 of 201 verdicts");
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

#[test]
fn a_standby_takes_over() {
    let certificates = certificates();
    let new = || broker(certificates.path(), &file("acl-agents"), "");
    let mut brokers = [new(), new()];
    let readme = file("README.md");
    let standby = readme.split("```toml\n").find(|block| block.contains("broker-2.plant.example")).expect("its block");
    let mut text = standby.split_once("```").expect("its end").0.to_owned();
    for (number, broker) in brokers.iter().enumerate() {
        let name = format!("broker-{}.plant.example:8883", number + 1);
        assert!(text.contains(&name), "{text}");
        text = text.replace(&name, &format!("localhost:{}", broker.port()));
    }
    let config: Config = toml::from_str(&text).expect("the README's configuration");
    let urls = config.mqtt.url.clone();

    let databases = [0, 1].map(|number: usize| person(&brokers[number], &format!("database-{number}")));
    let dir = state_dir();
    let mut options = options("mqtts://localhost", dir.path());
    (options.broker.urls, options.tls) = (urls, tls(certificates.path()));
    // However often one dies, the other is taken after the shortest pause: with the longest this would never end.
    options.pause.1 = Duration::from_secs(3600);
    let (mqtt, _incoming) = start(options);
    connected(&mqtt);
    for kill in 0..10 {
        for _ in 0..10 {
            window(&mqtt, "fan-1");
        }
        let (here, there) = (kill % 2, (kill + 1) % 2);
        let subscribed = databases[here].subscribed();
        let is_online = |message: &Message| message.is_agent(AgentPart::Status) && message.json()["state"] == "online";
        let online = || databases[there].messages().iter().filter(|message| is_online(message)).count();
        let before = online();
        random_moment(Duration::from_millis(300)..Duration::from_millis(400));
        brokers[here].kill();
        for _ in 0..10 {
            window(&mqtt, "fan-1");
        }
        wait_until("the agent is at the other one", || online() > before);
        drained(&mqtt);
        brokers[here].restart();
        wait_until("the database is back", || databases[here].subscribed() > subscribed);
    }
    let all = || databases.iter().flat_map(Subscriber::messages).collect::<Vec<_>>();
    wait_until("every verdict is at one of them", || {
        let mut seqs = seqs(&all()).0.remove("fan-1").unwrap_or_default();
        seqs.sort_unstable();
        seqs.dedup();
        seqs == (0..200).collect::<Vec<_>>()
    });
    println!("ten kills of the one or the other of two brokers: 200 of 200 verdicts");
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}
