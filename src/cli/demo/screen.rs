//! The demo's live table: one row for each machine, what happened, and what to try next.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Cell, Chart, Dataset, GraphType, Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};

use super::board::{Board, Row, word};
use super::fleet::PLANT;
use crate::mqtt::address::BrokerUrl;
use crate::numbers::counted;
use crate::scoring::Verdict;
use crate::scoring::alarm::AlarmState;

/// Distances are drawn up to this many thresholds.
const FULL: f64 = 2.0;

/// Where the running demo can be reached.
#[derive(Debug, Clone)]
pub struct Places {
    pub broker: BrokerUrl,
    /// The page, where there is one.
    pub page: Option<String>,
}

/// What works against the running demo, a line each.
pub fn hints(places: &Places) -> Vec<String> {
    let (agent, machines) = PLANT[0];
    let url = &places.broker;
    let port = url.port;
    let mut hints = vec![
        "While it runs, in another terminal:".into(),
        format!("  mosquitto_sub -h 127.0.0.1 -p {port} -v -t 'auscult/+/+/alarm'"),
        format!("  auscult ctl --broker {url} --agent {agent} \\"),
        format!("    threshold.set --machine {} --threshold 2", machines[0].0),
        format!("  Node-RED: import deploy/node-red/flows.json, broker 127.0.0.1:{port}"),
    ];
    hints.extend(places.page.as_ref().map(|page| format!("  In a browser: {page}")));
    hints
}

/// The terminal, which is given back when this is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    places: Places,
    speed: f64,
    colour: bool,
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Screen {
    /// # Errors
    /// The terminal refuses.
    pub fn open(places: Places, speed: f64) -> io::Result<Screen> {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Screen { terminal: ratatui::try_init()?, places, speed, colour })
    }

    /// Draws all; true when the user wants to end.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, board: &Board, now_s: f64) -> io::Result<bool> {
        let (places, paint, speed) = (&self.places, Paint { colour: self.colour }, self.speed);
        self.terminal.draw(|frame| view(frame, board, now_s, places, speed, paint))?;
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Colours, or none where NO_COLOR is set.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn in_colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bold(self, colour: Color) -> Style {
        self.in_colour(colour).add_modifier(Modifier::BOLD)
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

fn view(frame: &mut Frame, board: &Board, now_s: f64, places: &Places, speed: f64, paint: Paint) {
    let (height, rows) = (frame.area().height, board.rows.len() as u16);
    // What to try next goes first where there is no room, then what happened, then machines that are well.
    let mut hints = hints(places);
    if height < 2 + rows + 1 + 3 + hints.len() as u16 + 1 {
        hints.clear();
    }
    let news_rows = if height < 2 + rows + 1 + 4 { 2 } else { 3 };
    let used = 2 + rows + 2 + hints.len() as u16 + 1;
    // A large screen has room for the ill machine's own picture.
    let picture = if height >= used + 3 + 12 { (height - used - 3).min(24) } else { 0 };
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(rows + 2),
        Constraint::Length(picture),
        Constraint::Min(news_rows),
        Constraint::Length(hints.len() as u16 + 1),
    ]);
    let [head, table, large, news, foot] = areas.areas(frame.area());
    frame.render_widget(title(board, now_s, speed, head.width.into(), paint), head);
    machines(frame, table, board, paint);
    if picture > 0 {
        history(frame, large, board, paint);
    }
    let room = usize::from(news.height).saturating_sub(1);
    let skip = board.news.len().saturating_sub(room);
    let lines: Vec<Line> = board.news[skip..]
        .iter()
        .map(|(news_s, text)| {
            let style = if text.contains("ALARM") { paint.bold(Color::Red) } else { paint.in_colour(Color::Yellow) };
            Line::from(vec![Span::styled(format!("{news_s:6.1} s  "), paint.dim()), Span::styled(text.clone(), style)])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), news);
    let mut lines: Vec<Line> = hints.into_iter().map(Line::from).collect();
    lines.push(Line::styled("q ends it.", paint.dim()));
    frame.render_widget(Paragraph::new(lines), foot);
}

