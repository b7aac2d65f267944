//! Certificates, logins, access rules: what is let in, and what the agent says when it is not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use auscult::config::Config;
use auscult::mqtt::MqttOptions;
use auscult::mqtt::tls::{TlsFiles, client_config};
use auscult::mqtt::topics::AgentPart;
use rumqttc::{TlsConfiguration, Transport};

use crate::agent_process::faketime;
use crate::client_process::{AgentProcess, Setup};
use crate::common::broker::{Broker, BrokerOptions, Subscriber, free_port};
use crate::common::wait::wait_until;
use crate::rig::{connected, is_verdict, options, start, state_dir, window};

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mosquitto").join(file)
}

/// Runs the script that is shipped, under a clock that is set off by so much; answers what it said.
fn certificates(dir: &Path, clock: &str, arguments: &[&str]) -> Result<String, String> {
    let run = Command::new(deployed("certificates.sh"))
        .args(arguments)
        .env("CERTS", dir.join("certs"))
        .env("DAYS", "60")
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME", clock)
        .output()
        .expect("the script runs");
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if run.status.success() { Ok(printed(&run.stdout)) } else { Err(printed(&run.stderr)) }
}

fn make(dir: &Path, arguments: &[&str]) {
    certificates(dir, "+0", arguments).expect("certificates are made");
}

/// Made 70 days ago for 60 days.
fn make_expired(dir: &Path, arguments: &[&str]) {
    certificates(dir, "-70d", arguments).expect("certificates are made");
}

/// An authority and a broker's certificate for this machine.
fn plant(dir: &Path) {
    make(dir, &["ca"]);
    make(dir, &["broker", "localhost", "127.0.0.1", "::1"]);
}

/// A TLS listener on the certificates in its own directory.
fn tls_config(more: &str) -> String {
    format!("cafile {{dir}}/certs/ca.pem\ncertfile {{dir}}/certs/broker.pem\nkeyfile {{dir}}/certs/broker.key\n{more}")
}

