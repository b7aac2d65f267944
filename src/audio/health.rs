//! Signal health of a window, before it is scored: a broken microphone must never count as a normal machine.

use serde::{Deserialize, Serialize};

use crate::scoring::Reason;

/// Lowest level that is told, dB of full scale.
pub const LEVEL_FLOOR_DBFS: f64 = -120.0;

/// Limits of what can be assessed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Mean absolute level below which a window is `silent`; full scale is 1.
    pub silent_below: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { silent_below: 0.0005 }
    }
}

/// What a window's samples say about the microphone.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalHealth {
    /// Root mean square level, dB of full scale, not below [`LEVEL_FLOOR_DBFS`].
    pub level_dbfs: f64,
    /// Why the window cannot be assessed, if so.
    pub fault: Option<Reason>,
}

/// Looks at one window of mono samples.
pub fn inspect(window: &[f32], gate: &Gate) -> SignalHealth {
    if window.is_empty() || window.iter().any(|sample| !sample.is_finite()) {
        return SignalHealth { level_dbfs: LEVEL_FLOOR_DBFS, fault: Some(Reason::NotFinite) };
    }
    let count = window.len() as f64;
    let mean_abs = window.iter().map(|&sample| f64::from(sample.abs())).sum::<f64>() / count;
    let level_dbfs = level_dbfs(window);
    let fault = (mean_abs < gate.silent_below).then_some(Reason::Silent);
    SignalHealth { level_dbfs, fault }
}

/// Root mean square level, dB of full scale, not below [`LEVEL_FLOOR_DBFS`].
pub fn level_dbfs(samples: &[f32]) -> f64 {
    let power = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    if power.is_finite() { (10.0 * power.log10()).max(LEVEL_FLOOR_DBFS) } else { LEVEL_FLOOR_DBFS }
}
