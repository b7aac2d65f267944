//! Draws what [`App`] holds: the table, one machine in detail, a line for prompts and replies.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::app::App;
use super::fleet::{Key, Standing, WatchedMachine};
use crate::scoring::Verdict;

/// Cells of the distance's bar; the threshold is at half.
const BAR: usize = 16;
const STATE: usize = 14;

pub fn draw(frame: &mut Frame, app: &mut App) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(header(app), head);
    match app.current().filter(|_| app.detail) {
        Some(key) => detail(frame, app, &key, body),
        None => table(frame, app, body),
    }
    frame.render_widget(footer(app), foot);
}

fn header(app: &App) -> Paragraph<'static> {
    let broker = match &app.connection {
        Ok(url) => url.clone().green(),
        Err(problem) => problem.clone().red().bold(),
    };
    let mut first = vec!["auscult ".bold(), broker, format!("  sorted by {}", app.sort).dim()];
    if !app.filter.is_empty() {
        first.push(format!(", only {:?}", app.filter).yellow());
    }
    let agents = &app.fleet.agents;
    let online = agents.values().filter(|agent| agent.is_online()).count();
    let mut second = vec![format!("agents {online} online").into()];
    if online < agents.len() {
        second.push(format!(", {} away", agents.len() - online).red());
    }
    second.push(format!("  machines {}", app.fleet.machines.len()).into());
    let rows = app.fleet.rows(app.sort, "");
    for (word, of) in [
        ("alarm", &[Standing::Alarm, Standing::Wear][..]),
        ("deaf", &[Standing::Deaf]),
        ("acknowledged", &[Standing::Acknowledged]),
    ] {
        let count = rows.iter().filter(|(_, standing)| of.contains(standing)).count();
        if count > 0 {
            second.push("  ".into());
            second.push(Span::styled(format!("{count} {word}"), colour(of[0])));
        }
    }
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

fn footer(app: &App) -> Paragraph<'static> {
    if let Some((prompt, text)) = &app.prompt {
        let label = format!("{}: ", prompt.label());
        return Paragraph::new(Line::from(vec![label.bold(), text.clone().into(), "▏".into(), "  Enter, Esc".dim()]));
    }
    let keys = "↑↓ choose  Enter detail  a acknowledge  t threshold  s sort  / filter  q quit";
    let Some(sent) = &app.sent else { return Paragraph::new(keys.dim()) };
    let outcome = match &sent.outcome {
        None => " …".yellow(),
        Some(Ok(())) => " done".green(),
        Some(Err(problem)) => format!(" {problem}").red(),
    };
    Paragraph::new(Line::from(vec![sent.what.clone().into(), outcome]))
}

