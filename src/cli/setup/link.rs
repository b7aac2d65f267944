//! The way to the running agent: its page's session and stream, as a browser uses them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error as StreamError, Message, WebSocket};

use super::http::{Connection, Site};

/// The first state of the stream comes within this time.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// More than any frame of the agent's.
const FRAME_BYTES: usize = 16 << 20;

/// What is asked before there is a session.
pub enum Door {
    Open,
    /// Nobody has set a password yet: the log shows a code.
    NeedsCode,
    NeedsPassword,
}

/// The page of an agent that answers.
pub struct Page {
    site: Site,
    cookie: Option<String>,
    root: String,
    agent: String,
    pub door: Door,
}

impl Page {
    /// Asks who is there.
    ///
    /// # Errors
    /// Nobody answers; what answers is no agent's page.
    pub fn find(site: Site) -> anyhow::Result<Page> {
        let no_page = || anyhow!("{}: what answers is no page of an agent", site.origin());
        let answer = site.get("/session")?;
        let session: Value = serde_json::from_str(&answer.body).map_err(|_| no_page())?;
        let word = |name: &str| session[name].as_str().map(str::to_owned);
        let (root, agent) = word("root").zip(word("agent")).ok_or_else(no_page)?;
        let door = match (session["setup"].as_bool(), word("role").as_deref()) {
            (Some(true), _) => Door::NeedsCode,
            (_, Some("operator")) => Door::Open,
            _ => Door::NeedsPassword,
        };
        Ok(Page { site, cookie: None, root, agent, door })
    }

    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Logs in.
    ///
    /// # Errors
    /// What the page says against it.
    pub fn log_in(&mut self, password: &str) -> anyhow::Result<()> {
        self.post("/login", &json!({ "password": password }))
    }

    /// Sets the first password with the code of the log, and logs in.
    ///
    /// # Errors
    /// What the page says against it.
    pub fn set_password(&mut self, code: &str, password: &str) -> anyhow::Result<()> {
        self.post("/password", &json!({ "code": code, "password": password }))
    }

    fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.site.post(path, &body.to_string())?;
        match (answer.status, answer.body.trim()) {
            (200..300, _) => {
                self.cookie = answer.cookie;
                Ok(())
            }
            (429, _) => bail!("too many attempts: wait a moment"),
            (401, _) => bail!("that is not right"),
            (status, "") => bail!("the page answers {status}"),
            (_, text) => bail!("{text}"),
        }
    }

    /// Opens the stream, and waits for the agent's state.
    ///
    /// # Errors
    /// The connection's.
    pub fn open(&self) -> anyhow::Result<Link> {
        let mut request = self.site.stream_url().into_client_request()?;
        let origin = HeaderValue::try_from(self.site.origin())?;
        request.headers_mut().insert("Origin", origin);
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert("Cookie", HeaderValue::try_from(cookie)?);
        }
        let connection = self.site.connect()?;
        let config = WebSocketConfig::default().max_message_size(Some(FRAME_BYTES)).max_frame_size(Some(FRAME_BYTES));
        let (socket, _) = tungstenite::client::client_with_config(request, connection, Some(config))
            .map_err(|error| anyhow!("the page does not open its stream: {error}"))?;
        let mut link =
            Link { socket, control: format!("{}/{}/control", self.root, self.agent), asked: 0, info: Value::Null };
        let info = format!("{}/{}/info", self.root, self.agent);
        let ready = link.wait(READY_WITHIN, |message| {
            if message["topic"] == info.as_str() {
                return Some(message["payload"].clone());
            }
            message["ready"].as_bool().map(|_| Value::Null)
        });
        link.info = ready.context("the page does not show the agent's state")?;
        Ok(link)
    }
}

/// An open stream.
pub struct Link {
    socket: WebSocket<Connection>,
    control: String,
    asked: u64,
    /// Who the agent is; null where it has not said so.
    pub info: Value,
}

impl Link {
    pub fn knows(&self, command: &str) -> bool {
        self.info["commands"].as_array().is_some_and(|known| known.iter().any(|name| name == command))
    }

    /// Sends a command and waits for its reply: its `data`.
    ///
    /// # Errors
    /// The agent's own words where it refuses; none within `limit`.
    pub fn ask(&mut self, command: &str, arguments: Value, limit: Duration) -> anyhow::Result<Value> {
        self.asked += 1;
        let id = format!("setup-{:08x}-{}", rand::random::<u32>(), self.asked);
        let mut payload = Map::from_iter([("id".to_owned(), json!(id)), ("command".to_owned(), json!(command))]);
        if let Value::Object(arguments) = arguments {
            payload.extend(arguments);
        }
        let request = json!({ "topic": self.control, "payload": payload });
        self.socket.send(Message::Text(request.to_string().into())).context("the agent has gone")?;
        let reply = self.wait(limit, |message| {
            let is_reply = message["payload"]["id"] == id.as_str() && !message["payload"]["status"].is_null();
            let is_refusal = message["refused"]["id"] == id.as_str();
            (is_reply || is_refusal).then(|| message.clone())
        })?;
        if let Some(reason) = reply["refused"]["reason"].as_str() {
            bail!("{reason}");
        }
        let reply = &reply["payload"];
        match reply["error"]["message"].as_str() {
            Some(problem) => bail!("{problem}"),
            None => Ok(reply["data"].clone()),
        }
    }

    /// The first that `wanted` takes of what comes within `limit`.
    fn wait(&mut self, limit: Duration, wanted: impl Fn(&Value) -> Option<Value>) -> anyhow::Result<Value> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer within {} s", limit.as_secs());
            }
            self.socket.get_ref().set_read_timeout(left)?;
            let frame = match self.socket.read() {
                Ok(frame) => frame,
                Err(StreamError::Io(error))
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    continue;
                }
                Err(error) => return Err(anyhow::Error::from(error).context("the agent has gone")),
            };
            let Message::Text(text) = frame else { continue };
            let Ok(Value::Array(messages)) = serde_json::from_str(&text) else { continue };
            if let Some(found) = messages.iter().find_map(&wanted) {
                return Ok(found);
            }
        }
    }
}
