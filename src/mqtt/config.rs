//! The sections of the configuration that concern the broker: `[mqtt]`, `[outbox]`, `[compat]`, `[homeassistant]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::address::BrokerUrls;
use super::version::VersionSetting;
use crate::secret::Secret;
use crate::validate::check_range;

/// `[mqtt]`: how to reach the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Broker: `mqtt://host:1883` or `mqtts://host:8883`, or a list of them to try in turn, or
    /// `none`: the agent then has its page alone, and messages are counted and discarded; default
    /// `mqtt://localhost:1883`.
    pub url: BrokerUrls,
    /// First part of every topic; default `auscult`.
    pub root: String,
    /// Login name; default: none.
    pub username: Option<String>,
    /// Password; better kept in a file. Default: none.
    pub password: Option<Secret>,
    /// File whose first line is the password; default: none.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the broker's certificate; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of this agent's certificate (mTLS); default: none.
    pub cert_file: Option<PathBuf>,
    /// PEM file of that certificate's key; default: none.
    pub key_file: Option<PathBuf>,
    /// Seconds between keep-alive packets; a connection that stays silent for one and a half times as long is given up.
    /// Default 20; MQTT 5 takes 5 at least.
    pub keep_alive_s: u64,
    /// Version of MQTT: 5, or 4, which is MQTT 3.1.1, or `"auto"`: 5 where the broker speaks it, or else 3.1.1;
    /// default `"auto"`.
    pub version: VersionSetting,
    /// MQTT 5: seconds after which the broker publishes `offline` when the connection broke and the agent has not come
    /// back; default 10.
    pub will_delay_s: u64,
    /// MQTT 5: days for which the broker keeps commands for an agent that is away; default 30.
    pub session_days: f64,
    /// Where address and login come from; not a key.
    #[serde(skip)]
    pub origin: BrokerOrigin,
}

/// Where the broker's address and login come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerOrigin {
    /// Nobody has said anything of a broker.
    #[default]
    Default,
    /// The configuration: the file or the environment.
    File,
    /// It was chosen on the agent's page.
    Page,
}

/// The keys that make a broker the configuration's.
pub const BROKER_KEYS: [&str; 4] = ["url", "username", "password", "password_file"];

impl Default for MqttConfig {
    fn default() -> Self {
        MqttConfig {
            url: BrokerUrls::default(),
            root: "auscult".into(),
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            keep_alive_s: 20,
            version: VersionSetting::Auto,
            will_delay_s: 10,
            session_days: 30.0,
            origin: BrokerOrigin::Default,
        }
    }
}

impl MqttConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        let root = &self.root;
        if root.is_empty() || root.contains(['+', '#', '\0']) || root.starts_with(['/', '$']) || root.ends_with('/') {
            return Err(format!("mqtt.root: expected topic parts without + # $, found {root:?}"));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("mqtt: expected cert_file and key_file together, found one of them".into());
        }
        check_range("mqtt.keep_alive_s", self.keep_alive_s as f64, 1.0, 3600.0)?;
        check_range("mqtt.will_delay_s", self.will_delay_s as f64, 0.0, 86_400.0)?;
        check_range("mqtt.session_days", self.session_days, 0.01, 3650.0)
    }
}

/// `[outbox]`: the messages on disk that wait for the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// Size on disk, in millions of bytes; when it is reached the oldest verdicts are dropped first. Default 200.
    pub max_mb: u64,
    /// Days after which a message that could not be sent is dropped; default 30.
    pub max_age_days: f64,
    /// Messages per second at which the backlog of an outage is sent; default 500.
    pub drain_per_s: f64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        OutboxConfig { max_mb: 200, max_age_days: 30.0, drain_per_s: 500.0 }
    }
}

impl OutboxConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        check_range("outbox.max_mb", self.max_mb as f64, 1.0, 1e6)?;
        check_range("outbox.max_age_days", self.max_age_days, 0.01, 3650.0)?;
        check_range("outbox.drain_per_s", self.drain_per_s, 1.0, 1e6)
    }
}

/// `[compat]`: for those who come from the original.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompatConfig {
    /// Topic that each verdict is also published to in the original's format; default: none.
    pub escoita_topic: Option<String>,
}

impl CompatConfig {
    /// Checks what the types cannot express; `root` is `mqtt.root`.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self, root: &str) -> Result<(), String> {
        let Some(topic) = &self.escoita_topic else { return Ok(()) };
        let below_root = format!("{topic}/").starts_with(&format!("{root}/"));
        if below_root || topic.is_empty() || topic.contains(['+', '#', '\0']) || topic.starts_with('$') {
            return Err(format!(
                "compat.escoita_topic: expected a topic without + # $ outside mqtt.root, found {topic:?}"
            ));
        }
        Ok(())
    }
}

/// `[homeassistant]`: Home Assistant's discovery over MQTT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistantConfig {
    /// Whether agent and machines appear in Home Assistant automatically; default false.
    pub discovery: bool,
    /// First part of its discovery topics; default `homeassistant`.
    pub prefix: String,
    /// Whether each machine shows the picture of its newest alarm there; default true. It is no sound, and leaves the agent
    /// with `discovery` alone.
    pub pictures: bool,
}

impl Default for HomeAssistantConfig {
    fn default() -> Self {
        HomeAssistantConfig { discovery: false, prefix: "homeassistant".into(), pictures: true }
    }
}

impl HomeAssistantConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.contains(['+', '#', '\0']) || prefix.starts_with('$') || prefix.ends_with('/') {
            return Err(format!("homeassistant.prefix: expected topic parts without + # $, found {prefix:?}"));
        }
        Ok(())
    }

    /// Whether pictures of alarms are published.
    pub fn shows_pictures(&self) -> bool {
        self.discovery && self.pictures
    }

    /// Topic where Home Assistant publishes `online` when it has started; `None` while discovery is off.
    pub fn status_topic(&self) -> Option<String> {
        self.discovery.then(|| format!("{}/status", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_serialize_shows_the_password() {
        let mqtt = MqttConfig { password: Some("hunter2".into()), ..MqttConfig::default() };
        let shown = format!("{mqtt:?} {}", serde_json::to_string(&mqtt).expect("serializable"));
        assert!(shown.contains("mqtt://localhost:1883") && !shown.contains("hunter2"), "{shown}");
    }
}
