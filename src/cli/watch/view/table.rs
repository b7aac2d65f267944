//! The list: a row for each machine, with as many columns as the terminal has room for.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::words::{ago, colour, number};
use crate::cli::terminal::wrap;
use crate::cli::watch::app::App;
use crate::cli::watch::fleet::{Key, WatchedMachine};
use crate::cli::watch::standing::{Look, Standing};
use crate::scoring::Verdict;

/// Cells of the distance's bar; the threshold is at half.
const BAR: usize = 16;
const AGE: usize = 7;
const NUMBER: usize = 6;

/// Which columns there are, and how wide. State, name, alarm and age are always there: the name gives way first, then
/// bar, threshold and distance.
struct Columns {
    state: usize,
    name: usize,
    distance: bool,
    threshold: bool,
    bar: bool,
    spark: usize,
}

impl Columns {
    fn fit(rows: &[(Key, Look)], app: &App, width: usize) -> Columns {
        let states = rows.iter().map(|(key, look)| state(look, app.fleet.machines.get(key)).chars().count());
        // The dot, a space, and at least the heading.
        let state = 2 + states.max().unwrap_or(0).clamp(5, 24);
        let name = rows.iter().map(|(key, _)| full(key).chars().count()).max().unwrap_or(0).clamp(8, 32);
        let always = 2 + state + 1 + 2 * (1 + AGE);
        let left = width.saturating_sub(always + name);
        let mut columns = Columns { state, name, distance: false, threshold: false, bar: false, spark: 0 };
        let mut rest = left;
        for (flag, cost) in
            [(&mut columns.distance, NUMBER + 1), (&mut columns.threshold, NUMBER + 1), (&mut columns.bar, BAR + 1)]
        {
            if rest < cost {
                break;
            }
            *flag = true;
            rest -= cost;
        }
        if columns.bar {
            columns.spark = rest.saturating_sub(1).min(60);
        } else if left == 0 {
            columns.name = width.saturating_sub(always).max(6);
        }
        columns
    }

    fn title(&self) -> String {
        let Columns { state, name, .. } = *self;
        let mut title = format!("  {:state$} {:name$}", "state", "machine");
        if self.distance {
            title.push_str(&format!(" {:>NUMBER$}", "dist."));
        }
        if self.threshold {
            title.push_str(&format!(" {:>NUMBER$}", "limit"));
        }
        if self.bar {
            title.push_str(&format!(" {:BAR$}", ""));
        }
        if self.spark > 0 {
            title.push_str(&format!(" {:width$}", "", width = self.spark));
        }
        format!("{title} {:>AGE$} {:>AGE$}", "alarm", "heard")
    }
}

