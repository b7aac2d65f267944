//! What is asked for in a line of text.

use super::fleet::Key;

/// What the keyboard writes into.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    Filter,
    Threshold(Key),
    Rate(Key),
    Comment(Key),
    /// To the alarm of this number in the agent's journal.
    Answer(Key, i64),
}

impl Prompt {
    pub fn label(&self) -> String {
        match self {
            Prompt::Filter => "filter".into(),
            Prompt::Threshold((agent, machine)) => format!("threshold of {agent}/{machine}"),
            Prompt::Rate((agent, machine)) => format!("false alarm rate of {agent}/{machine}"),
            Prompt::Comment((agent, machine)) => format!("acknowledge {agent}/{machine}, comment"),
            Prompt::Answer((agent, machine), _) => {
                format!("{agent}/{machine} was (fault NAME, normal, disturbance; then : comment)")
            }
        }
    }
}
