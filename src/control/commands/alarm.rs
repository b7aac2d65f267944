//! `alarm.acknowledge`, `alarm.shelve`, `alarm.unshelve`: what somebody does about a machine's alarm.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::control::output::Output;
use crate::control::shared::Shared;
use crate::control::transaction::Transaction;
use crate::control::values::{ShortText, Target};
use crate::monitor::MonitorState;
use crate::scoring::alarm::{Alarm, AlarmError, AlarmStatus, StatusChange};

/// Where no end is given: a shift.
const SHELVED_FOR: TimeDelta = TimeDelta::hours(8);

/// Say that somebody takes care of a machine's alarm.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmAcknowledge {
    /// The machine, or `*` for all of the agent's that have one to acknowledge.
    #[arg(long)]
    pub machine: Target,
    /// What is being done about it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<ShortText<200>>,
}

impl Execute for AlarmAcknowledge {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let (by, comment) = (context.who().0, comment(context, self.comment));
        answer(context, &self.machine, Answer::Acknowledge { by, comment })
    }
}

/// Hide a machine's alarm until a time.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmShelve {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// When it shows again (RFC 3339, or +90m, +2h, +1d); default: in 8 hours. At most `alarm.shelve_max_s` from now.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it is hidden.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<ShortText<200>>,
}

impl Execute for AlarmShelve {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let until = context.to_come(self.until)?;
        let (by, comment) = (context.who().0, comment(context, self.comment));
        answer(context, &self.machine, Answer::Shelve { by, comment, until })
    }
}

/// End the shelving before its time.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmUnshelve {
    /// The machine, or `*` for all of the agent's that are shelved.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for AlarmUnshelve {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        answer(context, &self.machine, Answer::Unshelve)
    }
}

/// Why: the command's comment, else the envelope's reason.
fn comment(context: &CommandContext, comment: Option<ShortText<200>>) -> Option<String> {
    comment.map(String::from).or(context.who().1)
}

impl From<AlarmError> for CommandError {
    fn from(error: AlarmError) -> CommandError {
        CommandError::new(Code::BadArgument, error)
    }
}

/// What somebody does about an alarm.
enum Answer {
    Acknowledge { by: Option<String>, comment: Option<String> },
    Shelve { by: Option<String>, comment: Option<String>, until: Option<DateTime<Utc>> },
    Unshelve,
}

impl Answer {
    fn give(&self, alarm: &mut Alarm, now: DateTime<Utc>) -> Result<Option<StatusChange>, AlarmError> {
        match self {
            Answer::Acknowledge { by, comment } => alarm.acknowledge(by.as_deref(), comment.as_deref(), now),
            Answer::Shelve { by, comment, until } => {
                let until = until.unwrap_or(now + SHELVED_FOR.min(alarm.config().longest_shelving()));
                alarm.shelve(by.as_deref(), comment.as_deref(), until, now)
            }
            Answer::Unshelve => alarm.unshelve(now),
        }
    }
}

/// Answers the alarms that are meant; refused where that can be done to none of them.
fn answer(context: &CommandContext, target: &Target, answer: Answer) -> Result<Outcome, CommandError> {
    let numbers = context.targets(target)?;
    let (mut answered, mut refused) = (Vec::new(), None);
    for &number in &numbers {
        let mut alarm = context.shared.monitor.lock().machines[number].alarm.clone();
        match answer.give(&mut alarm, context.now) {
            Err(error) => refused = refused.or(Some(error)),
            Ok(_) => {
                let AlarmStatus { state, kind, since, count, note, .. } = alarm.status();
                answered.push(json!({
                    "machine": &*context.machine_id(number), "state": state, "kind": kind, "count": count,
                    "since": Timestamp::from(since), "by": note.by, "comment": note.comment,
                    "until": note.until.map(Timestamp::from),
                }));
            }
        }
    }
    if let (true, Some(error)) = (answered.is_empty(), refused) {
        return Err(error.into());
    }
    let transaction = AnswerAlarms { shared: context.shared.clone(), numbers, answer, now: context.now };
    Ok(Outcome::change(json!({ "machines": answered }), transaction))
}

/// Answers the alarms of the machines `numbers`.
struct AnswerAlarms {
    shared: Arc<Shared>,
    numbers: Vec<usize>,
    answer: Answer,
    now: DateTime<Utc>,
}

impl Transaction for AnswerAlarms {
    fn persist(&mut self) -> Result<(), CommandError> {
        let act = |alarm: &mut Alarm| self.answer.give(alarm, self.now).map_err(CommandError::from);
        self.shared.alarms.persist(&self.shared.monitor, &self.numbers, act)
    }

    fn revert(&mut self) {
        self.shared.alarms.revert(&self.shared.monitor, &self.numbers);
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let act = |alarm: &mut Alarm| self.answer.give(alarm, now);
        let changed = self.shared.alarms.apply(state, &self.numbers, act);
        if changed { vec![Output::Alarms] } else { Vec::new() }
    }
}
