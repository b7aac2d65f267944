//! The limit of the distance: its range, and where the one in effect comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate::parsed;

/// A limit of the distance: above 0, below 1000.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
pub struct Threshold(#[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1000))] f64);

impl Threshold {
    /// What [`Threshold::new`] takes, for messages.
    pub const EXPECTED: &str = "a number above 0 and below 1000";

    /// `None` where the number is not above 0 and below 1000.
    pub fn new(threshold: f64) -> Option<Threshold> {
        (threshold > 0.0 && threshold < 1000.0).then_some(Threshold(threshold))
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

parsed!([] Threshold, Self::EXPECTED, |value| Threshold::new(value.as_f64()?), |text| Threshold::new(text.parse().ok()?));

/// Where a threshold in effect comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ThresholdSource {
    Bundle,
    Config,
    /// Learned on site.
    Baseline,
    Override,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn the_error_names_what_was_expected_and_found() {
        let error = |value| from_value::<Threshold>(value).expect_err("no threshold").to_string();
        for value in [json!(0), json!(-0.0), json!(-0.3), json!(1000), json!("0.3"), json!(null), json!([0.3])] {
            let words = error(value.clone());
            assert_eq!(words, format!("expected a number above 0 and below 1000, found {value}"));
        }
        assert_eq!(from_value::<Threshold>(json!(1)).expect("a threshold").get(), 1.0);
        assert!("nan".parse::<Threshold>().is_err() && "inf".parse::<Threshold>().is_err());
        assert_eq!("31e-2".parse::<Threshold>(), Ok(Threshold(0.31)));
        let long = error(json!("x".repeat(10_000)));
        assert!(long.len() < 150, "{long}");
    }
}
