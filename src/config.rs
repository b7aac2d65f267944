//! What a user can set: a TOML file, then `AUSCULT__SECTION__KEY` environment variables on top.
//!
//! Every field's documentation states its default. Unknown keys are errors that name the nearest known one.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::audio::config::{Channel, SourceConfig};
use crate::bundle::TrustedKey;
use crate::encoder::EncoderConfig;
pub use crate::mqtt::config::{CompatConfig, HomeAssistantConfig, MqttConfig, OutboxConfig};
use crate::scoring::alarm::AlarmConfig;
use crate::scoring::gate::Gate;
use crate::scoring::{Judge, baseline};
use crate::validate::{check_range, one_of, some_of};

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
    pub privacy: PrivacyConfig,
    pub machine: Vec<MachineConfig>,
}

/// What may leave the Pi besides verdicts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyConfig {
    /// `evidence.get` may send the last window's sound and picture; default false.
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
}

impl Default for AgentConfig {
    fn default() -> Self {
        let host = gethostname::gethostname().to_string_lossy().to_lowercase();
        let id = host.split('.').next().unwrap_or_default().to_owned();
        AgentConfig { id, tags: Vec::new(), state_dir: "/var/lib/auscult".into(), health_every_s: 60.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BundleConfig {
    /// Directory of the model bundle; default `/var/lib/auscult/bundles/current`. `bundle.install` wants it to be a link
    /// to one of the directories beside it, or not there yet; a plain directory works but can only be reloaded.
    pub path: PathBuf,
    /// Hosts that `bundle.install` may download from, `HOST` or `HOST:PORT`; redirects are checked too. Default: none.
    #[serde(deserialize_with = "words")]
    pub allow_from: Vec<String>,
    /// PEM file of the authorities that may sign a download server's certificate; default: the public ones.
    pub ca_file: Option<PathBuf>,
    /// Minisign public key (`RW...`): only bundles whose `bundle.toml` it has signed are taken. Default: none, any is.
    pub public_key: Option<String>,
}

impl Default for BundleConfig {
    fn default() -> Self {
        BundleConfig {
            path: "/var/lib/auscult/bundles/current".into(),
            allow_from: Vec::new(),
            ca_file: None,
            public_key: None,
        }
    }
}

impl BundleConfig {
    /// The key that bundles must be signed with, if any.
    ///
    /// # Errors
    /// A `public_key` that is none.
    pub fn trusted_key(&self) -> Result<Option<TrustedKey>, ConfigError> {
        let key = self.public_key.as_deref().map(str::parse).transpose();
        key.map_err(|problem: String| ConfigError(format!("bundle.public_key: {problem}")))
    }

    fn check(&self) -> Result<(), ConfigError> {
        for host in &self.allow_from {
            let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b));
            if !valid {
                return Err(ConfigError(format!("bundle.allow_from: expected HOST or HOST:PORT, found {host:?}")));
            }
        }
        self.trusted_key().map(|_| ())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `human` or `json`; default `human`.
    #[serde(deserialize_with = "one_of")]
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as of tracing's `EnvFilter`; default `info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Human, level: "info".into() }
    }
}

impl LogConfig {
    /// A word that is no level would be taken for a module's name, and the log be silent.
    fn check(&self) -> Result<(), ConfigError> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in self.level.split(',') {
            let level = directive.rsplit('=').next().unwrap_or_default().trim().to_lowercase();
            if !LEVELS.contains(&level.as_str()) {
                let expected = LEVELS.join(", ");
                return Err(ConfigError(format!("log.level: expected one of {expected}, found {level:?}")));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// One monitored machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// Third part of its topics: `[a-z0-9][a-z0-9_-]{0,63}`, not `fleet`.
    pub id: String,
    /// Which of the bundle's machines it is; default: its id.
    #[serde(default)]
    pub model: Option<String>,
    /// Where its sound comes from.
    pub source: SourceConfig,
    /// Seconds from window to window; less than the window overlaps. Default 5.0.
    #[serde(default = "default_hop_s")]
    pub hop_s: f64,
    /// Limit of the distance; default: the bundle's.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Lower edge of the lowest mel band, Hz; default: the bundle's.
    #[serde(default)]
    pub fmin_hz: Option<f64>,
    /// Upper edge of the highest mel band, Hz; default: the bundle's.
    #[serde(default)]
    pub fmax_hz: Option<f64>,
    /// Fields of `[gate]` that differ for this machine; default: none.
    #[serde(default)]
    pub gate: serde_json::Map<String, serde_json::Value>,
    /// Whether the machine's normal is learned on site. `"auto"`: in the first `baseline_minutes`, `unknown`, `learning`
    /// until then, and then in use; `"manual"`: when `baseline.learn` says so. Either lets `model` be one that the
    /// bundle does not have. Default: none, the bundle's bank; `baseline.learn` still works.
    #[serde(default)]
    #[serde(deserialize_with = "some_of")]
    pub baseline: Option<BaselineMode>,
    /// How long `"auto"` learns, minutes of normal running; default 60.
    #[serde(default = "default_baseline_minutes")]
    pub baseline_minutes: f64,
    /// Wanted share of normal windows that a learned baseline calls anomalous; default 0.01.
    #[serde(default = "default_false_alarm_rate")]
    pub false_alarm_rate: f64,
    /// What decides: `"distance"`, or `"combined"`, all lanes together, where there is a learned baseline. Default:
    /// `"combined"` with a learned baseline, but `"distance"` under a threshold that was set by hand.
    #[serde(default)]
    #[serde(deserialize_with = "some_of")]
    pub judge: Option<Judge>,
    /// Fields of `[alarm]` that differ for this machine; default: none.
    #[serde(default)]
    pub alarm: serde_json::Map<String, serde_json::Value>,
}

/// How a machine's normal is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaselineMode {
    /// At the first start, by itself.
    Auto,
    /// By command.
    Manual,
}

/// Least and most minutes that a baseline can be learned for: three windows, two weeks.
pub const BASELINE_MINUTES: (f64, f64) = (0.05, 20_160.0);

fn default_baseline_minutes() -> f64 {
    60.0
}

/// One window in a hundred.
pub fn default_false_alarm_rate() -> f64 {
    0.01
}

fn default_hop_s() -> f64 {
    5.0
}

impl MachineConfig {
    /// Which of the bundle's machines it is.
    pub fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(&self.id)
    }

