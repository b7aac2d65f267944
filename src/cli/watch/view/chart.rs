//! The machine's windows over time: their distance, or their level where none has a distance yet.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::words::clock;
use crate::cli::watch::fleet::{Point, WatchedMachine};
use crate::scoring::Verdict;

pub fn draw(frame: &mut Frame, machine: &WatchedMachine, area: Rect) {
    let (Some(first), Some(last)) = (machine.history.front(), machine.history.back()) else {
        frame.render_widget(Paragraph::new("no window yet".dim()), area);
        return;
    };
    let at = |ts: DateTime<Utc>| (ts - first.ts).num_milliseconds() as f64 / 1000.0;
    let points = |of: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        machine.history.iter().filter_map(|point| Some((at(point.ts), of(point)?))).collect()
    };
    let distances = points(|point| point.distance);
    let thresholds = points(|point| point.threshold);
    let over = points(|point| point.distance.filter(|_| point.verdict == Verdict::Anomalous));
    let levels = points(|point| point.level_dbfs);
    let line = |data, colour, kind| {
        Dataset::default().marker(Marker::Braille).graph_type(kind).style(Style::new().fg(colour)).data(data)
    };
    let (title, data, bounds) = if distances.is_empty() {
        // While it is being learned there is nothing to compare with, but there is sound.
        let (low, high) = levels.iter().fold((0.0_f64, -120.0_f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
        let title = "level in dBFS: no window has a distance yet";
        (title, vec![line(&levels, Color::Cyan, GraphType::Line)], [(low - 3.0).max(-123.0), high + 3.0])
    } else {
        let peak = distances.iter().chain(&thresholds).map(|(_, y)| *y).fold(1e-9, f64::max) * 1.1;
        let data = vec![
            line(&thresholds, Color::Yellow, GraphType::Line),
            line(&distances, Color::Cyan, GraphType::Line),
            line(&over, Color::Red, GraphType::Scatter).marker(Marker::Dot),
        ];
        ("distance (cyan) against threshold (yellow)", data, [0.0, peak])
    };
    let label = |y: f64| if distances.is_empty() { format!("{y:.0}") } else { format!("{y:.3}") };
    let end = at(last.ts).max(1.0);
    let chart = Chart::new(data)
        .block(Block::new().title(title.dim()))
        .x_axis(Axis::default().bounds([0.0, end]).labels([clock(first.ts), clock(last.ts)]))
        .y_axis(Axis::default().bounds(bounds).labels([
            label(bounds[0]),
            label(f64::midpoint(bounds[0], bounds[1])),
            label(bounds[1]),
        ]));
    frame.render_widget(chart, area);
}
