//! What a browser does: requests, and a stream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::{Message, WebSocket};

use crate::common::agent_process::{Agent, Site};
use crate::common::wait::wait_until;

/// Longest wait for one thing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An agent with a page, which listens to a simulated fan ten times as fast as real time, without a broker.
pub struct Served {
    pub site: Site,
    agent: Agent,
    pub address: SocketAddr,
    /// How much of the log was there before this start.
    logged: usize,
}

/// `web` is the TOML of `[web]`.
pub fn site(url: &str, web: &str) -> Site {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let machine = "[[machine]]\nid = \"fan-a\"\nsource = { synth = \"fan\", speed = 10 }\n";
    Site::new(url, &bundle, &format!("[web]\n{web}\n{machine}"))
}

impl Served {
    /// `web` is the TOML of `[web]`, where it is to be other than on any port of loopback.
    pub fn start(web: &str) -> Served {
        let listen = if web.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        Served::again(site("none", &format!("{listen}{web}")))
    }

    /// Starts the agent of `site`, perhaps once more.
    pub fn again(site: Site) -> Served {
        Served::with(site, &[])
    }

    /// As [`Served::again`], with variables in its environment.
    pub fn with(site: Site, environment: &[(&str, &std::ffi::OsStr)]) -> Served {
        let logged = std::fs::read_to_string(site.dir.path().join("log")).unwrap_or_default().len();
        let agent = site.start(site.command("run").envs(environment.iter().copied()));
        let mut address = None;
        wait_until("the page's address in the log", || {
            let log = agent.log();
            let log = log.get(logged..).unwrap_or_default();
            let url = log.split("http://").nth(1).and_then(|rest| rest.split('/').next());
            address = url.and_then(|url| url.parse().ok());
            address.is_some()
        });
        Served { site, agent, address: address.expect("it was found"), logged }
    }

    pub fn browser(&self) -> Browser {
        // An address that means all of this computer's is reached by its loopback.
        Browser::new(SocketAddr::from(([127, 0, 0, 1], self.address.port())))
    }

    /// What this start has logged.
    pub fn log(&self) -> String {
        self.agent.log()[self.logged..].to_owned()
    }

    pub fn terminate(self) -> Option<i32> {
        self.agent.terminate()
    }

    /// Stops the agent and starts it again in the same place.
    pub fn restart(self) -> Served {
        let Served { site, agent, .. } = self;
        assert_eq!(agent.terminate(), Some(0));
        Served::again(site)
    }
}

/// Somebody's browser.
#[derive(Clone)]
pub struct Browser {
    pub address: SocketAddr,
    /// What it sends as `Host`, and as `Origin`.
    pub host: String,
    pub origin: Option<String>,
    pub cookie: Option<String>,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }
}

impl Browser {
    pub fn new(address: SocketAddr) -> Browser {
        let host = address.to_string();
        Browser { address, origin: Some(format!("http://{host}")), host, cookie: None }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[], &body.to_string())
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        let own = [("Origin", &self.origin), ("Cookie", &self.cookie)];
        for (name, value) in own.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            text += &format!("{name}: {value}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        self.raw(&format!("{text}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Sends `text` as it is.
    pub fn raw(&self, text: &str) -> Answer {
        let mut socket = self.connect();
        socket.write_all(text.as_bytes()).expect("it takes a request");
        let mut answer = Vec::new();
        // A server that hangs up on what it does not like may reset the connection.
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.unwrap_or_default(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
            body: body.into(),
        }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        socket
    }

    /// Logs in, and keeps the cookie.
    pub fn log_in(&mut self, password: &str) -> Answer {
        let answer = self.post("/login", &json!({ "password": password }));
        self.take_cookie(&answer);
        answer
    }

    pub fn take_cookie(&mut self, answer: &Answer) {
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
    }

    pub fn role(&self) -> Value {
        self.get("/session").json()["role"].clone()
    }

    /// Opens a stream; else the status of the refusal.
    pub fn stream(&self) -> Result<Stream, u16> {
        let uri = format!("ws://{}/stream", self.host).parse().expect("a URI");
        let mut request = ClientRequestBuilder::new(uri);
        let own = [("Origin", &self.origin), ("Cookie", &self.cookie)];
        for (name, value) in own.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))) {
            request = request.with_header(name, value);
        }
        match client_with_config(request, self.connect(), None) {
            Ok((socket, _)) => Ok(Stream { socket, messages: Vec::new() }),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(refusal))) => {
                Err(refusal.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A browser's stream, and all messages that have come.
pub struct Stream {
    pub socket: WebSocket<TcpStream>,
    messages: Vec<Value>,
}

impl Stream {
    /// Takes one frame in; false at the end.
    pub fn read(&mut self) -> bool {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                let batch: Vec<Value> = serde_json::from_str(&text).expect("an array");
                self.messages.extend(batch);
                true
            }
            Ok(Message::Close(_)) | Err(_) => false,
            Ok(_) => true,
        }
    }

    /// The first message that `is` what is looked for, among those that came and those to come; it is gone then.
    pub fn wait(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.messages.iter().position(&is) {
                return self.messages.remove(place);
            }
            assert!(Instant::now() < end && self.read(), "{what} did not come: {:?}", self.messages);
        }
    }

    /// Everything before `ready`.
    pub fn until_ready(&mut self) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.messages.iter().position(|message| message["ready"] == true) {
                let state = self.messages[..place].to_vec();
                self.messages.remove(place);
                return state;
            }
            assert!(Instant::now() < end && self.read(), "it never was ready: {:?}", self.messages);
        }
    }

    pub fn seen(&self, is: impl Fn(&Value) -> bool) -> usize {
        self.messages.iter().filter(|message| is(message)).count()
    }

    /// The next verdict that was not looked at.
    pub fn verdict(&mut self) -> Value {
        let is_new = |message: &Value| message["topic"] == "auscult/pi-1/fan-a/verdict" && message["retained"] == false;
        self.wait("a verdict", is_new)["payload"].clone()
    }

    pub fn send(&mut self, value: &Value) {
        self.socket.send(Message::text(value.to_string())).expect("it takes a frame");
    }

    /// Sends a command to the agent.
    pub fn ask(&mut self, mut command: Value) -> String {
        let id = format!("{:016x}", rand::random::<u64>());
        command["id"] = json!(id);
        self.send(&json!({ "topic": "auscult/pi-1/control", "payload": command }));
        id
    }

    /// Sends a command to the agent; its reply.
    pub fn command(&mut self, command: Value) -> Value {
        let id = self.ask(command);
        let is_reply = |message: &Value| message["topic"] == "auscult/pi-1/reply" && message["payload"]["id"] == id;
        self.wait("a reply", is_reply)["payload"].clone()
    }

    /// The reason of the next refusal.
    pub fn refusal(&mut self) -> String {
        let refused = self.wait("a refusal", |message| message["refused"].is_object());
        refused["refused"]["reason"].as_str().expect("a reason").to_owned()
    }
}
