//! The answer to an alarm is kept: in the journal, with the clip, and as an addition to the baseline that is worked out.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::adapting;
use super::error::{Code, CommandError};
use super::messages::event;
use super::output::Output;
use super::shared::Shared;
use super::store::Commit;
use super::transaction::Transaction;
use crate::monitor::MonitorState;
use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::clips::{ClipError, ClipKey, FaultExample};
use crate::monitor::journal::JournalEntry;
use crate::monitor::machine::Addition;
use crate::mqtt::payload::EventKind;

/// What is to be kept.
pub struct Answered {
    /// With the answer before, where there was one.
    pub entry: JournalEntry,
    pub answer: AlarmAnswer,
    /// To the baseline of the machine of this number.
    pub addition: Option<(usize, Addition)>,
}

/// Keeps an answer.
pub struct ConfirmAlarm {
    shared: Arc<Shared>,
    answered: Answered,
}

impl ConfirmAlarm {
    pub fn new(shared: Arc<Shared>, answered: Answered) -> ConfirmAlarm {
        ConfirmAlarm { shared, answered }
    }

    fn write(&self, answer: Option<&AlarmAnswer>) -> Result<(), CommandError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            CommandError::new(Code::Failed, format!("the answer cannot be kept: {what}: {error}"))
        };
        let entry = &self.answered.entry;
        // The clip first: an example that is not locked could be removed for room.
        let key = ClipKey::new(&entry.machine, entry.record.kind, entry.record.since);
        let fault = answer.and_then(FaultExample::of);
        let lock = || match self.shared.clips.set_fault(&key, fault.clone()) {
            // There is no clip any more that could be kept as an example.
            Ok(()) | Err(ClipError::Lost(_)) => Ok(()),
            Err(error) => Err(failed("the clip", &error)),
        };
        lock()?;
        self.shared.journal.answer(entry.id, answer).map_err(|error| failed("the journal", &error))?;
        // Again, for a clip that was made between the two: whoever made it found no answer.
        lock()
    }
}

impl Transaction for ConfirmAlarm {
    /// A fault that recurred daily is not to be let in after a power cut either.
    fn rows(&self) -> Commit<'_> {
        let Answered { entry, answer, .. } = &self.answered;
        let is_fault = answer.outcome == AlarmOutcome::Fault;
        Commit { forget_adaptations: is_fault.then_some(&*entry.machine).into_iter().collect(), ..Commit::default() }
    }

    fn persist(&mut self) -> Result<(), CommandError> {
        self.write(Some(&self.answered.answer))
    }

    fn revert(&mut self) {
        if let Err(error) = self.write(self.answered.entry.answer.as_ref()) {
            tracing::warn!(alarm = self.answered.entry.id, %error, "the answer to an alarm is not as it was before");
        }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let Answered { entry, answer, addition } = &mut self.answered;
        if let Some((number, addition)) = addition.take() {
            state.machines[number].learning.additions.push(addition);
        }
        // Of one that was removed only the journal speaks.
        let Some(number) = state.find(&entry.machine) else { return Vec::new() };
        let mut out = Vec::new();
        if answer.outcome == AlarmOutcome::Fault {
            state.machines[number].adaptation.bar(now);
            if state.machines[number].config.adapt {
                out = adapting::changed(&self.shared, state, number, "; forgotten, as an alarm was a fault", now);
            }
        }
        let said = [answer.name.as_deref(), answer.comment.as_deref()].into_iter().flatten().collect::<Vec<_>>();
        let by = answer.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) };
        let detail = format!("alarm {} was {}{by}{said}", entry.id, in_words(answer.outcome));
        let facts = json!({ "alarm": entry.id, "outcome": answer.outcome, "name": answer.name });
        out.push(event(&self.shared, number, EventKind::AlarmConfirmed, detail, Some(facts), now));
        out
    }
}

fn in_words(outcome: AlarmOutcome) -> &'static str {
    match outcome {
        AlarmOutcome::Fault => "a fault",
        AlarmOutcome::Normal => "normal",
        AlarmOutcome::Disturbance => "a disturbance",
    }
}
