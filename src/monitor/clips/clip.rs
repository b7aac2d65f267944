//! What a clip says of itself, and where it lies.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::heard::HeardWindow;
use crate::scoring::alarm::Kind;
use crate::scoring::baseline::Origin;

/// Directory below the state directory.
pub const DIR: &str = "clips";
/// The sound, mono with 16 bits.
pub const SOUND: &str = "sound.flac";
/// Its spectrogram.
pub const PICTURE: &str = "spectrogram.png";
/// The [`Clip`], with a check sum of its own.
pub const ABOUT: &str = "clip.json";
/// The spectrograms of the nearest normal windows.
pub const NORMAL: &str = "normal.png";
/// Its [`HeardWindow`]s with what a baseline is made of.
pub const WINDOWS: &str = "windows.json";
pub const FORMAT: u32 = 1;

/// What a clip is known by: the alarm that it was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClipKey {
    /// First, so that the oldest comes first.
    pub since_ms: i64,
    pub machine: String,
    pub kind: Kind,
}

impl ClipKey {
    pub fn new(machine: &str, kind: Kind, since: DateTime<Utc>) -> ClipKey {
        ClipKey { since_ms: since.timestamp_millis(), machine: machine.to_owned(), kind }
    }

    /// Its directory below that of all clips.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(&self.machine).join(format!("{}-{}", self.kind.word(), self.since_ms))
    }

    /// Name of its [`ABOUT`] below the state directory.
    pub fn about(&self) -> String {
        format!("{DIR}/{}/{ABOUT}", self.dir().display())
    }

    /// What lies in the directory `name` of a machine; `None` where that is no clip's.
    pub fn parse(machine: &str, name: &str) -> Option<ClipKey> {
        let (kind, since_ms) = name.split_once('-')?;
        let kind = Kind::of_word(kind)?;
        Some(ClipKey { since_ms: since_ms.parse().ok()?, machine: machine.to_owned(), kind })
    }
}

/// What a clip says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    pub format: u32,
    pub machine: String,
    pub kind: Kind,
    /// When the alarm was raised.
    pub since: DateTime<Utc>,
    /// Of the sound.
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub rate_hz: u32,
    /// Check sums of its other files, by their names.
    pub sums: BTreeMap<String, String>,
    /// Why the alarm was raised, in a sentence.
    pub text: String,
    /// Level of the sound every so many seconds, dB of full scale.
    pub level_step_s: f64,
    pub level_dbfs: Vec<f64>,
    /// The windows that were judged, without their samples.
    pub windows: Vec<HeardWindow>,
    /// What they were scored with; `None`: no bundle was loaded.
    pub origin: Option<Origin>,
    /// Somebody has said that it is a fault: the clip is never removed for room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultExample>,
    /// The known fault that it sounded like when the alarm was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Like>,
    /// When the normal windows ended that stand beside it, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normal: Vec<DateTime<Utc>>,
}

/// Which fault can be heard in a clip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultExample {
    pub name: String,
}

impl FaultExample {
    /// What an answer says can be heard; `None` where that is no fault.
    pub fn of(answer: &AlarmAnswer) -> Option<FaultExample> {
        (answer.outcome == AlarmOutcome::Fault).then(|| FaultExample { name: answer.name.clone().unwrap_or_default() })
    }
}

/// The fault that an alarm sounds like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Like {
    pub name: String,
    /// When that alarm was raised.
    pub since: DateTime<Utc>,
}

impl fmt::Display for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "like the {} of {}", self.name, self.since.format("%-d %B %Y"))
    }
}

impl Clip {
    pub fn seconds(&self) -> f64 {
        (self.to - self.from).as_seconds_f64()
    }

    pub fn key(&self) -> ClipKey {
        ClipKey::new(&self.machine, self.kind, self.since)
    }
}

/// What the list of clips knows of one without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipSummary {
    /// Of all its files.
    pub bytes: u64,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub rate_hz: u32,
    pub sums: BTreeMap<String, String>,
    pub fault: Option<FaultExample>,
    pub like: Option<Like>,
}

impl ClipSummary {
    pub fn of(clip: &Clip, bytes: u64) -> ClipSummary {
        let (sums, fault, like) = (clip.sums.clone(), clip.fault.clone(), clip.like.clone());
        ClipSummary { bytes, from: clip.from, to: clip.to, rate_hz: clip.rate_hz, sums, fault, like }
    }

    pub fn seconds(&self) -> f64 {
        (self.to - self.from).as_seconds_f64()
    }
}
