//! `notify.test`: would people be told?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::{Job, Outcome};
use crate::control::values::ShortText;

/// Send a test message to one target of `[[notify]]`, or to all.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyTest {
    /// The target's name; default: all.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ShortText<64>>,
}

impl Execute for NotifyTest {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let notify = context.shared.notify.clone();
        let targets = notify.status();
        let name = self.name.map(String::from);
        if let Some(name) = &name
            && !targets.iter().any(|target| target.name == *name)
        {
            let known: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
            let expected = format!("one of {}", known.join(", "));
            return Err(CommandError::argument("name", &expected, format!("{name:?}")));
        }
        if targets.is_empty() {
            let message = "no messages are sent: the configuration has no [[notify]]";
            return Err(CommandError::new(Code::NotAllowed, message));
        }
        Ok(Outcome::Job(Job::new(move || {
            let outcomes = notify.test(name.as_deref()).map_err(|wait| {
                let seconds = wait.as_secs_f64().ceil();
                CommandError::new(Code::Busy, format!("a test was sent a moment ago; again in {seconds:.0} s"))
            })?;
            Ok(Outcome::Answer(json!({ "targets": outcomes })))
        })))
    }
}
