//! How the MQTT client is set up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::broker::BrokerSettings;
use super::config::{CompatConfig, HomeAssistantConfig, MqttConfig, OutboxConfig};
use super::outbox::Bounds;
use super::tls::TlsFiles;
use super::version::VersionSetting;

/// How the client is set up.
#[derive(Debug, Clone)]
pub struct MqttOptions {
    pub agent: String,
    pub root: String,
    pub broker: BrokerSettings,
    pub tls: TlsFiles,
    pub version: VersionSetting,
    /// For so long a broker of MQTT 5 waits after a connection broke before it publishes `offline`.
    pub will_delay: Duration,
    /// For so long it keeps the session of an agent that is away.
    pub keep_session: Duration,
    /// A connection that stays silent for one and a half times as long is given up.
    pub keep_alive: Duration,
    /// Shortest and longest pause between two attempts to connect.
    pub pause: (Duration, Duration),
    /// Messages per second at which the backlog is sent.
    pub drain_per_s: f64,
    /// Topic that each verdict is also published to in the original's format.
    pub compat_topic: Option<String>,
    /// Topic where Home Assistant publishes `online` when it has started: retained state is then republished.
    pub homeassistant_status: Option<String>,
    /// Directory of the outbox.
    pub state_dir: PathBuf,
    pub bounds: Bounds,
    /// No machine's `seq` goes on below this.
    pub least_seqs: BTreeMap<String, u64>,
}

impl MqttOptions {
    /// The options of agent `agent`, whose outbox lies in `state_dir`, from the sections of its configuration.
    pub fn from_config(
        agent: &str,
        state_dir: &Path,
        mqtt: &MqttConfig,
        outbox: &OutboxConfig,
        compat: &CompatConfig,
        homeassistant: &HomeAssistantConfig,
    ) -> Self {
        MqttOptions {
            agent: agent.to_owned(),
            root: mqtt.root.clone(),
            broker: BrokerSettings::of(mqtt),
            tls: TlsFiles::from_config(mqtt),
            version: mqtt.version,
            will_delay: Duration::from_secs(mqtt.will_delay_s),
            keep_session: Duration::from_secs_f64(mqtt.session_days * 86_400.0),
            keep_alive: Duration::from_secs(mqtt.keep_alive_s),
            pause: (Duration::from_secs(1), Duration::from_secs(60)),
            drain_per_s: outbox.drain_per_s,
            compat_topic: compat.escoita_topic.clone(),
            homeassistant_status: homeassistant.status_topic(),
            state_dir: state_dir.to_owned(),
            bounds: Bounds { max_bytes: outbox.max_mb * 1_000_000, max_age_s: (outbox.max_age_days * 86_400.0) as i64 },
            least_seqs: BTreeMap::new(),
        }
    }
}
