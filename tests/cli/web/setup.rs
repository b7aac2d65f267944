//! What the guide of the first start asks of the agent: brokers tried and chosen, microphones with their levels.

use std::os::unix::fs::PermissionsExt as _;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use super::browser::{Served, Stream, site};
use crate::common::broker::{Broker, BrokerOptions, Subscriber, free_port};
use crate::common::sound::{Rig, write_wav};
use crate::common::wait::wait_until;

const LISTEN: &str = "listen = \"127.0.0.1:0\"";

/// An agent whose configuration says nothing of a broker.
fn without_broker() -> Served {
    let site = site("none", LISTEN);
    let text = std::fs::read_to_string(&site.config).expect("a configuration");
    std::fs::write(&site.config, text.replace("[mqtt]\nurl = \"none\"\n", "")).expect("a writable file");
    Served::again(site)
}

fn setup(page: &mut Stream, url: &str, login: (&str, &str), test: bool) -> Value {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (username, password) = (given(login.0), given(login.1));
    page.command(json!({
        "command": "setup.broker", "url": url, "username": username, "password": password, "test": test,
    }))
}

#[test]
fn a_broker_is_tried_and_what_is_wrong_is_said() {
    let served = without_broker();
    let mut page = served.browser().stream().expect("a stream");
    let closed = format!("mqtt://127.0.0.1:{}", free_port());
    let empty: fn(&std::path::Path) = |dir| std::fs::write(dir.join("passwords"), "").expect("a file");
    let login = Broker::start_with(&BrokerOptions {
        login_only: true,
        config: "password_file {dir}/passwords".into(),
        prepare: Some(empty),
        ..BrokerOptions::default()
    });
    let rules: fn(&std::path::Path) = |dir| std::fs::write(dir.join("acl"), "topic read auscult/#\n").expect("a file");
    let deaf = Broker::start_with(&BrokerOptions {
        config: "acl_file {dir}/acl".into(),
        prepare: Some(rules),
        ..BrokerOptions::default()
    });
    let good = Broker::start();
    for (url, problem) in [
        (&closed, Some("nothing listens there")),
        (&login.url(), Some("refuses the login")),
        (&deaf.url(), Some("access rules")),
        (&good.url(), None),
    ] {
        let reply = setup(&mut page, url, ("pi-1", "s3cret-word"), true);
        let data = &reply["data"];
        assert_eq!(data["connected"], problem.is_none(), "{url}: {reply}");
        let said = data["problem"].as_str().unwrap_or_default();
        assert!(said.contains(problem.unwrap_or_default()), "{url}: {reply}");
        assert!(!reply.to_string().contains("s3cret"), "{reply}");
    }
    for (url, code) in [("http://broker", "bad_argument"), ("mqtt://user:s3cret@broker", "bad_argument")] {
        let reply = setup(&mut page, url, ("", ""), true);
        assert_eq!(reply["error"]["code"], code, "{reply}");
        assert!(!reply.to_string().contains("s3cret"), "{reply}");
    }
    let state = served.site.dir.path().join("state");
    assert!(!state.join("broker.json").exists(), "a test changes nothing");
    assert!(!served.log().contains("s3cret"), "{}", served.log());
}

