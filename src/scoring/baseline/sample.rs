//! What a baseline is learned from, and what is to be learned.

use serde::{Deserialize, Serialize};

use super::Origin;
use super::modes::ModeWindow;
use crate::scoring::lanes::{Features, base64_f32};

/// One window of normal running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Windows of different recordings are never neighbours in time.
    pub recording: u32,
    /// When it ended, s; from any origin that its recording shares.
    pub at_s: f64,
    pub level_dbfs: f64,
    #[serde(with = "base64_f32")]
    pub embedding: Vec<f32>,
    pub features: Features,
    /// Somebody has said that it is normal: never left out, however far it stands out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
}

impl Sample {
    pub fn new(recording: u32, at_s: f64, level_dbfs: f64, embedding: Vec<f32>, features: Features) -> Sample {
        Sample { recording, at_s, level_dbfs, embedding, features, confirmed: false }
    }

    /// What ways of running are found by.
    pub(super) fn as_mode_window(&self) -> ModeWindow<'_> {
        let (recording, level_dbfs, confirmed) = (self.recording, self.level_dbfs, self.confirmed);
        ModeWindow { recording, spectrum: &self.features.spectrum, level_dbfs, confirmed }
    }
}

/// What is to be learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnSettings {
    /// The machine's id.
    pub machine: String,
    pub origin: Origin,
    /// From window to window, s. Sound that comes faster than in real time (files, simulations) is dated by it.
    pub hop_s: f64,
    /// How much normal running is wanted, s.
    pub wanted_s: f64,
    /// Wanted share of normal windows that are called anomalous.
    pub false_alarm_rate: f64,
    /// The threshold that applies now, for comparison.
    pub previous_threshold: Option<f64>,
}
