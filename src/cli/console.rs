//! `auscult console`: the page for a whole fleet, beside the broker.

mod kept;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::announce::Asking;
use super::broker::{BrokerArgs, converse};
use super::{Failure, logging};
use crate::backoff::Backoff;
use crate::causes::with_causes;
use crate::config::{LogConfig, MqttConfig};
use crate::mqtt::simple_client::{Message as Received, SimpleClient, SimpleClientError};
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart, Topic};
use crate::web::{self, About, Home, HomeKind, Hub, Keep, Page, PageError, PageOptions, Refusal};

/// Commands that may wait for the broker.
const COMMANDS: usize = 16;
/// Larger state than any agent publishes is not kept.
const STATE_BYTES: usize = 256 * 1024;
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Serve the page for a whole fleet: machines, alarms and commands in a browser
///
/// Without a password it answers on this computer only.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  auscult console --broker mqtt://broker:1883\n  \
                  auscult console --listen 0.0.0.0:8478 --page-password-file /etc/auscult/page-password")]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Address and port to answer on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8478")]
    listen: SocketAddr,
    /// File whose first line is the operators' password, or its argon2 hash
    #[arg(long, value_name = "FILE")]
    page_password_file: Option<PathBuf>,
    /// File with the password of those who may look but not command
    #[arg(long, value_name = "FILE")]
    viewer_password_file: Option<PathBuf>,
    /// PEM file of the page's certificate: serves HTTPS
    #[arg(long, value_name = "FILE", requires = "page_key_file")]
    page_cert_file: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "page_cert_file")]
    page_key_file: Option<PathBuf>,
    /// Name that the page is also reached by where it has no password; can be repeated
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Serves the page's files from this directory, to work on them
    #[arg(long, value_name = "DIR", hide = true)]
    assets: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    logging::start(&LogConfig::default())?;
    let mqtt = args.broker.mqtt()?;
    let options = PageOptions {
        listen: args.listen,
        password_file: args.page_password_file,
        viewer_password_file: args.viewer_password_file,
        state_dir: None,
        tls: args.page_cert_file.zip(args.page_key_file),
        hosts: args.host,
        assets_from: args.assets,
    };
    let has_password = options.password_file.is_some();
    let console = Console::new(&mqtt);
    let page = serve(&console, options)?;
    eprintln!("The fleet's page: {}", page.url);
    if !has_password {
        eprintln!("It has no password and answers on this computer only; --page-password-file sets one.");
    }
    converse(async {
        tokio::select! {
            () = console.run(&mqtt) => {}
            () = super::run::stop_signal() => {}
        }
        Ok(())
    })
}

/// Begins to serve the page of `console` to this computer, without a password.
///
/// # Errors
/// A port that is taken.
#[cfg(feature = "demo")]
pub(super) fn serve_open(console: &Arc<Console>, port: u16) -> Result<Page, Failure> {
    let options = PageOptions {
        listen: (std::net::Ipv4Addr::LOCALHOST, port).into(),
        password_file: None,
        viewer_password_file: None,
        state_dir: None,
        tls: None,
        hosts: Vec::new(),
        assets_from: None,
    };
    serve(console, options)
}

/// Begins to serve the page of `console`.
///
/// # Errors
/// An address that is taken, as a failure at run time; files that cannot be used, as bad configuration.
fn serve(console: &Arc<Console>, options: PageOptions) -> Result<Page, Failure> {
    web::bind(console.clone(), options).map_err(|error| match error {
        PageError::Listen { .. } => Failure::from(error),
        _ => Failure::config(error),
    })
}

/// What the browsers want to be sent to the broker.
enum Order {
    Command {
        topic: String,
        payload: Vec<u8>,
    },
    /// Retained topics that are to be cleared.
    Clear(Vec<String>),
}

impl Order {
    fn is_to(&self, wanted: &str) -> bool {
        match self {
            Order::Command { topic, .. } => topic == wanted,
            Order::Clear(topics) => topics.iter().any(|topic| topic == wanted),
        }
    }
}

/// The fleet as the broker shows it.
pub(super) struct Console {
    root: String,
    hub: Hub,
    orders: mpsc::Sender<Order>,
    queued: tokio::sync::Mutex<mpsc::Receiver<Order>>,
    connected: std::sync::atomic::AtomicBool,
}

impl Home for Console {
    fn about(&self) -> About {
        About {
            home: HomeKind::Fleet,
            root: self.root.clone(),
            agent: None,
            version: env!("CARGO_PKG_VERSION"),
            allow_audio: false,
            forget: true,
        }
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn send(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), Refusal> {
        self.order(Order::Command { topic: topic.below(&self.root), payload })
    }

    fn forget(&self, agent: &str) -> Result<(), Refusal> {
        let topics = kept::topics_of(&self.hub, &self.root, agent)?;
        self.order(Order::Clear(topics))
    }
}

impl Console {
    pub(super) fn new(mqtt: &MqttConfig) -> Arc<Console> {
        let (orders, queued) = mpsc::channel(COMMANDS);
        let console = Console {
            root: mqtt.root.clone(),
            hub: Hub::default(),
            orders,
            queued: queued.into(),
            connected: false.into(),
        };
        console.broker(Err("connecting"), Utc::now());
        Arc::new(console)
    }

