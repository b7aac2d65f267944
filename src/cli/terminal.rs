//! The terminal that a command prints to: how wide it is, whether it shows colours, and text that fits it.

use std::io::{IsTerminal, stdout};

/// Columns of the terminal that stdout is; `None` where it is none.
pub fn width() -> Option<usize> {
    size().map(|(columns, _)| columns)
}

/// Columns and rows of the terminal that stdout is; `None` where it is none.
pub fn size() -> Option<(usize, usize)> {
    if !stdout().is_terminal() {
        return None;
    }
    let (columns, rows) = crossterm::terminal::size().ok()?;
    (columns > 0 && rows > 0).then_some((columns.into(), rows.into()))
}

/// It shows colours, and nobody has refused them.
pub fn takes_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && !is_dumb()
}

/// It can do nothing but print.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// `text` in lines of at most `width`, broken between words where they fit.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = vec![String::new()];
    for mut word in text.split_whitespace() {
        loop {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let room = width.saturating_sub(if used == 0 { 0 } else { used + 1 });
            let last = lines.last_mut().expect("there is always a line");
            if word.chars().count() <= room {
                if used > 0 {
                    last.push(' ');
                }
                last.push_str(word);
                break;
            }
            // Only what fits no line at all is broken inside.
            if used == 0 {
                let cut = word.char_indices().nth(width).map_or(word.len(), |(at, _)| at);
                last.push_str(&word[..cut]);
                word = &word[cut..];
            }
            lines.push(String::new());
        }
    }
    lines
}

/// As much of a line as fits.
pub fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_break_between_words_and_nothing_is_lost() {
        assert_eq!(wrap("no broker: connection refused", 12), ["no broker:", "connection", "refused"]);
        assert_eq!(wrap("mqtt://broker.example:1883 away", 10), ["mqtt://bro", "ker.exampl", "e:1883", "away"]);
        assert_eq!(wrap("äöü äöü", 3), ["äöü", "äöü"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }
}