#[test]
fn a_broker_that_is_chosen_on_the_page_is_used_at_once_and_after_a_restart() {
    let served = without_broker();
    let mut page = served.browser().stream().expect("a stream");
    let first = page.verdict()["seq"].as_u64().expect("a number");
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let reply = setup(&mut page, &broker.url(), ("pi-1", "s3cret-word"), false);
    assert_eq!(reply["data"]["connected"], true, "{reply}");
    subscriber.wait_for("online", |message| message.is_agent(AgentPart::Status) && message.json()["state"] == "online");
    page.wait("the broker", |message| message["topic"] == "$home" && message["payload"]["broker"] == "connected");
    // Not one window was lost for it: what the page had meanwhile goes on, and the broker gets every one.
    let next: Vec<_> = (1..=5).map(|_| page.verdict()["seq"].as_u64()).collect();
    assert_eq!(next, (1..=5).map(|step| Some(first + step)).collect::<Vec<_>>());
    subscriber.wait_for("all windows", |message| {
        message.is_machine("fan-a", MachinePart::Verdict) && message.json()["seq"] == first + 5
    });

    // Over the broker nobody moves the agent to another one.
    subscriber.publish("auscult/pi-1/control", false, r#"{"id":"b1","command":"setup.broker","url":"none"}"#);
    let refused =
        subscriber.wait_for("a refusal", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == "b1");
    assert_eq!(refused.json()["error"]["code"], "not_allowed");

    let config = page.command(json!({ "command": "config.get" }));
    assert_eq!(config["data"]["broker_from"], "page", "{config}");
    assert!(config["data"]["toml"].as_str().is_some_and(|toml| toml.contains(&broker.url()) && toml.contains("***")));
    let log = page.command(json!({ "command": "log.get" }));
    assert!(log["data"]["lines"].to_string().contains("the broker is now"), "{log}");
    let file = served.site.dir.path().join("state/broker.json");
    assert_eq!(std::fs::metadata(&file).expect("it is kept").permissions().mode() & 0o777, 0o600);
    assert!(![config.to_string(), log.to_string(), served.log()].iter().any(|text| text.contains("s3cret")));

    drop(page);
    let served = served.restart();
    let mut page = served.browser().stream().expect("a stream");
    page.wait("the broker", |message| message["topic"] == "$home" && message["payload"]["broker"] == "connected");
    let none = page.command(json!({ "command": "setup.broker", "url": "none" }));
    assert_eq!((&none["status"], &none["data"]["connected"]), (&json!("ok"), &json!(false)));
    page.wait("no broker", |message| message["topic"] == "$home" && message["payload"]["broker"] == "none");
    subscriber.wait_for("it is gone there", |message| {
        message.is_agent(AgentPart::Status) && message.json()["state"] == "offline"
    });
    assert_eq!(served.terminate(), Some(0));
}

#[test]
fn the_broker_of_the_file_stays_the_files() {
    let served = Served::start("");
    let mut page = served.browser().stream().expect("a stream");
    let reply = setup(&mut page, "mqtt://127.0.0.1:1883", ("", ""), true);
    assert_eq!(reply["error"]["code"], "not_allowed", "{reply}");
    let config = page.command(json!({ "command": "config.get" }));
    assert_eq!(config["data"]["broker_from"], "file", "{config}");
}

#[test]
fn the_log_that_can_be_asked_for_holds_no_set_up_code() {
    let served = Served::start("listen = \"0.0.0.0:0\"\n");
    let log = served.log();
    let code = log.split("the code ").nth(1).expect("a code in the log").split_whitespace().next().expect("a word");
    let mut browser = served.browser();
    let answer = browser.post("/password", &json!({ "code": code, "password": "blower and pump" }));
    assert_eq!(answer.status, 204, "{}", answer.body);
    browser.take_cookie(&answer);
    let mut page = browser.stream().expect("a stream");
    let lines = page.command(json!({ "command": "log.get", "lines": 500 }))["data"]["lines"].clone();
    assert!(lines.to_string().contains("listening") && !lines.to_string().contains(code), "{lines}");
}

#[test]
fn microphones_are_listed_with_their_levels_and_closed_when_nobody_asks() {
    let rig = Rig::for_others(&[(48_000, 1), (48_000, 1)]);
    let site = site("none", LISTEN);
    let text = std::fs::read_to_string(&site.config).expect("a configuration");
    let text = text.replace("{ synth = \"fan\", speed = 10 }", "{ device = \"mic0\" }");
    std::fs::write(&site.config, text).expect("a writable file");
    let served = Served::with(site, &[("ALSA_CONFIG_PATH", rig.alsa_config().as_os_str())]);
    let mut page = served.browser().stream().expect("a stream");
    let tone = rig.dir().join("tone.wav");
    let samples: Vec<_> = (0..48_000 * 60).map(|n| (8000.0 * (n as f64 * 0.13).sin()) as i16).collect();
    write_wav(&tone, 48_000, 1, &samples);
    let _players = [rig.microphones[0].play(&tone), rig.microphones[1].play(&tone)];

    let mut asked = || page.command(json!({ "command": "devices.list" }))["data"]["devices"].clone();
    let loud = |device: &Value| device["levels_dbfs"][0].as_f64().is_some_and(|level| level > -30.0);
    let of = |devices: &Value, name: &str| {
        let devices = devices.as_array().expect("a list");
        devices.iter().find(|device| device["source"]["device"] == name).cloned().unwrap_or_default()
    };
    // The first answer has both already.
    let first = asked();
    assert_eq!((&of(&first, "mic0")["in_use_by"], &of(&first, "mic1")["in_use_by"]), (&json!("fan-a"), &Value::Null));
    wait_until("both are heard", || {
        let devices = asked();
        loud(&of(&devices, "mic0")) && loud(&of(&devices, "mic1"))
    });
    // Each server has one listener: the machine's is not opened a second time.
    assert_eq!((rig.microphones[0].listeners(), rig.microphones[1].listeners()), (1, 1));
    wait_until("the free one is closed", || rig.microphones[1].listeners() == 0);
    assert_eq!(rig.microphones[0].listeners(), 1);
}

/// `auscult setup` on the agent's page, with these answers; what it said and how it ended.
fn answers(served: &Served, lines: &str) -> (String, Option<i32>) {
    answers_to(&["--page", &served.browser().host], served.site.dir.path(), lines)
}

fn answers_to(arguments: &[&str], dir: &std::path::Path, lines: &str) -> (String, Option<i32>) {
    use std::io::Write as _;
    let mut setup = std::process::Command::new(env!("CARGO_BIN_EXE_auscult"));
    setup.arg("setup").args(arguments).current_dir(dir);
    let piped = std::process::Stdio::piped;
    let mut setup = setup.stdin(piped()).stdout(piped()).stderr(piped()).spawn().expect("auscult starts");
    // One that has ended early takes no more.
    let _ = setup.stdin.take().expect("piped").write_all(lines.as_bytes());
    let output = setup.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout) + &text(&output.stderr), output.status.code())
}

