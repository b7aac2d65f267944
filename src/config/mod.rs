//! What a user can set: a TOML file, then `AUSCULT__SECTION__KEY` environment variables on top.
//!
//! Every field's documentation states its default. Unknown keys are errors that name the nearest known one.

mod error;
mod evidence;
mod layers;
mod log;
mod machine;
pub mod notify;
pub mod template;
pub mod web;

use std::num::NonZero;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::error::ConfigError;
pub use self::evidence::EvidenceConfig;
pub use self::log::{LogConfig, LogFormat};
pub use self::machine::{
    BASELINE_MINUTES, BaselineMode, LONGEST_NAME, LONGEST_NOTES, MachineConfig, check_id, default_false_alarm_rate,
};
pub use self::notify::NotifyConfig;
pub use self::web::WebConfig;
pub use crate::audio::config::{Channel, SourceConfig};
pub use crate::bundle::config::BundleConfig;
use crate::encoder::EncoderConfig;
use crate::mqtt::broker;
pub use crate::mqtt::config::{BrokerOrigin, CompatConfig, HomeAssistantConfig, MqttConfig, OutboxConfig};
use crate::scoring::alarm::AlarmConfig;
use crate::scoring::gate::Gate;
use crate::validate::{check_range, words};

/// The packages' configuration.
pub const PACKAGED: &str = "/etc/auscult/agent.toml";

/// The whole configuration of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub agent: AgentConfig,
    pub mqtt: MqttConfig,
    pub outbox: OutboxConfig,
    pub compat: CompatConfig,
    pub homeassistant: HomeAssistantConfig,
    pub bundle: BundleConfig,
    pub encoder: EncoderConfig,
    pub log: LogConfig,
    /// Limits of what can be assessed; each machine may override single fields.
    pub gate: Gate,
    /// When an alarm is raised and cleared; each machine may override single fields.
    pub alarm: AlarmConfig,
    pub evidence: EvidenceConfig,
    pub privacy: PrivacyConfig,
    pub web: WebConfig,
    /// Who is told of alarms.
    pub notify: Vec<NotifyConfig>,
    /// May be empty: machines can be added while the agent runs.
    pub machine: Vec<MachineConfig>,
}

/// What may leave the Pi besides verdicts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyConfig {
    /// `evidence.get` may send the sound of the last window and of alarms' clips; default false.
    pub allow_audio: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Name of this agent, second part of its topics; default: the host name.
    pub id: String,
    /// Tags that `fleet/control` can address; default: none.
    #[serde(deserialize_with = "words")]
    pub tags: Vec<String>,
    /// Where the outbox, settings and baselines live; default `/var/lib/auscult`.
    pub state_dir: PathBuf,
    /// Seconds from one health message to the next; default 60.
    pub health_every_s: f64,
    /// Threads that score, at most: one does it unless it falls behind. Default: the processor's cores, 4 at most.
    pub scoring_threads: usize,
}

impl Default for AgentConfig {
    fn default() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let id = host.split('.').next().unwrap_or_default().to_owned();
        AgentConfig {
            id,
            tags: Vec::new(),
            state_dir: "/var/lib/auscult".into(),
            health_every_s: 60.0,
            scoring_threads: std::thread::available_parallelism().map_or(1, NonZero::get).min(4),
        }
    }
}