/// The time is always there: what is between gives way to it.
fn title(board: &Board, now_s: f64, speed: f64, width: usize, paint: Paint) -> Line<'static> {
    let left = "auscult demo";
    let time = format!("{now_s:.0} s");
    let verdicts = format!("{}  ", counted(board.verdicts(), "verdict"));
    let all = [
        (format!("  2 agents, 8 simulated machines, {speed} times real time"), verdicts.clone()),
        (format!("  8 simulated machines, {speed} x real time"), verdicts),
        (format!("  8 machines, {speed} x"), String::new()),
        (String::new(), String::new()),
    ];
    let fits =
        |(middle, verdicts): &&(String, String)| left.len() + middle.len() + 2 + verdicts.len() + time.len() <= width;
    let (middle, verdicts) = all.iter().find(fits).cloned().unwrap_or_default();
    let gap = width.saturating_sub(left.len() + middle.len() + verdicts.len() + time.len());
    Line::from(vec![
        Span::styled(left, paint.bold(Color::Cyan)),
        Span::raw(middle),
        Span::raw(" ".repeat(gap.max(1))),
        Span::raw(verdicts),
        Span::raw(time),
    ])
}

/// The machine that is worst off, over its last windows.
fn history(frame: &mut Frame, area: Rect, board: &Board, paint: Paint) {
    let worst = board.rows.iter().max_by(|a, b| urgency(a).total_cmp(&urgency(b)));
    let Some(row) = worst else { return };
    let points: Vec<(f64, f64)> =
        row.ratios.iter().enumerate().filter_map(|(at, ratio)| Some((at as f64, (*ratio)?))).collect();
    let end = (row.ratios.len() as f64).max(2.0) - 1.0;
    let top = points.iter().fold(FULL, |top, (_, ratio)| top.max(*ratio)) * 1.05;
    let limit = [(0.0, 1.0), (end, 1.0)];
    let line = |data, colour| {
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(paint.in_colour(colour)).data(data)
    };
    let chart = Chart::new(vec![line(&limit, Color::Yellow), line(&points, Color::Cyan)])
        .block(Block::new().title(format!(
            "{}: distance in thresholds, the last {}",
            row.machine,
            counted(row.ratios.len(), "window")
        )))
        .x_axis(Axis::default().bounds([0.0, end]))
        .y_axis(Axis::default().bounds([0.0, top]).labels([
            "0".to_owned(),
            format!("{:.1}", top / 2.0),
            format!("{top:.1}"),
        ]));
    frame.render_widget(chart, area);
}

/// Those with an alarm first, then by their distance.
fn urgency(row: &Row) -> f64 {
    let alarm = if row.alarm == AlarmState::Normal { 0.0 } else { 1000.0 };
    alarm + row.ratios.back().copied().flatten().unwrap_or(0.0)
}

