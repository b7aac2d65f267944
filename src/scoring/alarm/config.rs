//! What a user can set about alarms: `[alarm]` for all machines, `alarm = { ... }` in a `[[machine]]` over it.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::validate::override_fields;

/// When an alarm is raised and cleared: the `[alarm]` section of the configuration.
///
/// Windows are counted, not seconds: whoever lets windows overlap (`hop_s` below the window's length) has correlated
/// witnesses and should raise `k` and `n` in proportion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// Anomalous windows among the last `n` that raise the alarm; default 5.
    pub k: usize,
    /// How many of the last assessed windows are looked at; default 8.
    pub n: usize,
    /// The alarm clears when at most this many of the last `n` are anomalous; default 2.
    pub clear_at_most: usize,
    /// On-delay: `k` of `n` must have held this long, s; default 0.
    pub raise_after_s: f64,
    /// Where most of the anomalous windows were told by what comes and goes in them, as speech and hammering do: `k` of `n`
    /// must have held for so many windows more; default 12.
    pub unsteady_windows: usize,
    /// Off-delay: the calm must have lasted this long, s; default 60.
    pub clear_after_s: f64,
    /// Keep an alarm that is over until someone acknowledges it; default false.
    pub latching: bool,
    /// A machine that could not be assessed for this long raises the alarm `deaf`, s; 0 never. Default 600.
    pub deaf_after_s: f64,
    /// Longest time that an alarm can be shelved for, s; default 604 800 (a week).
    pub shelve_max_s: f64,
    /// Slow lane (`wear`): half-life of the moving average, windows; 0 switches it off. Default 720, an hour of 5 s.
    pub slow_windows: f64,
    /// Slow lane: how many standard errors of the baseline the average must move by; default 5.
    pub slow_sigmas: f64,
    /// Slow lane: least movement that matters, in standard deviations of a single window; default 1.
    pub slow_shift: f64,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        AlarmConfig {
            k: 5,
            n: 8,
            clear_at_most: 2,
            raise_after_s: 0.0,
            unsteady_windows: 12,
            clear_after_s: 60.0,
            latching: false,
            deaf_after_s: 600.0,
            shelve_max_s: 604_800.0,
            slow_windows: 720.0,
            slow_sigmas: 5.0,
            slow_shift: 1.0,
        }
    }
}

impl AlarmConfig {
    /// These settings with the fields of `over` in place of their own; checked.
    ///
    /// # Errors
    /// The first thing that is wrong: the field, what is expected, what was found.
    pub fn with(&self, over: &Map<String, Value>) -> Result<AlarmConfig, String> {
        let config: AlarmConfig = override_fields(self, over)?;
        config.check()?;
        Ok(config)
    }

    /// How long an alarm can be shelved for.
    pub fn longest_shelving(&self) -> TimeDelta {
        TimeDelta::seconds(self.shelve_max_s as i64)
    }

    /// # Errors
    /// The first thing that is wrong: the field, what is expected, what was found.
    pub fn check(&self) -> Result<(), String> {
        let count = |name: &str, value: usize, least: usize, most: usize| {
            let valid = (least..=most).contains(&value);
            if valid { Ok(()) } else { Err(format!("{name}: expected {least} to {most}, found {value}")) }
        };
        count("n", self.n, 1, 1000)?;
        count("k", self.k, 1, self.n)?;
        count("clear_at_most", self.clear_at_most, 0, self.k - 1).map_err(|problem| {
            format!("{problem} (it stays below k; where it is not given it is {})", Self::default().clear_at_most)
        })?;
        count("unsteady_windows", self.unsteady_windows, 0, 10_000)?;
        for (name, value, least, most) in [
            ("raise_after_s", self.raise_after_s, 0.0, 1e6),
            ("clear_after_s", self.clear_after_s, 0.0, 1e6),
            ("deaf_after_s", self.deaf_after_s, 0.0, 1e7),
            ("shelve_max_s", self.shelve_max_s, 1.0, 1e9),
            ("slow_windows", self.slow_windows, 0.0, 1e7),
            ("slow_sigmas", self.slow_sigmas, 1.0, 100.0),
            ("slow_shift", self.slow_shift, 0.0, 4.0),
        ] {
            if !value.is_finite() || !(least..=most).contains(&value) {
                return Err(format!("{name}: expected {least} to {most}, found {value}"));
            }
        }
        Ok(())
    }
}