pub fn draw(frame: &mut Frame, app: &mut App, area: Rect) {
    let (rows, selected) = app.rows();
    if rows.is_empty() {
        app.marked = None;
        let text = match (app.fleet.machines.is_empty(), app.connection.is_ok()) {
            (true, true) if app.had_time_to_announce() => {
                "No machine has been heard of, and no agent answers the question who is there. Either no agent is connected to \
                 this broker with the same mqtt.root, or the broker's access rules do not let this login see them, or ask."
            }
            (true, true) => {
                "No machine has been heard of yet. A machine appears here once its agent is connected to this broker, \
                 with the same mqtt.root."
            }
            (true, false) => "No machine has been heard of yet.",
            (false, _) => "No machine fits the filter. Esc shows all.",
        };
        let lines: Vec<_> = wrap(text, area.width.into()).into_iter().map(|line| Line::from(line.dim())).collect();
        frame.render_widget(Paragraph::new(lines), area);
        return;
    }
    app.marked = rows.get(selected).map(|(key, _)| key.clone());
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    // The window moves only as far as it must.
    app.top = app.top.min(selected).max((selected + 1).saturating_sub(height)).min(rows.len().saturating_sub(height));
    let columns = Columns::fit(&rows, app, area.width.into());
    let mut lines = vec![Line::from(columns.title()).dim()];
    for (index, (key, look)) in rows.iter().enumerate().skip(app.top).take(height) {
        let mut line = row(key, look, &app.fleet.machines[key], &columns, app.now);
        if index == selected {
            // The arrow is for terminals without colours.
            line.spans[0] = "▶ ".bold();
            line = line.style(Style::new().bg(Color::Indexed(237)).add_modifier(Modifier::BOLD));
        }
        lines.push(line);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn full(key: &Key) -> String {
    format!("{}/{}", key.0, key.1)
}

/// `alarm, deaf`, `learning 42 %`.
fn state(look: &Look, machine: Option<&WatchedMachine>) -> String {
    let share = machine.and_then(WatchedMachine::learning_share);
    match (look.standing, share) {
        (Standing::Idle(Some("learning")), Some(share)) => format!("learning {:.0} %", (100.0 * share).floor()),
        _ => look.words(),
    }
}

fn row(key: &Key, look: &Look, machine: &WatchedMachine, columns: &Columns, now: DateTime<Utc>) -> Line<'static> {
    let Columns { state: state_width, name, .. } = *columns;
    let cut = |text: String, width: usize| match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    };
    let verdict = machine.verdict.as_ref();
    let word = cut(state(look, Some(machine)), state_width - 2);
    let mut spans = vec![
        "  ".into(),
        Span::styled(format!("● {word:width$}", width = state_width - 2), colour(look.standing)),
        format!(" {:name$}", cut(full(key), name)).into(),
    ];
    if columns.distance {
        spans.push(format!(" {:>NUMBER$}", number(verdict.and_then(|verdict| verdict.distance))).into());
    }
    if columns.threshold {
        spans.push(format!(" {:>NUMBER$}", number(machine.threshold())).into());
    }
    if columns.bar {
        spans.push(" ".into());
        spans.extend(bar(verdict.and_then(|verdict| verdict.ratio)));
    }
    if columns.spark > 0 {
        spans.push(" ".into());
        let stands = matches!(look.standing, Standing::Alarm | Standing::Wear | Standing::Acknowledged);
        match machine.sentence().filter(|_| stands) {
            Some(sentence) => {
                let width = columns.spark;
                spans.push(format!("{:width$}", cut(sentence.to_owned(), width)).into());
            }
            None => spans.extend(sparkline(machine, columns.spark)),
        }
    }
    let alarm = machine.alarm_since().map(|since| ago(now, since)).unwrap_or_default();
    let heard = machine.verdict_at.map(|at| ago(now, at)).unwrap_or_default();
    spans.push(format!(" {alarm:>AGE$} {heard:>AGE$}").into());
    let line = Line::from(spans);
    if look.standing == Standing::Gone { line.dim() } else { line }
}

/// The distance against its threshold, which is at half: red where it is over.
fn bar(ratio: Option<f64>) -> Vec<Span<'static>> {
    let half = BAR / 2;
    let Some(ratio) = ratio else { return vec![format!("{:half$}┊{:rest$}", "", "", rest = BAR - half - 1).dim()] };
    let eighths = ((ratio * half as f64 * 8.0).round() as usize).min(BAR * 8);
    let colour = if ratio > 1.0 { Color::Red } else { Color::Green };
    let cells: String = (0..BAR)
        .map(|cell| match eighths.saturating_sub(cell * 8).min(8) {
            0 if cell == half => '┊',
            part => [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'][part],
        })
        .collect();
    vec![Span::styled(cells, Style::new().fg(colour).bg(Color::Indexed(236)))]
}

/// The last windows, each a cell: as high as its distance, red over the threshold, a dot where it was not judged.
fn sparkline(machine: &WatchedMachine, width: usize) -> Vec<Span<'static>> {
    let shown = machine.history.iter().skip(machine.history.len().saturating_sub(width));
    let peak = shown.clone().flat_map(|point| [point.distance, point.threshold]).flatten().fold(1e-9, f64::max);
    let mut spans = vec![" ".repeat(width.saturating_sub(machine.history.len())).into()];
    spans.extend(shown.map(|point| match point.distance {
        None => "·".magenta(),
        Some(distance) => {
            let level = (distance / peak * 8.0).ceil().clamp(1.0, 8.0) as usize;
            let cell = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"][level - 1];
            Span::styled(cell, if point.verdict == Verdict::Anomalous { Color::Red } else { Color::Cyan })
        }
    }));
    spans
}
