//! What the log says of machines: one line for each thing, in words, for whoever reads the journal.

use crate::mqtt::payload::{EventKind, EventMsg};
use crate::scoring::Assessment;
use crate::scoring::alarm::{AlarmState, AlarmStatus, Kind};

/// An alarm that has changed.
pub fn alarm(machine: &str, status: &AlarmStatus) {
    let line = describe_alarm(status);
    match status.state {
        AlarmState::Active => tracing::warn!("{machine}: {line}"),
        AlarmState::Normal | AlarmState::Acknowledged | AlarmState::Shelved => tracing::info!("{machine}: {line}"),
    }
}

/// `alarm: fault (burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB)`, `alarm acknowledged by ana: belt ordered`.
fn describe_alarm(status: &AlarmStatus) -> String {
    let note = &status.note;
    let by = note.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let until = note.until.map(|until| format!(" until {}", until.format("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
    let comment = note.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
    let kind = match status.kind {
        Some(Kind::Fault) => "fault",
        Some(Kind::Wear) => "wear",
        Some(Kind::Deaf) => "the machine cannot be heard",
        None => "none",
    };
    match status.state {
        AlarmState::Normal => "no alarm any more".to_owned(),
        AlarmState::Active => {
            let why = status.sentence(None).filter(|_| status.kind != Some(Kind::Deaf));
            format!("alarm: {kind}{}", why.map(|why| format!(" ({why})")).unwrap_or_default())
        }
        AlarmState::Acknowledged => format!("alarm acknowledged{by}{comment}"),
        AlarmState::Shelved if status.maintenance => format!("maintenance{by}{until}{comment}"),
        AlarmState::Shelved => format!("alarm shelved{by}{until}{comment}"),
    }
}

/// An event, unless another line says the same already.
pub fn event(message: &EventMsg) {
    let is_said = matches!(
        message.event,
        EventKind::Started
            | EventKind::BundleChanged
            | EventKind::BundleFailed
            | EventKind::MachineAdded
            | EventKind::MachineChanged
            | EventKind::MachineRemoved
            | EventKind::MachineIgnored
            | EventKind::SettingsLost
    );
    if is_said {
        return;
    }
    let line = describe_event(message);
    match message.event {
        EventKind::MicLost
        | EventKind::Silent
        | EventKind::Flat
        | EventKind::Clipped
        | EventKind::DcOffset
        | EventKind::Noise
        | EventKind::NotFinite
        | EventKind::Gap
        | EventKind::Overload
        | EventKind::BaselineFailed => tracing::warn!("{line}"),
        _ => tracing::info!("{line}"),
    }
}

/// `ventilator: baseline applied: threshold 0.3142`.
fn describe_event(message: &EventMsg) -> String {
    let machine = message.machine.as_ref().map(|machine| format!("{machine}: ")).unwrap_or_default();
    let what = message.event.to_string().replace('_', " ");
    let detail = message.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{machine}{what}{detail}")
}

/// The first window that is judged, or the first again after others; and why they are not judged now.
pub fn judged(machine: &str, assessment: &Assessment) {
    match (assessment.reason, assessment.distance, assessment.threshold) {
        (Some(reason), ..) => tracing::info!("{machine}: windows are not judged: {}", reason.in_words()),
        (None, Some(distance), Some(threshold)) => tracing::info!(
            "{machine}: windows are judged: distance {distance:.3}, threshold {threshold:.3}, level {:.1} dBFS",
            assessment.level_dbfs
        ),
        (None, ..) => {}
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;
    use crate::scoring::Why;
    use crate::scoring::alarm::Note;

    #[test]
    fn lines_are_words_of_people() {
        let ratio = Some(2.31);
        let mut status = AlarmStatus {
            state: AlarmState::Active,
            kind: Some(Kind::Fault),
            since: DateTime::UNIX_EPOCH,
            raised: None,
            count: 5,
            why: Some(Why { ratio, ..Why::default() }),
            note: Note::default(),
            maintenance: false,
        };
        assert_eq!(describe_alarm(&status), "alarm: fault (2.3 x threshold; 5 windows)");
        status.kind = Some(Kind::Deaf);
        status.why = None;
        assert_eq!(describe_alarm(&status), "alarm: the machine cannot be heard");
        status.state = AlarmState::Acknowledged;
        status.note = Note { by: Some("ana".into()), comment: Some("belt ordered".into()), ..Note::default() };
        assert_eq!(describe_alarm(&status), "alarm acknowledged by ana: belt ordered");
        status.state = AlarmState::Shelved;
        status.note.until = Some(DateTime::UNIX_EPOCH);
        assert_eq!(describe_alarm(&status), "alarm shelved by ana until 1970-01-01 00:00 UTC: belt ordered");
        status.state = AlarmState::Normal;
        assert_eq!(describe_alarm(&status), "no alarm any more");

        let event = json!({
            "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": "pi-1", "machine": "ventilator",
            "event": "mic_lost", "detail": "it is unplugged", "late": false,
        });
        let event: EventMsg = serde_json::from_value(event).expect("an event");
        assert_eq!(describe_event(&event), "ventilator: mic lost: it is unplugged");
    }
}
