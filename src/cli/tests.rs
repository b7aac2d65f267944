//! What `--help` promises.

use clap::Command;

use super::command;

/// Every command that does something, with the words that call it.
fn commands() -> Vec<(String, Command)> {
    let (mut found, mut ahead) = (Vec::new(), vec![("auscult".to_owned(), command())]);
    while let Some((path, command)) = ahead.pop() {
        let subcommands = command.get_subcommands().filter(|one| !one.is_hide_set());
        ahead.extend(subcommands.map(|one| (format!("{path} {}", one.get_name()), one.clone())));
        found.push((path, command));
    }
    found
}

/// The commands below "Examples", each as it is pasted: with what follows a `\` at the end of a line.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let whole = help.replace(" \\\n", "");
    whole.lines().map(|line| line.trim().to_owned()).filter(|line| line.starts_with("auscult ")).collect()
}

/// The words of the first command of a line, as a shell takes them apart.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut in_quotes) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '\'' => in_quotes = !in_quotes,
            ' ' if !in_quotes => words.push(String::new()),
            letter => words.last_mut().expect("there is always a word").push(letter),
        }
    }
    let ends = |word: &String| ["|", ">", "&&", "#"].contains(&word.as_str());
    words.into_iter().filter(|word| !word.is_empty()).take_while(|word| !ends(word)).collect()
}

#[test]
fn every_help_has_an_example() {
    let lacking: Vec<_> = commands()
        .into_iter()
        .filter(|(_, command)| !command.has_subcommands() && examples(command).is_empty())
        .map(|(path, _)| path)
        .collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[test]
fn every_example_can_be_pasted_and_is_accepted() {
    let mut count = 0;
    for (path, command) in commands() {
        let shown = command.clone().render_long_help().to_string();
        for line in examples(&command) {
            if let Err(error) = super::command().try_get_matches_from(words(&line)) {
                panic!("{path} --help shows {line}\n{error}");
            }
            count += 1;
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shells = |line: &&str| line.starts_with(' ');
        for line in help.lines().filter(shells) {
            assert!(line.chars().count() <= 80, "{path}: {line}");
            assert!(shown.contains(line), "{path}: the help breaks {line}");
        }
    }
    assert!(count > 50, "{count} examples");
}
