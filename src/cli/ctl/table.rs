//! Replies as a table: a row for each machine that an answer is about, else one for the agent.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

use crate::cli::terminal;
use crate::mqtt::payload::Reply;
use crate::numbers::short;

/// Without a terminal, a table may be so wide.
const PAPER: usize = 80;
/// Said in other columns, or of no use to a person.
const LEFT_OUT: [&str; 4] = ["schema", "agent", "ts", "clock"];
/// What a nested object says of the row's own machine.
const NESTED_MACHINE: &str = ".machine";

/// How wide a table may be here.
pub fn width() -> usize {
    terminal::width().unwrap_or(PAPER)
}

/// The table, where it fits `width`; else what it says, line by line. Empty without replies.
pub fn of(replies: &[Reply], width: usize) -> String {
    let rows: Vec<Row> = replies.iter().flat_map(rows).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(Row::all) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let grid = grid(&rows, &columns);
    let fits = grid.lines().all(|line| line.chars().count() <= width);
    if fits { grid } else { list(&rows, width) }
}

/// Name and value, in the order in which they came.
type Cells = Vec<(String, String)>;

struct Row {
    agent: String,
    status: &'static str,
    /// Of the machine, where the row is one's.
    machine: Cells,
    /// Of the agent, the same in each of its rows.
    own: Cells,
}

impl Row {
    fn all(&self) -> impl Iterator<Item = &(String, String)> {
        self.machine.iter().chain(&self.own)
    }
}

fn rows(reply: &Reply) -> Vec<Row> {
    let row = |status, machine, own| Row { agent: reply.agent.clone(), status, machine, own };
    if let Some(error) = &reply.error {
        let code = serde_json::to_value(error.code).unwrap_or_default();
        let answer = format!("{}: {}", shown(&code), error.message);
        return vec![row("error", Vec::new(), vec![("answer".into(), answer)])];
    }
    let mut fields = match &reply.data {
        Some(Value::Object(fields)) => fields.clone(),
        Some(other) => Map::from_iter([("answer".to_owned(), other.clone())]),
        None => Map::new(),
    };
    let machines = match fields.remove("machines") {
        Some(Value::Array(machines)) if !machines.is_empty() => machines,
        Some(other) => {
            fields.insert("machines".into(), other);
            Vec::new()
        }
        None => Vec::new(),
    };
    let mut own = Vec::new();
    flatten("", &Value::Object(fields), &mut own);
    if machines.is_empty() {
        return vec![row("ok", Vec::new(), own)];
    }
    let each = machines.iter().map(|machine| {
        let mut cells = Vec::new();
        flatten("", machine, &mut cells);
        cells.sort_by_key(|(name, _)| name != "machine");
        row("ok", cells, own.clone())
    });
    each.collect()
}

/// Takes nested fields apart: `preview.alarms`. What is null is left out.
fn flatten(path: &str, value: &Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if !path.ends_with(NESTED_MACHINE) {
                    flatten(&path, value, cells);
                }
            }
        }
        Value::Null => {}
        other => cells.push((path.to_owned(), shown(other))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        // Enough of a hash to distinguish it.
        Value::String(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{}...", &text[..12])
        }
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => short(float),
            _ => number.to_string(),
        },
        Value::Array(values) if values.is_empty() => "none".into(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", shown(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn grid(rows: &[Row], columns: &[&str]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["agent", ""].into_iter().chain(columns.iter().copied()));
    let mut numbers = vec![true; columns.len()];
    for row in rows {
        let mut cells = vec![row.agent.clone(), row.status.to_owned()];
        for (column, is_number) in columns.iter().zip(&mut numbers) {
            let cell = row.all().find(|(name, _)| name == column).map(|(_, value)| value.clone());
            *is_number &= cell.as_ref().is_none_or(|text| text.parse::<f64>().is_ok());
            cells.push(cell.unwrap_or_default());
        }
        table.add_row(cells);
    }
    for (column, is_number) in table.column_iter_mut().skip(2).zip(numbers) {
        if is_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

fn list(rows: &[Row], most: usize) -> String {
    let width = rows.iter().flat_map(Row::all).map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut lines = |head: String, cells: &[(String, String)]| {
        text.push_str(&head);
        for (name, value) in cells.iter().filter(|(name, _)| name != "machine") {
            // What is too long goes on below where it began.
            text.push_str(&terminal::hang(&format!("  {name:<width$}  "), value, Some(most)));
        }
    };
    let mut before = None;
    for row in rows {
        if before != Some(&row.agent) {
            lines(format!("{}: {}\n", row.agent, row.status), &row.own);
            before = Some(&row.agent);
        }
        if let Some((_, machine)) = row.machine.first() {
            lines(format!("{} {machine}:\n", row.agent), &row.machine);
        }
    }
    text
}

/// What each reply is as another table; `None` where anybody has answered something else, or nobody at all.
pub fn of_all(replies: &[Reply], table: impl Fn(&Reply) -> Option<String>) -> Option<Vec<String>> {
    let tables: Vec<String> = replies.iter().map(table).collect::<Option<_>>()?;
    (!tables.is_empty()).then_some(tables)
}

/// An agent's reply with this data.
#[cfg(test)]
pub fn reply(command: &str, data: &Value) -> Reply {
    let reply = serde_json::json!({
        "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": "pi-7", "id": "c1", "command": command,
        "status": "ok", "error": null, "data": data, "late": false,
    });
    serde_json::from_value(reply).expect("a reply")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_as_a_table_is_told_line_by_line() {
        let one = json!({ "threshold": 0.314_159_265_358_979_3, "anomalous": 17, "share": 0.0236, "alarms": 1, "alarms_per_day": 1.04 });
        let data = json!({ "machines": [
            { "machine": "ventilator", "hours": 23.98, "windows": 720, "unassessed": 12, "preview": one, "now": one },
        ] });
        for width in [60, 80, 100] {
            let text = of(&[reply("threshold.preview", &data)], width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(text.contains("preview.threshold") && text.contains("0.3142"), "{text}");
            assert!(!text.contains("0.31415"), "{text}");
        }
        assert!(of(&[reply("threshold.preview", &data)], 300).lines().count() <= 5);
        let short =
            of(&[reply("threshold.preview", &json!({ "machines": [{ "machine": "fan", "threshold": 0.3 }] }))], 60);
        assert!(short.contains('│') || short.contains('┌'), "{short}");
    }
}
