//! Numbers, times and colours.

use chrono::{DateTime, Utc};
use ratatui::style::{Color, Modifier, Style};

use crate::cli::watch::standing::Standing;
use crate::numbers::span;

/// Three significant digits, as a column of them reads best; `-` for none.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// `95 s`, `12 min`, `7 h`, `3 d`.
pub fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    span((now - then).num_seconds())
}

/// The colour of a standing.
pub fn colour(standing: Standing) -> Style {
    match standing {
        Standing::Alarm | Standing::Wear => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Standing::Deaf => Style::new().fg(Color::Magenta).add_modifier(Modifier::BOLD),
        Standing::Acknowledged => Style::new().fg(Color::Yellow),
        Standing::Normal => Style::new().fg(Color::Green),
        Standing::Gone | Standing::Shelved | Standing::Maintenance | Standing::Idle(_) => {
            Style::new().fg(Color::DarkGray)
        }
    }
}

/// The time of day here.
pub fn clock(time: DateTime<Utc>) -> String {
    time.with_timezone(&chrono::Local).format("%H:%M:%S").to_string()
}
