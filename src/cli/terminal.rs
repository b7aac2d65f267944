//! The terminal that a command prints to: how wide it is, whether it shows colours, and text that fits it.

use std::io::{IsTerminal, stdout};

use comfy_table::{ContentArrangement, Table};

/// Columns that a line may have: those of the terminal that stdout is, else what `COLUMNS` says; `None` where neither says.
pub fn width() -> Option<usize> {
    let told = || std::env::var("COLUMNS").ok()?.trim().parse().ok().filter(|columns| *columns > 0);
    size().map(|(columns, _)| columns).or_else(told)
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

/// Breaks a table's cells between words where it is wider than a line may be.
pub fn fit(table: &mut Table) {
    if let Some(width) = width() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
}

/// `head` and then `text`, in lines of at most `width` that go on below where the text began. What cannot be broken, such as
/// a path or an id, stays whole. Without a width it is one line, as a program that reads it wants it.
pub fn hang(head: &str, text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{head}{text}\n") };
    let indent = head.chars().count();
    let (mut lines, mut used) = (head.to_owned(), indent);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > indent && used + 1 + length > width {
            lines.push_str(&format!("\n{:indent$}", ""));
            used = indent;
        } else if used > indent {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines + "\n"
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

#[cfg(test)]
mod tests {
    use super::{hang, wrap};

    #[test]
    fn lines_break_between_words_and_nothing_is_lost() {
        assert_eq!(wrap("no broker: connection refused", 12), ["no broker:", "connection", "refused"]);
        assert_eq!(wrap("mqtt://broker.example:1883 away", 10), ["mqtt://bro", "ker.exampl", "e:1883", "away"]);
        assert_eq!(wrap("äöü äöü", 3), ["äöü", "äöü"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }

    #[test]
    fn what_hangs_below_its_head_keeps_paths_whole() {
        assert_eq!(hang("ok  ", "two words and more", Some(14)), "ok  two words\n    and more\n");
        assert_eq!(hang("ok  ", "in /var/lib/auscult now", Some(14)), "ok  in\n    /var/lib/auscult\n    now\n");
        assert_eq!(hang("ok  ", "two words and more", None), "ok  two words and more\n");
        assert_eq!(hang("ok", "", Some(3)), "ok\n");
    }
}
