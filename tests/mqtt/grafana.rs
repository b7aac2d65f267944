//! The dashboards' queries on a real InfluxDB, filled with what real agents have sent (tests/grafana/check.py).

use std::path::Path;
use std::process::Command;

use auscult::mqtt::topics::{AgentPart, MachinePart};

use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::program::{Program, done};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
#[ignore = "heavy: InfluxDB"]
fn every_query_finds_what_agents_have_sent() {
    let Some(shared) = crate::common::shared() else { return };
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/grafana/setup.sh")));
    done(Command::new("python3").arg(Path::new(ROOT).join("deploy/grafana/build.py")).arg("--check"));

    println!("{}", done(Command::new("bash").arg(Path::new(ROOT).join("tests/grafana/types.sh"))));

    let dir = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let wav = shared.join("audio/mimii_fan_id_04_normal_00000126.wav");
    let text = format!(
        "[agent]\nid = \"pi-1\"\nhealth_every_s = 5\nstate_dir = {:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = {:?}\n[encoder]\nengine = \"tract\"\n\
         [[machine]]\nid = \"faulty\"\nmodel = \"id_04\"\nthreshold = 0.001\nhop_s = 0.5\nsource = {{ wav = {wav:?}, loop = true }}\n\
         [[machine]]\nid = \"healthy\"\nmodel = \"id_04\"\nthreshold = 900\nhop_s = 0.5\nsource = {{ wav = {wav:?}, loop = true }}\n",
        dir.path().join("state"),
        broker.url(),
        shared.join("escoita-bundle"),
    );
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, text).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    let _agent = Program::start(command.arg("run").arg("--config").arg(&config), dir.path().join("log"));
    subscriber.wait_for("an alarm", |message| {
        message.is_machine("faulty", MachinePart::Alarm) && message.json()["state"] == "active"
    });
    subscriber.wait_for("health", |message| message.is_agent(AgentPart::Health));

    let of_ours = |message: &Message| message.topic.starts_with("auscult/");
    let lines: String = subscriber
        .messages()
        .iter()
        .filter(|message| of_ours(message))
        .map(|message| format!("{}\n", serde_json::json!({ "topic": message.topic, "payload": message.json() })))
        .collect();
    let file = dir.path().join("messages");
    std::fs::write(&file, lines).expect("a writable file");
    println!("{}", done(Command::new("python3").arg(Path::new(ROOT).join("tests/grafana/check.py")).arg(&file)));
}
