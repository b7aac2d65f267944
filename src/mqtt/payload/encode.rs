//! Payloads as they are sent.

use serde::Serialize;

/// The JSON of a payload.
pub fn encode<T: Serialize>(payload: &T) -> Vec<u8> {
    serde_json::to_vec(payload).expect("payloads have string keys and no failing fields")
}

const NOT_LATE: &[u8] = b"\"late\":false}";
const LATE: &[u8] = b"\"late\":true}";

/// Sets `late` in an encoded payload; one without `late` stays as it is.
pub fn mark_late(encoded: &mut Vec<u8>) {
    if encoded.ends_with(NOT_LATE) {
        encoded.truncate(encoded.len() - NOT_LATE.len());
        encoded.extend_from_slice(LATE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::clock::{ClockMark, Timestamp};
    use crate::mqtt::payload::{AlarmMsg, EventKind, EventMsg, Reply, ReplyStatus, SchemaVersion};
    use crate::scoring::alarm::{AlarmState, Kind};
    use crate::scoring::{BandDifference, Lane};

    /// `mark_late` relies on it.
    #[test]
    fn late_closes_whatever_waits_on_disk() {
        let ts = Timestamp::from(chrono::DateTime::UNIX_EPOCH);
        let agent = || "a".to_owned();
        let alarm = AlarmMsg {
            text: None,
            journal: None,
            provisional: false,
            like: None,
            schema: SchemaVersion,
            ts,
            agent: agent(),
            machine: "m".into(),
            state: AlarmState::Active,
            kind: Some(Kind::Fault),
            since: ts,
            count: 3,
            ratio: Some(1.5),
            percentile: Some(99.5),
            lane: Some(Lane::Spectrum),
            bands: vec![BandDifference { from_hz: 500.0, to_hz: 900.0, difference_db: -6.0 }],
            by: None,
            comment: None,
            until: None,
            raised: Some(ts),
            at: None,
            clock: Some(ClockMark::Unsynced),
            late: false,
        };
        let event = EventMsg {
            schema: SchemaVersion,
            ts,
            agent: agent(),
            machine: None,
            event: EventKind::ClockJumped,
            detail: None,
            facts: Map::new(),
            clock: None,
            late: false,
        };
        let reply = Reply {
            schema: SchemaVersion,
            ts,
            agent: agent(),
            id: None,
            command: None,
            status: ReplyStatus::Ok,
            error: None,
            data: Some(serde_json::json!({ "late": false })),
            clock: None,
            late: false,
        };
        for encoded in [encode(&alarm), encode(&event), encode(&reply)] {
            assert!(encoded.ends_with(NOT_LATE), "{}", String::from_utf8_lossy(&encoded));
        }
    }
}
