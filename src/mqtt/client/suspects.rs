//! Which message was it? A broker that ends the connection because of one does not say because of which.

use std::collections::BTreeSet;

use super::link::{Handed, Sent};

/// The messages that were on their way when the broker ended the connection because of one of them. Until each has had its
/// answer, they are sent one at a time.
#[derive(Debug, Default)]
pub struct Suspects {
    rows: BTreeSet<i64>,
    topics: BTreeSet<String>,
}

impl Suspects {
    pub fn are_none(&self) -> bool {
        self.rows.is_empty() && self.topics.is_empty()
    }

    pub fn of(handed: &[Handed]) -> Suspects {
        let mut suspects = Suspects::default();
        for Handed { topic, sent } in handed {
            match sent {
                Sent::Row { id, .. } => drop(suspects.rows.insert(*id)),
                Sent::Unstored => drop(suspects.topics.insert(topic.clone())),
                Sent::Stopped => {}
            }
        }
        suspects
    }

    /// The message has had its answer.
    pub fn cleared(&mut self, Handed { topic, sent }: &Handed) {
        match sent {
            Sent::Row { id, .. } => drop(self.rows.remove(id)),
            Sent::Unstored | Sent::Stopped => drop(self.topics.remove(topic)),
        }
    }
}