#[test]
fn the_terminal_asks_the_same_and_giving_up_changes_nothing() {
    let rig = Rig::for_others(&[(48_000, 1)]);
    let site = site("none", LISTEN);
    let text = std::fs::read_to_string(&site.config).expect("a configuration");
    let (text, _) = text.split_once("[[machine]]").expect("a machine");
    std::fs::write(&site.config, text.replace("[mqtt]\nurl = \"none\"\n", "")).expect("a writable file");
    let served = Served::with(site, &[("ALSA_CONFIG_PATH", rig.alsa_config().as_os_str())]);
    wait_until("it waits for set-up", || served.log().contains("waiting for set-up"));
    let mut page = served.browser().stream().expect("a stream");
    let machines = |page: &mut Stream| page.command(json!({ "command": "state.get" }))["data"]["machines"].clone();
    assert_eq!(machines(&mut page), json!([]));

    let (said, code) = answers(&served, "1\nBlower, hall 2\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Test microphone 0") && said.contains("nothing was changed"), "{said}");
    assert_eq!(machines(&mut page), json!([]));

    assert!(said.contains("the input has ended") && said.contains("or open http://127.0.0.1:"), "{said}");

    let broker = Broker::start();
    let closed = format!("127.0.0.1:{}", free_port());
    let lines = format!("7\n1\nBlower, hall 2\n\n{closed}\n\ny\n{}\n\n", broker.url());
    let (said, code) = answers(&served, &lines);
    assert_eq!(code, Some(0), "{said}");
    for words in
        ["A number from 1 to 1", "nothing listens there", "Connected, logged in", "is being heard, as blower-hall-2"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() < 80), "{said}");
    let added = machines(&mut page);
    assert_eq!(added[0]["machine"], "blower-hall-2", "{added}");
    page.wait("the broker", |message| message["topic"] == "$home" && message["payload"]["broker"] == "connected");

    let (said, code) = answers(&served, "1\nBlower, hall 2\nPump\n\n\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("used by blower-hall-2") && said.contains("There is a machine blower-hall-2"), "{said}");
    assert_eq!(machines(&mut page).as_array().map(Vec::len), Some(2));
}

