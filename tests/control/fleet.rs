//! `auscult ctl`: one agent, a tag, the fleet; and an archive sent over the broker in pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use auscult::mqtt::tls::{TlsFiles, client_config};
use auscult::mqtt::topics::MachinePart;
use rumqttc::{TlsConfiguration, Transport};
use serde_json::{Value, json};

use crate::agent_process::{Site, ctl, new_id};
use crate::common::broker::{Broker, BrokerOptions, Message, Subscriber};
use crate::common::bundles::{Parts, encoder};
use crate::common::wait::wait_until;
use crate::retuning::recording;

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The JSON objects on stdout.
fn replies(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// So many agents, every other one with the tag `north`, the rest `south`. Without a bundle: nothing here asks for one.
fn agents(broker: &Broker, subscriber: &Subscriber, count: usize) -> Option<Vec<Site>> {
    let wav = recording()?;
    let site = |number: usize| {
        let tag = ["north", "south"][number % 2];
        let mut site = Site::new(&format!("pi-{number:02}"), tag, broker, &wav, "");
        site.start(subscriber);
        site
    };
    Some((0..count).map(site).collect())
}

#[test]
fn ctl_asks_one_or_many_and_exits_by_their_answers() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let Some(mut sites) = agents(&broker, &subscriber, 4) else { return };

    let one = ctl(&broker, &["--agent", "pi-01", "ping"]);
    assert_eq!(one.status.code(), Some(0), "{}", printed(&one));
    assert!(printed(&one).contains("pi-01") && printed(&one).contains(env!("CARGO_PKG_VERSION")), "{}", printed(&one));

    let set = ["threshold.set", "--machine", "fan-1", "--threshold", "0.31", "--reason", "after overhaul", "--json"];
    let north = ctl(&broker, &[&["--fleet", "--tag", "north"][..], &set[..]].concat());
    assert_eq!(north.status.code(), Some(0), "{}", printed(&north));
    let received = replies(&north);
    let mut who: Vec<_> = received.iter().map(|reply| reply["agent"].as_str().expect("an agent").to_owned()).collect();
    who.sort();
    assert_eq!(who, ["pi-00", "pi-02"]);
    assert!(received.iter().all(|reply| reply["data"]["machines"][0]["reason"] == "after overhaul"), "{received:?}");
    for (number, threshold) in [(0, json!(0.31)), (1, Value::Null)] {
        let get = json!({ "id": new_id(), "command": "threshold.get", "machine": "fan-1" });
        assert_eq!(sites[number].ask_ok(&broker, &subscriber, get)["machines"][0]["threshold"], threshold);
    }

    let mut wide = Command::new(env!("CARGO_BIN_EXE_auscult"));
    wide.args(["ctl", "--broker", &broker.url(), "--fleet", "threshold.get", "--machine", "*"]).env("COLUMNS", "200");
    let all = wide.output().expect("auscult starts");
    assert_eq!(all.status.code(), Some(0), "{}", printed(&all));
    let table = String::from_utf8(all.stdout.clone()).expect("UTF-8");
    let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
    assert!(widths.len() > 8 && widths.iter().all(|width| *width == widths[0]), "{}", printed(&all));

    for (arguments, words) in [
        (
            vec!["--agent", "pi-01", "threshold.get", "--machine", "fan-9"],
            "unknown_machine: machine: expected one of fan-1",
        ),
        (
            vec!["--agent", "pi-01", "alarm.confirm", "--machine", "nothere", "--outcome", "normal"],
            "unknown_machine: machine: expected one of fan-1, fan-2, found",
        ),
        (vec!["--agent", "pi-99", "ping"], "no agent \"pi-99\""),
        (vec!["--fleet", "--tag", "west", "ping"], "no agent with the tag \"west\" is online"),
    ] {
        let refused = ctl(&broker, &arguments);
        assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
        assert!(printed(&refused).contains(words), "{}", printed(&refused));
    }
    for (arguments, words) in [
        (vec!["ping"], "expected --agent ID or --fleet"),
        (
            vec!["--agent", "pi-01", "threshold.set", "--machine", "fan-1", "--threshold", "0"],
            "expected a number above 0",
        ),
        (vec!["--agent", "pi-01", "threshold.sett"], "threshold.set"),
        (vec!["--agent", "pi-01", "bundle.install"], "--sha256"),
    ] {
        let wrong = ctl(&broker, &arguments);
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}: {}", printed(&wrong));
        assert!(printed(&wrong).contains(words), "{}", printed(&wrong));
    }
    // One that is gone is not waited for, and said.
    sites[3].kill();
    subscriber.wait_for("the will", |message| {
        message.topic == "auscult/pi-03/status" && message.json()["state"] == "offline"
    });
    let rest = ctl(&broker, &["--fleet", "ping"]);
    assert_eq!(rest.status.code(), Some(0), "{}", printed(&rest));
    assert!(printed(&rest).contains("pi-03 is offline"), "{}", printed(&rest));
    let gone = ctl(&broker, &["--agent", "pi-03", "ping"]);
    assert_eq!(gone.status.code(), Some(1), "{}", printed(&gone));

    // How to reach the broker, from the agent's own file; and a broker that is not there.
    let config = sites[0].config();
    let mut by_config = Command::new(env!("CARGO_BIN_EXE_auscult"));
    let by_config = by_config.args(["ctl", "--agent", "pi-01", "ping", "--config"]).arg(config).output();
    assert_eq!(by_config.expect("auscult starts").status.code(), Some(0));
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_auscult"));
    let nowhere = nowhere.args(["ctl", "--broker", "mqtt://127.0.0.1:9", "--agent", "pi-01", "ping"]).output();
    let nowhere = nowhere.expect("auscult starts");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(printed(&nowhere).contains("mqtt://127.0.0.1:9: "), "{}", printed(&nowhere));
}

