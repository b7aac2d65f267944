//! A window of sound, the rates and levels it may have, and why it could not be assessed: what capture and scoring share.

use std::time::SystemTime;

pub use auscult_signal::RATES_HZ;
use auscult_signal::sums::sum_of_squares;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lowest level that is reported, dB of full scale.
pub const LEVEL_FLOOR_DBFS: f64 = -120.0;

/// One window of one machine: mono, at the bundle's rate.
#[derive(Debug, Clone)]
pub struct Window {
    pub machine: usize,
    /// Time of the window's last sample.
    pub end: SystemTime,
    /// `window_samples` samples; empty where `fault` says that there are none.
    pub samples: Vec<f32>,
    /// Why the window cannot be assessed, as far as capture knows: `gap`, `no_signal`, `overload`.
    pub fault: Option<Reason>,
    /// It begins a hop after the machine's last window began, and no sound is missing between the two.
    pub follows: bool,
}

/// Why a window's verdict is `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Mean absolute level below the gate.
    Silent,
    /// Constant, or a few values only.
    Flat,
    /// Too many samples at the rails.
    Clipped,
    /// The mean of the samples is far from zero: a broken microphone or bias.
    DcOffset,
    /// Noise without structure: a dead preamplifier's hiss.
    Noise,
    /// Samples are missing inside the window.
    Gap,
    /// The source delivers nothing.
    NoSignal,
    /// NaN or infinity in the samples or in what was computed from them.
    NotFinite,
    /// The machine could not be scored in time.
    Overload,
    /// The baseline is still being learned.
    Learning,
    /// The machine stands still.
    MachineOff,
    /// No valid model bundle is loaded.
    NoBundle,
    /// Maintenance is set.
    Maintenance,
}

impl Reason {
    /// The machine or its agent is in a state in which windows are not judged; nothing is wrong with the sound.
    pub fn is_of_the_machine(self) -> bool {
        use Reason::{Learning, MachineOff, Maintenance, NoBundle};
        matches!(self, Learning | MachineOff | Maintenance | NoBundle)
    }

    /// The reason for a person, as the end of a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Reason::Silent => "the microphone is silent",
            Reason::Flat => "the signal does not move",
            Reason::Clipped => "the signal is cut off: too loud",
            Reason::DcOffset => "the signal is far off its middle",
            Reason::Noise => "there is nothing but hiss",
            Reason::Gap => "samples are missing",
            Reason::NoSignal => "the microphone delivers nothing: is it plugged in?",
            Reason::NotFinite => "the samples are no numbers",
            Reason::Overload => "the computer does not keep up",
            Reason::Learning => "its normal is still being learned",
            Reason::MachineOff => "the machine stands still",
            Reason::NoBundle => "no model is loaded",
            Reason::Maintenance => "it is in maintenance",
        }
    }
}

/// Reads as in payloads: `machine_off`.
impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// Root mean square level, dB of full scale, not below [`LEVEL_FLOOR_DBFS`].
pub fn level_dbfs(samples: &[f32]) -> f64 {
    power_dbfs(sum_of_squares(samples) / samples.len().max(1) as f64)
}

/// A mean square of samples as a level, as [`level_dbfs`] has it.
pub fn power_dbfs(power: f64) -> f64 {
    if power.is_finite() { (10.0 * power.log10()).max(LEVEL_FLOOR_DBFS) } else { LEVEL_FLOOR_DBFS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_has_a_floor() {
        assert_eq!(level_dbfs(&[]), LEVEL_FLOOR_DBFS);
        assert_eq!(level_dbfs(&[f32::NAN]), LEVEL_FLOOR_DBFS);
        assert!((level_dbfs(&[0.5, -0.5]) + 6.02).abs() < 0.01);
    }
}
