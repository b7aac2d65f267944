//! The demo's live table: one row for each machine, what happened, and what to try next.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};

use super::board::{Board, Row, word};
use super::fleet::PLANT;
use crate::mqtt::address::BrokerUrl;
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
    let hints = hints(places);
    let rows = board.rows.len() as u16;
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows + 2),
        Constraint::Min(3),
        Constraint::Length(hints.len() as u16 + 1),
    ]);
    let [head, table, news, foot] = areas.areas(frame.area());
    let left = "auscult demo";
    let right = format!("{} verdicts  {now_s:.0} s", board.verdicts());
    let middle = format!("  2 agents, 8 simulated machines, {speed} times real time");
    let gap = usize::from(head.width).saturating_sub(left.len() + middle.len() + right.len());
    let title = Line::from(vec![
        Span::styled(left, paint.bold(Color::Cyan)),
        Span::raw(middle),
        Span::raw(" ".repeat(gap.max(1))),
        Span::raw(right),
    ]);
    frame.render_widget(title, head);
    machines(frame, table, board, paint);
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

fn machines(frame: &mut Frame, area: Rect, board: &Board, paint: Paint) {
    // What the fixed columns and the gaps leave.
    const FIXED: u16 = 6 + 9 + 9 + 5 + 12 + 6;
    let free = area.width.saturating_sub(FIXED);
    let (bar, history) = ((free / 2 + 1).clamp(10, 41), (free - free / 2 - 1).clamp(8, 100));
    let widths = [6, 9, 9, bar, 5, history, 12].map(Constraint::Length);
    let head = ["agent", "machine", "verdict", "distance | threshold", "ratio", "last windows", "alarm"];
    let rows = board.rows.iter().map(|row| {
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
}