fn machines(frame: &mut Frame, area: Rect, board: &Board, paint: Paint) {
    // Where not all have room, those that somebody should see come first.
    let mut shown: Vec<&Row> = board.rows.iter().collect();
    if usize::from(area.height) < shown.len() + 1 {
        shown.sort_by(|a, b| urgency(b).total_cmp(&urgency(a)));
    }
    if area.width < 72 {
        return narrow(frame, area, &shown, paint);
    }
    // What the fixed columns and the gaps leave.
    const FIXED: u16 = 6 + 9 + 9 + 5 + 12 + 6;
    let free = area.width.saturating_sub(FIXED);
    let (bar, history) = ((free / 2 + 1).clamp(10, 41), (free - free / 2 - 1).clamp(8, 100));
    let widths = [6, 9, 9, bar, 5, history, 12].map(Constraint::Length);
    let head = ["agent", "machine", "verdict", "distance | threshold", "ratio", "last windows", "alarm"];
    let rows = shown.into_iter().map(|row| {
        let (verdict, style) = match row.last.as_ref().map(|last| last.verdict) {
            Some(Verdict::Normal) => ("normal", paint.in_colour(Color::Green)),
            Some(Verdict::Anomalous) => ("anomalous", paint.bold(Color::Red)),
            Some(Verdict::Unknown) => ("unknown", paint.in_colour(Color::Yellow)),
            None => ("waiting", paint.dim()),
        };
        let alarm = match row.alarm {
            AlarmState::Active => {
                Span::styled(word(row.alarm), paint.bold(Color::Red).add_modifier(Modifier::REVERSED))
            }
            AlarmState::Normal => Span::styled("-", paint.dim()),
            state => Span::styled(word(state), paint.in_colour(Color::Yellow)),
        };
        let ratio = row.ratios.back().copied().flatten();
        TableRow::new([
            Cell::from(row.agent),
            Cell::from(row.machine),
            Cell::from(Span::styled(verdict, style)),
            Cell::from(distance_bar(ratio, usize::from(bar), paint)),
            Cell::from(ratio.map_or(String::new(), |ratio| format!("{ratio:5.2}"))),
            Cell::from(sparkline(row, usize::from(history), paint)),
            Cell::from(alarm),
        ])
    });
    let head = TableRow::new(head).style(paint.dim()).bottom_margin(0);
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

/// Machine, ratio and alarm, where there is no room for more.
fn narrow(frame: &mut Frame, area: Rect, shown: &[&Row], paint: Paint) {
    let bar = area.width.saturating_sub(9 + 5 + 12 + 3).clamp(3, 30);
    let rows = shown.iter().map(|row| {
        let ratio = row.ratios.back().copied().flatten();
        let style = if row.alarm == AlarmState::Active { paint.bold(Color::Red) } else { Style::new() };
        TableRow::new([
            Cell::from(Span::styled(row.machine, style)),
            Cell::from(ratio.map_or(String::new(), |ratio| format!("{ratio:5.2}"))),
            Cell::from(distance_bar(ratio, usize::from(bar), paint)),
            Cell::from(Span::styled(if row.alarm == AlarmState::Normal { "-" } else { word(row.alarm) }, style)),
        ])
    });
    let widths = [9, 5, bar, 12].map(Constraint::Length);
    let head = TableRow::new(["machine", "ratio", "", "alarm"]).style(paint.dim());
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

/// The distance as a bar, with the threshold in its middle.
fn distance_bar(ratio: Option<f64>, width: usize, paint: Paint) -> Line<'static> {
    let limit = width / 2;
    let filled = ratio.map_or(0, |ratio| ((ratio / FULL).clamp(0.0, 1.0) * width as f64).round() as usize);
    let cell = |n: usize| match (n == limit, n < filled) {
        (true, _) => Span::styled("│", Style::new().add_modifier(Modifier::BOLD)),
        (false, true) if n < limit => Span::styled("█", paint.in_colour(Color::Green)),
        (false, true) => Span::styled("█", paint.in_colour(Color::Red)),
        (false, false) => Span::styled("·", paint.dim()),
    };
    (0..width).map(cell).collect()
}

/// The last distances, the newest on the right; a space where a window was not assessed.
fn sparkline(row: &Row, width: usize, paint: Paint) -> Line<'static> {
    const STEPS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let shown = row.ratios.iter().skip(row.ratios.len().saturating_sub(width));
    let cell = |ratio: &Option<f64>| match ratio {
        None => Span::raw(" "),
        Some(ratio) => {
            let step = ((ratio / FULL) * STEPS.len() as f64).clamp(0.0, 7.0) as usize;
            Span::styled(STEPS[step], paint.in_colour(if *ratio > 1.0 { Color::Red } else { Color::Green }))
        }
    };
    shown.map(cell).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn it_fits_eighty_columns_and_does_not_mind_fewer() {
        let broker = "mqtt://127.0.0.1:1883".parse().expect("a URL");
        let places = Places { broker, page: Some("http://127.0.0.1:8477/".into()) };
        let mut board = Board::new(1.0);
        board.tick(2.0, "cavitation");
        for (width, height) in [(80, 24), (200, 60), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it draws into memory");
            let paint = Paint { colour: true };
            terminal.draw(|frame| view(frame, &board, 12.0, &places, 10.0, paint)).expect("it draws");
            if width >= 80 {
                let text = terminal.backend().to_string();
                for part in
                    ["hall-2", "pump-b", "cavitation begins", "threshold.set", "Node-RED", "browser", "q ends it."]
                {
                    assert!(text.contains(part), "{width}x{height}: {part:?} is missing in\n{text}");
                }
            }
        }
    }

    #[test]
    fn a_small_screen_shows_the_time_and_the_ill_machine_and_a_large_one_its_picture() {
        let broker = "mqtt://127.0.0.1:1883".parse().expect("a URL");
        let places = Places { broker, page: None };
        let mut board = Board::new(1.0);
        let ill = board.rows.iter_mut().find(|row| row.machine == "pump-b").expect("the ill machine");
        ill.alarm = AlarmState::Active;
        ill.ratios.extend([Some(0.5), Some(1.2), Some(1.9)]);
        let shown = |width, height| {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it draws into memory");
            let paint = Paint { colour: true };
            terminal.draw(|frame| view(frame, &board, 123.0, &places, 10.0, paint)).expect("it draws");
            terminal.backend().to_string()
        };
        for (width, height) in [(30, 10), (40, 15), (60, 12), (80, 24), (120, 40)] {
            let text = shown(width, height);
            assert!(
                text.contains("123 s\"") && text.contains("pump-b") && text.contains("ACTIVE"),
                "{width}x{height}:\n{text}"
            );
        }
        assert!(shown(160, 60).contains("pump-b: distance in thresholds"));
    }
}
