//! `auscult demo` and `auscult simulate`, as a user runs them.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::broker::Broker;

fn auscult(args: &[&str], temp: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(args).env("TMPDIR", temp).env_remove("RUST_LOG").stdin(Stdio::null());
    command.output().expect("it runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

#[test]
fn the_demo_hears_all_machines_through_the_broker_and_finds_the_ill_one() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    // The alarm ends it; on a slow computer the machines' time runs slower.
    let args = ["demo", "--json", "--until-alarm", "--seconds", "300", "--fault-after", "4", "--speed", "15"];
    let output = auscult(&args, temp.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", String::from_utf8_lossy(&output.stdout));
    let mut lines = lines(&output);
    let summary = lines.pop().expect("a last line")["summary"].clone();
    assert_eq!(summary["false_alarms"], serde_json::json!([]), "{summary}");
    assert!(summary["alarm_s"].as_f64() > summary["fault_s"].as_f64(), "{summary}");
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &lines {
        let topic = line["topic"].as_str().expect("a topic");
        if let Some(machine) = topic.strip_suffix("/verdict") {
            // The sequence has no holes: what the agents said came through the broker whole. After a broken connection MQTT
            // may say again what it has said.
            let count = seen.entry(machine).or_default();
            let seq = line["payload"]["seq"].as_u64().expect("a number");
            assert!(seq <= *count, "{topic}: {seq} after {count} verdicts");
            *count = (*count).max(seq + 1);
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
    let lost = lines.iter().filter(|line| line["payload"]["verdict"] == "unknown").count();
    assert_eq!(lost, 0, "windows wait for scoring");
    let left: Vec<_> = std::fs::read_dir(temp.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_the_demo_suggests_works_and_an_interrupted_one_leaves_nothing_behind() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["demo", "--fault-after", "1000"]).env("TMPDIR", temp.path()).env_remove("RUST_LOG");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    let mut next = || lines.next().expect("it goes on").expect("text");
    // The suggestions are those before Node-RED's; each is run by a shell as it stands there.
    assert!(next().contains("Broker: mqtt://127.0.0.1:"));
    next();
    let mut suggested = String::new();
    loop {
        let line = next();
        if line.contains("Node-RED") {
            assert!(line.contains("deploy/node-red/flows.json"), "{line}");
            break;
        }
        suggested += &line;
        suggested += "\n";
    }
    let mut all_heard = false;
    while !all_heard {
        let line = next();
        // A machine that nothing was heard of yet has a dash.
        all_heard = line.contains("verdicts: fan-a") && !line.contains(" -");
    }
    let (listen, retune) = suggested.split_once('\n').expect("two suggestions");
    let shell = |script: String| {
        let path =
            std::path::Path::new(env!("CARGO_BIN_EXE_auscult")).parent().expect("a directory").display().to_string();
        let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
        let output = Command::new("bash").args(["-c", &script]).env("PATH", path).output().expect("bash runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}\n{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    let heard = shell(format!("{listen} -C 8 -W 60"));
    assert!(heard.contains("auscult/hall-2/pump-b/alarm"), "{heard}");
    let replied = shell(retune.to_owned());
    assert!(replied.contains("fan-a") && replied.contains("override"), "{replied}");

    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(kill.success());
    let last = lines.map(|line| line.expect("text")).last().expect("an outcome");
    assert!(last.contains("of 8 machines came through the broker") && last.contains("ended before"), "{last}");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(temp.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let output = auscult(&["demo", "--port", &port, "--seconds", "1"], temp.path());
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && printed.contains(&port) && printed.lines().count() == 1, "{printed}");
}

#[test]
fn a_simulated_fleet_loses_nothing_and_leaves_nothing_with_the_broker() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let args = ["--agents", "20", "--machines", "3", "--rate", "10", "--seconds", "4", "--json"];
    let output = auscult(&[&["simulate", "--broker", &url], &args[..]].concat(), temp.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures = lines(&output).pop().expect("a line");
    assert_eq!((figures["connects"].as_u64(), figures["lost"].as_u64()), (Some(20), Some(0)), "{figures}");
    assert_eq!(figures["sent"], figures["acknowledged"], "{figures}");
    // 60 machines at two verdicts a second each, and two messages of each agent's birth.
    assert!(figures["sent"].as_u64() > Some(40 + 60), "{figures}");
    assert!(figures["puback_median_ms"].as_f64() <= figures["puback_p99_ms"].as_f64(), "{figures}");
    let port = broker.port().to_string();
    let kept = Command::new("mosquitto_sub").args(["-p", &port, "-t", "auscult/#", "-W", "1", "-F", "%t"]).output();
    assert_eq!(String::from_utf8_lossy(&kept.expect("mosquitto_sub runs").stdout), "");
}

#[test]
fn a_simulated_fleet_can_run_the_model() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::start();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
    let args = ["simulate", "--broker", &url, "--agents", "2", "--machines", "2", "--seconds", "6", "--json"];
    let output = auscult(&[&args[..], &["--bundle", bundle]].concat(), temp.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures = lines(&output).pop().expect("a line");
    assert!(figures["acknowledged"].as_u64() >= Some(6), "{figures}");
}

#[test]
fn too_few_open_files_are_reported_before_anything_is_tried() {
    let auscult = env!("CARGO_BIN_EXE_auscult");
    let script = format!("ulimit -n 100; exec {auscult} simulate --agents 500");
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && printed.contains("ulimit -n 540"), "{printed}");
}
