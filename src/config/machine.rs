//! `[[machine]]`: what is monitored, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::within;
use crate::audio::config::{MachineInput, SourceConfig};
use crate::scoring::alarm::AlarmConfig;
use crate::scoring::gate::Gate;
use crate::scoring::threshold::Threshold;
use crate::scoring::{Judge, baseline};
use crate::validate::{check_range, some_of};

/// One monitored machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// Third part of its topics: `[a-z0-9][a-z0-9_-]{0,63}`, not `fleet`.
    pub id: String,
    /// What people call it; default: its id.
    #[serde(default)]
    pub name: Option<String>,
    /// What is worth knowing of it: where it stands, whom to call; default: none.
    #[serde(default)]
    pub notes: Option<String>,
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
    /// Whether the machine's normal is learned on site. `"auto"`: in the first `baseline_minutes`, judged provisionally from
    /// 40 windows on, and then in use; `"manual"`: when `baseline.learn` says so. Either lets `model` be one that the
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
    /// Whether what recurs daily is let into what is normal, hour by hour, slowly and bounded; only where all lanes decide.
    /// Default false.
    #[serde(default)]
    pub adapt: bool,
    /// Fields of `[alarm]` that differ for this machine; default: none.
    #[serde(default)]
    pub alarm: serde_json::Map<String, serde_json::Value>,
}

/// How a machine's normal is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    /// What capture needs to know of the machine, which has this number; `window` is its rate in Hz and its samples.
    pub fn input(&self, number: usize, window: (u32, usize)) -> MachineInput {
        let (rate_hz, window_samples) = window;
        let (id, source) = (self.id.clone(), self.source.clone());
        MachineInput { machine: number, id, source, hop_s: self.hop_s, rate_hz, window_samples }
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

    /// Checks what types alone do not say; `key` is where the machine stands, `gate` and `alarm` are the sections for all.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self, key: &str, gate: &Gate, alarm: &AlarmConfig) -> Result<(), String> {
        let key = |field: &str| format!("{key}.{field}");
        check_id(&key("id"), &self.id)?;
        for (field, text, most) in [("name", &self.name, LONGEST_NAME), ("notes", &self.notes, LONGEST_NOTES)] {
            check_text(&key(field), text.as_deref(), most)?;
        }
        self.source.check(&key("source"))?;
        check_range(&key("hop_s"), self.hop_s, 0.5, 86_400.0)?;
        if let Some(threshold) = self.threshold {
            let expected = Threshold::EXPECTED;
            Threshold::new(threshold)
                .ok_or_else(|| format!("{}: expected {expected}, found {threshold}", key("threshold")))?;
        }
        let (least, most) = BASELINE_MINUTES;
        check_range(&key("baseline_minutes"), self.baseline_minutes, least, most)?;
        baseline::check_rate(self.false_alarm_rate)
            .map_err(|problem| format!("{}: {problem}", key("false_alarm_rate")))?;
        if self.adapt && self.judge == Some(Judge::Distance) {
            let cure = "leave out one of the two: what recurs daily is let in where all lanes decide";
            return Err(format!("{}: expected false with judge = \"distance\", found true; {cure}", key("adapt")));
        }
        if self.adapt && self.threshold.is_some() {
            let cure = "leave out one of the two: under a threshold the distance decides alone";
            return Err(format!("{}: expected false with a threshold, found true; {cure}", key("adapt")));
        }
        self.gate(gate).map_err(|problem| within(&key("gate"), &problem))?;
        self.alarm(alarm).map_err(|problem| within(&key("alarm"), &problem))?;
        if let Some(fmin) = self.fmin_hz {
            check_range(&key("fmin_hz"), fmin, 0.0, 96_000.0)?;
        }
        if let Some(fmax) = self.fmax_hz {
            check_range(&key("fmax_hz"), fmax, 1.0, 96_000.0)?;
        }
        Ok(())
    }
}

/// Most characters of a machine's name and of its notes.
pub const LONGEST_NAME: usize = 80;
pub const LONGEST_NOTES: usize = 1000;

/// Checks a text for people, which pages and tables show.
fn check_text(key: &str, text: Option<&str>, most: usize) -> Result<(), String> {
    let fits = |text: &str| !text.trim().is_empty() && text.chars().nth(most).is_none() && !text.contains('\0');
    match text {
        Some(text) if !fits(text) => {
            Err(format!("{key}: expected 1 to {most} characters, found {} of them", text.chars().count()))
        }
        _ => Ok(()),
    }
}

/// Checks the id of a machine: `[a-z0-9][a-z0-9_-]{0,63}`; `fleet` is reserved.
///
/// # Errors
/// What was expected and what was found.
pub fn check_id(key: &str, id: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = id.len() <= 64
        && id.starts_with(plain)
        && id.chars().all(|c| plain(c) || c == '_' || c == '-')
        && !matches!(id, "fleet" | "status" | "info" | "health" | "control" | "reply");
    if valid {
        return Ok(());
    }
    Err(format!(
        "{key}: expected [a-z0-9][a-z0-9_-]{{0,63}} and none of fleet, status, info, health, control, reply, found {id:?}"
    ))
}
