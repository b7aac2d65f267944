//! The reply to `trend.get` as a table: a line a step, within 80 columns. `least`, `mid` and `most` are the distance, score
//! and level are the middle ones.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde_json::{Map, Value};

use super::table;
use crate::mqtt::payload::Reply;

/// The tables of those who have answered with a past; `None` where anybody has answered something else.
pub fn of(replies: &[Reply]) -> Option<String> {
    Some(table::of_all(replies, table_of)?.join("\n"))
}

fn table_of(reply: &Reply) -> Option<String> {
    let data = reply.data.as_ref()?.as_object()?;
    let names: Vec<&str> = data.get("fields")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let points = data.get("points")?.as_array()?;
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let (machine, step) = (text("machine"), text("step"));
    if points.is_empty() {
        return Some(format!("{} {machine}: no window from {} to {}\n", reply.agent, text("from"), text("to")));
    }
    let mut table = format!(
        "{} {machine}, by {step}\n{:<11} {:>7} {:>6} {:>6}  {:>5} {:>5} {:>5} {:>6} {:>6} {:>6} {:>6}\n",
        reply.agent, "from", "windows", "judged", "odd", "least", "mid", "most", "limit", "score", "dBFS", "ran"
    );
    for point in points.iter().filter_map(Value::as_array) {
        let fields: Map<String, Value> =
            names.iter().map(|name| (*name).to_owned()).zip(point.iter().cloned()).collect();
        line(&mut table, &fields, step);
    }
    Some(table)
}

fn line(table: &mut String, point: &Map<String, Value>, step: &str) {
    let value = |name: &str| point.get(name).and_then(Value::as_f64);
    let share = |part: &str, whole: &str| match (value(part), value(whole)) {
        (Some(part), Some(whole)) if whole > 0.0 => format!("{:.1}%", 100.0 * part / whole),
        _ => "-".into(),
    };
    let at =
        point.get("at").and_then(Value::as_str).and_then(|at| at.parse::<DateTime<Utc>>().ok()).unwrap_or_default();
    let at = match step {
        // Days are those of UTC.
        "day" => at.format("%Y-%m-%d").to_string(),
        _ => at.with_timezone(&Local).format("%m-%d %H:%M").to_string(),
    };
    let running = value("running_s").unwrap_or_default();
    let ran = if running < 5400.0 { format!("{:.0}min", running / 60.0) } else { format!("{:.1}h", running / 3600.0) };
    let written = writeln!(
        table,
        "{at:<11} {:>7} {:>6} {:>6}  {:>5} {:>5} {:>5} {:>6} {:>6} {:>6} {ran:>6}",
        value("windows").unwrap_or_default(),
        share("assessed", "windows"),
        share("anomalous", "assessed"),
        number(value("distance_min")),
        number(value("distance_median")),
        number(value("distance_max")),
        number(value("threshold")),
        number(value("score_median")),
        value("level_median").map_or_else(|| "-".into(), |level| format!("{level:.1}")),
    );
    written.expect("a string takes every line");
}

/// Three digits that matter, in five columns.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() < 10.0 => format!("{value:.3}"),
        Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctl::table::reply;
    use crate::control::commands::TREND_FIELDS;
    use serde_json::json;

    #[test]
    fn a_past_fits_eighty_columns() {
        let point = json!([
            "2026-03-01T12:00:00.000Z",
            72_000,
            71_990,
            7300,
            0.1,
            0.2,
            123.456,
            0.1,
            0.2,
            12.5,
            -120.0,
            -119.9,
            -31.0,
            0.31,
            86_400.0,
            0.0,
            0.0
        ]);
        let none = json!([
            "2026-03-02T00:00:00.000Z",
            3,
            0,
            0,
            null,
            null,
            null,
            null,
            null,
            null,
            null,
            null,
            null,
            null,
            0.0,
            0.0,
            15.0
        ]);
        let data = json!({ "machine": "blower-1", "from": "a", "to": "b", "step": "day", "step_s": 86400, "fields": TREND_FIELDS, "points": [point, none] });
        let text = of(&[reply("trend.get", &data)]).expect("a table");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let words: Vec<_> = text.lines().nth(2).expect("a line").split_whitespace().collect();
        assert_eq!(
            words,
            ["2026-03-01", "72000", "100.0%", "10.1%", "0.100", "0.200", "123.5", "0.310", "0.200", "-119.9", "24.0h"]
        );
        let empty = json!({ "machine": "blower-1", "from": "a", "to": "b", "step": "day", "fields": TREND_FIELDS, "points": [] });
        assert_eq!(of(&[reply("trend.get", &empty)]).as_deref(), Some("pi-7 blower-1: no window from a to b\n"));
        assert_eq!(of(&[reply("trend.get", &json!({ "version": "1" }))]), None);
    }
}
