//! What the person at `auscult watch` sees and does: selection, sorting, filter, prompts. Keys in, commands out.

#[cfg(test)]
pub mod tests;

use chrono::{DateTime, Utc};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::answer;
use super::fleet::{Key, Sort, WatchedFleet};
pub use super::prompt::Prompt;
use super::standing::Look;
use crate::mqtt::payload::{Reply, ReplyStatus};
use crate::scoring::Judge;

/// An agent that is there replies within this time.
const PATIENCE: chrono::TimeDelta = chrono::TimeDelta::seconds(4);

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

/// A command and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: String,
    pub agent: String,
    pub what: String,
    pub at: DateTime<Utc>,
    /// `None`: no reply yet.
    pub outcome: Option<Result<(), String>>,
}

impl Sent {
    /// No reply has come, and there was time for one.
    pub fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.outcome.is_none() && now - self.at > PATIENCE
    }
}

/// Everything that is shown.
#[derive(Debug)]
pub struct App {
    pub fleet: WatchedFleet,
    /// The broker, or what is wrong with the connection.
    pub connection: Result<String, String>,
    /// When the fleet was asked to announce itself, because this broker gives nothing that it keeps.
    pub asked: Option<DateTime<Utc>>,
    /// Since when there is none.
    pub unconnected_since: DateTime<Utc>,
    pub sort: Sort,
    pub filter: String,
    /// Who asks, in commands.
    pub by: String,
    pub prompt: Option<(Prompt, String)>,
    pub detail: bool,
    /// The machine that was chosen, by an arrow or by a key that means one machine.
    pub selected: Option<Key>,
    /// The machine that the last picture had marked: what a key means, whatever has come since.
    pub marked: Option<Key>,
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
            asked: None,
            unconnected_since: now,
            sort: Sort::Urgency,
            filter: String::new(),
            by,
            prompt: None,
            detail: false,
            selected: None,
            marked: None,
            top: 0,
            sent: None,
            now,
        }
    }

    /// The rows of the table, and which of them is selected: the same machine, wherever it has moved to.
    pub fn rows(&self) -> (Vec<(Key, Look)>, usize) {
        let rows = self.fleet.rows(self.sort, &self.filter, self.now, self.connection.is_ok());
        let chosen = self.selected.as_ref();
        let selected = rows.iter().position(|(key, _)| Some(key) == chosen).unwrap_or(0);
        (rows, selected)
    }

    /// The machine that keys act on: the one in detail, else the one that is marked in the list.
    pub fn current(&self) -> Option<Key> {
        if self.detail {
            return self.selected.clone().filter(|key| self.fleet.machines.contains_key(key));
        }
        let (rows, selected) = self.rows();
        let seen = self.selected.as_ref().or(self.marked.as_ref());
        let row = rows.iter().find(|(key, _)| Some(key) == seen).or_else(|| rows.get(selected));
        row.map(|(key, _)| key.clone())
    }

    /// Chooses what is marked, so that it stays chosen when the order changes.
    fn choose_marked(&mut self) -> Option<Key> {
        let current = self.current();
        self.selected.clone_from(&current);
        current
    }

    /// There is a connection, to this broker.
    pub fn connected(&mut self, url: String) {
        (self.connection, self.asked) = (Ok(url), None);
    }

    /// The fleet was asked to announce itself, and had the time for it.
    pub fn had_time_to_announce(&self) -> bool {
        self.asked.is_some_and(|asked| self.now - asked > PATIENCE)
    }

    /// The connection has been lost, or could not be made.
    pub fn disconnected(&mut self, problem: String) {
        if self.connection.is_ok() {
            self.unconnected_since = self.now;
        }
        self.connection = Err(problem);
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
            sent.outcome = Some(Err("not sent, because there is no connection".into()));
        }
    }

    /// The broker does not take something that was sent: the last command, while that waits for its reply.
    pub fn refused(&mut self, problem: String) {
        if let Some(sent) = self.sent.as_mut().filter(|sent| sent.outcome.is_none()) {
            sent.outcome = Some(Err(problem));
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
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(20),
            KeyCode::PageUp => self.step(-20),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Enter => self.detail = self.choose_marked().is_some() && !self.detail,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.prompt = Some((Prompt::Filter, self.filter.clone())),
            KeyCode::Char('a') => {
                self.prompt = self.choose_marked().map(|key| (Prompt::Comment(key), String::new()));
            }
            // Only what stands has a number here; of what was, `ctl alarm.confirm` says it.
            KeyCode::Char('c') => {
                self.prompt = self.choose_marked().and_then(|key| {
                    let alarm = self.fleet.machines.get(&key)?.alarm.as_ref()?.journal?;
                    Some((Prompt::Answer(key, alarm), String::new()))
                });
            }
            KeyCode::Char('t') => {
                self.prompt = self.choose_marked().map(|key| {
                    let threshold = self.fleet.machines.get(&key).and_then(|machine| machine.threshold());
                    let text = threshold.map(|threshold| format!("{threshold}")).unwrap_or_default();
                    (Prompt::Threshold(key), text)
                });
            }
            // Where all lanes decide, this moves their limit.
            KeyCode::Char('r') => {
                self.prompt = self.choose_marked().and_then(|key| {
                    let rate = self.fleet.machines.get(&key)?.settings.as_ref()?.false_alarm_rate?;
                    Some((Prompt::Rate(key), format!("{rate}")))
                });
            }
            _ => {}
        }
        Action::None
    }

    /// What a person should know before what is prompted for is sent.
    pub fn warning(&self, prompt: &Prompt) -> Option<&'static str> {
        let Prompt::Threshold(key) = prompt else { return None };
        let settings = self.fleet.machines.get(key)?.settings.as_ref()?;
        (settings.judge == Judge::Combined).then_some(
            "All lanes decide together now. A threshold set by hand decides alone, by the distance: all \
             other lanes are then off. r moves the limit of all lanes instead.",
        )
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
            Prompt::Threshold(key) => self.send_number(key, text, "threshold", "threshold.set", "threshold"),
            Prompt::Rate(key) => self.send_number(key, text, "false alarm rate", "rate.set", "false_alarm_rate"),
            Prompt::Answer(key, alarm) => match answer::read(text) {
                Ok(mut answer) => {
                    answer["alarm"] = alarm.into();
                    self.send(key, "answer", "alarm.confirm", &answer)
                }
                Err(problem) => {
                    let (agent, what, outcome) = (key.0, "answer".to_owned(), Some(Err(problem)));
                    self.sent = Some(Sent { id: String::new(), agent, what, at: self.now, outcome });
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

    fn send_number(&mut self, key: Key, text: &str, what: &str, command: &str, argument: &str) -> Action {
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.send(key, &format!("{what} {number}"), command, &json!({ argument: number }))
            }
            _ => {
                let outcome = Some(Err(format!("expected a number, found {text:?}")));
                self.sent =
                    Some(Sent { id: String::new(), agent: key.0, what: what.to_owned(), at: self.now, outcome });
                Action::None
            }
        }
    }

    fn send(&mut self, (agent, machine): Key, what: &str, name: &str, rest: &Value) -> Action {
        let id = format!("watch-{:016x}", rand::random::<u64>());
        let expires = (self.now + chrono::TimeDelta::minutes(1)).to_rfc3339();
        let mut command = json!({ "id": id, "command": name, "by": self.by, "expires": expires });
        // The number of an alarm says which machine is meant.
        if rest.get("alarm").is_none() {
            command["machine"] = machine.as_str().into();
        }
        if let (Some(command), Some(rest)) = (command.as_object_mut(), rest.as_object()) {
            command.extend(rest.clone());
        }
        let what = format!("{agent}/{machine}: {what}");
        self.sent = Some(Sent { id, agent: agent.clone(), what, at: self.now, outcome: None });
        Action::Send { agent, command }
    }

    fn step(&mut self, by: isize) {
        let (rows, selected) = self.rows();
        let current = self.current();
        let selected = rows.iter().position(|(key, _)| Some(key) == current.as_ref()).unwrap_or(selected);
        let last = rows.len().saturating_sub(1);
        let to = selected.saturating_add_signed(by.clamp(-(1 << 30), 1 << 30)).min(last);
        self.selected = rows.get(to).map(|(key, _)| key.clone());
    }
}
