//! What `auscult check` finds out about the rights of an agent, and certificates that end or cannot be used.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auscult::mqtt::MqttOptions;
use auscult::mqtt::payload::EventKind;
use auscult::mqtt::tls::{TlsFiles, client_config};
use auscult::mqtt::topics::AgentPart;
use serde_json::json;

use crate::common::broker::{Broker, BrokerOptions, Subscriber};
use crate::common::cluster::deployed;
use crate::common::program::done;
use crate::rig::{options, start, state_dir};

/// What `auscult check` says of the broker, for the agent `id`.
fn check(broker: &Broker, id: &str) -> String {
    let dir = state_dir();
    let config = dir.path().join("agent.toml");
    let text = format!("[agent]\nid = {id:?}\nstate_dir = {:?}\n[mqtt]\nurl = {:?}\n", dir.path(), broker.url());
    std::fs::write(&config, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_auscult")).arg("check").arg("--config").arg(&config).output();
    let output = output.expect("auscult starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| line.split_whitespace().nth(1) == Some("broker")).collect();
    lines.join("\n")
}

fn ruled(rules: fn(&Path)) -> Broker {
    let config = "acl_file {dir}/acl".into();
    Broker::start_with(&BrokerOptions { config, prepare: Some(rules), ..BrokerOptions::default() })
}

#[test]
fn check_tells_what_the_agent_may_not_do() {
    let denied = ruled(|dir| std::fs::write(dir.join("acl"), "topic read auscult/#\n").expect("a file"));
    let said = check(&denied, "pi-7");
    assert!(said.starts_with("FAIL") && said.contains("access rules"), "{said}");
    let half = ruled(|dir| {
        let rules = "topic write auscult/pi-7/#\ntopic read auscult/pi-7/status\ntopic read auscult/fleet/control\n";
        std::fs::write(dir.join("acl"), rules).expect("a file");
    });
    let said = check(&half, "pi-7");
    assert!(
        said.contains("WARN") && said.contains("auscult/pi-7/control and auscult/pi-7/check/threshold/set"),
        "{said}"
    );

    // Where all is well it says so; what the broker keeps of the agent, and what others see of it, stays as it is.
    let open = Broker::start();
    let subscriber = Subscriber::of(&open, &["auscult/+/status"]);
    let status = json!({ "schema": 1, "state": "online", "boot": "1", "ts": "2026-03-01T12:00:00.000Z" }).to_string();
    subscriber.publish("auscult/pi-7/status", true, status.clone());
    let said = check(&open, "pi-7");
    assert!(said.starts_with("ok") && said.contains("may write and read") && said.lines().count() == 1, "{said}");
    let seen = subscriber.messages();
    assert!(seen.iter().all(|message| message.payload == status.as_bytes() && !message.retained), "{seen:?}");
    let late = Subscriber::of(&open, &["auscult/+/status"]);
    let kept = late.wait_for("the status", |message| message.is_agent(AgentPart::Status));
    assert!(kept.retained && kept.payload == status.as_bytes());

    let said = check(&open, "pi.7");
    assert!(said.contains("WARN") && said.contains("NATS or RabbitMQ"), "{said}");
}

/// The script that is shipped, in the broker's directory, for so many days.
fn make(dir: &Path, days: &str, arguments: &[&str]) {
    let mut script = Command::new(deployed("mosquitto/certificates.sh"));
    done(script.args(arguments).env("CERTS", dir.join("certs")).env("DAYS", days));
}

#[test]
fn a_certificate_that_ends_soon_is_said_in_an_event_and_in_health() {
    let prepare = |dir: &Path| {
        make(dir, "60", &["ca"]);
        make(dir, "60", &["broker", "localhost"]);
        make(dir, "20", &["agent", "pi-7"]);
        make(dir, "60", &["agent", "pi-8"]);
    };
    let config = "cafile {dir}/certs/ca.pem\ncertfile {dir}/certs/broker.pem\nkeyfile {dir}/certs/broker.key\n\
                  require_certificate true\n";
    let broker = Broker::start_with(&BrokerOptions {
        config: config.into(),
        prepare: Some(prepare),
        ..BrokerOptions::default()
    });
    let file = |name: &str| Some(broker.dir().join("certs").join(name));
    let files = |agent: &str| TlsFiles {
        ca: file("ca.pem"),
        cert: file(&format!("{agent}.pem")),
        key: file(&format!("{agent}.key")),
    };
    let mut listener = rumqttc::MqttOptions::new("listener", "localhost", broker.port());
    let config = client_config(&files("pi-8")).expect("certificates");
    listener.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)));
    let subscriber = Subscriber::start_with(listener, &["#"]);
    let dir = state_dir();
    let url = format!("mqtts://localhost:{}", broker.port());
    let (mqtt, _incoming) = start(MqttOptions { tls: files("pi-7"), ..options(&url, dir.path()) });
    let event = subscriber.wait_for("the event", |message| {
        message.is_agent(AgentPart::Event) && message.json()["event"] == EventKind::CertificateEnds.to_string()
    });
    let detail = event.json()["detail"].as_str().expect("a line").to_owned();
    assert!(detail.contains("pi-7.pem: the certificate expires in 19 days"), "{detail}");
    let until = mqtt.stats().certificate_until.expect("it is known");
    let days = (until.utc() - chrono::Utc::now()).num_days();
    assert_eq!(days, 19);
    mqtt.stop(Duration::from_secs(5));
}
