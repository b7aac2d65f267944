//! `auscult console` beside a real broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use rumqttc::MqttOptions;
use serde_json::{Value, json};

use super::browser::Browser;
use crate::common::broker::{Broker, Subscriber, free_port};
use crate::common::program::Program;
use crate::common::wait::wait_until;

struct Console {
    _dir: tempfile::TempDir,
    _program: Program,
    browser: Browser,
}

fn console(broker: &Broker) -> Console {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["console", "--broker", &broker.url(), "--listen", &address.to_string()]);
    let program = Program::start(&mut command, dir.path().join("log"));
    wait_until("the page", || std::net::TcpStream::connect(address).is_ok());
    Console { _dir: dir, _program: program, browser: Browser::new(address) }
}

/// A plant that publishes what it likes: only commands are looked at.
fn plant(broker: &Broker) -> Subscriber {
    let id = format!("plant-{:016x}", rand::random::<u64>());
    Subscriber::start_with(MqttOptions::new(id, "127.0.0.1", broker.port()), &["auscult/pi-1/control"])
}

fn broker_is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |message| message["topic"] == "$home" && message["payload"]["broker"] == state
}

#[test]
fn the_console_shows_the_fleet_says_when_the_broker_is_away_and_is_right_again() {
    let mut broker = Broker::start();
    let fleet = plant(&broker);
    fleet.publish("auscult/pi-1/status", true, r#"{"schema":1,"state":"online"}"#);
    fleet.publish("auscult/pi-1/fan-a/alarm", true, r#"{"state":"normal"}"#);
    fleet.publish("auscult/pi-1/info", true, "}],[{\"no\":\"JSON\"");
    let console = console(&broker);
    assert_eq!(console.browser.get("/session").json()["home"], "fleet");
    let mut page = console.browser.stream().expect("a stream");
    page.wait("the alarm's state", |message| message["topic"] == "auscult/pi-1/fan-a/alarm");
    page.wait("the broker", broker_is("connected"));

    let id = page.ask(json!({ "command": "ping" }));
    let command = fleet.wait_for("the command", |message| message.topic == "auscult/pi-1/control").json();
    assert_eq!(command["id"], json!(id));
    fleet.publish("auscult/pi-1/reply", false, json!({ "id": id, "status": "ok" }).to_string());
    page.wait("the reply", |message| message["topic"] == "auscult/pi-1/reply");
    page.send(&json!({ "watch": { "agent": "pi-1", "machine": "fan-a" } }));
    assert!(page.refusal().contains("agent's own page"));

    broker.kill();
    // Before the first connection it was away too, and that may have been said to this page.
    let lost = |message: &Value| broker_is("away")(message) && message["payload"]["problem"] != "connecting";
    let gone = page.wait("the broker's absence", lost);
    let still = page.wait("another attempt in vain", lost);
    assert_eq!(gone["payload"]["since"], still["payload"]["since"], "it is away since it went");
    page.ask(json!({ "command": "ping" }));
    assert_eq!(page.refusal(), "the broker is away");
    broker.restart();
    page.wait("the broker again", broker_is("connected"));
    fleet.wait_subscribed(2);
    fleet.publish("auscult/pi-1/fan-a/alarm", true, r#"{"state":"active"}"#);
    page.wait("the new state", |message| message["payload"]["state"] == "active");
    fleet.publish("auscult/pi-1/fan-a/alarm", true, "");
    page.wait("its end", |message| message["topic"] == "auscult/pi-1/fan-a/alarm" && message["payload"].is_null());
}

#[test]
fn a_browser_that_does_not_read_is_dropped_and_others_miss_nothing() {
    const COUNT: usize = 40;
    let broker = Broker::start();
    let fleet = plant(&broker);
    let console = console(&broker);
    let mut quick = console.browser.stream().expect("a stream");
    quick.until_ready();
    quick.wait("the broker", broker_is("connected"));
    let mut slow = console.browser.stream().expect("a stream");
    slow.until_ready();
    let padding = "x".repeat(1 << 20);
    for number in 0..COUNT {
        // One after the other, so that the quick one keeps up.
        let payload = json!({ "number": number, "padding": padding }).to_string();
        fleet.publish("auscult/pi-1/fan-a/evidence", false, payload);
        quick.wait("a message", |message| message["payload"]["number"] == number);
    }
    // What the slow one still gets is what was on its way; then the stream is closed.
    while slow.read() {}
    assert!(slow.seen(|message| message["payload"]["number"].is_u64()) < COUNT);
    assert!(console.browser.stream().is_ok());
}

#[test]
fn an_agent_that_is_gone_is_forgotten_and_one_that_is_there_is_not() {
    let broker = Broker::start();
    let fleet = plant(&broker);
    for agent in ["pi-1", "pi-3"] {
        let state = if agent == "pi-1" { "online" } else { "offline" };
        fleet.publish(&format!("auscult/{agent}/status"), true, json!({ "schema": 1, "state": state }).to_string());
        fleet.publish(&format!("auscult/{agent}/fan-a/alarm"), true, r#"{"state":"normal"}"#);
        fleet.publish(&format!("auscult/{agent}/fan-a/verdict"), true, r#"{"seq":1}"#);
        fleet.publish(&format!("auscult/{agent}/fan-a/picture"), true, "\u{89}PNG");
        for device in ["", "/fan-a"] {
            fleet.publish(&format!("homeassistant/device/auscult-{agent}{device}/config"), true, "{}");
        }
    }
    let console = console(&broker);
    assert_eq!(console.browser.get("/session").json()["forget"], true);
    let mut page = console.browser.stream().expect("a stream");
    page.wait("the broker", broker_is("connected"));
    page.wait("the agent's state", |message| message["topic"] == "auscult/pi-3/fan-a/verdict");
    page.send(&json!({ "forget": { "agent": "pi-1" } }));
    assert!(page.refusal().contains("online"));
    page.send(&json!({ "forget": { "agent": "pi-3" } }));
    for topic in ["fan-a/alarm", "fan-a/verdict", "status"] {
        let topic = format!("auscult/pi-3/{topic}");
        page.wait("the end of its state", |message| message["topic"] == topic && message["payload"].is_null());
    }
    // The broker keeps nothing of it.
    let id = format!("kept-{:016x}", rand::random::<u64>());
    let kept = Subscriber::start_with(
        MqttOptions::new(id, "127.0.0.1", broker.port()),
        &["auscult/pi-3/#", "homeassistant/#"],
    );
    kept.publish("auscult/pi-3/control", false, r#"{"id":"1","command":"ping"}"#);
    kept.wait_for("what comes after all that is kept", |message| message.topic == "auscult/pi-3/control");
    let mut topics: Vec<_> = kept.messages().into_iter().map(|message| message.topic).collect();
    topics.sort();
    let others = ["", "/fan-a"].map(|device| format!("homeassistant/device/auscult-pi-1{device}/config"));
    assert_eq!(topics[0], "auscult/pi-3/control");
    assert_eq!(topics[1..], others);
}
