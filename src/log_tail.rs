//! The newest lines of this process's log, kept in memory so that they can be asked for where nobody has a terminal.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Lines that are kept.
pub const LINES: usize = 500;
/// Characters of a line that are kept.
const CHARS: usize = 1000;

/// Target of what is for the log alone: such lines hold a secret and are not kept here.
pub const SECRET: &str = "auscult::secret";

static NEWEST: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Keeps what was written to the log, without colours.
pub fn keep(written: &[u8]) {
    let text = String::from_utf8_lossy(written);
    let mut newest = NEWEST.lock();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if newest.len() == LINES {
            newest.pop_front();
        }
        newest.push_back(plain(line));
    }
}

/// The newest lines, oldest first.
pub fn newest(most: usize) -> Vec<String> {
    let newest = NEWEST.lock();
    newest.iter().skip(newest.len().saturating_sub(most)).cloned().collect()
}

/// The line without the terminal's escape sequences.
fn plain(line: &str) -> String {
    let mut letters = line.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // Up to the letter that ends the sequence.
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else if !letter.is_control() || letter == '\t' {
            plain.push(letter);
        }
        if plain.len() >= CHARS {
            break;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_without_colours() {
        keep(b"\x1b[2m2026-01-01\x1b[0m \x1b[32m INFO\x1b[0m hearing\n");
        assert!(newest(LINES).contains(&"2026-01-01  INFO hearing".to_owned()), "{:?}", newest(LINES));
        for number in 0..2 * LINES {
            keep(format!("line {number}\n").as_bytes());
        }
        let kept = newest(LINES);
        assert_eq!(kept.len(), LINES);
        assert!(kept.contains(&format!("line {}", 2 * LINES - 1)) && !kept.contains(&"line 0".to_owned()));
        keep("ü".repeat(5000).as_bytes());
        assert!(newest(LINES).iter().all(|line| line.len() <= CHARS + 4));
    }
}
