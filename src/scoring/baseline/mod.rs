//! The normal of one machine, learned where it stands: a bank, a threshold, the cheap lanes, its level.
//!
//! How it is used:
//!
//! ```text
//! Learner::new(settings, now)             baseline.learn, or baseline = "auto"
//!   .on_window(&scored, window_end)       every window that the machine's scorer gives; returns the progress
//!   .propose()                            a Baseline, and what to expect of it (Baseline::projected)
//! Baseline::to_json / from_json           the file in the state directory, and beside an enrolled bundle
//!   .check_origin(&origin)                refuses another encoder, front-end or index
//! MachineModel::with_baseline(...)        baseline.apply: the scorer judges by it from the next window on
//! ```
//!
//! A `Learner` can be written at any time (serde) and goes on after a restart. Nothing here reads a clock or a file.

mod averages;
mod calibration;
mod coreset;
mod expected;
mod extend;
mod judged;
mod learn;
mod mode_level;
mod modes;
mod propose;
mod sample;

pub use coreset::coreset;
pub use extend::{Changes, SAMPLES_LIMIT};
pub use judged::{Judged, WidenedScore};
pub use learn::{LearnProgress, Learner};
pub use mode_level::ModeLevel;
pub use propose::{LANES_LEAST_S, PROVISIONAL_LEAST, propose};
pub use sample::{LearnSettings, Sample};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::calibration::LaneCalibration;
use self::modes::Modes;
use super::alarm::SlowCalibration;
use super::bank::Bank;
use super::lanes::{Features, Lane, Rows};
use super::threshold::Threshold;
use super::why::LevelInMode;
use crate::features::FrontEnd;
use crate::numbers::counted;

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Most rows of a bank that was learned.
pub const BANK_LIMIT: usize = 4096;

/// What a baseline was made with; it means nothing under another encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Name and version of the bundle, for people.
    pub bundle: String,
    /// SHA-256 of `encoder.tflite`, hex.
    pub encoder_sha256: String,
    /// Index that the encoder was conditioned on.
    pub index: u32,
    pub front_end: FrontEnd,
}

impl Origin {
    /// Whether the two can be compared: all but the bundle's name.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, now: &Origin) -> Result<(), BaselineError> {
        let differs = |what, expected: String, found: String| Err(BaselineError::Origin { what, expected, found });
        let own = self;
        if own.encoder_sha256 != now.encoder_sha256 {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            let (expected, found) = (short(&now.encoder_sha256), short(&own.encoder_sha256));
            return differs("encoder", expected, format!("{found} of bundle {}", own.bundle));
        }
        if own.front_end != now.front_end {
            let text = |front_end: &FrontEnd| {
                let FrontEnd { rate_hz, window_s, fmin_hz, fmax_hz, .. } = front_end;
                format!("{rate_hz} Hz, {window_s} s, {fmin_hz} to {fmax_hz} Hz")
            };
            return differs("front-end", text(&now.front_end), text(&own.front_end));
        }
        if own.index != now.index {
            return differs("encoder index", now.index.to_string(), own.index.to_string());
        }
        Ok(())
    }
}

/// Where a threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdBy {
    /// The conformal quantile of the leave-one-out distances.
    Quantile,
    /// A gamma distribution with their moments: too few windows for the quantile.
    Gamma,
}

/// What the baseline says about the very windows that it was learned from, each judged by the others: what to expect of
/// it in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Projected {
    pub windows: usize,
    /// Length of the sound that was learned, s.
    pub heard_s: f64,
    /// Share of the windows beyond the threshold of the distance.
    pub distance_share: f64,
    /// Share of the windows that the combined score calls anomalous, where there are lanes.
    pub combined_share: Option<f64>,
    /// Alarms that the default settings would have raised, by distance and by the combined score.
    pub distance_alarms: usize,
    pub combined_alarms: Option<usize>,
    /// Share above the threshold that applied before, if one did.
    pub previous_share: Option<f64>,
    /// Recordings, or minutes of one, that were heard: so many witnesses there are.
    #[serde(default)]
    pub stretches: usize,
    /// Share of normal windows of other hours that the combined score will call anomalous, as far as can be told: each
    /// part of what was heard judged by what the others alone would have taught.
    #[serde(default)]
    pub expected_share: Option<f64>,
    /// Four times in five it is no more than this.
    #[serde(default)]
    pub expected_most: Option<f64>,
    /// Minutes of other hours until twice the asked rate can be promised, where it cannot yet and minutes would help.
    #[serde(default)]
    pub missing_minutes: Option<u32>,
}