impl Config {
    /// Reads `file`, lays the environment over it and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and key.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let config = Config::read(Some(file))?;
        config.check().map_err(|ConfigError(problem)| ConfigError(format!("{}: {problem}", file.display())))?;
        Ok(config)
    }

    /// As [`Config::load`] of `file`, else of the packaged one; where that is not there either, the defaults with the
    /// environment over them: an agent that waits for set-up. Its state then lies in the user's own directory, unless
    /// the packages' can be written.
    ///
    /// # Errors
    /// As of [`Config::load`].
    pub fn load_any(file: Option<&Path>) -> Result<Config, ConfigError> {
        let packaged = Path::new(PACKAGED);
        if let Some(file) = file.or_else(|| packaged.exists().then_some(packaged)) {
            return Config::load(file);
        }
        let mut config = Config::read(None)?;
        config.check()?;
        let state_dir = &mut config.agent.state_dir;
        if *state_dir == AgentConfig::default().state_dir
            && !can_be_written(state_dir)
            && let Some(own) = own_state_dir()
        {
            *state_dir = own;
        }
        Ok(config)
    }

    /// Reads only how to reach the broker: of `file`, which needs no machines for that, else of the defaults; the
    /// environment on top.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and key.
    pub fn load_mqtt(file: Option<&Path>) -> Result<MqttConfig, ConfigError> {
        let mut config = Config::read(file)?;
        if file.is_some()
            && let Err(problem) = config.use_chosen_broker()
        {
            tracing::debug!("{problem}");
        }
        config.mqtt.check()?;
        Ok(config.mqtt)
    }

    /// Takes the broker that was chosen on the agent's page, unless the file or the environment names one.
    ///
    /// # Errors
    /// What was chosen cannot be read; the configuration is then unchanged.
    pub fn use_chosen_broker(&mut self) -> Result<(), String> {
        match broker::saved(&self.agent.state_dir)? {
            Some(chosen) if self.mqtt.origin == BrokerOrigin::Default => chosen.lay_over(&mut self.mqtt),
            Some(_) => {
                tracing::info!("the configuration names the broker: the one that was chosen on the page is not used")
            }
            None => {}
        }
        Ok(())
    }

    fn read(file: Option<&Path>) -> Result<Config, ConfigError> {
        let (mut config, origin): (Config, BrokerOrigin) = layers::read(file)?;
        config.mqtt.origin = origin;
        Ok(config)
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.bundle.check()?;
        self.log.check()?;
        self.web.check()?;
        notify::check(&self.notify)?;
        if self.agent.state_dir.as_os_str().is_empty() {
            return Err(ConfigError("agent.state_dir: expected a directory, found none".into()));
        }
        check_topic_part("agent.id", &self.agent.id)?;
        for tag in &self.agent.tags {
            check_topic_part("agent.tags", tag)?;
        }
        self.mqtt.check()?;
        check_range("agent.health_every_s", self.agent.health_every_s, 1.0, 86_400.0)?;
        check_range("agent.scoring_threads", self.agent.scoring_threads as f64, 1.0, 64.0)?;
        self.outbox.check()?;
        self.evidence.check()?;
        self.compat.check(&self.mqtt.root)?;
        self.homeassistant.check()?;
        self.gate.check().map_err(|problem| ConfigError(format!("gate.{problem}")))?;
        self.alarm.check().map_err(|problem| ConfigError(format!("alarm.{problem}")))?;
        for (number, machine) in self.machine.iter().enumerate() {
            let key = format!("machine[{number}]");
            machine.check(&key, &self.gate, &self.alarm)?;
            if self.machine[..number].iter().any(|earlier| earlier.id == machine.id) {
                return Err(ConfigError(format!("{key}.id: {:?} is used twice", machine.id)));
            }
        }
        Ok(())
    }
}

/// The environment's variables that miss the double underscores, each with what was meant: nobody else reads them.
pub fn misspelt_variables() -> Vec<String> {
    layers::misspelt_variables::<Config>()
}

/// Whether this user may put files into `dir`, or may make it. It is not made: `auscult check` changes nothing.
fn can_be_written(dir: &Path) -> bool {
    dir.ancestors().find(|dir| dir.exists()).is_some_and(|there| tempfile::tempfile_in(there).is_ok())
}