/// TLS with a password: from the agent's own file, and from flags.
#[test]
fn ctl_writes_what_was_heard_and_prints_how_the_agent_is() {
    let (broker, Some(wav)) = (Broker::start(), recording()) else { return };
    let subscriber = Subscriber::start(&broker);
    let mut site = Site::new("pi-00", "north", &broker, &wav, "[privacy]\nallow_audio = true\n");
    site.start(&subscriber);
    subscriber.wait_for("a window", |message| message.is_machine("fan-1", MachinePart::Verdict));
    let out = tempfile::tempdir().expect("a temporary directory");
    let folder = out.path().join("evidence").display().to_string();
    let evidence = ctl(&broker, &["--agent", "pi-00", "evidence.get", "--machine", "fan-1", "--out", &folder]);
    assert_eq!(evidence.status.code(), Some(0), "{}", printed(&evidence));
    let audio = Path::new(&folder).join("pi-00-fan-1-audio.wav");
    let sound = hound::WavReader::open(&audio).unwrap_or_else(|error| panic!("{error}: {}", printed(&evidence)));
    assert_eq!((sound.spec().channels, sound.duration()), (1, 5 * sound.spec().sample_rate));
    let picture = std::fs::read(Path::new(&folder).join("pi-00-fan-1-spectrogram.png")).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"));
    assert!(printed(&evidence).contains(&format!("wrote {}", audio.display())), "{}", printed(&evidence));

    let health = ctl(&broker, &["--agent", "pi-00", "health.get"]);
    assert_eq!(health.status.code(), Some(0), "{}", printed(&health));
    for words in ["pi-00: up for", "messages waiting", "pi-00 fan-1: ", "free on disk"] {
        assert!(printed(&health).contains(words), "{words}: {}", printed(&health));
    }
}

