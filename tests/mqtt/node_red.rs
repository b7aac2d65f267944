//! deploy/node-red as a plant would use it: Node-RED from npm with the flow imported, mosquitto, two agents, Chromium.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auscult::mqtt::topics::MachinePart;
use serde_json::{Value, json};

use crate::common::broker::{Broker, Subscriber, free_port};
use crate::common::program::{Program, done};
use crate::common::wait::wait_within;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Node-RED with the flow imported and its broker set, and nothing else.
fn node_red(broker: &Broker, port: u16, dir: &Path) -> Program {
    let flows = std::fs::read_to_string(Path::new(ROOT).join("deploy/node-red/flows.json")).expect("the flow");
    let mut flows: Vec<Value> = serde_json::from_str(&flows).expect("a flow is JSON");
    let connection = flows.iter_mut().find(|node| node["type"] == "mqtt-broker").expect("a broker");
    connection["broker"] = "127.0.0.1".into();
    connection["port"] = broker.port().to_string().into();
    std::fs::write(dir.join("flows.json"), json!(flows).to_string()).expect("a writable file");
    let modules = Path::new(ROOT).join("target/node-red/node_modules");
    let settings = json!({
        "uiPort": port, "uiHost": "127.0.0.1", "userDir": dir, "flowFile": "flows.json", "credentialSecret": false,
        "nodesDir": modules.join("@flowfuse"), "telemetry": { "enabled": false }, "diagnostics": { "enabled": false },
    });
    let file = dir.join("settings.js");
    std::fs::write(&file, format!("module.exports = {settings}")).expect("a writable file");
    let mut command = Command::new("node");
    command.arg(modules.join("node-red/red.js")).arg("-s").arg(&file).current_dir(dir);
    Program::start(&mut command, dir.join("node-red.log"))
}

fn agent(id: &str, broker: &Broker, bundle: &Path, machines: &str, dir: &Path) -> Program {
    let config = dir.join(format!("{id}.toml"));
    let state = dir.join(id);
    let text = format!(
        "[agent]\nid = {id:?}\ntags = [\"hall-1\"]\nstate_dir = {state:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = {bundle:?}\n\
         [encoder]\nengine = \"tract\"\n{machines}",
        broker.url()
    );
    std::fs::write(&config, text).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.arg("run").arg("--config").arg(&config);
    Program::start(&mut command, dir.join(format!("{id}.log")))
}

fn silence(file: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(file, spec).expect("a writable file");
    (0..6 * 16_000).try_for_each(|_| writer.write_sample(0i16)).expect("a writable file");
    writer.finalize().expect("a writable file");
}

/// Two windows a second of a WAV file that never ends.
fn machine(id: &str, model: &str, wav: &Path, threshold: f64) -> String {
    format!(
        "[[machine]]\nid = {id:?}\nmodel = {model:?}\nhop_s = 0.5\nthreshold = {threshold}\n\
         source = {{ wav = {wav:?}, loop = true }}\n"
    )
}

#[test]
#[ignore = "heavy: Node-RED from npm, Chromium"]
fn the_flow_shows_the_fleet_and_commands_it() {
    let Some(shared) = crate::common::shared() else { return };
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/node-red/setup.sh")));
    done(Command::new("node").arg(Path::new(ROOT).join("deploy/node-red/build.mjs")).arg("--check"));

    let dir = tempfile::Builder::new().prefix("auscult-node-red-").tempdir().expect("a temporary directory");
    let mut broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    subscriber.publish_gone_agent();
    let alarm = json!({
        "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": "pi-3", "machine": "fan-d", "state": "active", "kind": "fault",
        "since": "2026-03-01T12:00:00.000Z", "count": 5, "ratio": null, "percentile": null, "lane": null, "bands": [],
        "text": null, "journal": null, "like": null, "provisional": false, "by": null, "comment": null, "until": null, "raised": "2026-03-01T12:00:00.000Z", "at": null, "late": false,
    });
    subscriber.publish("auscult/pi-3/fan-d/alarm", true, alarm.to_string());
    let port = free_port();
    let _node_red = node_red(&broker, port, dir.path());

    let bundle = shared.join("escoita-bundle");
    let (normal, abnormal) = (
        shared.join("audio/mimii_fan_id_04_normal_00000126.wav"),
        shared.join("audio/mimii_fan_id_02_abnormal_00000055.wav"),
    );
    let silent = dir.path().join("silence.wav");
    silence(&silent);
    let first = machine("fan-a", "id_04", &normal, 2.0) + &machine("deaf", "id_00", &silent, 0.3);
    let _first = agent("pi-1", &broker, &bundle, &first, dir.path());
    let second = machine("fan-b", "id_02", &abnormal, 0.1) + &machine("fan-c", "id_04", &normal, 2.0);
    let _second = agent("pi-2", &broker, &bundle, &second, dir.path());

    let shots = Path::new(ROOT).join("target/node-red/shots");
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    let drive = |what: &str| {
        let mut command = Command::new("node");
        command.arg(Path::new(ROOT).join("tests/node-red/drive.mjs"));
        command.arg(format!("http://127.0.0.1:{port}/dashboard/machines"));
        let printed = done(command.arg(&shots).arg(what));
        println!("{printed}");
        printed
    };
    let printed = drive("fleet");

    // What the person did has arrived where it counts.
    let wanted = printed.lines().find_map(|line| line.strip_prefix("threshold ")).expect("the threshold that was set");
    let wanted: f64 = wanted.parse().expect("a number");
    wait_within(Duration::from_secs(60), "verdicts by the new threshold", || {
        let judged_by = |verdict: &Value| {
            verdict["threshold"] == wanted
                && verdict["verdict"]
                    == if verdict["distance"].as_f64() > Some(wanted) { "anomalous" } else { "normal" }
        };
        let messages = subscriber.messages();
        let verdicts = messages.iter().filter(|message| message.is_machine("fan-a", MachinePart::Verdict));
        verdicts.filter(|message| judged_by(&message.json())).count() >= 3
    });
    let alarms: Vec<Value> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("fan-b", MachinePart::Alarm))
        .map(crate::common::broker::Message::json)
        .collect();
    for state in ["acknowledged", "shelved"] {
        assert!(alarms.iter().any(|alarm| alarm["state"] == state && alarm["by"] == "ana"), "{state}: {alarms:?}");
    }
    let answers: Vec<Value> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("fan-b", MachinePart::Event))
        .map(crate::common::broker::Message::json)
        .filter(|event| event["event"] == "alarm_confirmed")
        .map(|event| json!([event["outcome"], event["name"]]))
        .collect();
    assert_eq!(answers, [json!(["disturbance", null]), json!(["fault", "bearing"])]);
    for part in ["status", "info", "fan-d/alarm"] {
        subscriber.publish(&format!("auscult/pi-3/{part}"), true, "");
    }
    drive("forgotten");
    broker.kill();
    drive("lost");
}
