//! Other sites' pages, broken clients and floods: each costs its own connection, and scoring goes on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use tungstenite::Message;

use super::browser::{PATIENCE, Served};

#[test]
fn pages_of_other_sites_reach_nothing() {
    let served = Served::start("hosts = [\"page.plant.example\"]");
    let port = served.address.port();
    let mut browser = served.browser();
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost.evil.example"] {
        browser.origin = Some(origin.into());
        assert_eq!(browser.stream().err(), Some(403), "{origin}");
        assert_eq!(browser.post("/login", &json!({ "password": "" })).status, 403, "{origin}");
        assert_eq!(browser.post("/logout", &json!({})).status, 403, "{origin}");
    }
    browser.origin = None;
    assert_eq!((browser.stream().err(), browser.post("/logout", &json!({})).status), (Some(403), 403));

    // A name of theirs that was bent to this address (DNS rebinding): origin and host agree.
    let mut browser = served.browser();
    browser.host = format!("evil.example:{port}");
    browser.origin = Some(format!("http://{}", browser.host));
    for path in ["/", "/session", "/metrics", "/assets/icon.svg"] {
        assert_eq!(browser.get(path).status, 403, "{path}");
    }
    assert_eq!(browser.stream().err(), Some(403));
    for host in ["localhost", "page.plant.example", "127.0.0.1"] {
        browser.host = format!("{host}:{port}");
        browser.origin = Some(format!("http://{}", browser.host));
        assert_eq!(browser.get("/session").status, 200, "{host}");
        assert!(browser.stream().is_ok(), "{host}");
    }
}

#[test]
fn garbage_is_refused_and_huge_frames_end_their_stream() {
    let served = Served::start("");
    let mut witness = served.browser().stream().expect("a stream");
    let before = witness.verdict()["seq"].as_u64().expect("a number");

    let mut page = served.browser().stream().expect("a stream");
    page.until_ready();
    for text in ["", "{", "[]", "null", "3", "{\"topic\":1,\"payload\":{}}", "{\"watch\":[1]}", "\u{0}\u{ffff}"] {
        page.socket.send(Message::text(text)).expect("it takes a frame");
        assert!(page.refusal().starts_with("expected"), "{text:?}");
    }
    for topic in ["auscult/pi-1/status", "auscult/pi-1/fan-a/verdict", "other/pi-1/control", "", "auscult/#", "$SYS"] {
        page.send(&json!({ "topic": topic, "payload": { "command": "ping" } }));
        assert!(page.refusal().contains("topic"), "{topic}");
    }
    page.send(&json!({ "topic": "auscult/pi-2/control", "payload": { "command": "ping" } }));
    assert!(page.refusal().contains("pi-2"));
    // Depth is bounded as well as length.
    page.socket.send(Message::text("[".repeat(100_000))).expect("it takes a frame");
    assert!(page.refusal().starts_with("expected"));
    // What is too large is not looked at, so its reply has no id.
    page.ask(json!({ "command": "ping", "by": "y".repeat(300_000) }));
    page.wait("a reply", |message| message["payload"]["error"]["code"] == "too_large");
    assert_eq!(page.command(json!({ "command": "ping" }))["status"], "ok");

    let _ = page.socket.send(Message::text("x".repeat(5 << 20)));
    while page.read() {}
    let mut page = served.browser().stream().expect("a stream");
    page.until_ready();
    page.socket.send(Message::binary(vec![0; 100])).expect("it takes a frame");
    while page.read() {}
    for bytes in [&b"\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x81\xfe", &[0; 4096]] {
        let mut page = served.browser().stream().expect("a stream");
        page.socket.get_mut().write_all(bytes).expect("it takes bytes");
        page.socket.get_mut().shutdown(std::net::Shutdown::Write).expect("a socket");
        while page.read() {}
    }
    let after = served.browser().stream().expect("a stream").verdict()["seq"].as_u64().expect("a number");
    (before + 1..=after).for_each(|seq| assert_eq!(witness.verdict()["seq"], seq, "scoring goes on without a gap"));
}

#[test]
fn requests_are_bounded() {
    let served = Served::start("");
    let browser = served.browser();
    let long = "x".repeat(100_000);
    assert_eq!(browser.request("GET", "/", &[("X-Long", &long)], "").status, 431);
    assert!(matches!(browser.get(&format!("/{long}")).status, 414 | 431));
    let many: Vec<(String, String)> = (0..200).map(|number| (format!("X-{number}"), "x".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(browser.request("GET", "/", &many, "").status, 431);
    assert_eq!(browser.post("/login", &json!({ "password": long })).status, 413);
    assert_eq!(browser.request("POST", "/login", &[], "{").status, 400);
    assert_eq!(browser.raw("\u{1}\u{2}\r\n\r\n").status, 400);
    assert_eq!(browser.request("DELETE", "/session", &[], "").status, 405);
    assert_eq!(browser.get("/session").status, 200);
}

#[test]
fn two_hundred_connections_that_say_nothing_pass_and_scoring_goes_on() {
    let served = Served::start("");
    let mut witness = served.browser().stream().expect("a stream");
    let first = witness.verdict()["seq"].as_u64().expect("a number");
    let mut silent: Vec<_> = (0..200).map(|_| served.browser().connect()).collect();
    silent[0].write_all(b"GET / HTTP/1.1\r\nHost: ").expect("it takes a piece");
    // They are let go after a time, and the page answers again.
    let began = Instant::now();
    assert_eq!(served.browser().get("/session").status, 200);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    silent[0].set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let mut rest = Vec::new();
    let _ = silent[0].read_to_end(&mut rest);
    for seq in first + 1..first + 4 {
        assert_eq!(witness.verdict()["seq"], seq);
    }
}

#[test]
fn streams_are_counted() {
    let served = Served::start("");
    let open: Vec<_> = (0..32).map(|_| served.browser().stream().expect("a stream")).collect();
    assert_eq!(served.browser().stream().err(), Some(503));
    drop(open);
    crate::common::wait::wait_until("room for a stream", || served.browser().stream().is_ok());
}