#[test]
fn ctl_reaches_a_broker_with_tls_and_login() {
    let Some(wav) = recording() else { return };
    let prepare = |dir: &Path| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mosquitto/certificates.sh");
        for arguments in [&["ca"][..], &["broker", "localhost", "127.0.0.1"]] {
            let mut run = Command::new(&script);
            let made = run.args(arguments).env("CERTS", dir.join("certs")).env("DAYS", "30").output();
            assert!(made.expect("the script runs").status.success());
        }
        std::fs::write(dir.join("passwords"), "").expect("a file");
        let passwords = dir.join("passwords").display().to_string();
        tool("mosquitto_passwd", &["-b", &passwords, "ana", "correct-horse"]);
        std::fs::write(dir.join("password"), "correct-horse\n").expect("a file");
        std::fs::write(dir.join("wrong"), "battery-staple\n").expect("a file");
    };
    let config = "cafile {dir}/certs/ca.pem\ncertfile {dir}/certs/broker.pem\nkeyfile {dir}/certs/broker.key\n\
                  password_file {dir}/passwords\n";
    let options =
        BrokerOptions { login_only: true, config: config.into(), prepare: Some(prepare), ..BrokerOptions::default() };
    let broker = Broker::start_with(&options);
    let file = |name: &str| broker.dir().join(name).display().to_string();
    let (ca, password, wrong, url) =
        (file("certs/ca.pem"), file("password"), file("wrong"), format!("mqtts://localhost:{}", broker.port()));
    let tls = client_config(&TlsFiles { ca: Some(ca.clone().into()), ..TlsFiles::default() }).expect("certificates");
    let mut client = rumqttc::MqttOptions::new("test", "localhost", broker.port());
    client
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_credentials("ana", "correct-horse");
    let subscriber = Subscriber::start_with(client, &["#"]);
    let mut site = Site::new("pi-7", "north", &broker, &wav, "");
    site.configure(|text| {
        let login = format!("url = {url:?}\nca_file = {ca:?}\nusername = \"ana\"\npassword_file = {password:?}");
        text.replace(&format!("url = {:?}", broker.url()), &login)
    });
    site.start(&subscriber);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
        command.args(["ctl", "--agent", "pi-7", "ping"]).args(arguments).output().expect("auscult starts")
    };
    let by_file = run(&["--config", &site.config().display().to_string()]);
    assert_eq!(by_file.status.code(), Some(0), "{}", printed(&by_file));
    let by_flags = ["--broker", &url, "--ca-file", &ca, "--username", "ana", "--password-file"];
    let flags = run(&[&by_flags[..], &[&password]].concat());
    assert_eq!(flags.status.code(), Some(0), "{}", printed(&flags));
    let refused = run(&[&by_flags[..], &[&wrong]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
    assert!(
        printed(&refused).contains("refuses the login") && !printed(&refused).contains("staple"),
        "{}",
        printed(&refused)
    );
    let untrusted = run(&["--broker", &url, "--username", "ana", "--password-file", &password]);
    assert_eq!(untrusted.status.code(), Some(1), "{}", printed(&untrusted));
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; tests/setup.sh installs it"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", printed(&output));
}

