//! The verdict of one window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};
use crate::scoring::alarm::AlarmState;
use crate::scoring::{Assessment, Lane, Verdict};
use crate::window::Reason;

/// `<agent>/<machine>/verdict`: of one window. Retained, unless late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictMsg {
    pub schema: SchemaVersion,
    /// Time of the window's last sample.
    pub ts: Timestamp,
    /// Counts the machine's windows from 0, without gaps, across restarts. The outbox sets it.
    pub seq: u64,
    pub agent: String,
    pub machine: String,
    pub verdict: Verdict,
    /// Why it is `unknown`; null otherwise.
    pub reason: Option<Reason>,
    /// Euclidean distance to the nearest normal embedding; null where it was not computed.
    pub distance: Option<f64>,
    /// Limit of the distance; null without a bundle.
    pub threshold: Option<f64>,
    /// distance / threshold.
    pub ratio: Option<f64>,
    /// How unlike the learned baseline the window is over all lanes: -log10 of `p_value`; null without one.
    pub score: Option<f64>,
    /// Share of normal windows that are as unlike it.
    pub p_value: Option<f64>,
    /// The lane that `score` comes from.
    pub lane: Option<Lane>,
    /// Root mean square level in dB of full scale, floor -120.
    pub level_dbfs: f64,
    /// Name and version of the bundle that it was scored with.
    pub bundle: Option<String>,
    /// State of the machine's alarm with this window; null where nobody keeps one.
    pub alarm: Option<AlarmState>,
    /// How much of what is to be learned of the machine's normal has been heard, 0..1; null while nothing is learned.
    /// Version 0.1 does not say it.
    #[serde(default)]
    pub learning_share: Option<f64>,
    /// Windows that speak for the alarm by now; null where none stands. Older agents do not say so.
    #[serde(default)]
    pub alarm_windows: Option<u64>,
    /// One line for a person: what stands about the machine, or in what this window differs; null where nothing does. Older
    /// agents do not say so.
    #[serde(default)]
    pub text: Option<String>,
    /// Judged by what had been learned until then, while learning went on: wrong more often. Older agents do not say so.
    #[serde(default)]
    pub provisional: bool,
    /// Judged with a wider tail, because that recurs daily in this hour of the day; null where it was judged as learned. Older
    /// agents do not say so.
    #[serde(default)]
    pub adapted: Option<AdaptedMsg>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
    /// Sent after an outage: it is history, not news.
    pub late: bool,
}

/// How a window was judged in an hour of the day whose tail is wider.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdaptedMsg {
    /// So many times as wide as learned the tail was: `score` and `p_value` are of it.
    pub times: f64,
    /// `p_value` as it would have been without.
    pub learned_p_value: f64,
}

impl VerdictMsg {
    /// The message of one window; `alarm` is for the agent to fill in, `seq` follows when it is published.
    pub fn new(
        agent: &str,
        machine: &str,
        ts: Timestamp,
        assessment: &Assessment,
        bundle: Option<&str>,
        clock: Option<ClockMark>,
    ) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        VerdictMsg {
            schema: SchemaVersion,
            ts,
            seq: 0,
            agent: agent.to_owned(),
            machine: machine.to_owned(),
            verdict: assessment.verdict,
            reason: assessment.reason,
            distance: assessment.distance.and_then(finite),
            threshold: assessment.threshold.and_then(finite),
            ratio: assessment.ratio().and_then(finite),
            score: assessment.score.and_then(finite),
            p_value: assessment.p_value.and_then(finite),
            lane: assessment.lane,
            level_dbfs: finite(assessment.level_dbfs).unwrap_or(-120.0),
            bundle: bundle.map(str::to_owned),
            alarm: None,
            learning_share: None,
            alarm_windows: None,
            text: None,
            provisional: assessment.provisional,
            adapted: assessment
                .adapted
                .filter(|adapted| adapted.widening > 1.0)
                .map(|adapted| AdaptedMsg { times: adapted.widening, learned_p_value: adapted.learned_p_value }),
            clock,
            late: false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mqtt::payload::encode::{encode, mark_late};

    /// A verdict at a certain time, for the tests of what is made of it.
    pub fn verdict(assessment: &Assessment) -> VerdictMsg {
        let ts: Timestamp = serde_json::from_str("\"2026-03-01T12:00:00.123456+01:00\"").expect("a time");
        VerdictMsg::new("pi-7", "blower-1", ts, assessment, Some("fan 1.2"), None)
    }

    pub fn assessment(distance: f64) -> Assessment {
        crate::scoring::judge(distance, 0.25, -31.5)
    }

    #[test]
    fn a_verdict_reads_as_the_contract_says() {
        let text = String::from_utf8(encode(&verdict(&assessment(0.5)))).expect("UTF-8");
        assert_eq!(
            text,
            r#"{"schema":1,"ts":"2026-03-01T11:00:00.123Z","seq":0,"agent":"pi-7","machine":"blower-1","verdict":"anomalous","reason":null,"distance":0.5,"threshold":0.25,"ratio":2.0,"score":null,"p_value":null,"lane":null,"level_dbfs":-31.5,"bundle":"fan 1.2","alarm":null,"learning_share":null,"alarm_windows":null,"text":null,"provisional":false,"adapted":null,"late":false}"#
        );
        assert_eq!(serde_json::from_str::<VerdictMsg>(&text).expect("its own text"), verdict(&assessment(0.5)));
    }

    #[test]
    fn what_is_not_finite_is_null() {
        let mut broken = assessment(0.5);
        broken.distance = Some(f64::NAN);
        broken.threshold = Some(0.0);
        broken.level_dbfs = f64::NEG_INFINITY;
        let message = verdict(&broken);
        assert_eq!((message.distance, message.ratio, message.level_dbfs), (None, None, -120.0));
    }

    #[test]
    fn late_is_set_in_what_waits_and_nowhere_else() {
        let mut encoded = encode(&verdict(&assessment(0.5)));
        mark_late(&mut encoded);
        let late: VerdictMsg = serde_json::from_slice(&encoded).expect("JSON still");
        assert_eq!(late, VerdictMsg { late: true, ..verdict(&assessment(0.5)) });
        let mut other = b"{\"x\":false}".to_vec();
        mark_late(&mut other);
        assert_eq!(other, b"{\"x\":false}");
    }
}
