//! Questions and answers on a terminal of 80 columns; without colours, and from a pipe as well.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::bail;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, terminal};

/// There are no more answers.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    #[error("given up; nothing was changed")]
    ByPerson,
    #[error("the input has ended before everything was answered; nothing was changed")]
    InputEnded,
}

/// The terminal's own way of reading lines, until this is dropped.
struct Raw;

impl Raw {
    fn begin() -> io::Result<Raw> {
        terminal::enable_raw_mode()?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = terminal::disable_raw_mode();
    }
}

fn is_live() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks for a line.
///
/// # Errors
/// [`GivenUp`] at the end of the input.
pub fn ask(question: &str) -> anyhow::Result<String> {
    print!("{question} ");
    io::stdout().flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        println!();
        bail!(GivenUp::InputEnded);
    }
    // A terminal has shown the answer's end. The answer itself may be a secret.
    if !io::stdin().is_terminal() {
        println!();
    }
    Ok(line.trim().to_owned())
}

/// Asks for a line that is not shown.
///
/// # Errors
/// [`GivenUp`] at Ctrl-C or the end of the input.
pub fn ask_secret(question: &str) -> anyhow::Result<String> {
    if !is_live() {
        return ask(question);
    }
    print!("{question} (not shown) ");
    io::stdout().flush()?;
    let raw = Raw::begin()?;
    let mut secret = String::new();
    loop {
        match key(Duration::from_secs(60))? {
            Some(KeyCode::Enter) => break,
            Some(KeyCode::Backspace) => drop(secret.pop()),
            Some(KeyCode::Char(letter)) => secret.push(letter),
            _ => {}
        }
    }
    drop(raw);
    println!();
    Ok(secret)
}

/// Asks for yes or no; nothing is `usual`.
///
/// # Errors
/// As of [`ask`].
pub fn confirm(question: &str, usual: bool) -> anyhow::Result<bool> {
    let answer = ask(&format!("{question} [{}]", if usual { "Y/n" } else { "y/N" }))?;
    Ok(match answer.chars().next() {
        None => usual,
        Some(letter) => letter.eq_ignore_ascii_case(&'y'),
    })
}

/// Asks for one of `1..=most`; nothing is `usual`.
///
/// # Errors
/// As of [`ask`].
pub fn choose(question: &str, most: usize, usual: Option<usize>) -> anyhow::Result<usize> {
    loop {
        let answer = ask(question)?;
        match (answer.parse(), usual) {
            (Ok(number), _) if (1..=most).contains(&number) => return Ok(number),
            (_, Some(usual)) if answer.is_empty() => return Ok(usual),
            _ => println!("A number from 1 to {most}, please."),
        }
    }
}

/// Shows `lines` anew until a number and Enter choose one of them; how many can be chosen is what `lines` returns beside
/// the text. `None` where there is nothing to choose from and nobody who could wait for it.
///
/// # Errors
/// [`GivenUp`]; what `lines` says.
pub fn choose_live(
    question: &str,
    mut lines: impl FnMut() -> anyhow::Result<(Vec<String>, usize)>,
) -> anyhow::Result<Option<usize>> {
    if !is_live() {
        // Two looks, so that there are levels to be seen.
        lines()?;
        std::thread::sleep(Duration::from_millis(1200));
        let (shown, most) = lines()?;
        shown.iter().for_each(|line| println!("{line}"));
        return if most == 0 { Ok(None) } else { choose(question, most, None).map(Some) };
    }
    let mut drawn = 0;
    let mut typed = String::new();
    loop {
        let (shown, most) = lines()?;
        draw(&shown, question, &typed, &mut drawn)?;
        let raw = Raw::begin()?;
        let until = Instant::now() + Duration::from_millis(500);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match key(left)? {
                Some(KeyCode::Char(digit)) if digit.is_ascii_digit() && typed.len() < 3 => typed.push(digit),
                Some(KeyCode::Backspace) => drop(typed.pop()),
                Some(KeyCode::Enter) => {
                    if let Some(number) = typed.parse().ok().filter(|number| (1..=most).contains(number)) {
                        drop(raw);
                        println!();
                        return Ok(Some(number));
                    }
                    typed.clear();
                }
                Some(_) => {}
                None => break,
            }
            execute!(io::stdout(), cursor::MoveToColumn(0), terminal::Clear(terminal::ClearType::CurrentLine))?;
            print!("{question} {typed}");
            io::stdout().flush()?;
        }
    }
}

/// Draws over what was drawn before; the cursor stays behind the question.
fn draw(lines: &[String], question: &str, typed: &str, drawn: &mut u16) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if *drawn > 0 {
        execute!(out, cursor::MoveToPreviousLine(*drawn))?;
    }
    execute!(out, cursor::MoveToColumn(0), terminal::Clear(terminal::ClearType::FromCursorDown))?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    write!(out, "{question} {typed}")?;
    *drawn = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    out.flush()
}

/// The next key within `limit`.
fn key(limit: Duration) -> anyhow::Result<Option<KeyCode>> {
    if !event::poll(limit)? {
        return Ok(None);
    }
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event::read()? else {
        return Ok(Some(KeyCode::Null));
    };
    if modifiers.contains(KeyModifiers::CONTROL) && matches!(code, KeyCode::Char('c' | 'd')) {
        let _ = terminal::disable_raw_mode();
        println!();
        bail!(GivenUp::ByPerson);
    }
    Ok(Some(code))
}