/// Where this user's programs keep their state.
fn own_state_dir() -> Option<PathBuf> {
    let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    Some(dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")))?.join("auscult"))
}

/// Checks the name of an agent or a tag, which is one part of a topic.
fn check_topic_part(key: &str, part: &str) -> Result<(), ConfigError> {
    let valid = !part.is_empty()
        && part.len() <= 64
        && part != "fleet"
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if valid {
        return Ok(());
    }
    Err(ConfigError(format!("{key}: expected 1 to 64 of A-Z a-z 0-9 _ - . and not \"fleet\", found {part:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, text).expect("a writable file");
        Config::load(&file).map_err(|error| error.to_string())
    }

    const MACHINE: &str = "[[machine]]\nid = \"fan-1\"\nsource = { wav = \"a.wav\", loop = true }\n";

    #[test]
    fn defaults_are_filled_in() {
        let config = load(MACHINE).expect("a valid configuration");
        assert_eq!(config.mqtt.url.to_string(), "mqtt://localhost:1883");
        assert_eq!((config.machine[0].model(), config.machine[0].hop_s), ("fan-1", 5.0));
        assert_eq!(config.machine[0].source.channel, Channel::Mix);
        assert!(config.machine[0].source.repeat);
    }

    #[test]
    fn a_machine_overrides_single_limits_of_the_gate() {
        let text = format!("[gate]\nsilent_below = 0.0002\n{MACHINE}gate = {{ noise_flatness = 2 }}\n");
        let config = load(&text).expect("a valid configuration");
        let gate = config.machine[0].gate(&config.gate).expect("a valid gate");
        assert_eq!((gate.silent_below, gate.noise_flatness, gate.dc_offset), (0.0002, 2.0, 0.03));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        for (text, unknown, nearest) in [
            (format!("[mqtt]\nurll = \"x\"\n{MACHINE}"), "urll", "`url`"),
            (format!("[agnet]\nid = \"x\"\n{MACHINE}"), "agnet", "`agent`"),
            (MACHINE.replace("loop", "lop"), "lop", "`loop`"),
            (format!("{MACHINE}gate = {{ silent_belo = 0.1 }}"), "silent_belo", "`silent_below`"),
            (format!("{MACHINE}judge = \"distnce\""), "machine[0].judge", "`distance`"),
            (format!("{MACHINE}baseline = \"atuo\""), "machine[0].baseline", "`auto`"),
            (format!("[log]\nformat = \"jsno\"\n{MACHINE}"), "log.format", "`json`"),
            (format!("[encoder]\nengine = \"trcat\"\n{MACHINE}"), "encoder.engine", "`tract`"),
            (
                MACHINE.replace("wav = \"a.wav\", loop = true", "device = \"x\", format = \"i15\""),
                "machine[0].source.format",
                "`i16`",
            ),
        ] {
            let error = load(&text).expect_err("a key that does not exist");
            assert!(error.contains(unknown) && error.contains(&format!("did you mean {nearest}?")), "{error}");
        }
    }

    #[test]
    fn bad_values_are_named() {
        for (text, words) in [
            (MACHINE.replace("fan-1", "fleet"), "machine[0].id"),
            (MACHINE.replace("fan-1", "Fan"), "machine[0].id"),
            (format!("{MACHINE}{MACHINE}"), "used twice"),
            (format!("{MACHINE}hop_s = 0.1"), "machine[0].hop_s: expected 0.5 to"),
            (format!("{MACHINE}threshold = -1"), "machine[0].threshold"),
            (format!("{MACHINE}judge = \"distance\"\nadapt = true"), "machine[0].adapt: expected false with judge ="),
            (format!("[gate]\ndc_offset = -1\n{MACHINE}"), "gate.dc_offset: expected 0 to 10, found -1"),
            (format!("{MACHINE}gate = {{ silent_below = nan }}"), "machine[0].gate"),
            (format!("{MACHINE}gate = {{ silent = 1 }}"), "machine[0].gate: unknown field `silent`"),
            (format!("{MACHINE}alarm = {{ raise_after_s = \"10m\" }}"), "machine[0].alarm.raise_after_s: invalid type"),
            ("[[machine]]\nid = \"fan-1\"\nsource = \"usb-path:1-1.3\"".into(), "expected a table such as"),
            (format!("{MACHINE}[mqtt]\nulr = \"mqtt://x\""), "did you mean `url`?"),
            (MACHINE.replace("wav", "rate_hz = 9, wav"), "goes with device, not with wav"),
            (MACHINE.replace("wav = \"a.wav\", loop = true", ""), "expected one of device, wav, synth, found none"),
            (MACHINE.replace("loop = true", "channel = \"left\""), "expected a channel number from 0 or \"mix\""),
            (MACHINE.replace("loop = true", "channel = -1"), "expected a channel number from 0 or \"mix\", found -1"),
            (format!("[mqtt]\nurl = 5\n{MACHINE}"), "expected a URL or a list of URLs"),
            (format!("[mqtt]\ncert_file = \"a.pem\"\n{MACHINE}"), "cert_file and key_file together"),
            (format!("[compat]\nescoita_topic = \"auscult/pi-7/control\"\n{MACHINE}"), "compat.escoita_topic"),
            (
                MACHINE.replace("wav = \"a.wav\", loop = true", "synth = \"fam\""),
                "synth: expected one of fan, blower, pump",
            ),
            (
                MACHINE.replace("wav = \"a.wav\", loop = true", "synth = \"fan\", fault = \"cavitation\""),
                "fault: expected one of rub, blocked, unbalance, bearing, loose, bursts, found \"cavitation\"",
            ),
            (
                format!("[bundle]\nallow_from = [\"http://host/\"]\n{MACHINE}"),
                "bundle.allow_from: expected HOST or HOST:PORT",
            ),
            (
                format!("[bundle]\npublic_key = \"RWabc\"\n{MACHINE}"),
                "bundle.public_key: expected a minisign public key",
            ),
            (format!("{MACHINE}["), "agent.toml"),
            (format!("{MACHINE}hop_s = \"often\""), "`machine[0].hop_s`"),
            (format!("[agent]\nstate_dir = \"\"\n{MACHINE}"), "agent.state_dir: expected a directory"),
            (format!("[log]\nlevel = \"inof\"\n{MACHINE}"), "log.level: expected one of off, error"),
        ] {
            let error = load(&text).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_no_table_of_machines_and_what_is_no_file_are_errors() {
        let error = load(&MACHINE.replace("[[machine]]", "[machine]")).expect_err("single brackets");
        assert!(error.contains("expected [[machine]] in double brackets"), "{error}");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = Config::load(dir.path()).expect_err("a directory").to_string();
        assert!(error.ends_with("expected a file, found a directory"), "{error}");
    }

    #[test]
    fn a_mistake_beside_the_password_does_not_print_it() {
        let error = load(&format!("[mqtt]\npassword = \"S3CRET\n{MACHINE}")).expect_err("a quote is missing");
        assert!(error.contains("line 2") && !error.contains("S3CRET") && error.lines().count() == 1, "{error}");
        assert!(!error.ends_with(':'), "{error}");
    }

    #[test]
    fn lists_are_lists_or_words_with_commas() {
        for tags in ["[\"a\", \"b\"]", "\"a, b\""] {
            let config = load(&format!("[agent]\ntags = {tags}\n{MACHINE}")).expect("a valid configuration");
            assert_eq!(config.agent.tags, ["a", "b"]);
        }
    }
}
