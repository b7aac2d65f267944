//! The page: a real agent or console, real HTTP, a real WebSocket.

mod access;
mod browser;
mod console;
mod hostile;
mod setup;

use serde_json::json;

use self::browser::Served;

#[test]
fn a_page_without_a_broker_shows_what_the_agent_publishes_and_commands_it() {
    let served = Served::start("");
    // The page answers before the agent has said all that it begins with.
    let mut early = served.browser().stream().expect("on loopback nobody has to log in");
    early.wait("health", |message| message["topic"] == "auscult/pi-1/health");
    early.verdict();
    let mut page = served.browser().stream().expect("a second stream");
    let session = served.browser().get("/session").json();
    assert_eq!(
        (&session["role"], &session["home"], &session["agent"], &session["password"]),
        (&json!("operator"), &json!("agent"), &json!("pi-1"), &json!(false))
    );

    let state = page.until_ready();
    let of = |part: &str| state.iter().find(|message| message["topic"] == format!("auscult/pi-1/{part}"));
    assert_eq!(of("status").expect("a status")["payload"]["state"], "online");
    assert_eq!(of("info").expect("who it is")["payload"]["machines"], json!(["fan-a"]));
    assert_eq!(of("fan-a/alarm").expect("an alarm's state")["retained"], true);
    assert_eq!(of("health").expect("health")["retained"], false);
    assert_eq!(page.wait("the broker's absence", |message| message["topic"] == "$home")["payload"]["broker"], "none");

    let reply = page.command(json!({ "command": "threshold.set", "machine": "fan-a", "threshold": 0.5, "by": "ana" }));
    assert_eq!(reply["status"], "ok", "{reply}");
    let settings = |message: &serde_json::Value| message["topic"] == "auscult/pi-1/fan-a/settings";
    assert_eq!(
        page.wait("new settings", |message| settings(message) && !state.contains(message))["payload"]["threshold"],
        0.5
    );
    let first = page.verdict();
    assert_eq!((page.verdict()["seq"].as_u64(), page.verdict()["seq"].as_u64()), next_two(&first));
    let unknown = page.command(json!({ "command": "no.such" }));
    assert_eq!(unknown["error"]["code"], "unknown_command");

    let metrics = served.browser().get("/metrics");
    assert_eq!(metrics.status, 200);
    for line in ["auscult_up{agent=\"pi-1\"} 1.0", "auscult_threshold{agent=\"pi-1\",machine=\"fan-a\"} 0.5"] {
        assert!(metrics.body.lines().any(|found| found == line), "{line}\n{}", metrics.body);
    }
    assert_eq!(served.terminate(), Some(0));
}

fn next_two(verdict: &serde_json::Value) -> (Option<u64>, Option<u64>) {
    let seq = verdict["seq"].as_u64().expect("a number");
    (Some(seq + 1), Some(seq + 2))
}

#[test]
fn live_sound_comes_while_somebody_looks_and_only_then() {
    let served = Served::start("");
    let mut page = served.browser().stream().expect("a stream");
    page.until_ready();
    let is_live = |message: &serde_json::Value| message["topic"] == "auscult/pi-1/fan-a/live";
    page.verdict();
    assert_eq!(page.seen(is_live), 0);
    page.send(&json!({ "watch": { "agent": "pi-1", "machine": "fan-a" } }));
    let frame = page.wait("a live frame", is_live)["payload"].clone();
    let bands = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, frame["bands"].as_str().expect("a text"));
    let bands = bands.expect("base64");
    assert_eq!(bands.len(), 128);
    assert!(bands.iter().any(|band| *band > 60), "a fan is heard: {bands:?}");
    assert!(frame["level_dbfs"].as_f64().is_some_and(|level| (-80.0..0.0).contains(&level)), "{frame}");

    page.send(&json!({ "watch": null }));
    // What was on its way when the browser looked away is over with the next reply.
    page.command(json!({ "command": "ping" }));
    let seen = page.seen(is_live);
    page.verdict();
    assert_eq!(page.seen(is_live), seen);
    page.send(&json!({ "watch": { "agent": "pi-1", "machine": "no-such" } }));
    assert!(page.refusal().contains("no-such"));
}

#[test]
fn a_port_that_is_taken_does_not_keep_the_agent_from_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("it is bound");
    let broker = crate::common::broker::Broker::start();
    let subscriber = crate::common::broker::Subscriber::start(&broker);
    let site = browser::site(&broker.url(), &format!("listen = \"{listen}\""));
    let agent = site.agent();
    let part = auscult::mqtt::topics::MachinePart::Verdict;
    subscriber.wait_for("a verdict", |message| message.is_machine("fan-a", part));
    assert!(agent.log().contains("the agent goes on without its page"), "{}", agent.log());
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn the_files_of_the_page_are_served_and_no_others() {
    let served = Served::start("");
    let browser = served.browser();
    let index = browser.get("/");
    assert!(index.status == 200 && index.body.contains("<!doctype html>"), "{}", index.body);
    let policy = index.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"));
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(index.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(browser.get("/assets/icon.svg").header("content-type"), Some("image/svg+xml"));
    let tag = index.header("etag").expect("a tag");
    assert_eq!(browser.request("GET", "/", &[("If-None-Match", tag)], "").status, 304);
    for path in [
        "/assets/../index.html",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets//etc/passwd",
        "/assets/",
        "/etc/passwd",
        "/state",
    ] {
        assert_eq!(browser.get(path).status, 404, "{path}");
    }
}
