//! One machine: what is known of it, its windows as a chart, its events.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::chart;
use super::words::{ago, clock, colour, number};
use crate::cli::terminal::wrap;
use crate::cli::watch::app::App;
use crate::cli::watch::fleet::{Key, WatchedMachine};
use crate::mqtt::payload::{AlarmMsg, Provisional, SettingsMsg};
use crate::numbers::counted;
use crate::numbers::short;
use crate::scoring::alarm::{AlarmState, Kind};
use crate::scoring::threshold::ThresholdSource;
use crate::scoring::{Judge, Verdict};

/// Events that are shown at most.
const EVENTS: usize = 6;
const CHART_LEAST: u16 = 6;

pub fn draw(frame: &mut Frame, app: &App, key: &Key, area: Rect) {
    let Some(machine) = app.fleet.machines.get(key) else { return };
    let facts = facts(app, key, machine, area.width.into());
    let events = machine.events.len().min(EVENTS);
    let [facts_area, chart_area, events_area] = Layout::vertical([
        Constraint::Length(facts.len() as u16),
        Constraint::Min(CHART_LEAST),
        Constraint::Length(if events == 0 { 0 } else { events as u16 + 1 }),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(facts), facts_area);
    chart::draw(frame, machine, chart_area);
    if events > 0 {
        let mut lines = vec![Line::from("events").dim()];
        lines.extend(machine.events.iter().take(events).map(|event| {
            let word = serde_json::to_value(event.event).ok();
            let word = word.as_ref().and_then(|word| word.as_str()).unwrap_or("?").replace('_', " ");
            let detail = event.detail.clone().unwrap_or_default();
            Line::from(vec![format!("{} ", clock(event.ts.utc())).dim(), format!("{word:17} ").into(), detail.into()])
        }));
        frame.render_widget(Paragraph::new(lines), events_area);
    }
}

fn facts(app: &App, key: &Key, machine: &WatchedMachine, width: usize) -> Vec<Line<'static>> {
    let look = app.fleet.look(key, app.now, app.connection.is_ok());
    let mut lines = vec![Line::from(vec![
        format!("{}/{}  ", key.0, key.1).bold(),
        Span::styled(look.words(), colour(look.standing)),
    ])];
    let mut add = |text: String, style: Style| {
        lines.extend(wrap(&text, width).into_iter().map(|line| Line::styled(line, style)));
    };
    if let Some(alarm) = &machine.alarm {
        add(describe_alarm(app, alarm, machine.alarm_windows().unwrap_or(alarm.count)), Style::new());
    }
    if let Some(sentence) = machine.sentence() {
        add(sentence.to_owned(), Style::new());
    }
    if let Some(share) = machine.learning_share() {
        add(format!("learning what is normal: {:.0} % heard", (100.0 * share).floor()), Style::new());
    }
    if let Some(verdict) = &machine.verdict {
        let reason = verdict.reason.map(|reason| format!(" ({})", reason.in_words())).unwrap_or_default();
        let word = match verdict.verdict {
            Verdict::Normal => "normal",
            Verdict::Anomalous => "anomalous",
            Verdict::Unknown => "unknown",
        };
        let age = machine.verdict_at.map(|at| format!(", {} ago", ago(app.now, at))).unwrap_or_default();
        add(
            format!(
                "last window {word}{reason} at {}{age}  distance {}  level {:.1} dBFS  seq {}",
                clock(verdict.ts.utc()),
                number(verdict.distance),
                verdict.level_dbfs,
                verdict.seq,
            ),
            Style::new(),
        );
    }
    if let Some(settings) = &machine.settings {
        add(describe_settings(settings), Style::new());
    }
    if let Some(info) = app.fleet.agents.get(&key.0).and_then(|agent| agent.info.as_ref()) {
        let bundle = info.bundle.as_deref().unwrap_or("none");
        let tags = if info.tags.is_empty() { String::new() } else { format!("  tags {}", info.tags.join(", ")) };
        add(format!("agent {} {}  bundle {bundle}{tags}", info.agent, info.version), Style::new());
    }
    lines
}

/// `fault alarm raised 12 min ago, 5 windows; acknowledged by ana 87 s ago: "belt ordered"`.
fn describe_alarm(app: &App, alarm: &AlarmMsg, count: u64) -> String {
    let kind = match alarm.kind {
        Some(Kind::Fault) => "fault",
        Some(Kind::Wear) => "wear",
        Some(Kind::Deaf) => "deaf",
        None => "",
    };
    // Version 0.1 says when what is shown began, which is the alarm itself unless it is shelved.
    let began = alarm.raised.or((alarm.state != AlarmState::Shelved).then_some(alarm.since));
    let raised = began.map(|began| format!(" raised {} ago", ago(app.now, began.utc()))).unwrap_or_default();
    let what = format!("{kind} alarm{raised}, {}", counted(count, "window"));
    let by = alarm.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let shelved_at = (alarm.state == AlarmState::Shelved).then_some(alarm.since);
    let at = alarm.at.or(shelved_at).map(|at| format!(" {} ago", ago(app.now, at.utc()))).unwrap_or_default();
    let until = alarm.until.map(|until| format!(", until {}", clock(until.utc()))).unwrap_or_default();
    let comment = alarm.comment.as_ref().map(|comment| format!(": {comment:?}")).unwrap_or_default();
    match alarm.state {
        AlarmState::Normal => format!("no alarm for {}", ago(app.now, alarm.since.utc())),
        AlarmState::Active => what,
        AlarmState::Acknowledged => format!("{what}; acknowledged{by}{at}{comment}"),
        AlarmState::Shelved if alarm.kind.is_some() => format!("{what}; shelved{by}{at}{until}{comment}"),
        AlarmState::Shelved => format!("no alarm; shelved{by}{at}{until}{comment}"),
    }
}

fn describe_settings(settings: &SettingsMsg) -> String {
    let by = settings.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = settings.reason.as_ref().map(|reason| format!(": {reason:?}")).unwrap_or_default();
    let source = match settings.source {
        ThresholdSource::Bundle => "from the bundle".to_owned(),
        ThresholdSource::Config => "from the configuration".to_owned(),
        ThresholdSource::Baseline => "learned here".to_owned(),
        ThresholdSource::Override => format!("set{by}{reason}"),
    };
    let judge = match (settings.judge, settings.source, &settings.baseline) {
        (Judge::Combined, ..) => {
            let rate = settings.false_alarm_rate.map(|rate| format!(", at a false alarm rate of {}", short(rate)));
            format!("; all lanes decide together{}", rate.unwrap_or_default())
        }
        (Judge::Distance, ThresholdSource::Override, Some(_)) => {
            "; it decides alone: all other lanes are off until threshold.reset".to_owned()
        }
        (Judge::Distance, ..) => "; the distance decides".to_owned(),
    };
    let provisional = settings.provisional.map(|Provisional { heard_s, wanted_s, .. }| {
        format!("; provisional, {:.0} of {:.0} minutes heard", heard_s / 60.0, wanted_s / 60.0)
    });
    format!("threshold {} {source}{judge}{}", number(settings.threshold), provisional.unwrap_or_default())
}
