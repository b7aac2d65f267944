//! Who is let in, and what for.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::browser::Served;

const OPERATOR: &str = "correct horse battery";
const VIEWER: &str = "only looking";

/// An agent with both passwords, one of them as it is.
fn with_passwords() -> (tempfile::TempDir, Served) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (operator, viewer) = (dir.path().join("operator"), dir.path().join("viewer"));
    std::fs::write(&operator, format!("{OPERATOR}\n")).expect("a writable file");
    std::fs::write(&viewer, format!("{VIEWER}\n")).expect("a writable file");
    let served = Served::start(&format!("password_file = {operator:?}\nviewer_password_file = {viewer:?}"));
    (dir, served)
}

#[test]
fn nobody_sees_anything_without_the_password() {
    let (_dir, served) = with_passwords();
    let mut browser = served.browser();
    assert_eq!(browser.get("/session").json()["password"], true);
    assert_eq!(browser.role(), Value::Null);
    assert_eq!(browser.stream().err(), Some(401));
    assert_eq!(browser.get("/metrics").status, 401);
    assert_eq!(browser.log_in("wrong").status, 401);
    assert_eq!(browser.cookie, None);

    let answer = browser.log_in(OPERATOR);
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(answer.status == 204 && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(browser.role(), "operator");
    let mut page = browser.stream().expect("an operator's stream");
    page.until_ready();
    assert_eq!(page.command(json!({ "command": "ping" }))["status"], "ok");

    // Logged out, its open stream commands no more, and no new one opens.
    assert_eq!(browser.post("/logout", &json!({})).status, 204);
    page.ask(json!({ "command": "ping" }));
    assert_eq!(page.refusal(), "you are logged out");
    assert_eq!((browser.role(), browser.stream().err()), (Value::Null, Some(401)));
    assert!(!served.log().contains(OPERATOR));
}

#[test]
fn a_viewer_looks_and_does_not_command() {
    let (_dir, served) = with_passwords();
    let mut browser = served.browser();
    assert_eq!(browser.log_in(VIEWER).status, 204);
    assert_eq!(browser.role(), "viewer");
    let mut page = browser.stream().expect("a viewer's stream");
    page.until_ready();
    page.verdict();
    page.ask(json!({ "command": "threshold.set", "machine": "fan-a", "threshold": 0.5 }));
    assert!(page.refusal().contains("operator"));
    page.send(&json!({ "topic": "auscult/pi-1/fan-a/threshold/set", "payload": 0.5 }));
    assert!(page.refusal().contains("operator"));

    let mut operator = served.browser();
    operator.log_in(OPERATOR);
    let mut page = operator.stream().expect("an operator's stream");
    let state = page.command(json!({ "command": "threshold.get", "machine": "fan-a" }));
    assert!(state["status"] == "ok" && !state["data"].to_string().contains("override"), "{state}");
    for password in [VIEWER, OPERATOR] {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("prometheus:{password}")));
        assert_eq!(served.browser().request("GET", "/metrics", &[("Authorization", &basic)], "").status, 200);
    }
}

#[test]
fn ten_wrong_passwords_are_too_many_and_the_right_one_waits_too() {
    let (_dir, served) = with_passwords();
    let mut logged_in = served.browser();
    logged_in.log_in(OPERATOR);
    let mut browser = served.browser();
    let answers: Vec<u16> = (0..10).map(|_| browser.log_in("wrong").status).collect();
    assert_eq!(answers, [[401; 5], [429; 5]].concat());
    let answer = browser.log_in(OPERATOR);
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").expect("how long").parse().expect("seconds");
    assert!((1..=21).contains(&wait), "{wait}");
    // Who is in already stays so.
    assert_eq!(logged_in.role(), "operator");
}

#[test]
fn a_session_that_somebody_else_has_planted_is_not_taken_up() {
    let (_dir, served) = with_passwords();
    let mut browser = served.browser();
    let name = format!("auscult_{}", served.address.port());
    let planted = format!("{name}={}", "0".repeat(64));
    browser.cookie = Some(planted.clone());
    browser.log_in(OPERATOR);
    let first = browser.cookie.clone().expect("a cookie");
    assert_ne!(first, planted);
    // A second login ends the session before it.
    browser.log_in(OPERATOR);
    assert_ne!(browser.cookie.as_ref(), Some(&first));
    for cookie in [planted, first] {
        browser.cookie = Some(cookie);
        assert_eq!(browser.role(), Value::Null);
    }
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let (dir, served) = with_passwords();
    let mut browser = served.browser();
    browser.log_in(OPERATOR);
    assert_eq!(browser.role(), "operator");
    std::fs::write(dir.path().join("operator"), "another one entirely").expect("a writable file");
    assert_eq!(browser.role(), Value::Null);
    assert_eq!(browser.log_in(OPERATOR).status, 401);
    assert_eq!(browser.log_in("another one entirely").status, 204);
    // A file that cannot be read lets nobody in.
    std::fs::remove_file(dir.path().join("operator")).expect("it was there");
    assert_eq!((browser.role(), browser.log_in("").status), (Value::Null, 401));
    assert_eq!(browser.stream().err(), Some(401));
}

#[test]
fn the_code_of_the_log_sets_the_first_password_of_a_page_that_others_reach() {
    let served = Served::start("listen = \"0.0.0.0:0\"");
    let mut browser = served.browser();
    let session = browser.get("/session").json();
    assert_eq!((&session["setup"], &session["role"]), (&json!(true), &Value::Null));
    assert_eq!((browser.stream().err(), browser.get("/metrics").status), (Some(401), 401));
    let log = served.log();
    let code = log.split("with the code ").nth(1).expect("a code in the log").lines().next().expect("a line");
    assert_eq!(log.matches(code).count(), 1);

    let set = |code: &str, password: &str| browser.post("/password", &json!({ "code": code, "password": password }));
    assert_eq!(set("AAAAA-AAAAA", OPERATOR).status, 401);
    assert_eq!(set("", OPERATOR).status, 401);
    let short = set(code, "short");
    assert!(short.status == 400 && short.body.contains("8 characters"), "{}", short.body);
    // As somebody types it.
    let answer = set(&code.to_lowercase().replace('-', " "), OPERATOR);
    assert_eq!(answer.status, 204);
    browser.take_cookie(&answer);
    assert_eq!(browser.role(), "operator");
    assert_eq!(browser.post("/password", &json!({ "code": code, "password": "mine now, mine now" })).status, 401);

    let file = served.site.dir.path().join("state/page-password");
    let kept = std::fs::read_to_string(&file).expect("a hash");
    assert!(kept.starts_with("$argon2id$") && !kept.contains(OPERATOR), "{kept}");
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o077, 0);

    // A restart logs nobody out. Cookies belong to a port, which is another one now.
    let token = browser.cookie.expect("a cookie").split_once('=').expect("a value").1.to_owned();
    let served = served.restart();
    assert!(!served.log().contains("with the code"));
    let mut browser = served.browser();
    browser.cookie = Some(format!("auscult_{}={token}", served.address.port()));
    assert_eq!(browser.role(), "operator");
    assert_eq!(served.browser().log_in(OPERATOR).status, 204);
}
