//! The page as a person uses it: `auscult console` beside mosquitto and real agents, in a real Chromium.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use auscult::mqtt::topics::MachinePart;
use serde_json::{Value, json};

use crate::common;
use crate::common::broker::{Broker, Message, Subscriber, free_port};
use crate::common::program::{Program, done};
use crate::common::sound::Rig;
use crate::common::wait::wait_within;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PASSWORD: &str = "correct horse";

/// An agent with a page of its own at `listen`.
fn agent(id: &str, broker: &Broker, bundle: &Path, listen: &str, machines: &str, dir: &Path) -> Program {
    // To install another bundle, the one in use has to be behind a link.
    let bundles = dir.join(format!("{id}-bundles"));
    copy(bundle, &bundles.join("first"));
    let path = bundles.join("current");
    std::os::unix::fs::symlink("first", &path).expect("a link");
    let config = dir.join(format!("{id}.toml"));
    let state = dir.join(id);
    let text = format!(
        "[agent]\nid = {id:?}\ntags = [\"hall-1\"]\nstate_dir = {state:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = {path:?}\n\
         [web]\nlisten = {listen:?}\n[alarm]\nclear_after_s = 600\n[encoder]\nengine = \"tract\"\n{machines}",
        broker.url()
    );
    std::fs::write(&config, text).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.arg("run").arg("--config").arg(&config);
    Program::start(&mut command, dir.join(format!("{id}.log")))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

/// Two windows a second of a WAV file that never ends.
fn machine(id: &str, model: &str, wav: &Path, threshold: f64) -> String {
    format!(
        "[[machine]]\nid = {id:?}\nmodel = {model:?}\nhop_s = 0.5\nthreshold = {threshold}\n\
         source = {{ wav = {wav:?}, loop = true }}\n"
    )
}

fn console(broker: &Broker, port: u16, dir: &Path) -> Program {
    let password = dir.join("password");
    std::fs::write(&password, PASSWORD).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.args(["console", "--broker", &broker.url(), "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--page-password-file").arg(&password);
    Program::start(&mut command, dir.join("console.log"))
}

/// A bundle that differs from `bundle`, packed.
fn packed(bundle: &Path, dir: &Path) -> PathBuf {
    let next = dir.join("next");
    copy(bundle, &next);
    let mut pack = Command::new(env!("CARGO_BIN_EXE_auscult"));
    pack.args(["bundle", "pack", "--bundle-version", "2026.2"]).arg(&next).current_dir(dir);
    done(&mut pack);
    let files = std::fs::read_dir(dir).expect("the directory").map(|entry| entry.expect("an entry").path());
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "gz")).expect("an archive")
}

/// Runs a script of the browser's; what it asks for by a line `please ...` is done here. Answers all that it printed.
fn drive(script: &str, arguments: &[&str], mut please: impl FnMut(&str)) -> String {
    let mut command = Command::new("node");
    command.arg(Path::new(ROOT).join("tests/page").join(script)).args(arguments).stdout(Stdio::piped());
    let mut child = command.spawn().expect("node starts");
    let mut printed = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        println!("{line}");
        if let Some(what) = line.strip_prefix("please ") {
            please(what);
        }
        printed += &line;
        printed += "\n";
    }
    assert!(child.wait().expect("a child").success(), "the browser's script failed");
    printed
}

