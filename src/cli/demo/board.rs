//! What the demo knows of its machines, from nothing but what came through the broker.

use std::collections::VecDeque;

use crate::mqtt::payload::{AlarmMsg, VerdictMsg};
use crate::mqtt::simple_client::Message;
use crate::mqtt::topics::{MachinePart, Topic};
use crate::numbers::counted;
use crate::scoring::alarm::AlarmState;

use super::fleet::{ILL, PLANT};

/// Windows that the sparkline remembers.
pub const MEMORY: usize = 120;

/// One machine.
#[derive(Debug, Clone)]
pub struct Row {
    pub agent: &'static str,
    pub machine: &'static str,
    pub verdicts: u64,
    pub last: Option<VerdictMsg>,
    /// Distances over their thresholds, the newest last; `None` where a window was not assessed.
    pub ratios: VecDeque<Option<f64>>,
    pub alarm: AlarmState,
    /// Seconds of the demo at which its first alarm came.
    pub alarmed_s: Option<f64>,
}

/// All machines.
pub struct Board {
    pub rows: Vec<Row>,
    /// When the fault begins, seconds of the demo.
    pub fault_s: f64,
    /// What happened, with its second; the newest last.
    pub news: Vec<(f64, String)>,
    fault_began: bool,
}

/// What a message was.
pub enum Note {
    Verdict,
    Alarm,
    Other,
}

impl Board {
    pub fn new(fault_s: f64) -> Board {
        let row = |agent, machine| Row {
            agent,
            machine,
            verdicts: 0,
            last: None,
            ratios: VecDeque::new(),
            alarm: AlarmState::Normal,
            alarmed_s: None,
        };
        let machines = PLANT.iter().flat_map(|(agent, machines)| machines.iter().map(move |(id, _)| row(*agent, *id)));
        Board { rows: machines.collect(), fault_s, news: Vec::new(), fault_began: false }
    }

    /// Takes in a message that came at this second of the demo.
    pub fn note(&mut self, message: &Message, now_s: f64) -> Note {
        let Topic::Machine { agent, machine, part } = &message.topic else { return Note::Other };
        let Some(row) = self.rows.iter_mut().find(|row| row.agent == agent && row.machine == machine) else {
            return Note::Other;
        };
        match part {
            MachinePart::Verdict => {
                let Ok(verdict) = serde_json::from_slice::<VerdictMsg>(&message.payload) else { return Note::Other };
                row.verdicts += 1;
                row.ratios.push_back(verdict.ratio);
                if row.ratios.len() > MEMORY {
                    row.ratios.pop_front();
                }
                row.last = Some(verdict);
                Note::Verdict
            }
            MachinePart::Alarm => {
                let Ok(alarm) = serde_json::from_slice::<AlarmMsg>(&message.payload) else { return Note::Other };
                if alarm.state != row.alarm {
                    let word = match alarm.state {
                        AlarmState::Active => {
                            format!("ALARM: {}", alarm.text.as_deref().unwrap_or("it sounds unlike itself"))
                        }
                        state => format!("alarm {}", word(state)),
                    };
                    self.news.push((now_s, format!("{machine}: {word}")));
                }
                if alarm.state == AlarmState::Active && row.alarmed_s.is_none() {
                    row.alarmed_s = Some(now_s);
                }
                row.alarm = alarm.state;
                Note::Alarm
            }
            _ => Note::Other,
        }
    }

    /// Time passes: notes that the fault begins.
    pub fn tick(&mut self, now_s: f64, fault: &str) {
        if now_s >= self.fault_s && !self.fault_began {
            self.fault_began = true;
            self.news.push((now_s, format!("{ILL}: {fault} begins. The agent is not told.")));
        }
    }

    pub fn verdicts(&self) -> u64 {
        self.rows.iter().map(|row| row.verdicts).sum()
    }

    /// Second of the alarm of the machine that fell ill, if it came after the fault.
    pub fn found_s(&self) -> Option<f64> {
        let ill = self.rows.iter().find(|row| row.machine == ILL)?;
        ill.alarmed_s.filter(|alarm_s| *alarm_s >= self.fault_s)
    }

    /// Machines with an alarm that they should not have.
    pub fn false_alarms(&self) -> Vec<&'static str> {
        let wrong = |row: &&Row| row.alarmed_s.is_some_and(|alarm_s| row.machine != ILL || alarm_s < self.fault_s);
        self.rows.iter().filter(wrong).map(|row| row.machine).collect()
    }

    /// Machines without a message.
    pub fn unheard(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.verdicts == 0).map(|row| row.machine).collect()
    }

    /// Every machine's verdicts came, and the fault was found on its machine and nowhere else.
    pub fn is_good(&self) -> bool {
        self.unheard().is_empty() && self.found_s().is_some() && self.false_alarms().is_empty()
    }

    /// The same in words.
    pub fn outcome(&self) -> String {
        let machines = self.rows.len() - self.unheard().len();
        let mut text = format!(
            "{} of {} came through the broker. ",
            counted(self.verdicts(), "verdict"),
            counted(machines, "machine")
        );
        text += &match (self.found_s(), self.fault_began) {
            (Some(found_s), _) => {
                let after_s = found_s - self.fault_s;
                format!("{ILL} fell ill at {:.0} s, and its alarm came {after_s:.1} s later.", self.fault_s)
            }
            (None, true) => format!("{ILL} fell ill at {:.0} s, and no alarm has come.", self.fault_s),
            (None, false) => format!("{ILL} would have fallen ill at {:.0} s: ended before.", self.fault_s),
        };
        match self.false_alarms() {
            wrong if wrong.is_empty() => text += " No other alarm.",
            wrong => text += &format!(" False alarms: {}.", wrong.join(", ")),
        }
        if machines < self.rows.len() {
            text += &format!(" Nothing was heard of {}.", self.unheard().join(", "));
        }
        text
    }
}

pub fn word(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Normal => "normal",
        AlarmState::Active => "ACTIVE",
        AlarmState::Acknowledged => "acknowledged",
        AlarmState::Shelved => "shelved",
    }
}
