//! Which message was it? A broker that ends the connection because of one does not say because of which.

use std::collections::{BTreeMap, BTreeSet};

use super::link::{Handed, Sent};

/// What was on its way so many times when the connection ended without a word is sent alone.
const ENDS: u32 = 2;
/// What was alone so many times in a row then is the reason.
const ALONE: u32 = 3;

/// What is sent again by the next connection: a row of the outbox, or the state of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Row(i64),
    Topic(String),
}

impl Key {
    fn of(Handed { topic, sent }: &Handed) -> Option<Key> {
        match sent {
            Sent::Row { id, .. } => Some(Key::Row(*id)),
            Sent::Unstored => Some(Key::Topic(topic.clone())),
            Sent::Stopped => None,
        }
    }
}

/// The messages that were on their way when the broker ended the connection because of one of them. Until each has had its
/// answer, they are sent one at a time.
#[derive(Debug, Default)]
pub struct Suspects {
    suspected: BTreeSet<Key>,
    /// How often a connection ended without a word while these were on their way.
    ends: BTreeMap<Key, u32>,
    /// What was alone when the last one did, and in how many of them in a row.
    alone: Option<(Key, u32)>,
}

impl Suspects {
    pub fn are_none(&self) -> bool {
        self.suspected.is_empty()
    }

    /// The broker has said that it ended the connection because of one of these.
    pub fn suspect(&mut self, handed: &[Handed]) {
        self.suspected.extend(handed.iter().filter_map(Key::of));
    }

    /// The broker ended the connection without a word while these were on their way. Answers the message that was alone so often
    /// that it must be the reason.
    pub fn ended<'a>(&mut self, handed: &'a [Handed]) -> Option<&'a Handed> {
        let keys: BTreeSet<Key> = handed.iter().filter_map(Key::of).collect();
        self.ends.retain(|key, _| keys.contains(key));
        for key in &keys {
            let ends = self.ends.entry(key.clone()).or_default();
            *ends += 1;
            if *ends >= ENDS {
                self.suspected.insert(key.clone());
            }
        }
        let [alone] = handed else {
            self.alone = None;
            return None;
        };
        let key = Key::of(alone)?;
        let times = match &self.alone {
            Some((before, times)) if *before == key => times + 1,
            _ => 1,
        };
        self.alone = Some((key, times));
        (times >= ALONE).then_some(alone)
    }

    /// The message has had its answer.
    pub fn cleared(&mut self, handed: &Handed) {
        let Some(key) = Key::of(handed) else { return };
        self.suspected.remove(&key);
        self.ends.remove(&key);
        self.alone.take_if(|(alone, _)| *alone == key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64) -> Handed {
        Handed { topic: "auscult/pi-7/fan-1/verdict".into(), sent: Sent::Row { id, replayed: false } }
    }

    #[test]
    fn the_reason_is_found_by_sending_one_at_a_time() {
        let mut suspects = Suspects::default();
        let all = [row(1), row(2)];
        assert_eq!(suspects.ended(&all), None);
        assert!(suspects.are_none(), "brokers die");
        assert_eq!(suspects.ended(&all), None);
        assert!(!suspects.are_none());
        suspects.cleared(&row(1));
        for _ in 1..ALONE {
            assert_eq!(suspects.ended(&all[1..]), None);
        }
        assert_eq!(suspects.ended(&all[1..]), Some(&all[1]));
        suspects.cleared(&all[1]);
        assert!(suspects.are_none());
    }

    #[test]
    fn a_broker_that_dies_again_and_again_is_no_reason() {
        let mut suspects = Suspects::default();
        for id in 0..20 {
            assert_eq!(suspects.ended(&[row(id)]), None, "each time another one was on its way");
            assert_eq!(suspects.ended(&[]), None);
        }
    }
}