/// From the directory that training exports to a signed bundle in use on two agents, with the commands that one would
/// type; the second agent had a part of the archive already.
#[test]
fn a_signed_archive_is_installed_over_the_broker() {
    let (Some(encoder), Some(wav)) = (encoder(), recording()) else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    for key in ["ours", "theirs"] {
        tool("minisign", &["-G", "-W", "-p", &path(&format!("{key}.pub")), "-s", &path(&format!("{key}.key"))]);
    }
    let public = std::fs::read_to_string(path("ours.pub")).expect("a key");
    let key = format!("public_key = {:?}", public.lines().last().expect("a line"));
    let mut sites = ["pi-1", "pi-2"].map(|id| Site::new(id, "north", &broker, &wav, &key));
    for site in &mut sites {
        std::fs::create_dir(site.bundles()).expect("a directory");
        site.start(&subscriber);
    }
    Parts::valid(&encoder).write(&dir.path().join("export"));
    let pack = |version: &str| {
        tool(
            env!("CARGO_BIN_EXE_auscult"),
            &[
                "bundle",
                "pack",
                "--engine",
                "tract",
                "--name",
                "fans",
                "--bundle-version",
                version,
                "--out",
                &path("fans.tar.gz"),
                &path("export"),
            ],
        );
    };
    let sign = |key: &str| {
        tool("minisign", &["-S", "-W", "-s", &path(&format!("{key}.key")), "-m", &path("export/bundle.toml")])
    };
    let install =
        |who: &[&str]| ctl(&broker, &[who, &["--json", "bundle.install", "--file", &path("fans.tar.gz")]].concat());

    pack("1.0");
    for (key, words) in [(None, "expected a signature"), (Some("theirs"), "expected a signature of bundle.public_key")]
    {
        if let Some(key) = key {
            sign(key);
            pack("1.0");
        }
        let refused = install(&["--agent", "pi-1"]);
        assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
        assert_eq!(replies(&refused)[0]["error"]["code"], "bundle_invalid", "{}", printed(&refused));
        assert!(printed(&refused).contains(words), "{}", printed(&refused));
    }
    sign("ours");
    pack("1.0");
    // As if an earlier attempt had been cut off: the third piece is there, and nothing else.
    let archive = std::fs::read(path("fans.tar.gz")).expect("an archive");
    let sha256 = crate::common::bundles::sha256(&archive);
    use base64::prelude::{BASE64_STANDARD, Engine};
    let piece = json!({
        "id": new_id(), "command": "bundle.install", "sha256": sha256, "size": archive.len(), "offset": 262_144,
        "data": BASE64_STANDARD.encode(&archive[262_144..262_144 + 100_000]),
    });
    let progress = sites[1].ask_ok(&broker, &subscriber, piece);
    assert_eq!((&progress["received"], &progress["missing"]), (&json!(100_000), &json!([0, 262_144])));

    let done = install(&["--fleet"]);
    assert_eq!(done.status.code(), Some(0), "{}", printed(&done));
    let received = replies(&done);
    assert_eq!(received.len(), 2, "{received:?}");
    for (reply, site) in received.iter().zip(&sites) {
        assert_eq!(reply["data"]["bundle"], "fans@1.0", "{reply}");
        let link = std::fs::read_link(site.bundles().join("current")).expect("a link");
        assert_eq!(link.to_str(), Some("fans-1.0"));
        assert!(site.bundles().join(".incoming").read_dir().expect("a directory").next().is_none());
        assert_eq!(site.next_verdict(&subscriber, "fan-1")["bundle"], "fans@1.0");
    }
}

#[test]
#[ignore = "fifty agents"]
fn a_retune_by_tag_reaches_all_and_only_those() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let Some(sites) = agents(&broker, &subscriber, 50) else { return };
    let set = ["threshold.set", "--machine", "*", "--threshold", "0.3", "--json", "--timeout", "60"];
    let retuned = ctl(&broker, &[&["--fleet", "--tag", "south"][..], &set[..]].concat());
    assert_eq!(retuned.status.code(), Some(0), "{}", printed(&retuned));
    let received = replies(&retuned);
    let mut who: Vec<_> = received.iter().map(|reply| reply["agent"].as_str().expect("an agent").to_owned()).collect();
    who.sort();
    let expected: Vec<_> = (0..50).filter(|number| number % 2 == 1).map(|number| format!("pi-{number:02}")).collect();
    assert_eq!(who, expected);
    let id = received[0]["id"].as_str().expect("an id");
    let is_answer = |message: &Message| sites.iter().any(|site| site.is_reply(message, id));
    let answers = subscriber.wait_for_count("the answers", 25, is_answer);
    assert_eq!(answers.len(), 25, "others have answered too");
}

