//! `alarm.confirm`: what an alarm was. A fault's clip is kept as an example, a normal one is proposed for the baseline.

use std::sync::Arc;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Execute, clip};
use crate::control::answers::{Answered, ConfirmAlarm};
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::learning;
use crate::control::outcome::Outcome;
use crate::control::values::{ShortText, Target};
use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::journal::{JournalEntry, JournalQuery};
use crate::monitor::machine::Addition;
use crate::scoring::alarm::Kind;
use crate::scoring::baseline::Sample;
use crate::scoring::{Baseline, Verdict};

/// Newest alarms of a machine that one of its sound is looked for among.
const LOOKED_THROUGH: u32 = 50;

/// Say what an alarm was. A fault is kept as an example; what is normal is proposed as an addition to the baseline.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmConfirm {
    /// The alarm's number, as `alarm.list` and the retained alarm (`journal`) have it.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    #[arg(required_unless_present = "machine")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<i64>,
    /// Instead of a number: the newest alarm of this machine's sound.
    #[arg(long, conflicts_with = "alarm")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Target>,
    /// What it was.
    #[arg(long)]
    pub outcome: AlarmOutcome,
    /// The fault's name, such as bearing; needed with the outcome fault.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ShortText<64>>,
    /// What was found.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<ShortText<200>>,
}

impl Execute for AlarmConfirm {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let entry = match (self.alarm, &self.machine) {
            (Some(alarm), None) => context.alarm(alarm)?,
            (None, Some(machine)) => newest(context, machine)?,
            _ => {
                let message = "expected alarm or machine: the number of an alarm, or whose newest one is meant";
                return Err(CommandError::new(Code::BadArgument, message));
            }
        };
        // One that nobody can read is none.
        let name = self.name.map(String::from).filter(|name| !name.trim().is_empty());
        match (self.outcome, &name) {
            (AlarmOutcome::Fault, None) => {
                return Err(CommandError::argument("name", "the fault's name, such as bearing", "none"));
            }
            (AlarmOutcome::Normal | AlarmOutcome::Disturbance, Some(name)) => {
                return Err(CommandError::argument(
                    "name",
                    "none, it belongs to outcome \"fault\"",
                    format!("{name:?}"),
                ));
            }
            _ => {}
        }
        let (by, reason) = context.who();
        let comment = self.comment.map(String::from).or(reason);
        let answer = AlarmAnswer { outcome: self.outcome, name, by, comment, at: context.now };
        let (addition, note) = match self.outcome {
            AlarmOutcome::Normal => match addition(context, &entry)? {
                Ok(addition) => (Some(addition), None),
                Err(why) => (None, Some(format!("the answer is kept; the baseline stays as it is: {why}"))),
            },
            AlarmOutcome::Fault => (None, taken_in(context, &entry)?),
            AlarmOutcome::Disturbance => (None, None),
        };
        let data = json!({
            "alarm": entry.id, "machine": entry.machine, "outcome": answer.outcome, "name": answer.name,
            "by": answer.by, "comment": answer.comment, "proposal": addition.is_some(),
        });
        let answered = Answered { entry, answer, addition };
        Ok(Outcome::change(data, ConfirmAlarm::new(context.shared.clone(), answered)).with_note(note))
    }
}

/// A machine's newest alarm that is one of its sound.
fn newest(context: &CommandContext, machine: &Target) -> Result<JournalEntry, CommandError> {
    let id = context.machine_id(context.target(machine)?);
    let query = JournalQuery { machine: Some(id.to_string()), limit: LOOKED_THROUGH, ..JournalQuery::default() };
    let entries = context.shared.journal.list(&query).map_err(CommandError::journal)?;
    let of_sound = entries.into_iter().find(|entry| entry.record.kind != Kind::Deaf);
    of_sound.ok_or_else(|| CommandError::new(Code::Failed, format!("{id} had no alarm that could be answered")))
}

/// The windows of an alarm's clip for its machine's baseline, with the machine's number; or why there is nothing to add.
type Added = Result<(usize, Addition), String>;

fn addition(context: &CommandContext, entry: &JournalEntry) -> Result<Added, CommandError> {
    let (clips, key) = (&context.shared.clips, clip::key_of(entry));
    let (about, windows) = match (clips.clip(&key), clips.windows(&key)) {
        (Ok(about), Ok(windows)) => (about, windows.unwrap_or_default()),
        // The answer counts all the same.
        (Err(error), _) | (_, Err(error)) => return Ok(Err(clip::unreadable(error).message)),
    };
    let Some(about) = about else {
        let is_young = context.now - entry.record.since < TimeDelta::seconds(25);
        return Ok(Err(match is_young {
            true => "its clip is made 20 s after the alarm: answer again then".into(),
            false => "there is no clip of this alarm".into(),
        }));
    };
    let judged = windows.into_iter().filter(|window| window.verdict != Verdict::Unknown);
    let sample = |window: crate::monitor::heard::HeardWindow| {
        let confirmed = window.verdict == Verdict::Anomalous;
        window.sample.map(|sample| Sample { confirmed, ..sample })
    };
    let samples: Vec<Sample> = judged.filter_map(sample).collect();
    if samples.is_empty() {
        return Ok(Err("the clip has no windows that were judged".into()));
    }
    let state = context.shared.monitor.lock();
    let Some(number) = state.find(&entry.machine) else { return Ok(Err("the machine was removed".into())) };
    if state.machines[number].learning.learner.is_some() {
        return Ok(Err("it is being learned: answer again when that is done".into()));
    }
    let base = match learning::base(&state, number) {
        Ok(base) => base,
        Err(why) => return Ok(Err(why)),
    };
    let fits = about.origin.as_ref().is_some_and(|origin| base.origin.check(origin).is_ok());
    Ok(match fits {
        true => Ok((number, Addition { alarm: Some(entry.id), samples: Arc::new(samples) })),
        false => Err("the clip was scored with another encoder or front-end".into()),
    })
}

/// What a person should know who calls something a fault that was taken for normal before.
fn taken_in(context: &CommandContext, entry: &JournalEntry) -> Result<Option<String>, CommandError> {
    let windows = match context.shared.clips.windows(&clip::key_of(entry)) {
        Ok(windows) => windows.unwrap_or_default(),
        Err(error) => return Ok(Some(clip::unreadable(error).message)),
    };
    let at_s: Vec<f64> = windows.iter().filter_map(|window| Some(window.sample.as_ref()?.at_s)).collect();
    let state = context.shared.monitor.lock();
    let Some(number) = state.find(&entry.machine) else { return Ok(None) };
    let has = |baseline: &Arc<Baseline>| baseline.has_confirmed(&at_s);
    let proposed = state.machines[number].learning.proposal.as_ref().is_some_and(has);
    let in_use = learning::in_use(&state, number).as_ref().is_some_and(has);
    Ok(match (in_use, proposed) {
        (true, _) => {
            Some("this alarm's windows are in the baseline as normal: baseline.rollback takes them out".into())
        }
        (_, true) => Some("this alarm's windows are in the proposed baseline: baseline.discard drops it".into()),
        _ => None,
    })
}
