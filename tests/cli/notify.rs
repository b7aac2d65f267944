//! People are told: agents with real alarms, real servers on this computer.

use std::path::Path;

use auscult::mqtt::topics::MachinePart;
use serde_json::{Value, json};

use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber, free_port};
use crate::common::inbox::{HttpInbox, SmtpInbox};
use crate::common::wait::wait_until;

/// A machine that is anomalous at a threshold of 0.1, and calm within a window above that.
const MACHINE: &str = "id = \"fan-a\"\nmodel = \"id_04\"\nhop_s = 0.5\n\
                       alarm = { k = 1, n = 2, clear_at_most = 0, clear_after_s = 0.0 }\n";

fn machine(shared: &Path, threshold: f64) -> String {
    let wav = shared.join("audio/mimii_fan_id_04_normal_00000126.wav");
    format!("[[machine]]\n{MACHINE}threshold = {threshold}\nsource = {{ wav = {wav:?}, loop = true }}\n")
}

/// What each message tells, and of what kind.
fn told(inbox: &HttpInbox) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events =
        inbox.taken().into_iter().flat_map(|request| request.json()["events"].as_array().cloned().unwrap_or_default());
    events.map(|event| (word(&event["event"]), word(&event["kind"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(event, kind)| ((*event).into(), (*kind).into())).collect()
}

#[test]
fn an_alarm_is_told_once_over_a_restart_and_so_is_its_end() {
    let Some(shared) = crate::common::shared() else { return };
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let (webhook, ntfy, mail) = (HttpInbox::start(), HttpInbox::start(), SmtpInbox::start());
    let text = machine(&shared, 0.1)
        + &format!(
            "[web]\nlisten = \"none\"\nurl = \"http://pi-1.local:8477\"\n[[notify]]\nkind = \"webhook\"\nurl = {:?}\n",
            webhook.url("/hook")
        )
        + &format!(
            "[[notify]]\nkind = \"ntfy\"\nurl = {:?}\ntoken_file = \"token\"\nevents = [\"fault\"]\n",
            ntfy.url("/our-secret-topic")
        )
        + &format!(
            "[[notify]]\nkind = \"email\"\nurl = \"smtp://localhost:{}\"\nfrom = \"pi-1@plant.example\"\n\
             to = [\"Ana <ana@plant.example>\", \"ben@plant.example\"]\n",
            mail.port
        );
    let site = Site::new(&broker.url(), &shared.join("escoita-bundle"), &text);
    std::fs::write(site.dir.path().join("token"), "tk_secret\n").expect("a writable file");
    let agent = site.agent();
    wait_until("the alarm is told everywhere", || {
        !webhook.taken().is_empty() && !ntfy.taken().is_empty() && !mail.letters().is_empty()
    });

    let message = webhook.taken()[0].json();
    // docs/notify.md shows it whole.
    let page = include_str!("../../docs/notify.md");
    let (_, rest) = page.split_once("```json\n").expect("a block");
    let shown: Value = serde_json::from_str(rest.split("```").next().expect("its end")).expect("JSON");
    for (shown, sent) in [(&shown, &message), (&shown["events"][0], &message["events"][0])] {
        let keys = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(shown), keys(sent));
    }
    let sentence = message["text"].as_str().expect("a text");
    assert_eq!(message["title"], "fan-a sounds unusual");
    assert!(sentence.contains("has not sounded as it should since") && sentence.contains("x threshold"), "{sentence}");
    assert_eq!((message["priority"].as_str(), message["agent"].as_str()), (Some("high"), Some("pi-1")));
    assert_eq!(message["url"], "http://pi-1.local:8477/#/machine/pi-1/fan-a");
    let alarm = subscriber.wait_for("the alarm", |message: &Message| {
        message.is_machine("fan-a", MachinePart::Alarm) && message.json()["state"] == "active"
    });
    assert_eq!(message["events"][0]["since"], alarm.json()["since"]);

    let request = ntfy.taken()[0].clone();
    assert_eq!((request.path.as_str(), request.header("authorization")), ("/", Some("Bearer tk_secret")));
    let body = request.json();
    assert_eq!(
        (&body["topic"], &body["title"], &body["priority"]),
        (&json!("our-secret-topic"), &json!("fan-a sounds unusual"), &json!(4))
    );
    let letter = mail.letters()[0].clone();
    assert_eq!(letter.to.len(), 2, "{letter:?}");
    assert!(
        letter.text.contains("Subject: fan-a sounds unusual") && letter.text.contains("Auto-Submitted: auto-generated")
    );
    assert!(letter.login.is_none());

    // Stopped and started, it has nothing new to tell; killed and started neither.
    assert_eq!(agent.terminate(), Some(0));
    drop(site.agent());
    let agent = site.agent();
    let calm = json!({ "id": "1", "command": "threshold.set", "machine": "fan-a", "threshold": 9.0 });
    wait_until("the end of the alarm is told", || {
        subscriber.publish("auscult/pi-1/control", false, calm.to_string());
        told(&webhook).len() > 1
    });
    assert_eq!(told(&webhook), pairs(&[("raised", "fault"), ("cleared", "fault")]));
    assert_eq!(ntfy.taken().len(), 1, "it wants no ends");
    let log = agent.log();
    assert!(!log.contains("tk_secret") && !log.contains("our-secret-topic"), "{log}");
}

#[test]
fn without_a_broker_and_a_server_that_refuses_nothing_is_lost() {
    let Some(shared) = crate::common::shared() else { return };
    let inbox = HttpInbox::start();
    inbox.answer(503);
    let text = machine(&shared, 0.1)
        + &format!(
            "[web]\nlisten = \"none\"\n[[notify]]\nkind = \"webhook\"\nurl = {:?}\nno_broker_after_min = 0\n\
             events = [\"fault\", \"no_broker\", \"restarted\"]\n",
            inbox.url("/")
        );
    let site = Site::new(&format!("mqtt://127.0.0.1:{}", free_port()), &shared.join("escoita-bundle"), &text);
    let agent = site.agent();
    wait_until("an attempt", || inbox.attempts() > 0);
    // Power is lost.
    drop(agent);
    inbox.answer(200);
    let agent = site.agent();
    wait_until("everything is told", || told(&inbox).len() >= 3);
    let mut all = told(&inbox);
    all.sort();
    assert_eq!(all, pairs(&[("raised", "fault"), ("raised", "no_broker"), ("restarted", "restarted")]));
    assert_eq!(agent.terminate(), Some(0));
    let agent = site.agent();
    wait_until("the third start", || agent.log().matches("listening").count() == 3);
    assert!(agent.terminate() == Some(0) && told(&inbox).len() == 3, "a clean stop is no crash");
}

#[test]
fn a_test_message_says_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (hook, mail, tls) = (HttpInbox::start(), SmtpInbox::start(), SmtpInbox::start_tls(&dir.path().join("certs")));
    let good = format!(
        "[[machine]]\nid = \"fan-a\"\nsource = {{ synth = \"fan\" }}\n\
         [[notify]]\nname = \"chat\"\nkind = \"webhook\"\nurl_file = \"url\"\ntemplate = '{{\"say\":\"{{{{title}}}}: {{{{text}}}}\"}}'\n\
         [[notify]]\nname = \"mail\"\nkind = \"email\"\nurl = \"smtps://localhost:{}\"\nca_file = \"certs/ca.pem\"\n\
         username = \"pi\"\npassword_file = \"password\"\nfrom = \"pi@plant.example\"\nto = [\"ana@plant.example\"]\n",
        tls.port
    );
    let site = Site::new("none", dir.path(), &good);
    let write = |name: &str, text: &str| std::fs::write(site.dir.path().join(name), text).expect("a writable file");
    let certs = site.dir.path().join("certs");
    std::fs::create_dir(&certs).expect("a directory");
    std::fs::copy(dir.path().join("certs/ca.pem"), certs.join("ca.pem")).expect("copied");
    write("url", &format!("{}\n", hook.url("/hook-secret")));
    write("password", "hunter2\n");
    let run = |more: &[&str]| {
        let output = site.command("notify").args(more).output().expect("auscult starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = run(&["test"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(hook.taken()[0].json()["say"].as_str().map(|say| say.starts_with("Test message of pi-1: ")), Some(true));
    let letter = tls.letters()[0].clone();
    assert!(letter.login.is_some_and(|login| login.starts_with("AUTH PLAIN ")) && letter.text.contains("Test message"));
    let check = site.command("check").output().expect("auscult starts");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("ok    notify         chat: ") && said.contains("ok    notify         mail: "), "{said}");
    assert_eq!(hook.taken().len(), 1, "a check tells nobody");

    hook.answer(403);
    write("password", "");
    let (code, said) = run(&["test"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the login is missing or not enough") && said.contains("expected a first line"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("hook-secret"), "{said}");
    let (code, said) = run(&["test", "--name", "pager"]);
    assert!(code == Some(2) && said.contains("expected one of chat, mail, found \"pager\""), "{said}");
    drop(mail);
}