#[test]
#[ignore = "heavy: Chromium, packages from npm"]
fn the_page_shows_the_fleet_and_commands_it() {
    let Some(shared) = common::shared() else { return };
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/page/setup.sh")));
    let tsc = Path::new(ROOT).join("target/page/node_modules/.bin/tsc");
    done(Command::new(tsc).arg("-p").arg(Path::new(ROOT).join("src/web/tsconfig.json")));

    let dir = tempfile::Builder::new().prefix("auscult-page-").tempdir().expect("a temporary directory");
    let mut broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    subscriber.publish_gone_agent();
    let bundle = shared.join("escoita-bundle");
    let (normal, abnormal) = (
        shared.join("audio/mimii_fan_id_04_normal_00000126.wav"),
        shared.join("audio/mimii_fan_id_02_abnormal_00000055.wav"),
    );
    let first = machine("fan-a", "id_04", &normal, 2.0) + &machine("fan-b", "id_02", &abnormal, 0.1);
    let listen = format!("127.0.0.1:{}", free_port());
    let _first = agent("pi-1", &broker, &bundle, &listen, &first, dir.path());
    let second = machine("fan-c", "id_04", &normal, 2.0);
    let mut second = Some(agent("pi-2", &broker, &bundle, "none", &second, dir.path()));
    let port = free_port();
    let mut page = Some(console(&broker, port, dir.path()));

    let shots = Path::new(ROOT).join("target/page/shots");
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    let (address, shots) = (format!("http://127.0.0.1:{port}"), shots.to_string_lossy().into_owned());
    let archive = packed(&bundle, dir.path()).to_string_lossy().into_owned();
    let own = format!("http://{listen}");
    let printed = drive("drive.mjs", &[&address, &shots, PASSWORD, &archive, &own], |what| match what {
        "take the broker away" => broker.kill(),
        "bring the broker back" => broker.restart(),
        "stop the console" => drop(page.take()),
        "start the console" => page = Some(console(&broker, port, dir.path())),
        "kill an agent" => drop(second.take()),
        other => panic!("what is {other:?}?"),
    });

    // What the person did has arrived where it counts.
    let wanted = printed.lines().find_map(|line| line.strip_prefix("threshold ")).expect("the threshold that was set");
    let wanted: f64 = wanted.parse().expect("a number");
    let settings = |message: &Message| message.is_machine("fan-a", MachinePart::Settings);
    wait_within(Duration::from_secs(30), "the threshold that the person set", || {
        subscriber.messages().iter().filter(|message| settings(message)).any(|message| {
            let settings = message.json();
            settings["threshold"] == wanted && settings["source"] == "override" && settings["by"] == "ana"
        })
    });
    let alarms: Vec<Value> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("fan-b", MachinePart::Alarm))
        .map(Message::json)
        .collect();
    for state in ["acknowledged", "shelved"] {
        assert!(alarms.iter().any(|alarm| alarm["state"] == state && alarm["by"] == "ana"), "{state}: {alarms:?}");
    }
}

#[test]
#[ignore = "heavy: Chromium, packages from npm"]
fn the_first_start_needs_no_file() {
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/page/setup.sh")));
    let rig = Rig::for_others(&[(48_000, 1), (48_000, 1)]);
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = tempfile::Builder::new().prefix("auscult-first-").tempdir().expect("a temporary directory");
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    // As a person types it, in an empty directory; only the port is not the usual one.
    command.arg("run").current_dir(dir.path());
    command.env("HOME", dir.path()).env("AUSCULT__AGENT__STATE_DIR", dir.path().join("state"));
    command.env("AUSCULT__WEB__LISTEN", format!("127.0.0.1:{port}")).env("ALSA_CONFIG_PATH", rig.alsa_config());
    let agent = Program::start(&mut command, dir.path().join("log"));

    let machine = dir.path().join("machine.wav");
    let mut synth = Command::new(env!("CARGO_BIN_EXE_auscult"));
    done(synth.args(["synth", "fan", "--minutes", "15", "--output"]).arg(&machine));
    let shots = Path::new(ROOT).join("target/page/shots");
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    let (address, shots) = (format!("http://127.0.0.1:{port}"), shots.to_string_lossy().into_owned());
    let closed = format!("mqtt://127.0.0.1:{}", free_port());
    let mut players = Vec::new();
    drive("first-start.mjs", &[&address, &shots, &broker.url(), &closed], |what| match what {
        "play into the second microphone" => players.push(rig.microphones[1].play(&machine)),
        "play into the first microphone" => players.push(rig.microphones[0].play(&machine)),
        other => panic!("what is {other:?}?"),
    });

    // Not one window of the first machine was lost while the second came.
    let seqs: Vec<_> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("blower-hall-2", MachinePart::Verdict) && !message.retained)
        .filter_map(|message| message.json()["seq"].as_u64())
        .collect();
    assert!(seqs.len() > 3, "{seqs:?}");
    let mut sorted = seqs.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, (0..seqs.len() as u64).collect::<Vec<_>>(), "every window once");
    assert!(subscriber.messages().iter().any(|message| message.is_machine("pump", MachinePart::Verdict)));
    drop(agent);
    // The only thing that was written is the state.
    let left = std::fs::read_dir(dir.path()).expect("the directory").map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> =
        left.map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.')).collect();
    assert!(left.iter().all(|name| ["state", "log", "machine.wav"].contains(&name.as_str())), "{left:?}");
}

