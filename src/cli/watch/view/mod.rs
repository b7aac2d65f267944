//! Draws what [`App`] holds: the table, one machine in detail, a line for prompts and replies.

mod chart;
mod detail;
mod table;
mod words;

use chrono::TimeDelta;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use self::words::{ago, colour};
use super::app::{App, Prompt};
use super::standing::Standing;
use crate::cli::terminal::wrap;

/// Lines that a prompt, a reply or an error may take at most.
const MOST_LINES: usize = 4;

pub fn draw(frame: &mut Frame, app: &mut App) {
    let width = usize::from(frame.area().width);
    let (head, foot) = (header(app, width), footer(app, width));
    let [head_area, body, foot_area] = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Min(1),
        Constraint::Length(foot.len() as u16),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head), head_area);
    match (app.current(), app.detail) {
        (Some(key), true) => detail::draw(frame, app, &key, body),
        (None, true) => gone(frame, body),
        (_, false) => table::draw(frame, app, body),
    }
    frame.render_widget(Paragraph::new(foot), foot_area);
}

fn gone(frame: &mut Frame, area: Rect) {
    let text = "Its agent no longer has this machine. Esc goes back to the list.";
    let lines: Vec<_> = wrap(text, area.width.into()).into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn header(app: &App, width: usize) -> Vec<Line<'static>> {
    let mut first = vec!["auscult ".bold()];
    if let Ok(url) = &app.connection {
        first.push(url.clone().green());
    }
    first.push(format!("  sorted by {}", app.sort).dim());
    if !app.filter.is_empty() {
        first.push(format!(", only {:?}", app.filter).yellow());
    }
    let mut lines = vec![Line::from(first)];
    if let Err(problem) = &app.connection {
        let since = app.now - app.unconnected_since;
        let text = match since >= TimeDelta::seconds(2) {
            true => format!("no broker for {}: {problem}", ago(app.now, app.unconnected_since)),
            false => format!("no broker: {problem}"),
        };
        lines.extend(wrapped(&text, width, Style::new().fg(Color::Red).bold()));
    }
    lines.push(counts(app));
    lines
}

/// Agents, machines, and those that somebody has to know of.
fn counts(app: &App) -> Line<'static> {
    let agents = &app.fleet.agents;
    let online = agents.values().filter(|agent| agent.is_online()).count();
    let connected = app.connection.is_ok();
    let mut spans: Vec<Span<'static>> = Vec::new();
    match connected {
        true => spans.push(format!("agents {online} online").into()),
        false => spans.push(format!("agents {}", agents.len()).into()),
    }
    if connected && online < agents.len() {
        spans.push(format!(", {} away", agents.len() - online).red());
    }
    spans.push(format!("  machines {}", app.fleet.machines.len()).into());
    let rows = app.fleet.rows(app.sort, "", app.now, connected);
    for (one, many, of) in [
        ("alarm", "alarms", &[Standing::Alarm, Standing::Wear][..]),
        ("deaf", "deaf", &[Standing::Deaf]),
        ("acknowledged", "acknowledged", &[Standing::Acknowledged]),
    ] {
        let count = rows.iter().filter(|(_, look)| of.contains(&look.standing)).count();
        if count > 0 {
            spans.push("  ".into());
            spans.push(Span::styled(format!("{count} {}", if count == 1 { one } else { many }), colour(of[0])));
        }
    }
    Line::from(spans)
}

fn footer(app: &App, width: usize) -> Vec<Line<'static>> {
    if let Some((prompt, text)) = &app.prompt {
        let mut lines = hint(app, prompt, width);
        let label = format!("{}: ", prompt.label());
        // What is typed last stays in sight.
        let room = width.saturating_sub(label.chars().count() + 1);
        let shown: String = text.chars().skip(text.chars().count().saturating_sub(room)).collect();
        let mut line = vec![label.clone().bold(), shown.clone().into(), "▏".into()];
        if label.chars().count() + shown.chars().count() + 14 <= width {
            line.push("  Enter, Esc".dim());
        }
        lines.push(Line::from(line));
        return lines;
    }
    let Some(sent) = &app.sent else { return vec![keys(app.detail, width)] };
    let (outcome, style) = match &sent.outcome {
        None if sent.is_overdue(app.now) => {
            let problem = ": no reply yet; is the agent there, and does the broker let this login command it?";
            (problem.to_owned(), Style::new().fg(Color::Yellow))
        }
        None => (" …".to_owned(), Style::new().fg(Color::Yellow)),
        Some(Ok(())) => (" done".to_owned(), Style::new().fg(Color::Green)),
        Some(Err(problem)) => (format!(": {problem}"), Style::new().fg(Color::Red)),
    };
    wrapped(&format!("{}{outcome}", sent.what), width, style)
}