/// `ctl` to the fleet, while two agents `pi-1` and `pi-2` answer what they hear; the second one does not hear what `lost` accepts on
/// the fleet's topic, as if the broker had lost it. What came on the topic of either alone.
fn ctl_where_messages_are_lost(
    broker: &Broker,
    subscriber: &Subscriber,
    arguments: &[&str],
    lost: impl Fn(&Value) -> bool,
) -> (Output, Vec<Message>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["ctl", "--broker", &broker.url(), "--fleet", "--timeout", "30", "--json"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("auscult starts");
    let mut seen = subscriber.messages().len();
    let mut pieces: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut alone = Vec::new();
    wait_until("ctl has ended", || {
        let messages = subscriber.messages();
        let news = messages[seen..].to_vec();
        seen = messages.len();
        for message in news {
            let command = || message.json();
            let who: &[&str] = match message.topic.as_str() {
                "auscult/fleet/control" if lost(&command()) => &["pi-1"],
                "auscult/fleet/control" => &["pi-1", "pi-2"],
                "auscult/pi-1/control" => &["pi-1"],
                "auscult/pi-2/control" => &["pi-2"],
                _ => continue,
            };
            let command = command();
            if who.len() == 1 && message.topic != "auscult/fleet/control" {
                alone.push(message.clone());
            }
            for agent in who {
                let pieces = pieces.entry(*agent).or_default();
                if !command["data"].is_null() {
                    pieces.insert(command["offset"].as_u64().expect("an offset"));
                }
                let missing = command["size"].as_u64().filter(|size| (pieces.len() as u64) < size.div_ceil(128 << 10));
                let reply = json!({
                    "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": agent, "id": command["id"],
                    "command": command["command"], "status": "ok", "error": null, "late": false,
                    "data": { "missing": missing.map(|size| json!([0, size])) },
                });
                subscriber.publish_fast(&format!("auscult/{agent}/reply"), reply.to_string());
            }
        }
        child.try_wait().expect("a child").is_some()
    });
    (child.wait_with_output().expect("its output"), alone)
}

/// NATS 2.9 with three replicas loses messages that it has acknowledged.
#[test]
fn ctl_sends_again_what_the_broker_has_lost() {
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    for agent in ["pi-1", "pi-2"] {
        let ts = "2026-03-01T12:00:00.000Z";
        let status = json!({ "schema": 1, "state": "online", "boot": "1", "ts": ts });
        let info = json!({
            "schema": 1, "ts": ts, "agent": agent, "version": "0.1.0", "boot": "1", "bundle": null,
            "machines": [], "tags": [], "commands": [], "demo_bundle": false, "names": {},
        });
        subscriber.publish(&format!("auscult/{agent}/status"), true, status.to_string());
        subscriber.publish(&format!("auscult/{agent}/info"), true, info.to_string());
    }
    let (asked, alone) = ctl_where_messages_are_lost(&broker, &subscriber, &["ping", "--id", "7f3a"], |_| true);
    assert_eq!(asked.status.code(), Some(0), "{}", printed(&asked));
    assert_eq!(replies(&asked).len(), 2, "{}", printed(&asked));
    let [again] = &alone[..] else { panic!("once, to the one that has not answered: {alone:?}") };
    assert_eq!((again.topic.as_str(), &again.json()["id"]), ("auscult/pi-2/control", &json!("7f3a")));

    // Of a bundle in pieces, the pieces that were lost.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let archive = dir.path().join("bundle.tar.gz");
    std::fs::write(&archive, vec![7; 1_000_000]).expect("a writable file");
    let archive = archive.display().to_string();
    let is_second = |command: &Value| !command["data"].is_null() && command["offset"] == 128 << 10;
    let install = ["bundle.install", "--file", &archive];
    let (installed, alone) = ctl_where_messages_are_lost(&broker, &subscriber, &install, is_second);
    assert_eq!(installed.status.code(), Some(0), "{}", printed(&installed));
    let [again] = &alone[..] else { panic!("one piece, to one agent: {} messages", alone.len()) };
    assert!(again.topic == "auscult/pi-2/control" && is_second(&again.json()), "{}", again.topic);
}
