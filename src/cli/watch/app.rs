//! What the person at `auscult watch` sees and does: selection, sorting, filter, prompts. Keys in, commands out.

use chrono::{DateTime, Utc};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::fleet::{Key, Sort, Standing, WatchedFleet};
use crate::mqtt::payload::{Reply, ReplyStatus};

/// What a key leads to, apart from the picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    None,
    Quit,
    /// To an agent's control topic.
    Send {
        agent: String,
        command: Value,
    },
}

/// What the keyboard writes into.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    Filter,
    Threshold(Key),
    Comment(Key),
}

impl Prompt {
    pub fn label(&self) -> String {
        match self {
            Prompt::Filter => "filter".into(),
            Prompt::Threshold((agent, machine)) => format!("threshold of {agent}/{machine}"),
            Prompt::Comment((agent, machine)) => format!("acknowledge {agent}/{machine}, comment"),
        }
    }
}

/// A command and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: String,
    pub agent: String,
    pub what: String,
    /// `None`: no reply yet.
    pub outcome: Option<Result<(), String>>,
}

/// Everything that is shown.
#[derive(Debug)]
pub struct App {
    pub fleet: WatchedFleet,
    /// The broker, or what is wrong with the connection.
    pub connection: Result<String, String>,
    pub sort: Sort,
    pub filter: String,
    /// Who asks, in commands.
    pub by: String,
    pub prompt: Option<(Prompt, String)>,
    pub detail: bool,
    pub selected: Option<Key>,
    /// First row in the window of the table.
    pub top: usize,
    pub sent: Option<Sent>,
    pub now: DateTime<Utc>,
}

impl App {
    pub fn new(by: String, now: DateTime<Utc>) -> App {
        App {
            fleet: WatchedFleet::default(),
            connection: Err("connecting".into()),
            sort: Sort::Urgency,
            filter: String::new(),
            by,
            prompt: None,
            detail: false,
            selected: None,
            top: 0,
            sent: None,
            now,
        }
    }

    /// The rows of the table, and which of them is selected: the same machine, wherever it has moved to.
    pub fn rows(&self) -> (Vec<(Key, Standing)>, usize) {
        let rows = self.fleet.rows(self.sort, &self.filter);
        let selected = rows.iter().position(|(key, _)| Some(key) == self.selected.as_ref()).unwrap_or(0);
        (rows, selected)
    }

    /// The machine that keys act on.
    pub fn current(&self) -> Option<Key> {
        let (rows, selected) = self.rows();
        rows.get(selected).map(|(key, _)| key.clone())
    }

    /// A reply to something: shown if we asked.
    pub fn reply(&mut self, reply: &Reply) {
        if let Some(sent) = &mut self.sent
            && reply.id.as_deref() == Some(&sent.id)
            && reply.agent == sent.agent
        {
            sent.outcome = Some(match (reply.status, &reply.error) {
                (ReplyStatus::Ok, _) => Ok(()),
                (ReplyStatus::Error, Some(error)) => Err(error.message.clone()),
                (ReplyStatus::Error, None) => Err("refused".into()),
            });
        }
    }

    /// The last command could not be sent.
    pub fn unsent(&mut self) {
        if let Some(sent) = &mut self.sent {
            sent.outcome = Some(Err("not sent: there is no connection".into()));
        }
    }