fn table(frame: &mut Frame, app: &mut App, area: Rect) {
    let (rows, selected) = app.rows();
    if rows.is_empty() {
        let text = if app.fleet.machines.is_empty() {
            "no machine has been heard of yet"
        } else {
            "no machine fits the filter"
        };
        frame.render_widget(Paragraph::new(text.dim()), area);
        return;
    }
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    // The window moves only as far as it must.
    app.top = app.top.min(selected).max((selected + 1).saturating_sub(height)).min(rows.len().saturating_sub(height));
    let name = rows.iter().map(|(key, _)| key.0.len() + key.1.len() + 1).max().unwrap_or(0).clamp(8, 32);
    // State, name, distance, bar and age have their widths; the sparkline takes what is left.
    let fixed = STATE + 1 + name + 1 + 13 + 1 + BAR + 1 + 8;
    let spark = usize::from(area.width).saturating_sub(fixed + 1).min(60);
    let title =
        format!("{:STATE$} {:name$} {:>13} {:BAR$} {:spark$} {:>7}", "state", "machine", "distance", "", "", "alarm");
    let mut lines = vec![Line::from(title).dim()];
    for (index, (key, standing)) in rows.iter().enumerate().skip(app.top).take(height) {
        let machine = &app.fleet.machines[key];
        let mut line = row(key, *standing, machine, name, spark, app.now);
        if index == selected {
            line = line.style(Style::new().bg(Color::Indexed(237)).add_modifier(Modifier::BOLD));
        }
        lines.push(line);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn row(
    key: &Key,
    standing: Standing,
    machine: &WatchedMachine,
    name: usize,
    spark: usize,
    now: DateTime<Utc>,
) -> Line<'static> {
    let verdict = machine.verdict.as_ref();
    let distance = verdict.and_then(|verdict| verdict.distance);
    let mut full = format!("{}/{}", key.0, key.1);
    if full.chars().count() > name {
        full = full.chars().take(name - 1).chain(['…']).collect();
    }
    let away = standing == Standing::Away;
    let mut spans = vec![
        Span::styled(format!("● {:width$}", standing.word(), width = STATE - 2), colour(standing)),
        format!(" {full:name$} ").into(),
        format!("{:>6} {:>6} ", number(distance), number(machine.threshold())).into(),
    ];
    spans.extend(bar(verdict.and_then(|verdict| verdict.ratio)));
    spans.push(" ".into());
    spans.extend(sparkline(machine, spark));
    let age = machine.alarm_since().map(|since| ago(now, since)).unwrap_or_default();
    spans.push(format!(" {age:>7}").into());
    let line = Line::from(spans);
    if away { line.dim() } else { line }
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

fn detail(frame: &mut Frame, app: &App, key: &Key, area: Rect) {
    let Some(machine) = app.fleet.machines.get(key) else { return };
    let facts = facts(app, key, machine);
    let events = machine.events.len().min(6);
    let [facts_area, chart_area, events_area] = Layout::vertical([
        Constraint::Length(facts.len() as u16),
        Constraint::Min(6),
        Constraint::Length(if events == 0 { 0 } else { events as u16 + 1 }),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(facts), facts_area);
    chart(frame, machine, chart_area);
    if events > 0 {
        let mut lines = vec![Line::from("events").dim()];
        lines.extend(machine.events.iter().take(events).map(|event| {
            let word = serde_json::to_value(event.event).ok();
            let word = word.as_ref().and_then(|word| word.as_str()).unwrap_or("?").to_owned();
            let detail = event.detail.clone().unwrap_or_default();
            Line::from(vec![format!("{} ", clock(event.ts.utc())).dim(), format!("{word:18} ").into(), detail.into()])
        }));
        frame.render_widget(Paragraph::new(lines), events_area);
    }
}

fn facts(app: &App, key: &Key, machine: &WatchedMachine) -> Vec<Line<'static>> {
    let standing = app.fleet.standing(key);
    let mut first =
        vec![format!("{}/{}  ", key.0, key.1).bold(), Span::styled(standing.word(), colour(standing)), "  ".into()];
    if let Some(alarm) = &machine.alarm {
        let by = alarm.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let comment = alarm.comment.as_ref().map(|comment| format!(", {comment:?}")).unwrap_or_default();
        let until = alarm.until.map(|until| format!(", until {}", clock(until.utc()))).unwrap_or_default();
        let state = serde_json::to_value(alarm.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or("?").to_owned();
        let since = ago(app.now, alarm.since.utc());
        first.push(format!("alarm {state}{by} for {since}, {} windows{until}{comment}", alarm.count).into());
    }
    let mut lines = vec![Line::from(first)];
    if let Some(verdict) = &machine.verdict {
        let reason = verdict.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let word = match verdict.verdict {
            Verdict::Normal => "normal",
            Verdict::Anomalous => "anomalous",
            Verdict::Unknown => "unknown",
        };
        lines.push(Line::from(format!(
            "last window {word}{reason} at {}  distance {}  level {:.1} dBFS  seq {}",
            clock(verdict.ts.utc()),
            number(verdict.distance),
            verdict.level_dbfs,
            verdict.seq,
        )));
    }
    if let Some(settings) = &machine.settings {
        let source = serde_json::to_value(settings.source).ok();
        let source = source.as_ref().and_then(|source| source.as_str()).unwrap_or("?").to_owned();
        let by = settings.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let reason = settings.reason.as_ref().map(|reason| format!(", {reason:?}")).unwrap_or_default();
        lines.push(Line::from(format!("threshold {} from {source}{by}{reason}", number(settings.threshold))));
    }
    if let Some(info) = app.fleet.agents.get(&key.0).and_then(|agent| agent.info.as_ref()) {
        let bundle = info.bundle.as_deref().unwrap_or("none");
        lines.push(Line::from(format!(
            "agent {} {}  bundle {bundle}  tags {}",
            info.agent,
            info.version,
            info.tags.join(", ")
        )));
    }
    lines
}

fn chart(frame: &mut Frame, machine: &WatchedMachine, area: Rect) {
    let (Some(first), Some(last)) = (machine.history.front(), machine.history.back()) else {
        frame.render_widget(Paragraph::new("no window yet".dim()), area);
        return;
    };
    let at = |ts: DateTime<Utc>| (ts - first.ts).num_milliseconds() as f64 / 1000.0;
    let points = |of: fn(&super::fleet::Point) -> Option<f64>| -> Vec<(f64, f64)> {
        machine.history.iter().filter_map(|point| Some((at(point.ts), of(point)?))).collect()
    };
    let distances = points(|point| point.distance);
    let thresholds = points(|point| point.threshold);
    let over = points(|point| point.distance.filter(|_| point.verdict == Verdict::Anomalous));
    let peak = distances.iter().chain(&thresholds).map(|(_, y)| *y).fold(1e-9, f64::max) * 1.1;
    let line = |data, colour, kind| {
        Dataset::default().marker(Marker::Braille).graph_type(kind).style(Style::new().fg(colour)).data(data)
    };
    let data = vec![
        line(&thresholds, Color::Yellow, GraphType::Line),
        line(&distances, Color::Cyan, GraphType::Line),
        line(&over, Color::Red, GraphType::Scatter).marker(Marker::Dot),
    ];
    let end = at(last.ts).max(1.0);
    let chart = Chart::new(data)
        .block(Block::new().title("distance (cyan) against threshold (yellow)".dim()))
        .x_axis(Axis::default().bounds([0.0, end]).labels([clock(first.ts), clock(last.ts)]))
        .y_axis(Axis::default().bounds([0.0, peak]).labels([
            "0".to_owned(),
            format!("{:.3}", peak / 2.0),
            format!("{peak:.3}"),
        ]));
    frame.render_widget(chart, area);
}

fn colour(standing: Standing) -> Style {
    match standing {
        Standing::Alarm | Standing::Wear => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Standing::Deaf => Style::new().fg(Color::Magenta).add_modifier(Modifier::BOLD),
        Standing::Acknowledged => Style::new().fg(Color::Yellow),
        Standing::Normal => Style::new().fg(Color::Green),
        Standing::Away | Standing::Shelved | Standing::Maintenance | Standing::Idle(_) => {
            Style::new().fg(Color::DarkGray)
        }
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn clock(time: DateTime<Utc>) -> String {
    time.with_timezone(&chrono::Local).format("%H:%M:%S").to_string()
}

/// `95 s`, `12 min`, `7 h`, `3 d`.
fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    match (now - then).num_seconds().max(0) {
        s @ 0..100 => format!("{s} s"),
        s @ 100..6000 => format!("{} min", s / 60),
        s @ 6000..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::app::tests::{app, press};
    use super::super::fleet::tests::{agent, receive, verdict};
    use super::*;

    fn shown(app: &mut App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, app)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn the_table_shows_state_distance_and_age_with_the_urgent_first() {
        let mut app = app();
        for (width, height) in [(80, 24), (160, 50)] {
            let text = shown(&mut app, width, height);
            let lines: Vec<_> = text.lines().collect();
            assert!(lines[1].contains("agents 1 online, 1 away  machines 4  1 alarm"), "{text}");
            assert!(lines[3].contains("● alarm") && lines[3].contains("pi-1/fan-2"), "{text}");
            assert!(lines[3].contains("0.530  0.300") && lines[3].contains("10 min"), "{text}");
            assert!(lines[3].contains("████████") && lines[3].contains('▇'), "{text}");
            assert!(lines[4].contains("● away") && lines[4].contains("pi-2/blower-1"), "{text}");
            assert!(lines[height as usize - 1].contains("a acknowledge"), "{text}");
        }
    }

    #[test]
    fn the_detail_shows_history_and_prompts_show_what_is_typed() {
        let mut app = app();
        press(&mut app, "\n");
        let text = shown(&mut app, 100, 30);
        for words in [
            "alarm active for 10 min, 5 windows",
            "distance 0.530",
            "level -31.5 dBFS",
            "bundle demo@1",
            "against threshold",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        press(&mut app, "t");
        assert!(shown(&mut app, 100, 30).contains("threshold of pi-1/fan-2: 0.3▏"));
    }

    #[test]
    fn the_selection_stays_in_sight_among_five_hundred_machines() {
        let mut app = app();
        for number in 0..50 {
            let machines: Vec<_> = (0..10).map(|machine| format!("m-{machine}")).collect();
            let machines: Vec<_> = machines.iter().map(String::as_str).collect();
            let id = format!("big-{number:02}");
            agent(&mut app.fleet, &id, &machines, "online");
            for machine in machines {
                receive(&mut app.fleet, &format!("{id}/{machine}/verdict"), &verdict(0, Some(0.1), None));
            }
        }
        press(&mut app, "sG");
        assert!(shown(&mut app, 80, 24).contains("pi-2/blower-1"));
        press(&mut app, "g");
        assert!(shown(&mut app, 80, 24).contains("big-00/m-0"));
        // Too small for anything is no reason to fail.
        for (width, height) in [(1, 1), (10, 3), (40, 5)] {
            shown(&mut app, width, height);
        }
    }
}