    /// Hands something to the connection, without waiting.
    fn order(&self, order: Order) -> Result<(), Refusal> {
        if !self.connected.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Refusal("the broker is away".into()));
        }
        self.orders.try_send(order).map_err(|_| Refusal("too many commands wait for the broker".into()))
    }

    /// What was asked for while the broker went is not done at some later time, unexpectedly.
    fn refuse_queued(&self, queued: &mut mpsc::Receiver<Order>) {
        while let Ok(order) = queued.try_recv() {
            self.refuse(&order, "the broker went away before it was sent: nothing was done");
        }
    }

    fn refuse(&self, order: &Order, reason: &str) {
        let id = match order {
            Order::Command { payload, .. } => {
                serde_json::from_slice(payload).map_or(Value::Null, |mut command: Value| command["id"].take())
            }
            Order::Clear(_) => Value::Null,
        };
        self.hub.refuse(&id, reason);
    }

    /// Follows the broker for ever, through its absences.
    pub(super) async fn run(&self, mqtt: &MqttConfig) {
        let mut queued = self.queued.lock().await;
        let mut asking = Asking::default();
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        // Since when it is away, and what was last wrong.
        let mut away: Option<(DateTime<Utc>, String)> = None;
        loop {
            let problem = match connect(mqtt).await {
                Ok(mut client) => {
                    tracing::info!(broker = client.url(), "connected");
                    away = None;
                    self.refuse_queued(&mut queued);
                    self.broker(Ok(client.url()), Utc::now());
                    backoff.reset();
                    let problem = self.follow(&mut client, &mut queued, &mut asking).await;
                    asking.disconnected();
                    problem
                }
                Err(problem) => problem,
            };
            let problem = with_causes(&problem);
            let is_told = away.as_ref().is_some_and(|(_, told)| *told == problem);
            if !is_told {
                tracing::warn!(problem, "the broker is away");
            }
            let since = away.map_or_else(Utc::now, |(since, _)| since);
            self.broker(Err(&problem), since);
            away = Some((since, problem));
            self.refuse_queued(&mut queued);
            sleep(backoff.next()).await;
        }
    }

    /// Passes messages and commands on until the connection breaks.
    async fn follow(
        &self,
        client: &mut SimpleClient,
        queued: &mut mpsc::Receiver<Order>,
        asking: &mut Asking,
    ) -> SimpleClientError {
        asking.connected();
        let mut sent = VecDeque::new();
        loop {
            tokio::select! {
                message = client.next() => match message {
                    Err(SimpleClientError::Refused { topic, refusal, .. }) => {
                        tracing::warn!("{topic}: the broker does not take what is published here: {refusal}");
                        if let Some(place) = sent.iter().rposition(|order: &Order| order.is_to(&topic))
                            && let Some(order) = sent.remove(place)
                        {
                            self.refuse(&order, &format!("the broker does not take the command: {refusal}"));
                        }
                    }
                    Ok(message) => {
                        asking.received(&message);
                        self.take(message);
                    }
                    Err(problem) => return problem,
                },
                () = asking.due() => if let Err(problem) = asking.ask(client).await {
                    return problem;
                },
                Some(order) = queued.recv() => {
                    match carry_out(client, &order).await {
                        Ok(()) | Err(SimpleClientError::Refused { .. }) => {}
                        Err(problem) => {
                            self.refuse(&order, "the broker went away while it was sent: it may still be done");
                            return problem;
                        }
                    }
                    sent.push_back(order);
                    if sent.len() > COMMANDS {
                        sent.pop_front();
                    }
                }
            }
        }
    }

    /// Says on the topic `$home` whether the broker is there, and since when that is so.
    fn broker(&self, state: Result<&str, &str>, since: DateTime<Utc>) {
        let since = since.to_rfc3339_opts(SecondsFormat::Millis, true);
        let payload = match state {
            Ok(url) => json!({ "broker": "connected", "url": url, "since": since }),
            Err(problem) => json!({ "broker": "away", "problem": problem, "since": since }),
        };
        self.connected.store(state.is_ok(), std::sync::atomic::Ordering::Relaxed);
        self.hub.publish("$home".into(), Some(payload.to_string().into()), Keep::State);
    }

    fn take(&self, Received { topic, payload, .. }: Received) {
        let name = topic.below(&self.root);
        let keep = Keep::of(&topic, &payload);
        if payload.is_empty() {
            return self.hub.publish(name.into(), None, keep);
        }
        // A payload goes into a larger JSON text as it is, so it has to be one.
        let text = String::from_utf8(payload).ok().filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        match text {
            Some(text) if keep == Keep::No || text.len() <= STATE_BYTES => {
                self.hub.publish(name.into(), Some(text.into()), keep);
            }
            Some(_) => tracing::warn!(topic = name, "a message is passed over: it is too large"),
            None => tracing::debug!(topic = name, "a message is passed over: it is no JSON"),
        }
    }
}

