//! What was asked for on one connection, and when what the broker denied is asked for again.

use std::collections::VecDeque;
use std::time::Instant;

use crate::backoff::Backoff;

/// The subscriptions of one connection.
pub struct Subscriptions {
    /// Filters that are not answered yet, in the order in which they were asked for.
    asked: VecDeque<Vec<String>>,
    /// When those that were denied are asked for again.
    again_at: Option<Instant>,
    pause: Backoff,
}

impl Subscriptions {
    pub fn new(pause: Backoff) -> Self {
        Subscriptions { asked: VecDeque::new(), again_at: None, pause }
    }

    pub fn asked(&mut self, filters: Vec<String>) {
        self.asked.push_back(filters);
    }

    /// The filters that an answer is about.
    pub fn answered(&mut self) -> Option<Vec<String>> {
        self.asked.pop_front()
    }

    /// Some of them were denied: a cluster that lacks a node denies what it takes a moment later.
    pub fn denied(&mut self, now: Instant) {
        self.again_at = Some(now + self.pause.next());
    }

    pub fn due_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Whether it is time to ask again; from then on that is done.
    pub fn comes_due(&mut self, now: Instant) -> bool {
        self.again_at.take_if(|again_at| now >= *again_at).is_some()
    }
}