#[test]
fn without_a_microphone_the_terminal_says_what_else_can_be_done() {
    let rig = Rig::for_others(&[]);
    let served = Served::with(site("none", LISTEN), &[("ALSA_CONFIG_PATH", rig.alsa_config().as_os_str())]);
    let (said, code) = answers(&served, "");
    assert_eq!(code, Some(1), "{said}");
    for words in
        ["Plug one in", "[[machine]]", "source = { wav = ", "http://127.0.0.1:", "error: no microphone was found"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn the_terminal_goes_through_tls_and_takes_the_certificate_of_the_configuration_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let made = |name: &str| {
        let (cert, key) = (dir.path().join(format!("{name}.pem")), dir.path().join(format!("{name}-key.pem")));
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        // For a name that is not asked for, signed by nobody.
        openssl.args(["-days", "2", "-subj", "/CN=pi-7.local", "-out"]).arg(&cert).arg("-keyout").arg(&key);
        crate::common::program::done(&mut openssl);
        (cert, key)
    };
    let ((cert, key), (other, _)) = (made("page"), made("other"));
    let listen = format!("127.0.0.1:{}", free_port());
    let password = dir.path().join("password");
    std::fs::write(&password, "correct horse battery").expect("a writable file");
    let site = site(
        "none",
        &format!("listen = {listen:?}\ncert_file = {cert:?}\nkey_file = {key:?}\npassword_file = {password:?}"),
    );
    let agent = site.agent();
    wait_until("the page answers", || agent.log().contains(&listen));
    let config = site.config.to_string_lossy().into_owned();
    let ask = |lines: &str| answers_to(&["--config", &config, "--page", &listen], dir.path(), lines);
    let (said, code) = ask("wrong\ncorrect horse battery\n");
    assert!(said.contains("The agent pi-1 answers.") && said.contains("that is not right"), "{said}");
    // Logged in, it asks on.
    assert!(code == Some(1) && said.contains("Which microphone hears the machine?"), "{said}");

    let text = std::fs::read_to_string(&site.config).expect("a configuration");
    std::fs::write(&site.config, text.replace(&*cert.to_string_lossy(), &other.to_string_lossy())).expect("written");
    let (said, code) = ask("correct horse battery\n");
    assert!(code == Some(1) && said.contains("no TLS") && !said.contains("answers."), "{said}");
    let (said, code) = answers_to(&["--page", &listen], dir.path(), "");
    assert!(code == Some(1) && said.contains("is the page behind TLS?"), "{said}");
}

#[test]
fn a_machine_that_is_removed_while_the_broker_is_away_is_gone_there_too_when_it_is_back() {
    let mut broker = Broker::start_with(&BrokerOptions { persistence: true, ..BrokerOptions::default() });
    let subscriber = Subscriber::of(&broker, &["auscult/#", "homeassistant/#"]);
    let site = site(&broker.url(), &format!("{LISTEN}\n[homeassistant]\ndiscovery = true"));
    let served = Served::again(site);
    let mut page = served.browser().stream().expect("a stream");
    let add = json!({
        "command": "machine.add", "machine": "fan-b", "source": { "synth": "fan" }, "model": "fan-b", "hop_s": 0.5,
    });
    assert_eq!(page.command(add)["status"], "ok");
    subscriber.wait_for("its verdict", |message| message.is_machine("fan-b", MachinePart::Verdict));
    let described = "homeassistant/device/auscult-pi-1/fan-b/config";
    subscriber.wait_for("its description", |message| message.topic == described);
    broker.kill();
    page.wait("the broker's absence", |message| message["topic"] == "$home" && message["payload"]["broker"] == "away");
    assert_eq!(page.command(json!({ "command": "machine.remove", "machine": "fan-b" }))["status"], "ok");
    // The one that removed it is gone as well before the broker is back.
    drop(page);
    let served = served.restart();
    broker.restart();
    let kept = || {
        let late = Subscriber::of(&broker, &["auscult/#", "homeassistant/#"]);
        late.wait_for("the agent's info", |message| message.retained && message.is_agent(AgentPart::Info));
        late.wait_for("the other's verdict", |message| message.is_machine("fan-a", MachinePart::Verdict));
        let retained = late.messages().into_iter().filter(|message| message.retained && !message.payload.is_empty());
        retained.map(|message| message.topic).collect::<Vec<_>>()
    };
    wait_until("nothing is kept of it", || {
        let topics = kept();
        topics.iter().any(|topic| topic.contains("/fan-a/")) && !topics.iter().any(|topic| topic.contains("fan-b"))
    });
    assert_eq!(served.terminate(), Some(0));
}
