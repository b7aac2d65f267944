//! One browser's WebSocket: the kept state, then what is published; commands back.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::access::Access;
use super::home::{Home, Refusal};
use super::hub::{Message, REFUSED};
use super::sessions::Role;
use crate::mqtt::topics::{AgentPart, MachinePart, Topic};
use crate::token_bucket::TokenBucket;

/// Messages are gathered for this long.
const BATCH_EVERY: Duration = Duration::from_millis(100);
/// A frame is sent when it has grown to this.
const FRAME_BYTES: usize = 256 * 1024;
/// A browser that does not take a frame within this time is gone.
const SEND_WITHIN: Duration = Duration::from_secs(20);
const PING_EVERY: Duration = Duration::from_secs(20);
/// Nothing received for this long, not even the answer to a ping: gone.
const SILENT_FOR: Duration = Duration::from_secs(65);
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// Frames from the browser: so many a second in the long run, and at once.
const COMMANDS: (f64, f64) = (50.0, 100.0);

/// Codes of RFC 6455 and, from 4000, our own.
const TOO_SLOW: (u16, &str) = (1013, "too slow: connect again");
const NOT_TEXT: (u16, &str) = (1003, "expected text");
const LOGGED_OUT: (u16, &str) = (4401, "logged out");

/// Why a stream ends.
enum End {
    /// The browser has gone, or does not read.
    Gone,
    /// We close it.
    Close((u16, &'static str)),
}

/// One object that a browser sends.
#[derive(Debug, PartialEq)]
pub enum Request {
    Command {
        topic: String,
        payload: Value,
    },
    Watch(Option<Watched>),
    /// The agent of this id.
    Forget(String),
}

impl Request {
    /// `None` for whatever is none of them.
    pub fn parse(text: &str) -> Option<Request> {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else { return None };
        if let Some(watch) = fields.remove("watch") {
            return serde_json::from_value(watch).ok().map(Request::Watch);
        }
        if let Some(forget) = fields.remove("forget") {
            return serde_json::from_value(forget).ok().map(|Forgotten { agent }| Request::Forget(agent));
        }
        match (fields.remove("topic"), fields.remove("payload")) {
            (Some(Value::String(topic)), Some(payload)) => Some(Request::Command { topic, payload }),
            _ => None,
        }
    }
}

/// The machine whose live sound a browser wants.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Watched {
    pub agent: String,
    pub machine: String,
}

#[derive(Deserialize)]
struct Forgotten {
    agent: String,
}

/// Serves one browser until it goes.
pub(super) async fn run(home: &dyn Home, access: &Access, mut socket: WebSocket, token: Option<&str>) {
    if let Err(End::Close((code, reason))) = (Stream { home, access, socket: &mut socket, token }).run().await {
        let close = Frame::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = timeout(SEND_WITHIN, socket.send(close)).await;
    }
}

struct Stream<'a> {
    home: &'a dyn Home,
    access: &'a Access,
    socket: &'a mut WebSocket,
    token: Option<&'a str>,
}