    /// What can be assessed of this machine: `global` with its own fields over it.
    ///
    /// # Errors
    /// The first field that is wrong, with what is expected and found.
    pub fn gate(&self, global: &Gate) -> Result<Gate, String> {
        global.with(&self.gate)
    }

    /// This machine's alarm settings: `global` with its own fields over it.
    ///
    /// # Errors
    /// The first field that is wrong, with what is expected and found.
    pub fn alarm(&self, global: &AlarmConfig) -> Result<AlarmConfig, String> {
        global.with(&self.alarm)
    }
}

/// One clear line that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

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

    /// Reads only how to reach the broker: of `file`, which needs no machines for that, else of the defaults; the
    /// environment on top.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and key.
    pub fn load_mqtt(file: Option<&Path>) -> Result<MqttConfig, ConfigError> {
        let mqtt = Config::read(file)?.mqtt;
        mqtt.check().map_err(ConfigError)?;
        Ok(mqtt)
    }

    fn read(file: Option<&Path>) -> Result<Config, ConfigError> {
        let mut layers = config::Config::builder();
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError(format!("{}: no such file", file.display())));
            }
            layers = layers.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let layers =
            layers.add_source(config::Environment::with_prefix("AUSCULT").prefix_separator("__").separator("__"));
        let name = file.unwrap_or(Path::new("the environment"));
        let fault = |error: config::ConfigError| ConfigError(describe(name, &error.to_string()));
        layers.build().map_err(fault)?.try_deserialize().map_err(fault)
    }

    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.bundle.check()?;
        self.log.check()?;
        if self.agent.state_dir.as_os_str().is_empty() {
            return Err(ConfigError("agent.state_dir: expected a directory, found none".into()));
        }
        check_topic_part("agent.id", &self.agent.id)?;
        for tag in &self.agent.tags {
            check_topic_part("agent.tags", tag)?;
        }
        self.mqtt.check().map_err(ConfigError)?;
        check_range("agent.health_every_s", self.agent.health_every_s, 1.0, 86_400.0).map_err(ConfigError)?;
        self.outbox.check().map_err(ConfigError)?;
        self.compat.check(&self.mqtt.root).map_err(ConfigError)?;
        self.homeassistant.check().map_err(ConfigError)?;
        self.gate.check().map_err(|problem| ConfigError(format!("gate.{problem}")))?;
        self.alarm.check().map_err(|problem| ConfigError(format!("alarm.{problem}")))?;
        if self.machine.is_empty() {
            return Err(ConfigError("machine: expected at least one [[machine]], found none".into()));
        }
        for (number, machine) in self.machine.iter().enumerate() {
            let key = |field: &str| format!("machine[{number}].{field}");
            check_id(&key("id"), &machine.id)?;
            if self.machine[..number].iter().any(|earlier| earlier.id == machine.id) {
                return Err(ConfigError(format!("{}: {:?} is used twice", key("id"), machine.id)));
            }
            machine.source.check(&key("source")).map_err(ConfigError)?;
            check_range(&key("hop_s"), machine.hop_s, 0.5, 86_400.0).map_err(ConfigError)?;
            if let Some(threshold) = machine.threshold {
                let valid = threshold.is_finite() && threshold > 0.0 && threshold < 1000.0;
                if !valid {
                    let key = key("threshold");
                    return Err(ConfigError(format!("{key}: expected above 0 and below 1000, found {threshold}")));
                }
            }
            check_range(&key("baseline_minutes"), machine.baseline_minutes, BASELINE_MINUTES.0, BASELINE_MINUTES.1)
                .map_err(ConfigError)?;
            baseline::check_rate(machine.false_alarm_rate)
                .map_err(|problem| ConfigError(format!("{}: {problem}", key("false_alarm_rate"))))?;
            machine.gate(&self.gate).map_err(|problem| within(&key("gate"), &problem))?;
            machine.alarm(&self.alarm).map_err(|problem| within(&key("alarm"), &problem))?;
            if let Some(fmin) = machine.fmin_hz {
                check_range(&key("fmin_hz"), fmin, 0.0, 96_000.0).map_err(ConfigError)?;
            }
            if let Some(fmax) = machine.fmax_hz {
                check_range(&key("fmax_hz"), fmax, 1.0, 96_000.0).map_err(ConfigError)?;
            }
        }
        Ok(())
    }
}

