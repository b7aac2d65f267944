//! Topics that the broker does not take at present. What waits for them stays in the outbox; now and then one message asks
//! whether it takes them again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A refused topic is asked for again after the longest pause between two connections, and later and later, up to so many of
/// them.
const LONGEST: u32 = 10;

/// What may be sent to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// One message that asks whether the topic is taken again.
    Probe,
    Held,
}

/// The topics that are held back.
#[derive(Debug)]
pub struct Holds {
    pause: Duration,
    topics: BTreeMap<String, Hold>,
}

#[derive(Debug)]
struct Hold {
    pause: Duration,
    until: Instant,
    /// Somebody was told that it is time to ask.
    due: bool,
    /// A message that asks is on its way.
    probing: bool,
}

impl Holds {
    pub fn new(pause: Duration) -> Holds {
        Holds { pause, topics: BTreeMap::new() }
    }

    /// The broker has refused a message to the topic; whether it had not done so before.
    pub fn refused(&mut self, topic: &str, now: Instant) -> bool {
        if let Some(hold) = self.topics.get_mut(topic) {
            // What was on its way together was refused together.
            if now >= hold.until {
                hold.pause = (hold.pause * 2).min(self.pause * LONGEST);
                hold.until = now + hold.pause;
            }
            (hold.due, hold.probing) = (false, false);
            return false;
        }
        let hold = Hold { pause: self.pause, until: now + self.pause, due: false, probing: false };
        self.topics.insert(topic.to_owned(), hold);
        true
    }

    /// The broker has taken a message to the topic; whether it was held.
    pub fn taken(&mut self, topic: &str) -> bool {
        self.topics.remove(topic).is_some()
    }

    /// What is on its way on a new connection is not known any more.
    pub fn reconnected(&mut self) {
        self.topics.values_mut().for_each(|hold| (hold.due, hold.probing) = (false, false));
    }

    /// What may be sent to the topic now. A message that is sent through [`Gate::Probe`] is told of with [`Holds::probe`].
    pub fn gate(&self, topic: &str, now: Instant) -> Gate {
        match self.topics.get(topic) {
            None => Gate::Open,
            Some(hold) if hold.probing || now < hold.until => Gate::Held,
            Some(_) => Gate::Probe,
        }
    }

    pub fn probe(&mut self, topic: &str) {
        if let Some(hold) = self.topics.get_mut(topic) {
            hold.probing = true;
        }
    }

    /// The topics that may be asked for from now on, each once.
    pub fn come_due(&mut self, now: Instant) -> Vec<String> {
        let due = self.topics.iter_mut().filter(|(_, hold)| !hold.due && !hold.probing && now >= hold.until);
        due.map(|(topic, hold)| {
            hold.due = true;
            topic.clone()
        })
        .collect()
    }

    /// When the next topic may be asked for.
    pub fn due_at(&self) -> Option<Instant> {
        let waiting = self.topics.values().filter(|hold| !hold.due && !hold.probing);
        waiting.map(|hold| hold.until).min()
    }

    pub fn topics(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_topic_is_asked_for_with_one_message_later_and_later() {
        let (start, pause) = (Instant::now(), Duration::from_secs(60));
        let mut holds = Holds::new(pause);
        assert_eq!(holds.gate("a", start), Gate::Open);
        assert!(holds.refused("a", start));
        assert!(!holds.refused("a", start), "of the same time");
        assert_eq!((holds.gate("a", start), holds.gate("b", start)), (Gate::Held, Gate::Open));
        assert_eq!(holds.due_at(), Some(start + pause));
        let later = start + pause;
        assert_eq!(holds.come_due(later), ["a"]);
        assert!(holds.come_due(later).is_empty() && holds.due_at().is_none());
        assert_eq!(holds.gate("a", later), Gate::Probe);
        holds.probe("a");
        assert_eq!(holds.gate("a", later), Gate::Held, "one is on its way");
        assert!(!holds.refused("a", later));
        assert_eq!(holds.due_at(), Some(later + 2 * pause));
        let much_later = later + 2 * pause;
        assert_eq!(holds.gate("a", much_later), Gate::Probe);
        holds.probe("a");
        // The connection broke before the answer came.
        holds.reconnected();
        assert_eq!(holds.gate("a", much_later), Gate::Probe);
        assert!(holds.taken("a"));
        assert_eq!(holds.gate("a", much_later), Gate::Open);
        assert!(!holds.taken("a"));
    }

    #[test]
    fn the_pause_has_an_end() {
        let (mut now, pause) = (Instant::now(), Duration::from_secs(60));
        let mut holds = Holds::new(pause);
        for _ in 0..20 {
            holds.refused("a", now);
            now = holds.due_at().expect("it is held");
        }
        holds.refused("a", now);
        assert_eq!(holds.due_at(), Some(now + LONGEST * pause));
    }
}
