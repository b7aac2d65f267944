//! The examples below each `--help`: those of the control commands, and all of them in lines that can be pasted.

use clap::Command;

/// A line that is longer goes on below.
const WIDTH: usize = 80;

/// The same command with an example for each control command, and with all examples in lines that fit a terminal.
pub fn with_examples(command: Command) -> Command {
    let control = |ctl: Command| {
        ctl.mut_subcommands(|command| {
            let example = format!("Example:\n  auscult ctl --agent pi-7 {}{}", command.get_name(), arguments(&command));
            command.after_help(example)
        })
    };
    folded(command.mut_subcommand("ctl", control))
}

fn folded(command: Command) -> Command {
    let help = command.get_after_help().map(|help| fold(&help.to_string()));
    let command = match help {
        Some(help) => command.after_help(help),
        None => command,
    };
    command.mut_subcommands(folded)
}

/// What a control command cannot be without.
fn arguments(command: &Command) -> String {
    // Some need one of several, and of one nobody would guess what it takes.
    match command.get_name() {
        "alarm.confirm" => return " --alarm 12 --outcome fault --name bearing".into(),
        "bundle.install" => return " --file site-fans-2025.1.tar.gz".into(),
        "evidence.get" => return " --machine blower-1".into(),
        "machine.add" => return " --machine blower-1 --source usb-path:1-1.3 --baseline auto".into(),
        "machine.set" => return " --machine blower-1 --hop-s 2.5".into(),
        _ => {}
    }
    let value = |name: &str| match name {
        "machine" => "blower-1",
        "threshold" => "0.31",
        "false-alarm-rate" => "0.001",
        "minutes" => "60",
        "on" => "true",
        "file" | "out" => "pi-7.tar.gz",
        "alarm" => "12",
        "url" => "mqtt://broker:1883",
        _ => "VALUE",
    };
    let needed = command.get_arguments().filter(|argument| argument.is_required_set());
    needed.filter_map(|argument| argument.get_long()).map(|name| format!(" --{name} {}", value(name))).collect()
}

/// Breaks the commands of a help text that are too long for a line, as a shell lets them be broken.
fn fold(text: &str) -> String {
    let fold_line = |line: &str| match line.trim_start().starts_with("auscult ") {
        true => fold_command(line),
        false => line.to_owned(),
    };
    text.lines().map(fold_line).collect::<Vec<_>>().join("\n")
}

fn fold_command(line: &str) -> String {
    // What is quoted stays whole, and an option keeps its value.
    let mut parts: Vec<String> = Vec::new();
    for word in line.trim_start().split(' ') {
        let is_value =
            |last: &String| last.starts_with("--") && !last.contains(' ') && !word.starts_with(['-', '|', '>']);
        let is_quoted = |last: &String| last.matches('\'').count() % 2 == 1;
        match parts.last_mut() {
            Some(last) if is_quoted(last) || is_value(last) => last.extend([" ", word]),
            _ => parts.push(word.to_owned()),
        }
    }
    let (mut folded, mut used) = (String::from(" "), 1);
    for part in parts {
        // Before the end of the line there is ` \`.
        if used + 1 + part.len() + 2 > WIDTH {
            folded.push_str(" \\\n   ");
            used = 3;
        }
        folded.extend([" ", &part]);
        used += 1 + part.len();
    }
    folded
}
