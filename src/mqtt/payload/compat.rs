//! Verdicts in the original's format.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::VerdictMsg;
use crate::clock::Timestamp;
use crate::scoring::Verdict;

/// `[compat] escoita_topic`: a verdict as the original wrote it, for its Telegraf and Grafana. Windows that could not
/// be assessed have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompatRecord {
    pub timestamp: Timestamp,
    pub machine_id: String,
    pub estado: Estado,
    pub distancia: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Estado {
    Normal,
    Abnormal,
}

impl CompatRecord {
    /// `None` for a window that could not be assessed.
    pub fn of(verdict: &VerdictMsg) -> Option<Self> {
        let estado = match verdict.verdict {
            Verdict::Normal => Estado::Normal,
            Verdict::Anomalous => Estado::Abnormal,
            Verdict::Unknown => return None,
        };
        Some(CompatRecord {
            timestamp: verdict.ts,
            machine_id: verdict.machine.clone(),
            estado,
            distancia: verdict.distance?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::payload::encode::encode;
    use crate::mqtt::payload::verdict::tests::{assessment, verdict};

    #[test]
    fn the_original_gets_no_record_of_what_could_not_be_assessed() {
        let record = CompatRecord::of(&verdict(&assessment(0.5))).expect("a verdict");
        let text = String::from_utf8(encode(&record)).expect("UTF-8");
        assert_eq!(
            text,
            r#"{"timestamp":"2026-03-01T11:00:00.123Z","machine_id":"blower-1","estado":"abnormal","distancia":0.5}"#
        );
        assert_eq!(CompatRecord::of(&verdict(&assessment(f64::NAN))), None);
    }
}