/// Ids of machines: `[a-z0-9][a-z0-9_-]{0,63}`; `fleet` is reserved.
fn check_id(key: &str, id: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = id.len() <= 64
        && id.starts_with(plain)
        && id.chars().all(|c| plain(c) || c == '_' || c == '-')
        && !matches!(id, "fleet" | "status" | "info" | "health" | "control" | "reply");
    if valid {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{key}: expected [a-z0-9][a-z0-9_-]{{0,63}} and none of fleet, status, info, health, control, reply, found {id:?}"
    )))
}

/// Agents and tags: one part of a topic.
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

/// A list of words, or one text with commas between them, as an environment variable has it.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of words")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(str::to_owned).collect())
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }
    deserializer.deserialize_any(Words)
}

/// The `config` crate's words with the file first and, for an unknown key, the nearest known one.
fn describe(file: &Path, message: &str) -> String {
    let file_name = file.display().to_string();
    // The line of the file that TOML's errors quote may hold a password.
    let quoted =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let message: Vec<&str> = message.trim().lines().filter(|line| !quoted(line)).map(str::trim).collect();
    let message = message.join(": ").replace(&format!(" in {file_name}"), "");
    // `machine[0]hop_s` is how the crate writes `machine[0].hop_s`.
    let mut dotted = String::with_capacity(message.len());
    for letter in message.chars() {
        if dotted.ends_with(']') && letter.is_ascii_lowercase() {
            dotted.push('.');
        }
        dotted.push(letter);
    }
    let message = dotted;
    let hint = nearest(&message);
    if message.contains(&file_name) { format!("{message}{hint}") } else { format!("{file_name}: {message}{hint}") }
}

/// What is wrong inside a table that a machine lays over the one for all.
fn within(key: &str, problem: &str) -> ConfigError {
    let link = if problem.starts_with("unknown field") { ": " } else { "." };
    ConfigError(format!("{key}{link}{problem}{}", nearest(problem)))
}

/// For an unknown key or word, the nearest of those that serde's message lists.
fn nearest(message: &str) -> String {
    let Some(rest) = ["unknown field `", "unknown variant `"].iter().find_map(|what| message.split(what).nth(1)) else {
        return String::new();
    };
    let mut quoted = rest.split('`');
    let unknown = quoted.next().unwrap_or_default();
    let known = quoted.skip(1).step_by(2);
    let nearest = known.map(|name| (strsim::jaro_winkler(unknown, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness > 0.7 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
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
            (String::new(), "machine: expected at least one"),
            (MACHINE.replace("fan-1", "fleet"), "machine[0].id"),
            (MACHINE.replace("fan-1", "Fan"), "machine[0].id"),
            (format!("{MACHINE}{MACHINE}"), "used twice"),
            (format!("{MACHINE}hop_s = 0.1"), "machine[0].hop_s: expected 0.5 to"),
            (format!("{MACHINE}threshold = -1"), "machine[0].threshold"),
            (format!("[gate]\ndc_offset = -1\n{MACHINE}"), "gate.dc_offset: expected 0 to 10, found -1"),
            (format!("{MACHINE}gate = {{ silent_below = nan }}"), "machine[0].gate"),
            (format!("{MACHINE}gate = {{ silent = 1 }}"), "machine[0].gate: unknown field `silent`"),
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
    fn a_mistake_beside_the_password_does_not_print_it() {
        let error = load(&format!("[mqtt]\npassword = \"S3CRET\n{MACHINE}")).expect_err("a quote is missing");
        assert!(error.contains("line 2") && !error.contains("S3CRET") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn lists_are_lists_or_words_with_commas() {
        for tags in ["[\"a\", \"b\"]", "\"a, b\""] {
            let config = load(&format!("[agent]\ntags = {tags}\n{MACHINE}")).expect("a valid configuration");
            assert_eq!(config.agent.tags, ["a", "b"]);
        }
    }
}
