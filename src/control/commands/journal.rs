//! `alarm.list`, `alarm.get`, `alarm.stats`: the journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Execute, clip};
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::CommandError;
use crate::control::outcome::Outcome;
use crate::control::values::Target;
use crate::monitor::alarm_stats;
use crate::monitor::answers::AlarmAnswer;
use crate::monitor::journal::{JournalEntry, JournalQuery};

/// Alarms of one answer, where nobody says how many, and at most.
const LIMIT: u16 = 50;
const LIMIT_MOST: u16 = 200;

/// The alarms that were, newest first.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmList {
    /// Only alarms of this machine, which may have been removed since; default: of all.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Target>,
    /// Only alarms that began at this time or later (RFC 3339, or -7d, -2h).
    #[arg(long, value_parser = Timestamp::before, allow_hyphen_values = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Only alarms that began before this time (RFC 3339, or -7d, -2h).
    #[arg(long, value_parser = Timestamp::before, allow_hyphen_values = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// How many alarms to list, up to 200; default: 50.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=200))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
    /// Only alarms before the one with this number: the next page.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

impl Execute for AlarmList {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let limit = self.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MOST).contains(&limit) {
            return Err(CommandError::argument("limit", "a number from 1 to 200", limit));
        }
        let query = JournalQuery {
            machine: match self.machine {
                None | Some(Target::All) => None,
                Some(Target::One(id)) => Some(id),
            },
            from: self.from.map(Timestamp::utc),
            to: self.to.map(Timestamp::utc),
            after: self.after,
            // One more shows whether there is a next page.
            limit: u32::from(limit) + 1,
            lean: false,
        };
        let mut found = context.shared.journal.list(&query).map_err(CommandError::journal)?;
        if let (true, Some(id)) = (found.is_empty(), &query.machine) {
            is_known(context, id)?;
        }
        let more = found.len() > usize::from(limit);
        found.truncate(limit.into());
        Ok(Outcome::Answer(
            json!({ "alarms": found.iter().map(|entry| shown(context, entry)).collect::<Vec<_>>(), "more": more }),
        ))
    }
}

/// One alarm of the journal.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmGet {
    /// The alarm's number, as `alarm.list` and the retained alarm (`journal`) have it.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    pub alarm: i64,
}

impl Execute for AlarmGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let entry = context.alarm(self.alarm)?;
        Ok(Outcome::Answer(json!({ "alarms": [shown(context, &entry)] })))
    }
}

/// How good the alarms were: how many, how soon somebody took care, how many were faults; over the last 30 days.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmStats {}

impl Execute for AlarmStats {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared;
        let machines: Vec<String> =
            shared.monitor.lock().machines.values().map(|machine| machine.config.id.clone()).collect();
        let stats =
            alarm_stats::read(&shared.journal, &shared.trend, &machines, context.now).map_err(CommandError::journal)?;
        Ok(Outcome::Answer(json!(stats)))
    }
}

/// Whether the agent has such a machine, or the journal an alarm of it.
fn is_known(context: &CommandContext, id: &str) -> Result<(), CommandError> {
    let any = JournalQuery { machine: Some(id.to_owned()), limit: 1, ..JournalQuery::default() };
    match context.shared.journal.list(&any).map_err(CommandError::journal)?.is_empty() {
        true => context.targets(&Target::One(id.to_owned())).map(drop),
        false => Ok(()),
    }
}

fn shown(context: &CommandContext, entry: &JournalEntry) -> Value {
    let JournalEntry { id, machine, record, answer } = entry;
    let summary = context.shared.clips.summary(&clip::key_of(entry));
    let why = record.why.clone().unwrap_or_default();
    let (note, acknowledged) = record.acknowledged.clone().unzip();
    let note = note.unwrap_or_default();
    json!({
        "alarm": id, "machine": machine, "kind": record.kind, "since": Timestamp::from(record.since),
        "ended": record.ended.map(Timestamp::from), "windows": record.count,
        "acknowledged": acknowledged.map(Timestamp::from), "by": note.by, "comment": note.comment,
        "ratio": why.ratio, "percentile": why.percentile, "p_value": why.p_value, "lane": why.lane, "bands": why.bands,
        "provisional": why.provisional, "text": record.sentence(),
        "like": context.shared.clips.liked(&clip::key_of(entry)).map(|like| like.to_string()),
        "clip": summary.as_ref().map(clip::shown),
        "answer": answer.as_ref().map(shown_answer),
    })
}

fn shown_answer(AlarmAnswer { outcome, name, by, comment, at }: &AlarmAnswer) -> Value {
    json!({ "outcome": outcome, "name": name, "by": by, "comment": comment, "at": Timestamp::from(*at) })
}