async fn carry_out(client: &mut SimpleClient, order: &Order) -> Result<(), SimpleClientError> {
    match order {
        Order::Command { topic, payload } => client.publish_command(topic, payload.clone()).await,
        Order::Clear(topics) => {
            for topic in topics {
                client.publish(topic, true, Vec::new()).await?;
            }
            Ok(())
        }
    }
}

/// Everything of the fleet that the page shows.
async fn connect(mqtt: &MqttConfig) -> Result<SimpleClient, SimpleClientError> {
    let topics = AgentTopics::new(&mqtt.root, "+");
    let agents = [AgentPart::Status, AgentPart::Info, AgentPart::Health, AgentPart::Event, AgentPart::Reply];
    let machines =
        [MachinePart::Verdict, MachinePart::Alarm, MachinePart::Settings, MachinePart::Event, MachinePart::Evidence];
    let filters = agents.map(|part| topics.of_agent(part)).into_iter();
    let filters: Vec<_> = filters.chain(machines.map(|part| topics.of_machine("+", part))).collect();
    let mut client = SimpleClient::connect(mqtt, "console").await?;
    client.subscribe(&filters).await?;
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(console: &Console, topic: &str, payload: &str) {
        let topic = Topic::parse("auscult", topic).expect("a topic");
        console.take(Received { topic, payload: payload.into(), retained: false });
    }

    #[test]
    fn the_newest_state_is_kept_and_what_is_no_json_is_not() {
        let console = Console::new(&MqttConfig::default());
        deliver(&console, "auscult/pi-7/fan-1/verdict", r#"{"seq":5}"#);
        deliver(&console, "auscult/pi-7/fan-1/verdict", r#"{"seq":3,"late":true}"#);
        deliver(&console, "auscult/pi-7/fan-1/alarm", r#"{"state":"normal"}"#);
        deliver(&console, "auscult/pi-7/fan-1/alarm", "");
        deliver(&console, "auscult/pi-7/info", "}],[{");
        deliver(&console, "auscult/pi-7/status", "\u{0}");
        deliver(&console, "auscult/pi-7/reply", "{}");
        let kept: Vec<_> = console.hub.snapshot().into_iter().map(|m| (m.topic, m.payload)).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].1.as_deref().is_some_and(|payload| payload.contains("\"away\"")));
        assert_eq!(kept[1], ("auscult/pi-7/fan-1/verdict".into(), Some(r#"{"seq":5}"#.into())));
    }

    #[test]
    fn nothing_is_sent_while_the_broker_is_away() {
        let console = Console::new(&MqttConfig::default());
        assert!(console.send(&Topic::FleetControl, b"{}".to_vec()).is_err());
        console.broker(Ok("mqtt://broker:1883"), Utc::now());
        for _ in 0..COMMANDS {
            assert_eq!(console.send(&Topic::FleetControl, b"{}".to_vec()), Ok(()));
        }
        assert!(console.send(&Topic::FleetControl, b"{}".to_vec()).is_err());
    }

    #[test]
    fn what_was_queued_while_the_broker_went_is_refused() {
        let console = Console::new(&MqttConfig::default());
        console.broker(Ok("mqtt://broker:1883"), Utc::now());
        let (_, mut page) = console.hub.open();
        assert_eq!(console.send(&Topic::FleetControl, br#"{"id":"7","command":"ping"}"#.to_vec()), Ok(()));
        let mut queued = console.queued.try_lock().expect("nobody follows the broker");
        console.refuse_queued(&mut queued);
        let refused = page.try_next().expect("an answer");
        assert!(refused.payload.is_some_and(|refused| refused.contains("\"id\":\"7\"")));
    }

    #[test]
    fn an_agent_that_is_gone_can_be_forgotten() {
        let console = Console::new(&MqttConfig::default());
        deliver(&console, "auscult/pi-7/status", r#"{"state":"online"}"#);
        deliver(&console, "auscult/pi-7/info", "{}");
        deliver(&console, "auscult/pi-7/fan-1/verdict", r#"{"seq":3}"#);
        deliver(&console, "auscult/pi-8/status", r#"{"state":"offline"}"#);
        let kept = |agent: &str| kept::topics_of(&console.hub, &console.root, agent);
        assert!(kept("pi-7").is_err_and(|refusal| refusal.0.contains("online")));
        assert!(kept("pi-9").is_err_and(|refusal| refusal.0.contains("nothing is known")));
        deliver(&console, "auscult/pi-7/status", r#"{"state":"stopped"}"#);
        let topics = ["homeassistant/device/auscult-pi-7/config", "homeassistant/device/auscult-pi-7/fan-1/config"];
        let own = ["fan-1/picture", "fan-1/verdict", "info", "status"].map(|part| format!("auscult/pi-7/{part}"));
        let topics = topics.into_iter().map(String::from).chain(own).collect();
        assert_eq!(kept("pi-7"), Ok(topics));
    }
}
