//! The replies to `alarm.list` and `alarm.get` as a table: some lines an alarm, within the terminal's width.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};

use super::table;
use crate::cli::terminal;
use crate::mqtt::payload::Reply;
use crate::numbers;

/// The journals of those who have answered with one; `None` where anybody has answered something else.
pub fn of(replies: &[Reply], width: usize) -> Option<String> {
    Some(table::of_all(replies, |reply| table_of(reply, width))?.concat())
}

fn table_of(reply: &Reply, width: usize) -> Option<String> {
    let data = reply.data.as_ref()?;
    let alarms = data.get("alarms")?.as_array()?;
    let mut table = String::new();
    for alarm in alarms {
        let text = |name: &str| alarm[name].as_str().unwrap_or_default();
        let time = |name: &str| text(name).parse::<DateTime<Utc>>().ok();
        let since = time("since").map(moment).unwrap_or_default();
        let lasted = match time("since").zip(time("ended")) {
            Some((since, ended)) => format!("lasted {}", numbers::span((ended - since).num_seconds())),
            None => "stands".to_owned(),
        };
        let machine = format!("{}/{}", reply.agent, text("machine"));
        let number = format!("{:>6}  ", alarm["alarm"].as_i64().unwrap_or_default());
        let head = format!("{since}  {:<5} {machine}, {lasted}", text("kind"));
        let comment = alarm["comment"].as_str().map(|comment| format!(": {comment}")).unwrap_or_default();
        let taken_care = match alarm["by"].as_str() {
            Some(by) => Some(format!("acknowledged by {by}{comment}")),
            None => alarm["acknowledged"].as_str().map(|_| format!("acknowledged{comment}")),
        };
        let clip = alarm["clip"]["seconds"].as_f64().map(|seconds| format!("a clip of {seconds:.0} s"));
        let rest = [
            Some(text("text").to_owned()),
            alarm["like"].as_str().map(str::to_owned),
            taken_care,
            clip,
            answer(&alarm["answer"]),
        ]
        .into_iter()
        .flatten()
        .filter(|line| !line.is_empty());
        table += &terminal::hang(&number, &head, Some(width));
        rest.for_each(|line| table += &terminal::hang("        ", &line, Some(width)));
    }
    match (alarms.last(), data["more"] == true) {
        (None, _) => writeln!(table, "{}: no alarm", reply.agent).ok()?,
        (Some(last), true) => writeln!(table, "{}: older ones: --after {}", reply.agent, last["alarm"]).ok()?,
        _ => {}
    }
    Some(table)
}

/// A time as a person reads it, to the minute.
pub fn moment(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()
}

/// What somebody has said of an alarm: `was a fault: bearing (ana: the inner ring)`.
fn answer(answer: &serde_json::Value) -> Option<String> {
    let text = |name: &str| answer[name].as_str();
    let what = match text("outcome")? {
        "fault" => format!("was a fault: {}", text("name").unwrap_or_default()),
        "normal" => "was normal".to_owned(),
        _ => "was a disturbance".to_owned(),
    };
    let said = [text("by"), text("comment")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    Some(if said.is_empty() { what } else { format!("{what} ({said})") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctl::table::reply;
    use serde_json::json;

    #[test]
    fn an_alarm_takes_lines_of_eighty_columns() {
        let alarm = json!({
            "alarm": 17, "machine": "blower-1", "kind": "fault", "since": "2026-03-01T12:00:00.000Z",
            "ended": "2026-03-01T12:12:00.000Z", "windows": 14, "acknowledged": "2026-03-01T12:03:00.000Z", "by": "ana",
            "comment": "on my way with the new bearing", "text": "burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB; as unusual as 1 normal window in 3000; 14 windows",
        });
        let open = json!({ "alarm": 16, "machine": "fan-1", "kind": "deaf", "since": "2026-03-01T11:00:00.000Z", "ended": null, "text": "3 windows" });
        let text = of(&[reply("alarm.list", &json!({ "alarms": [alarm, open], "more": true }))], 80).expect("a table");
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 7, "{text}");
        assert!(text.contains("+7.6 dB; as unusual") && text.contains("14 windows\n"), "nothing is cut: {text}");
        assert!(text.contains("pi-7/blower-1, lasted 12 min") && text.contains("acknowledged by ana"), "{text}");
        assert!(text.contains("pi-7/fan-1, stands") && text.contains("--after 16"), "{text}");
        assert_eq!(
            of(&[reply("alarm.list", &json!({ "alarms": [], "more": false }))], 80).as_deref(),
            Some("pi-7: no alarm\n")
        );
        assert_eq!(of(&[reply("alarm.list", &json!({ "version": "1" }))], 80), None);
    }
}
