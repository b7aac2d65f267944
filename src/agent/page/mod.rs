//! The agent's own page: shows what the agent publishes, with or without a broker, and hands its commands on as if they
//! had come from one.

mod live;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use self::live::LiveView;
use crate::audio::capture::Capture;
use crate::clock::Clock;
use crate::config::{BrokerOrigin, Config};
use crate::log_tail::SECRET;
use crate::monitor::Monitor;
use crate::mqtt::topics::{AgentTopics, Topic};
use crate::mqtt::{Incoming, MAX_CONTROL_BYTES, Mqtt, Origin};
use crate::web::{self, About, Home, HomeKind, Hub, Keep, Page, PageOptions, Refusal};

/// A page that is served until this is dropped.
pub struct AgentPage {
    home: Arc<AgentHome>,
    /// What the page last saw of the broker.
    broker: &'static str,
    /// Served until it is dropped.
    page: Page,
}

/// How the page is served at `listen`.
pub fn page_options(config: &Config, listen: SocketAddr) -> PageOptions {
    PageOptions {
        listen,
        password_file: config.web.password_file.clone(),
        viewer_password_file: config.web.viewer_password_file.clone(),
        state_dir: Some(config.agent.state_dir.clone()),
        tls: config.web.cert_file.clone().zip(config.web.key_file.clone()),
        hosts: config.web.hosts.clone(),
        assets_from: None,
    }
}

impl AgentPage {
    /// Serves the page where the configuration says so. Whatever is wrong with it is logged: the agent goes on.
    pub fn open(config: &Config, mqtt: &Mqtt, monitor: Arc<Monitor>, capture: Arc<Capture>) -> Option<AgentPage> {
        let listen = config.web.listen.0?;
        let home = Arc::new(AgentHome::new(config, mqtt.clone(), monitor, capture));
        let page = match web::bind(home.clone(), page_options(config, listen)) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!("{:#}: the agent goes on without its page", anyhow::Error::from(error));
                return None;
            }
        };
        match &page.code {
            None => tracing::info!("the page is at {}", page.url),
            Some(code) => {
                tracing::warn!(target: SECRET, "the page at {} has no password yet: set one there, with the code {code}", page.url)
            }
        }
        let hub = home.hub.clone();
        let topics = mqtt.topics().clone();
        mqtt.set_tap(Box::new(move |topic, payload| publish(&hub, &topics, topic, payload)));
        Some(AgentPage { home, broker: "", page })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.page.url
    }

    /// Shows whether the broker is there, when that has changed.
    pub fn follow(&mut self, mqtt: &Mqtt) {
        let settings = mqtt.broker().current();
        let broker = match (settings.urls.all().is_empty(), mqtt.is_connected()) {
            (true, _) => "none",
            (false, true) => "connected",
            // Nobody has asked for the one on this computer: that it is not there is no trouble.
            (false, false) if settings.origin == BrokerOrigin::Default && self.broker != "connected" => "none",
            (false, false) => "away",
        };
        if std::mem::replace(&mut self.broker, broker) != broker {
            let payload = json!({ "broker": broker, "since": self.home.clock.now() });
            self.home.hub.publish("$home".into(), Some(payload.to_string().into()), Keep::State);
        }
    }
}

/// Passes on what the agent publishes below its own topic.
fn publish(hub: &Hub, topics: &AgentTopics, topic: &str, payload: &[u8]) {
    let Some(parsed) = topics.parse(topic) else { return };
    let keep = Keep::of(&parsed, payload);
    if payload.is_empty() {
        return hub.publish(topic.into(), None, keep);
    }
    if let Ok(text) = std::str::from_utf8(payload) {
        hub.publish(topic.into(), Some(text.into()), keep);
    }
}

/// One agent, seen from its own page.
struct AgentHome {
    about: About,
    agent: String,
    monitor: Arc<Monitor>,
    hub: Arc<Hub>,
    mqtt: Mqtt,
    clock: Clock,
    capture: Arc<Capture>,
    live: Mutex<LiveView>,
}

impl AgentHome {
    fn new(config: &Config, mqtt: Mqtt, monitor: Arc<Monitor>, capture: Arc<Capture>) -> AgentHome {
        let about = About {
            home: HomeKind::Agent,
            root: config.mqtt.root.clone(),
            agent: Some(config.agent.id.clone()),
            version: env!("CARGO_PKG_VERSION"),
            allow_audio: config.privacy.allow_audio,
            forget: false,
        };
        AgentHome {
            about,
            agent: config.agent.id.clone(),
            monitor,
            hub: Arc::default(),
            clock: mqtt.clock().clone(),
            mqtt,
            capture,
            live: Mutex::default(),
        }
    }
}

impl Home for AgentHome {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn send(&self, topic: &Topic, payload: Vec<u8>) -> Result<(), Refusal> {
        if let Topic::Agent { agent, .. } | Topic::Machine { agent, .. } = topic
            && *agent != self.agent
        {
            return Err(Refusal(format!("this is the page of {}: {agent} is elsewhere", self.agent)));
        }
        // As from the broker: what is too large is not looked at, and answered so.
        let payload = if payload.len() > MAX_CONTROL_BYTES { Err(payload.len()) } else { Ok(payload) };
        match self.mqtt.deliver(Incoming { topic: topic.clone(), payload, retained: false, origin: Origin::Page }) {
            true => Ok(()),
            false => Err(Refusal("too many commands wait: try again".into())),
        }
    }

    fn live(&self, agent: &str, machine: &str) -> Result<Option<String>, Refusal> {
        let number = self.monitor.number(machine).filter(|_| agent == self.agent);
        let number = number.ok_or_else(|| Refusal(format!("no machine {machine} is heard here")))?;
        Ok(self.live.lock().frame(number, &self.capture, &self.clock))
    }
}
