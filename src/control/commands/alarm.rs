//! `alarm.acknowledge`, `alarm.shelve`, `alarm.unshelve`: what somebody does about a machine's alarm.

use std::sync::mpsc;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::{Act, Outcome, Output};
use crate::control::values::{ShortText, Target};
use crate::scoring::alarm::{Alarm, AlarmError, AlarmStatus, Change};

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
        let (by, comment, now) = (context.who().0, comment(context, self.comment), context.now);
        deed(context, &self.machine, move |alarm| alarm.acknowledge(by.as_deref(), comment.as_deref(), now))
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
    /// Why.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<ShortText<200>>,
}

impl Execute for AlarmShelve {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let until = context.to_come(self.until)?;
        let (by, comment, now) = (context.who().0, comment(context, self.comment), context.now);
        deed(context, &self.machine, move |alarm| {
            let most = TimeDelta::seconds(alarm.config().shelve_max_s as i64);
            let until = until.unwrap_or(now + SHELVED_FOR.min(most));
            alarm.shelve(by.as_deref(), comment.as_deref(), until, now)
        })
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
        let now = context.now;
        deed(context, &self.machine, move |alarm| alarm.unshelve(now))
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

/// Does `act` to the alarms that are meant; refused where it can be done to none of them.
fn deed(
    context: &CommandContext,
    target: &Target,
    act: impl Fn(&mut Alarm) -> Result<Option<Change>, AlarmError> + Send + 'static,
) -> Result<Outcome, CommandError> {
    let numbers = context.targets(target)?;
    let (mut told, mut refused) = (Vec::new(), None);
    for &number in &numbers {
        let mut alarm = context.shared.monitor.lock().machines[number].alarm.clone();
        match act(&mut alarm) {
            Err(error) => refused = refused.or(Some(error)),
            Ok(_) => {
                let AlarmStatus { state, kind, since, count, note, .. } = alarm.status();
                told.push(json!({
                    "machine": context.machine_id(number), "state": state, "kind": kind, "count": count,
                    "since": Timestamp::from(since), "by": note.by, "comment": note.comment,
                    "until": note.until.map(Timestamp::from),
                }));
            }
        }
    }
    if let (true, Some(error)) = (told.is_empty(), refused) {
        return Err(error.into());
    }
    let shared = context.shared.clone();
    let (tell, changes) = mpsc::channel();
    let keep = move || {
        let done = shared.alarms.change(&shared.monitor, &numbers, |alarm| act(alarm).map_err(CommandError::from))?;
        // The other end is in `apply`, which comes later.
        done.into_iter().for_each(|change| drop(tell.send(change)));
        Ok(())
    };
    let apply = move |_: &mut _| {
        let changes = changes.try_iter();
        changes.filter_map(|(machine, change)| Some(Output::Alarm { machine, change: change? })).collect()
    };
    let data = json!({ "machines": told });
    Ok(Outcome::Act(Act { data, settings: Vec::new(), keep: Box::new(keep), apply: Box::new(apply) }))
}