#[test]
fn the_script_makes_tight_certificates_and_refuses_bad_names() {
    let dir = state_dir();
    plant(dir.path());
    let printed = certificates(dir.path(), "+0", &["agent", "pi-7"]).expect("made");
    assert!(printed.contains("CN=pi-7") && printed.contains("valid until"), "{printed}");
    for (file, mode) in [("ca.key", 0o600), ("broker.key", 0o600), ("pi-7.key", 0o600), ("pi-7.pem", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(dir.path().join("certs").join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    for bad in ["fleet", "a/b", "+", "", "x y", "../x"] {
        certificates(dir.path(), "+0", &["agent", bad]).expect_err(bad);
    }
    let again = certificates(dir.path(), "+0", &["ca"]).expect_err("it would orphan every certificate");
    assert!(again.contains("exists"), "{again}");
}

/// The code blocks of `deploy/mosquitto/README.md`, with this machine's names instead of the plant's.
fn readme(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(deployed("README.md")).expect("the README");
    let text = text.replace("192.0.2.10", "127.0.0.1 localhost");
    let fence = format!("```{language}\n");
    let blocks = text.split(fence.as_str()).skip(1);
    blocks.filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

/// Types what the README says, as root who owns all files and keeps them below `root`.
fn type_in(dir: &Path, root: &Path, commands: &str) {
    let prelude = r#"
        set -eu
        sudo() { "$@"; }
        apt-get() { :; }
        systemctl() { :; }
        install() {
            local words=()
            while [ $# -gt 0 ]; do case $1 in -o | -g) shift 2 ;; *) words+=("$1"); shift ;; esac; done
            command install "${words[@]}"
        }
        nano() { :; }
        mosquitto_passwd() { command mosquitto_passwd -b "$1" "$2" "$2-secret"; }
    "#;
    let commands = commands.replace(" /etc/", &format!(" {}/etc/", root.display()));
    let typed = Command::new("bash").args(["-c", &format!("{prelude}\n{commands}")]).current_dir(dir).output();
    let typed = typed.expect("bash");
    assert!(typed.status.success(), "{commands}\n{}", String::from_utf8_lossy(&typed.stderr));
}

/// The broker of the README, but for its paths and ports; `pi/` below its directory is the Pi.
fn deployed_broker() -> BrokerOptions {
    let conf = std::fs::read_to_string(deployed("auscult.conf")).expect("the configuration");
    let config = conf
        .replace(" /etc/mosquitto/", " {dir}/etc/mosquitto/")
        .replace("listener 8883", "listener {port}")
        .replace("listener 8884", "listener {port2}");
    let left_over = config.lines().find(|line| !line.starts_with('#') && line.contains(" /etc/"));
    assert_eq!(left_over, None);
    assert!(config.contains("{port}") && config.contains("{port2}"), "{config}");
    // As Debian's own configuration begins.
    let config = format!("persistence true\npersistence_location {{dir}}/\nuser root\n{config}");
    let prepare = |dir: &Path| {
        for file in std::fs::read_dir(deployed("")).expect("deploy/mosquitto").flatten() {
            std::fs::copy(file.path(), dir.join(file.file_name())).expect("a copy");
        }
        std::fs::create_dir_all(dir.join("etc/mosquitto/conf.d")).expect("a directory");
        let blocks = readme("sh");
        let [certificates, broker, pi, operator, ..] = blocks.as_slice() else { panic!("five blocks: {blocks:?}") };
        type_in(dir, dir, certificates);
        type_in(dir, dir, broker);
        type_in(&dir.join("certs"), &dir.join("pi"), pi);
        std::fs::copy(deployed("operator.toml"), dir.join("certs/operator.toml")).expect("a copy");
        type_in(&dir.join("certs"), &dir.join("desk"), operator);
        std::fs::write(dir.join("desk/etc/auscult/operator.password"), "operator-secret\n").expect("a file");
        type_in(dir, dir, "./certificates.sh agent pi-8");
        let installed = std::fs::read(dir.join("etc/mosquitto/conf.d/auscult.conf")).expect("installed");
        assert_eq!(installed, std::fs::read(deployed("auscult.conf")).expect("the configuration"));
    };
    BrokerOptions { bare: true, config, prepare: Some(prepare), ..BrokerOptions::default() }
}

fn tls_files(broker: &Broker, agent: Option<&str>) -> TlsFiles {
    let file = |name: String| broker.dir().join("certs").join(name);
    TlsFiles {
        ca: Some(file("ca.pem".into())),
        cert: agent.map(|agent| file(format!("{agent}.pem"))),
        key: agent.map(|agent| file(format!("{agent}.key"))),
    }
}

fn client_of(id: &str, port: u16, tls: &TlsFiles, login: Option<(&str, &str)>) -> rumqttc::MqttOptions {
    let mut settings = rumqttc::MqttOptions::new(id, "localhost", port);
    let config = client_config(tls).expect("certificates");
    settings.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    if let Some((user, password)) = login {
        settings.set_credentials(user, password);
    }
    settings
}

#[test]
fn the_shipped_broker_lets_each_do_what_is_theirs_only() {
    let broker = Broker::start_with(&deployed_broker());
    let people = |user: &str, password: &str| {
        let settings = client_of(user, broker.port2(), &tls_files(&broker, None), Some((user, password)));
        Subscriber::start_with(settings, &["auscult/#"])
    };
    let viewer = people("viewer", "viewer-secret");
    let operator = people("operator", "operator-secret");
    let other = client_of("auscult-pi-8", broker.port(), &tls_files(&broker, Some("pi-8")), None);
    let other = Subscriber::start_with(other, &["auscult/#"]);

    let dir = state_dir();
    let blocks = readme("toml");
    let config = blocks[0]
        .replace("broker.plant.example:8883", &format!("localhost:{}", broker.port()))
        .replace("/etc/auscult", &broker.dir().join("pi/etc/auscult").display().to_string());
    let config: Config = toml::from_str(&config).expect("the README's configuration");
    let tls = TlsFiles::from_config(&config.mqtt);
    let (mqtt, mut incoming) = start(MqttOptions { tls, ..options(&config.mqtt.url.to_string(), dir.path()) });
    connected(&mqtt);
    window(&mqtt, "blower-1");
    viewer.wait_for("a verdict", is_verdict);
    viewer.wait_for("the status", |message| message.is_agent(AgentPart::Status));

    // Another agent, and a viewer, are not heard; an operator is.
    other.publish("auscult/pi-7/control", false, "of pi-8");
    other.publish("auscult/fleet/control", false, "of pi-8");
    other.publish("auscult/pi-7/blower-1/verdict", true, "{}");
    viewer.publish("auscult/pi-7/control", false, "of viewer");
    operator.publish("auscult/pi-7/blower-1/verdict", true, "{}");
    operator.publish("auscult/pi-7/control", false, "of operator");
    operator.publish("auscult/pi-7/blower-1/threshold/set", false, "0.3");
    let first = incoming.blocking_recv().expect("a command");
    assert_eq!(first.payload.as_deref(), Ok("of operator".as_bytes()));
    assert_eq!(incoming.blocking_recv().expect("a threshold").payload.as_deref(), Ok("0.3".as_bytes()));
    other.publish(
        "auscult/pi-8/status",
        true,
        r#"{"schema":1,"state":"online","boot":"8","ts":"2026-01-01T00:00:00.000Z"}"#,
    );
    other.wait_for("its own status", |message| message.topic == "auscult/pi-8/status");
    let foreign = other.messages().into_iter().find(|message| !message.topic.starts_with("auscult/pi-8/"));
    assert_eq!(foreign, None, "pi-8 hears what is not for it");
    let verdicts = viewer.messages().into_iter().filter(|message| message.topic.ends_with("blower-1/verdict"));
    assert_eq!(verdicts.count(), 1, "others wrote a verdict of pi-7");

    // How the README says that an operator commands, and a viewer, who may not.
    let desk = broker.dir().join("desk/etc/auscult");
    let file = std::fs::read_to_string(desk.join("operator.toml")).expect("the operator's file");
    let file = file
        .replace("broker.plant.example:8884", &format!("localhost:{}", broker.port2()))
        .replace("/etc/auscult", &desk.display().to_string());
    std::fs::write(desk.join("operator.toml"), &file).expect("a file");
    let commands = readme("sh");
    let ctl = commands[4].lines().find(|line| line.starts_with("auscult ctl ")).expect("a line with auscult ctl");
    let ctl = ctl.replace("/etc/auscult", &desk.display().to_string()).replace("--fleet", "--agent pi-7");
    let run = |more: &str| {
        let program = env!("CARGO_BIN_EXE_auscult");
        let line = ctl.replace("auscult ctl", &format!("{program} ctl"));
        let output = Command::new("sh").args(["-c", &format!("{line}{more}")]).output().expect("sh");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The client in this test takes commands and does not answer.
    assert!(run(" --timeout 1").contains("no reply within 1 s from pi-7"));
    let command = incoming.blocking_recv().expect("a command").payload.expect("a small message");
    assert!(String::from_utf8_lossy(&command).contains("ping"));
    let password = desk.join("viewer.password");
    std::fs::write(&password, "viewer-secret\n").expect("a file");
    let refused = run(&format!(" --timeout 7 --username viewer --password-file {}", password.display()));
    assert!(refused.contains("not authorised: do its access rules allow it?"), "{refused}");

    // How the README says that one looks at it.
    let text = std::fs::read_to_string(deployed("README.md")).expect("the README");
    let look = text.split('`').find(|code| code.starts_with("mosquitto_sub ")).expect("a line with mosquitto_sub");
    let look = look
        .replace("broker.plant.example -p 8884", &format!("localhost -p {}", broker.port2()))
        .replace("'...'", "viewer-secret");
    let seen = Command::new("sh").args(["-c", &format!("{look} -C 1 -W 60")]).current_dir(broker.dir()).output();
    let seen = String::from_utf8(seen.expect("sh").stdout).expect("UTF-8");
    assert!(seen.starts_with("auscult/pi-"), "{look}: {seen}");
    mqtt.stop(Duration::from_secs(5));
}

/// Starts the client, lets it try some times, and expects one warning with these words.
fn refused(name: &str, setup: Setup, words: &str) {
    let dir = state_dir();
    let setup = Setup { state_dir: dir.path().to_owned(), machines: 1, every_ms: 50, ..setup };
    let agent = AgentProcess::start(&setup);
    agent.wait_for_attempts(5);
    // That our own certificate has ended is said beside what the broker makes of it.
    let mut printed = agent.lines_with("WARN");
    printed.retain(|line| !line.contains("pi-7.pem: the certificate has expired"));
    assert_eq!(printed.len(), 1, "{name}: {printed:?}");
    assert!(printed[0].contains(words), "{name}: {:?}", printed[0]);
    assert!(!agent.lines().iter().any(|line| line.contains("wrong-secret")), "{name}: the password is told");
}

#[test]
fn what_is_refused_is_one_line() {
    let login = BrokerOptions {
        login_only: true,
        config: "password_file {dir}/passwords".into(),
        prepare: Some(|dir| std::fs::write(dir.join("passwords"), "").expect("a file")),
        ..BrokerOptions::default()
    };
    let login = Broker::start_with(&login);
    let (username, password) = (Some("pi-7".into()), Some("wrong-secret".into()));
    refused("login", Setup { url: login.url(), username, password, ..Setup::default() }, "refuses the login");

    let tls = |prepare: fn(&Path), more: &str| {
        Broker::start_with(&BrokerOptions {
            config: tls_config(more),
            prepare: Some(prepare),
            ..BrokerOptions::default()
        })
    };
    let setup = |broker: &Broker, host: &str| Setup {
        url: format!("mqtts://{host}:{}", broker.port()),
        ca: Some(broker.dir().join("certs/ca.pem")),
        ..Setup::default()
    };
    let good = tls(plant, "");
    refused(
        "plain TCP to TLS",
        Setup { url: good.url(), ..Setup::default() },
        "the broker closed the connection: is it a port for TLS (mqtts://)?",
    );
    refused(
        "TLS to plain TCP",
        Setup { url: format!("mqtts://localhost:{}", login.port()), ..setup(&good, "localhost") },
        "mqtts://",
    );
    let elsewhere = state_dir();
    plant(elsewhere.path());
    let unknown = Setup { ca: Some(elsewhere.path().join("certs/ca.pem")), ..setup(&good, "localhost") };
    refused("unknown CA", unknown, "unknown authority");
    let missing = Setup { ca: Some(elsewhere.path().join("missing.pem")), ..setup(&good, "localhost") };
    refused("missing CA file", missing, "missing.pem");

    let wrong_host = tls(
        |dir| {
            make(dir, &["ca"]);
            make(dir, &["broker", "broker.example"]);
        },
        "",
    );
    refused(
        "wrong host",
        setup(&wrong_host, "localhost"),
        "for another host: expected localhost, found broker.example",
    );
    let expired = tls(
        |dir| {
            make(dir, &["ca"]);
            make_expired(dir, &["broker", "localhost"]);
        },
        "",
    );
    refused("expired", setup(&expired, "localhost"), "has expired: it was valid until");
    let old_kind = tls(
        |dir| {
            plant(dir);
            let sign = "cd certs && openssl req -new -key broker.key -subj /CN=localhost | openssl x509 -req -days 60 \
                        -CA ca.pem -CAkey ca.key -set_serial 7 -out broker.pem";
            let signed = Command::new("sh").args(["-c", sign]).current_dir(dir).output().expect("sh");
            assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        },
        "",
    );
    refused("X.509 version 1", setup(&old_kind, "localhost"), "is of X.509 version 1");
    let pair = |cert: &str, key: &str| {
        let file = |name: &str| Some(good.dir().join("certs").join(name));
        Setup { cert: file(cert), key: file(key), ..setup(&good, "localhost") }
    };
    refused("a key of another certificate", pair("broker.pem", "ca.key"), "ca.key belongs to another certificate");
    let mutual = tls(
        |dir| {
            plant(dir);
            make_expired(dir, &["agent", "pi-7"]);
        },
        "require_certificate true",
    );
    refused("no certificate", setup(&mutual, "localhost"), "asks for a certificate");
    let file = |name: &str| Some(mutual.dir().join("certs").join(name));
    let old = Setup { cert: file("pi-7.pem"), key: file("pi-7.key"), ..setup(&mutual, "localhost") };
    refused("expired certificate of ours", old, "our certificate");
}

#[test]
fn ipv6_several_brokers_and_tls_by_address() {
    let options6 =
        BrokerOptions { config: tls_config(""), prepare: Some(plant), ipv6: true, ..BrokerOptions::default() };
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no ::1");
        return;
    }
    let broker = Broker::start_with(&options6);
    let dir = state_dir();
    // The first one is not there, the second answers no MQTT, the third is an IPv6 address over TLS.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute_port = mute.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in mute.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    let url = format!("mqtt://127.0.0.1:{},mqtt://127.0.0.1:{mute_port},mqtts://[::1]:{}", free_port(), broker.port());
    let tls = TlsFiles { ca: Some(broker.dir().join("certs/ca.pem")), ..TlsFiles::default() };
    let (mqtt, _incoming) = start(MqttOptions { tls, ..options(&url, dir.path()) });
    connected(&mqtt);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);

    let plain = Broker::start_with(&BrokerOptions { ipv6: true, ..BrokerOptions::default() });
    let (mqtt, _incoming) = start(options(&format!("mqtt://[::1]:{}", plain.port()), dir.path()));
    connected(&mqtt);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// A broker with access rules, which `rules` writes to the file `acl` in its directory.
fn ruled(rules: fn(&Path)) -> Broker {
    let config = "acl_file {dir}/acl".into();
    Broker::start_with(&BrokerOptions { config, prepare: Some(rules), ..BrokerOptions::default() })
}

/// mosquitto acknowledges what its rules deny, or hangs up; that the status does not come back gives it away.
#[test]
fn a_topic_that_the_rules_deny_is_named() {
    let broker = ruled(|dir| std::fs::write(dir.join("acl"), "topic read auscult/#\n").expect("a file"));
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    wait_until("the client says so", || {
        let printed = |error: String| error.contains("auscult/pi-7/status") && error.contains("access rules");
        mqtt.stats().last_error.is_some_and(printed)
    });
    assert!(!mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// What the rules deny is acknowledged all the same: none of it may leave the disk, and all of it goes once they allow it.
#[test]
fn nothing_is_lost_to_rules_that_deny_it() {
    let broker = ruled(|dir| std::fs::write(dir.join("acl"), "topic read #\n").expect("a file"));
    let subscriber = Subscriber::start(&broker);
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&broker.url(), dir.path()));
    connected(&mqtt);
    window(&mqtt, "blower-1");
    wait_until("the client says so", || mqtt.stats().last_error.is_some_and(|error| error.contains("access rules")));
    window(&mqtt, "blower-1");
    assert!(mqtt.stats().outbox_depth >= 2, "{:?}", mqtt.stats());
    std::fs::write(broker.dir().join("acl"), "topic readwrite #\n").expect("a file");
    broker.reload();
    let came = subscriber.wait_for_count("both verdicts", 2, is_verdict);
    assert_eq!(came.iter().map(|message| crate::rig::read_verdict(message).seq).collect::<Vec<_>>(), [0, 1]);
    wait_until("the outbox is empty", || mqtt.stats().outbox_depth == 0);
    assert!(mqtt.stop(Duration::from_secs(5)).stopped_published);
}

/// A broker that denies a subscription aloud, as others than mosquitto do.
#[test]
fn a_denied_subscription_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut connect = || {
            let (mut stream, _) = listener.accept().expect("the client");
            let connect = stream.read(&mut buffer).expect("CONNECT");
            assert!(connect > 0 && buffer[0] == 0x10);
            stream
        };
        // It does not speak MQTT 5.
        connect().write_all(&[0x20, 2, 0, 1]).expect("CONNACK");
        let mut stream = connect();
        stream.write_all(&[0x20, 2, 0, 0]).expect("CONNACK");
        let (mut packets, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                return;
            }
            packets.extend_from_slice(&buffer[..read]);
            // SUBSCRIBE: four filters, the first of which is denied.
            if let Some(at) = packets.iter().position(|byte| *byte == 0x82) {
                if let [high, low] = packets[at..][2..4] {
                    stream.write_all(&[0x90, 6, high, low, 0x80, 1, 1, 1]).expect("SUBACK");
                }
                packets.clear();
            }
        }
    });
    let dir = state_dir();
    let (mqtt, _incoming) = start(options(&format!("mqtt://127.0.0.1:{port}"), dir.path()));
    wait_until("the client says so", || {
        mqtt.stats().last_error.is_some_and(|error| error.starts_with("auscult/pi-7/control: the broker denies"))
    });
    mqtt.stop(Duration::from_millis(300));
}