impl Stream<'_> {
    async fn run(mut self) -> Result<(), End> {
        let (snapshot, mut news) = self.home.hub().open();
        let mut batch = Batch::default();
        for message in snapshot {
            batch.push(&message);
            if batch.is_large() {
                self.send(batch.take()).await?;
            }
        }
        if !batch.is_empty() {
            self.send(batch.take()).await?;
        }
        self.send(json!([{ "ready": true }]).to_string()).await?;

        let mut sent = Instant::now();
        let mut last_frame_at = Instant::now();
        let mut allowance = TokenBucket::new(COMMANDS.0, COMMANDS.1, Instant::now().into_std());
        let mut watched: Option<Watched> = None;
        let mut live = interval(LIVE_EVERY);
        let mut pulse = interval(PING_EVERY);
        live.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wait = Instant::from_std(allowance.ready_at());
            let may_read = wait <= Instant::now();
            tokio::select! {
                message = news.next() => {
                    batch.push(&message.ok_or(End::Close(TOO_SLOW))?);
                    while !batch.is_large() && let Some(message) = news.try_next() {
                        batch.push(&message);
                    }
                    if batch.is_large() {
                        self.send(batch.take()).await?;
                        sent = Instant::now();
                    }
                }
                () = sleep_until(sent + BATCH_EVERY), if !batch.is_empty() => {
                    self.send(batch.take()).await?;
                    sent = Instant::now();
                }
                frame = self.socket.recv(), if may_read => {
                    last_frame_at = Instant::now();
                    allowance.take(last_frame_at.into_std());
                    match frame.ok_or(End::Gone)?.map_err(|_| End::Gone)? {
                        Frame::Text(text) => match self.take(&text) {
                            Ok(None) => {}
                            Ok(Some(watch)) => watched = watch,
                            Err(refused) => batch.push_value(&refused),
                        },
                        Frame::Binary(_) => return Err(End::Close(NOT_TEXT)),
                        Frame::Close(_) => return Err(End::Gone),
                        Frame::Ping(_) | Frame::Pong(_) => {}
                    }
                }
                () = sleep_until(wait), if !may_read => {}
                _ = live.tick(), if watched.is_some() => {
                    if let Some(Watched { agent, machine }) = &watched {
                        match self.home.live(agent, machine) {
                            Ok(None) => {}
                            Ok(Some(payload)) => batch.push(&self.live_message(agent, machine, &payload)),
                            Err(refusal) => {
                                batch.push_value(&refused(None, &refusal.0));
                                watched = None;
                            }
                        }
                    }
                }
                _ = pulse.tick() => {
                    if last_frame_at.elapsed() > SILENT_FOR {
                        return Err(End::Gone);
                    }
                    if self.access.role(self.token).is_none() {
                        return Err(End::Close(LOGGED_OUT));
                    }
                    self.send_frame(Frame::Ping("".into())).await?;
                }
            }
        }
    }

    /// Does what the browser asks: `Some` changes what it watches.
    fn take(&self, text: &str) -> Result<Option<Option<Watched>>, Value> {
        let request = match Request::parse(text) {
            Some(Request::Watch(watch)) => return Ok(Some(watch)),
            Some(request) => request,
            None => return Err(refused(None, "expected {\"topic\", \"payload\"}, {\"watch\"} or {\"forget\"}")),
        };
        let id = if let Request::Command { payload, .. } = &request { payload.get("id").cloned() } else { None };
        let refuse = |reason: &str| Err(refused(id.clone(), reason));
        match self.access.role(self.token) {
            Some(Role::Operator) => {}
            Some(Role::Viewer) => return refuse("you may look, not command: log in as operator"),
            None => return refuse("you are logged out"),
        }
        let done = match request {
            Request::Command { topic, payload } => self.command(&topic, &payload),
            Request::Forget(agent) => self.home.forget(&agent),
            Request::Watch(watch) => return Ok(Some(watch)),
        };
        done.map(|()| None).or_else(|refusal| refuse(&refusal.0))
    }

    fn command(&self, topic: &str, payload: &Value) -> Result<(), Refusal> {
        let root = self.home.about().root;
        let topic = match Topic::parse(&root, topic) {
            Some(
                topic @ (Topic::FleetControl
                | Topic::Agent { part: AgentPart::Control, .. }
                | Topic::Machine { part: MachinePart::ThresholdSet, .. }),
            ) => topic,
            _ => return Err(Refusal("not a topic that takes commands".into())),
        };
        self.home.send(&topic, payload.to_string().into_bytes())
    }

    fn live_message(&self, agent: &str, machine: &str, payload: &str) -> Message {
        let topic = format!("{}/{agent}/{machine}/live", self.home.about().root);
        Message { topic: topic.into(), payload: Some(payload.into()), retained: false }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.send_frame(Frame::Text(text.into())).await
    }

    async fn send_frame(&mut self, frame: Frame) -> Result<(), End> {
        match timeout(SEND_WITHIN, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}

fn refused(id: Option<Value>, reason: &str) -> Value {
    json!({ "refused": { "id": id, "reason": reason } })
}

/// A JSON array under construction.
#[derive(Default)]
struct Batch(String);

impl Batch {
    /// The payload is JSON already: whoever fills the hub has seen to it.
    fn push(&mut self, message: &Message) {
        let payload = message.payload.as_deref().unwrap_or("null");
        self.separate();
        if &*message.topic == REFUSED {
            let _ = write!(self.0, "{{\"refused\":{payload}}}");
            return;
        }
        let topic = Value::from(&*message.topic);
        // Writing to a text cannot fail.
        let _ = write!(self.0, "{{\"topic\":{topic},\"payload\":{payload},\"retained\":{}}}", message.retained);
    }

    fn push_value(&mut self, value: &Value) {
        self.separate();
        let _ = write!(self.0, "{value}");
    }

    fn separate(&mut self) {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_large(&self) -> bool {
        self.0.len() >= FRAME_BYTES
    }

    fn take(&mut self) -> String {
        let mut text = std::mem::take(&mut self.0);
        text.push(']');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_one_array() {
        let mut batch = Batch::default();
        let message = |topic: &str, payload: Option<&str>| Message {
            topic: topic.into(),
            payload: payload.map(Into::into),
            retained: true,
        };
        batch.push(&message("auscult/pi \"7\"/status", Some("{\"state\":\"online\"}")));
        batch.push(&message("auscult/pi-7/alarm", None));
        batch.push_value(&refused(Some("7".into()), "no"));
        let array: Value = serde_json::from_str(&batch.take()).expect("JSON");
        assert_eq!(array[0]["topic"], "auscult/pi \"7\"/status");
        assert_eq!(array[0]["payload"]["state"], "online");
        assert_eq!((&array[1]["payload"], &array[1]["retained"]), (&Value::Null, &Value::Bool(true)));
        assert_eq!(array[2]["refused"]["reason"], "no");
        assert!(batch.is_empty());
    }

    #[test]
    fn requests_are_commands_or_watching() {
        assert_eq!(Request::parse(r#"{"watch":null}"#), Some(Request::Watch(None)));
        let watch = Request::parse(r#"{"watch":{"agent":"a","machine":"m"}}"#);
        assert!(matches!(watch, Some(Request::Watch(Some(_)))), "{watch:?}");
        let command = Request::parse(r#"{"topic":"a","payload":0.3}"#);
        assert!(matches!(command, Some(Request::Command { .. })), "{command:?}");
        assert_eq!(Request::parse(r#"{"forget":{"agent":"pi-3"}}"#), Some(Request::Forget("pi-3".into())));
        for garbage in [
            "",
            "{",
            "[]",
            "{}",
            "null",
            r#"{"topic":"a"}"#,
            r#"{"topic":1,"payload":2}"#,
            r#"{"watch":3}"#,
            r#"{"forget":"pi-3"}"#,
        ] {
            assert_eq!(Request::parse(garbage), None, "{garbage}");
        }
        assert_eq!(Request::parse(&"[".repeat(100_000)), None);
    }
}