impl Projected {
    /// What to expect of other hours, in words: `1.0 % asked, up to 6.0 % to be expected from what was heard (13
    /// stretches); 210 more minutes over other hours would bring it below 2.0 %`.
    pub fn promise(&self, false_alarm_rate: f64) -> Option<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let (asked, most) = (percent(false_alarm_rate), percent(self.expected_most?));
        let stretches = counted(self.stretches, "stretch");
        let more = self.missing_minutes.map_or(String::new(), |minutes| {
            format!(
                "; {} over other hours would bring it below {}",
                counted(minutes, "more minute"),
                percent(2.0 * false_alarm_rate)
            )
        });
        Some(format!("{asked} asked, up to {most} to be expected from what was heard ({stretches}){more}"))
    }
}

/// How unlike the baseline a window is, over all lanes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneScore {
    /// `-log10` of the probability; not bounded.
    pub score: f64,
    /// Share of normal windows that are as unlike the baseline.
    pub p_value: f64,
    /// The lane that was the most surprised.
    pub lane: Lane,
}

impl LaneScore {
    fn of((ln_p, lane): (f64, Lane)) -> LaneScore {
        LaneScore { score: -ln_p / std::f64::consts::LN_10, p_value: ln_p.exp(), lane }
    }
}

/// A learned baseline, as it is kept in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    format: u32,
    /// The machine's id, or its name in the bundle.
    pub machine: String,
    pub origin: Origin,
    /// When it was learned, RFC 3339; empty where nobody knows.
    pub learned: String,
    /// Windows left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Wanted share of normal windows that are called anomalous.
    pub false_alarm_rate: f64,
    pub threshold: f64,
    pub threshold_by: ThresholdBy,
    /// What to expect of it; `meant` in the file.
    #[serde(rename = "meant")]
    pub projected: Projected,
    /// Median level of the running machine, dB of full scale.
    pub level_dbfs: f64,
    /// Below this level the machine stands still.
    pub off_below_dbfs: f64,
    bank: Rows,
    #[serde(rename = "judgement")]
    calibration: Option<LaneCalibration>,
    /// Ways of running that were found in it, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modes: Option<Modes>,
    /// Windows that it was made from, so that more can be added; those of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    samples: Vec<Sample>,
    /// What the windows that were added last have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// Why there is no baseline. One line.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BaselineError {
    #[error("expected at least {expected} windows of normal running that are not neighbours in time, found {found}")]
    TooFew { expected: usize, found: usize },
    #[error("expected windows of one encoder and front-end, found different ones")]
    Mixed,
    #[error("the windows' distances have no spread: is this a recording of a machine?")]
    NoSpread,
    #[error("false alarm rate: expected above 0 and at most 0.5, found {0}")]
    Rate(f64),
    #[error("expected a baseline, found {0}")]
    File(String),
    #[error("the baseline was learned by an earlier version, which kept no windows: learn it again to add to it")]
    NoSamples,
    #[error("{0}")]
    Refused(String),
    #[error("made with another {what}: expected {expected}, found {found}; learn it again")]
    Origin { what: &'static str, expected: String, found: String },
}