/// What a person should know before Enter.
fn hint(app: &App, prompt: &Prompt, width: usize) -> Vec<Line<'static>> {
    match app.warning(prompt) {
        Some(warning) => wrapped(warning, width, Style::new().fg(Color::Yellow)),
        None => Vec::new(),
    }
}

/// The keys, as many as have room, the needed ones first.
fn keys(detail: bool, width: usize) -> Line<'static> {
    let esc = if detail { "Esc list" } else { "Enter detail" };
    let all = ["↑↓ choose", esc, "a acknowledge", "c what it was", "t threshold", "q quit", "s sort", "/ filter"];
    let mut text = String::new();
    for key in all {
        if text.chars().count() + key.chars().count() + 2 > width + 2 {
            break;
        }
        text.push_str(key);
        text.push_str("  ");
    }
    Line::from(text.trim_end().to_owned().dim())
}

fn wrapped(text: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    wrap(text, width).into_iter().take(MOST_LINES).map(|line| Line::styled(line, style)).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::app::tests::{app, press};
    use super::super::fleet::tests::{agent, alarm, receive, settings, verdict};
    use super::*;

    fn shown(app: &mut App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, app)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn the_table_shows_state_distance_and_age_with_the_urgent_first() {
        let mut app = app();
        for (width, height) in [(80, 24), (160, 50)] {
            let text = shown(&mut app, width, height);
            let lines: Vec<_> = text.lines().collect();
            assert!(lines[1].contains("agents 1 online, 1 away  machines 4  1 alarm"), "{text}");
            assert!(lines[3].contains("● alarm") && lines[3].contains("pi-1/fan-2"), "{text}");
            assert!(lines[3].contains("0.530  0.300") && lines[3].contains("10 min     0 s"), "{text}");
            assert!(lines[3].starts_with("\"▶ "), "{text}");
            assert!(width == 80 || lines[3].contains("████████") && lines[3].contains('▇'), "{text}");
            assert!(lines[4].contains("● away") && lines[4].contains("pi-2/blower-1"), "{text}");
            assert!(lines[height as usize - 1].contains("a acknowledge  c what it was"), "{text}");
        }
    }

    #[test]
    fn the_detail_shows_history_and_prompts_show_what_is_typed() {
        let mut app = app();
        press(&mut app, "\n");
        let text = shown(&mut app, 100, 30);
        for words in [
            "fault alarm raised 10 min ago, 5 windows",
            "distance 0.530",
            "level -31.5 dBFS",
            "bundle demo@1",
            "against threshold",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        press(&mut app, "t");
        assert!(shown(&mut app, 100, 30).contains("threshold of pi-1/fan-2: 0.3▏"));
    }

    #[test]
    fn a_narrow_terminal_keeps_state_name_and_both_ages() {
        let mut app = app();
        receive(&mut app.fleet, "pi-1/fan-2/verdict", &verdict(61, None, Some("no_signal")));
        for width in [40, 60, 79, 80] {
            let text = shown(&mut app, width, 24);
            let row = text.lines().find(|line| line.contains("alarm, deaf")).unwrap_or_else(|| panic!("{text}"));
            assert!(row.contains("pi-1/") && row.contains("10 min     0 s"), "{width}: {text}");
        }
        assert!(shown(&mut app, 60, 24).contains("0.300"));
    }

    #[test]
    fn what_is_wrong_with_the_broker_is_shown_whole_and_nothing_stays_normal() {
        let mut app = app();
        let problem =
            "mqtts://broker.example:8883: the broker's certificate is not signed by an authority of the system";
        app.disconnected(problem.into());
        app.now += TimeDelta::seconds(12);
        for width in [40, 60, 100] {
            let text = shown(&mut app, width, 24);
            let said: String = text.lines().map(|line| line.trim_matches('"').trim()).collect::<Vec<_>>().join(" ");
            assert!(said.contains(&format!("no broker for 12 s: {problem}")), "{width}: {text}");
            assert!(said.contains("alarm, no broker") && !said.contains("normal"), "{text}");
        }
    }

    #[test]
    fn who_acknowledged_and_when_is_told_apart_from_when_it_was_raised() {
        let mut app = app();
        let mut acknowledged = alarm("acknowledged", Some("fault"));
        acknowledged["by"] = "ana".into();
        acknowledged["comment"] = "belt".into();
        acknowledged["raised"] = "2026-03-01T12:00:00.000Z".into();
        acknowledged["at"] = "2026-03-01T12:09:00.000Z".into();
        receive(&mut app.fleet, "pi-1/fan-2/alarm", &acknowledged);
        press(&mut app, "\n");
        let text = shown(&mut app, 100, 30);
        assert!(text.contains("raised 10 min ago, 5 windows; acknowledged by ana 60 s ago"), "{text}");
        let mut shelved = acknowledged.clone();
        shelved["state"] = "shelved".into();
        shelved["since"] = shelved["at"].clone();
        receive(&mut app.fleet, "pi-1/fan-2/alarm", &shelved);
        let text = shown(&mut app, 100, 30);
        assert!(text.contains("raised 10 min ago, 5 windows; shelved by ana 60 s ago"), "{text}");
    }

    #[test]
    fn learning_shows_how_far_it_is_and_the_level_while_there_is_no_distance() {
        let mut app = app();
        agent(&mut app.fleet, "pi-3", &["new"], "online");
        for seq in 0..3 {
            let mut learning = verdict(seq, None, Some("learning"));
            learning["learning_share"] = 0.429.into();
            receive(&mut app.fleet, "pi-3/new/verdict", &learning);
        }
        press(&mut app, "/new\n");
        assert!(shown(&mut app, 60, 24).contains("learning 42 %"));
        press(&mut app, "\n");
        let text = shown(&mut app, 80, 24);
        assert!(text.contains("42 % heard") && text.contains("level in dBFS"), "{text}");
    }

    #[test]
    fn a_threshold_that_would_switch_lanes_off_says_so_before_it_is_sent() {
        let mut app = app();
        receive(&mut app.fleet, "pi-1/fan-2/settings", &settings("baseline", "combined"));
        press(&mut app, "t");
        let text = shown(&mut app, 60, 24);
        assert!(text.contains("All lanes decide together now."), "{text}");
        press(&mut app, "\x1b\n");
        assert!(shown(&mut app, 100, 24).contains("all lanes decide together, at a false alarm rate of 0.01"));
        receive(&mut app.fleet, "pi-1/fan-2/settings", &settings("override", "distance"));
        let text = shown(&mut app, 140, 24);
        assert!(text.contains("threshold 0.300 set by ana; it decides alone: all other lanes are off"), "{text}");
    }

    #[test]
    fn the_sentence_stands_in_the_list_and_the_detail_with_the_windows_by_now() {
        let mut app = app();
        let mut news = verdict(60, Some(0.5), None);
        news["alarm"] = "active".into();
        news["alarm_windows"] = 12.into();
        news["text"] = "burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB; 12 windows".into();
        receive(&mut app.fleet, "pi-1/fan-2/verdict", &news);
        assert!(shown(&mut app, 160, 24).contains("burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB"));
        press(&mut app, "\n");
        let text = shown(&mut app, 100, 30);
        assert!(text.contains("raised 10 min ago, 12 windows") && text.contains("2142-2302 Hz"), "{text}");
    }

    #[test]
    fn the_selection_stays_in_sight_among_five_hundred_machines() {
        let mut app = app();
        for number in 0..50 {
            let machines: Vec<_> = (0..10).map(|machine| format!("m-{machine}")).collect();
            let machines: Vec<_> = machines.iter().map(String::as_str).collect();
            let id = format!("big-{number:02}");
            agent(&mut app.fleet, &id, &machines, "online");
            for machine in machines {
                receive(&mut app.fleet, &format!("{id}/{machine}/verdict"), &verdict(0, Some(0.1), None));
            }
        }
        press(&mut app, "sG");
        assert!(shown(&mut app, 80, 24).contains("pi-2/blower-1"));
        press(&mut app, "g");
        assert!(shown(&mut app, 80, 24).contains("big-00/m-0"));
        // Too small for anything is no reason to fail.
        for (width, height) in [(1, 1), (10, 3), (40, 5)] {
            shown(&mut app, width, height);
        }
    }
}