    pub fn key(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        if let Some((prompt, text)) = self.prompt.take() {
            return self.write(prompt, text, key.code);
        }
        // An outcome was read by now: the keys are shown again.
        if self.sent.as_ref().is_some_and(|sent| sent.outcome.is_some()) {
            self.sent = None;
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.detail => self.detail = false,
            KeyCode::Esc if self.filter.is_empty() => return Action::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(20),
            KeyCode::PageUp => self.step(-20),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Enter => self.detail = !self.detail && self.current().is_some(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.prompt = Some((Prompt::Filter, self.filter.clone())),
            KeyCode::Char('a') => {
                self.prompt = self.current().map(|key| (Prompt::Comment(key), String::new()));
            }
            KeyCode::Char('t') => {
                self.prompt = self.current().map(|key| {
                    let threshold = self.fleet.machines.get(&key).and_then(|machine| machine.threshold());
                    let text = threshold.map(|threshold| format!("{threshold}")).unwrap_or_default();
                    (Prompt::Threshold(key), text)
                });
            }
            _ => {}
        }
        Action::None
    }

    /// A key while a prompt is open.
    fn write(&mut self, prompt: Prompt, mut text: String, key: KeyCode) -> Action {
        match key {
            KeyCode::Esc => {
                if prompt == Prompt::Filter {
                    self.filter.clear();
                }
                return Action::None;
            }
            KeyCode::Enter => return self.finish(prompt, &text),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(c) if text.chars().count() < 200 => text.push(c),
            _ => {}
        }
        if prompt == Prompt::Filter {
            self.filter.clone_from(&text);
            self.top = 0;
        }
        self.prompt = Some((prompt, text));
        Action::None
    }

    fn finish(&mut self, prompt: Prompt, text: &str) -> Action {
        match prompt {
            Prompt::Filter => Action::None,
            // The agent knows what it takes; only what is no number at all is not worth the way.
            Prompt::Threshold(key) => match text.trim().parse::<f64>() {
                Ok(threshold) if threshold.is_finite() => self.send(
                    key,
                    &format!("threshold {threshold}"),
                    "threshold.set",
                    &json!({ "threshold": threshold }),
                ),
                _ => {
                    let outcome = Some(Err(format!("expected a number, found {text:?}")));
                    let what = "threshold:".into();
                    self.sent = Some(Sent { id: String::new(), agent: key.0, what, outcome });
                    Action::None
                }
            },
            Prompt::Comment(key) => {
                let comment = text.trim();
                let rest = if comment.is_empty() { json!({}) } else { json!({ "comment": comment }) };
                self.send(key, "acknowledge", "alarm.acknowledge", &rest)
            }
        }
    }

    fn send(&mut self, (agent, machine): Key, what: &str, name: &str, rest: &Value) -> Action {
        let id = format!("watch-{:016x}", rand::random::<u64>());
        let expires = (self.now + chrono::TimeDelta::minutes(1)).to_rfc3339();
        let mut command = json!({ "id": id, "command": name, "machine": machine, "by": self.by, "expires": expires });
        if let (Some(command), Some(rest)) = (command.as_object_mut(), rest.as_object()) {
            command.extend(rest.clone());
        }
        let what = format!("{agent}/{machine}: {what}");
        self.sent = Some(Sent { id, agent: agent.clone(), what, outcome: None });
        Action::Send { agent, command }
    }

    fn step(&mut self, by: isize) {
        let (rows, selected) = self.rows();
        let last = rows.len().saturating_sub(1);
        let to = selected.saturating_add_signed(by.clamp(-(1 << 30), 1 << 30)).min(last);
        self.selected = rows.get(to).map(|(key, _)| key.clone());
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::fleet::tests::{agent, alarm, receive, verdict};
    use super::*;

    pub fn app() -> App {
        let now = "2026-03-01T12:10:00Z".parse().expect("a time");
        let mut app = App::new("ana".into(), now);
        app.connection = Ok("mqtt://broker:1883".into());
        agent(&mut app.fleet, "pi-1", &["fan-1", "fan-2", "pump-1"], "online");
        agent(&mut app.fleet, "pi-2", &["blower-1"], "offline");
        for (machine, distance) in [("fan-1", 0.1), ("fan-2", 0.45), ("pump-1", 0.2)] {
            for seq in 0..60 {
                let wave = 0.02 * f64::from(u32::try_from(seq % 5).expect("small"));
                receive(&mut app.fleet, &format!("pi-1/{machine}/verdict"), &verdict(seq, Some(distance + wave), None));
            }
        }
        receive(&mut app.fleet, "pi-1/fan-2/alarm", &alarm("active", Some("fault")));
        app
    }

    pub fn press(app: &mut App, keys: &str) -> Action {
        let mut action = Action::None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            action = app.key(code.into());
        }
        action
    }

    #[test]
    fn a_threshold_is_asked_for_and_sent_to_the_machine_that_is_selected() {
        let mut app = app();
        press(&mut app, "j");
        let machine = app.current().expect("a machine").1;
        let Action::Send { agent, command } = press(&mut app, "t\x08\x08\x080.42\n") else { panic!("nothing is sent") };
        assert_eq!(
            (agent.as_str(), command["machine"].as_str()),
            (app.current().expect("a machine").0.as_str(), Some(&*machine))
        );
        assert_eq!(
            (&command["command"], &command["threshold"], &command["by"]),
            (&"threshold.set".into(), &0.42.into(), &"ana".into())
        );
        assert!(app.sent.as_ref().is_some_and(|sent| sent.outcome.is_none()));
        let reply = json!({
            "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": agent, "id": command["id"], "command": "threshold.set",
            "status": "error", "error": { "code": "bad_argument", "message": "threshold: too high" }, "data": null, "late": false,
        });
        app.reply(&serde_json::from_value(reply).expect("a reply"));
        assert_eq!(app.sent.expect("it was sent").outcome, Some(Err("threshold: too high".into())));
    }

    #[test]
    fn what_is_no_number_is_not_sent() {
        let mut app = app();
        assert_eq!(press(&mut app, "tx\n"), Action::None);
        assert!(app.sent.is_some_and(|sent| sent.outcome.is_some_and(|outcome| outcome.is_err())));
    }

    #[test]
    fn an_alarm_is_acknowledged_with_a_comment() {
        let mut app = app();
        let Action::Send { agent, command } = press(&mut app, "abelt\n") else { panic!("nothing is sent") };
        assert_eq!(agent, "pi-1");
        assert_eq!((&command["machine"], &command["comment"]), (&"fan-2".into(), &"belt".into()));
    }

    #[test]
    fn the_selection_follows_its_machine_and_escape_goes_back_one_step() {
        let mut app = app();
        press(&mut app, "j");
        let machine = app.current();
        press(&mut app, "sss");
        assert_eq!(app.current(), machine);
        press(&mut app, "/pump\n");
        assert_eq!(app.current().map(|key| key.1), Some("pump-1".into()));
        press(&mut app, "\n");
        assert!(app.detail);
        assert_eq!(press(&mut app, "\x1b"), Action::None);
        assert_eq!(press(&mut app, "\x1b"), Action::None);
        assert!(app.filter.is_empty());
        assert_eq!(press(&mut app, "\x1b"), Action::Quit);
        press(&mut app, "G");
        assert_eq!(app.rows().1, 3);
    }
}