/// An agent `id` on simulated machines, whose page has both passwords; `more` is further TOML of `[web]`.
fn locked_agent(id: &str, broker: &Broker, port: u16, more: &str, dir: &Path) -> Program {
    let demo = Path::new(ROOT).join("models/demo");
    let (operator, viewer) = (dir.join("operator"), dir.join("viewer"));
    std::fs::write(&operator, PASSWORD).expect("a writable file");
    std::fs::write(&viewer, "only looking").expect("a writable file");
    let state = dir.join(id);
    let text = format!(
        "[agent]\nid = {id:?}\nstate_dir = {state:?}\n[mqtt]\nurl = {:?}\n[bundle]\npath = {demo:?}\n[web]\n\
         listen = \"127.0.0.1:{port}\"\npassword_file = {operator:?}\nviewer_password_file = {viewer:?}\n{more}\n\
         [[notify]]\nname = \"night shift\"\nkind = \"ntfy\"\nurl = \"http://127.0.0.1:{}/plant\"\n\
         [[machine]]\nid = \"pump-1\"\nmodel = \"pump-a\"\nhop_s = 0.5\nsource = {{ synth = \"pump\" }}\n",
        broker.url(),
        free_port()
    );
    let config = dir.join(format!("{id}.toml"));
    std::fs::write(&config, text).expect("a writable file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_auscult"));
    command.arg("run").arg("--config").arg(&config);
    Program::start(&mut command, dir.join(format!("{id}.log")))
}

#[test]
#[ignore = "heavy: Chromium, packages from npm"]
fn what_is_set_is_changed_and_goes_to_a_new_card_through_the_page() {
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/page/setup.sh")));
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let dir = tempfile::Builder::new().prefix("auscult-keeping-").tempdir().expect("a temporary directory");
    let (port, tls_port) = (free_port(), free_port());
    let mut agent = Some(locked_agent("pi-1", &broker, port, "", dir.path()));
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
    done(openssl.arg("-out").arg(&cert).arg("-keyout").arg(&key));
    let more = format!("cert_file = {cert:?}\nkey_file = {key:?}");
    let _tls = locked_agent("pi-2", &broker, tls_port, &more, dir.path());

    subscriber.wait_for("pi-1", |message| message.topic == "auscult/pi-1/status");
    let add = json!({
        "id": "a1", "command": "machine.add", "machine": "fan-1", "name": "Fan by the door", "model": "fan-a",
        "hop_s": 0.5, "source": { "synth": "fan" },
    });
    subscriber.publish("auscult/pi-1/control", false, add.to_string());
    subscriber.wait_for("fan-1", |message| message.is_machine("fan-1", MachinePart::Verdict));

    let shots = Path::new(ROOT).join("target/page/shots");
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    let (address, shots) = (format!("http://127.0.0.1:{port}"), shots.to_string_lossy().into_owned());
    let tls = format!("https://127.0.0.1:{tls_port}");
    drive("keeping.mjs", &[&address, &shots, PASSWORD, "only looking", &tls], |what| match what {
        "restart the agent" => {
            assert_eq!(agent.take().and_then(Program::terminate), Some(0));
            agent = Some(locked_agent("pi-1", &broker, port, "", dir.path()));
        }
        other => panic!("what is {other:?}?"),
    });
    let imported =
        |message: &Message| message.topic == "auscult/pi-1/event" && message.json()["event"] == "state_imported";
    subscriber.wait_for("the import", imported);
    let last = |message: &Message| {
        message.is_machine("fan-1", MachinePart::Event) && message.json()["event"] == "machine_removed"
    };
    let removed = subscriber.wait_for("the removal", last).json();
    assert_eq!(removed["detail"], "by ana");
}

#[test]
#[ignore = "heavy: Chromium, packages from npm"]
fn an_alarm_is_heard_answered_and_applied_on_the_page() {
    let Some(encoder) = common::bundles::encoder() else { return };
    done(Command::new("bash").arg(Path::new(ROOT).join("tests/page/setup.sh")));
    let tsc = Path::new(ROOT).join("target/page/node_modules/.bin/tsc");
    done(Command::new(tsc).arg("-p").arg(Path::new(ROOT).join("src/web/tsconfig.json")));
    let port = free_port();
    let more = format!(
        "[web]\nlisten = \"127.0.0.1:{port}\"\n[privacy]\nallow_audio = true\n[alarm]\nclear_after_s = 0.0\n[[machine]]\n\
         id = \"fan-1\"\nbaseline = \"auto\"\nbaseline_minutes = 8\nsource = {{ synth = \"fan\", speed = 20.0 }}\n"
    );
    let site = common::agent_process::Site::new("none", Path::new("bundle"), &more);
    let mut parts = common::bundles::Parts::valid(&encoder);
    parts.manifest("halls", "1.0", "");
    parts.write(&site.dir.path().join("bundle"));
    let agent = site.agent();
    let shots = Path::new(ROOT).join("target/page/shots");
    std::fs::create_dir_all(&shots).expect("a folder for screenshots");
    drive("alarm.mjs", &[&format!("http://127.0.0.1:{port}"), &shots.to_string_lossy()], |what| {
        panic!("what is {what:?}?")
    });
    assert_eq!(agent.terminate(), Some(0));
}