impl Baseline {
    /// The file's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers were checked to be finite, keys are text")
    }

    /// Reads and checks a file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Baseline, BaselineError> {
        let baseline: Baseline = serde_json::from_str(text).map_err(|error| BaselineError::File(error.to_string()))?;
        baseline.check()?;
        Ok(baseline)
    }

    /// Checks what was read, whatever wrote it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), BaselineError> {
        let fault = |problem: String| Err(BaselineError::File(problem));
        if self.format != FORMAT {
            return fault(format!("format {} instead of {FORMAT}", self.format));
        }
        if Threshold::new(self.threshold).is_none() {
            return fault(format!("a threshold of {}", self.threshold));
        }
        check_rate(self.false_alarm_rate)?;
        let is_valid = |calibration: &LaneCalibration| calibration.tails.is_valid() && calibration.lanes.is_valid();
        let calibration_valid = self.calibration.as_ref().is_none_or(is_valid);
        let modes_valid = self.modes.as_ref().is_none_or(Modes::is_valid);
        if !self.bank.is_valid() || self.bank.len() > BANK_LIMIT || !calibration_valid || !modes_valid {
            return fault("parts that do not fit together".into());
        }
        let width = self.bank.width();
        if self.samples.len() > SAMPLES_LIMIT || self.samples.iter().any(|sample| sample.embedding.len() != width) {
            return fault("windows that do not fit the bank".into());
        }
        Ok(())
    }

    /// Whether it was made with what the machine is scored with now.
    ///
    /// # Errors
    /// What differs.
    pub fn check_origin(&self, now: &Origin) -> Result<(), BaselineError> {
        self.origin.check(now)
    }

    /// The learned bank.
    pub fn bank(&self) -> Bank {
        let values: Vec<f32> = self.bank.iter().flatten().copied().collect();
        let rows = ndarray::Array2::from_shape_vec((self.bank.len(), self.bank.width()), values);
        Bank::new(rows.expect("rows are checked to be of one width when they are made and when they are read"))
    }

    /// Rows of the bank.
    pub fn rows(&self) -> &Rows {
        &self.bank
    }

    /// How the slow lane of an alarm is calibrated, where there are lanes.
    pub fn slow(&self) -> Option<SlowCalibration> {
        self.calibration.as_ref().map(|calibration| calibration.slow)
    }

    /// Whether there were windows enough for the lanes beside the distance.
    pub fn has_lanes(&self) -> bool {
        self.calibration.is_some()
    }

    /// How unlike the baseline a window is by itself; `None` where the baseline has no lanes or none of them applies.
    pub fn lane_score(&self, distance: f64, features: &Features) -> Option<LaneScore> {
        self.judged(distance, features)?.score()
    }

    /// How far each mel band lies above (below) the nearest windows of the baseline, dB, `[n_mels]`.
    pub fn spectrum_difference_db(&self, features: &Features) -> Option<Vec<f64>> {
        Some(self.calibration.as_ref()?.lanes.spectrum.compare(&features.spectrum)?.1)
    }

    /// How many ways of running (speeds, loads) were found in what was learned.
    pub fn modes(&self) -> usize {
        self.modes.as_ref().map_or(1, Modes::count)
    }

    /// How often each of them was heard and how loud it is, the quietest first; empty where there is only one, or an
    /// earlier version learned it.
    pub fn mode_levels(&self) -> &[ModeLevel] {
        self.modes.as_ref().map_or(&[], Modes::levels)
    }

    /// How loud a window is beside the way of running that it is of, where that is unusual and several are known.
    pub fn unusual_level(&self, features: &Features, level_dbfs: f64) -> Option<LevelInMode> {
        self.modes.as_ref()?.unusual_level(&features.spectrum, level_dbfs)
    }

    /// Which of several known ways of running a window is of.
    pub fn mode_of(&self, features: &Features) -> Option<usize> {
        self.modes.as_ref()?.of(&features.spectrum)
    }

    /// How many ways of running are known, where a window is of none of them; `None` where only one is known.
    pub fn unlike_modes(&self, features: &Features) -> Option<usize> {
        self.modes.as_ref().filter(|modes| modes.are_all_unlike(&features.spectrum)).map(Modes::count)
    }

    /// Share of normal windows that have a smaller distance, %: of the distribution that the baseline's were fitted with.
    pub fn distance_percentile(&self, distance: f64) -> Option<f64> {
        let tail = self.calibration.as_ref()?.tails.of(Lane::Distance)?;
        Some(100.0 * (1.0 - tail.ln_p(distance).exp()))
    }
}

/// A false alarm rate that makes sense.
///
/// # Errors
/// Names what was found.
pub fn check_rate(rate: f64) -> Result<(), BaselineError> {
    if rate > 0.0 && rate <= 0.5 { Ok(()) } else { Err(BaselineError::Rate(rate)) }
}
