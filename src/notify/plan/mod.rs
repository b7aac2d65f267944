//! What one target is told, and when. Pure: time is handed in, sending is somebody else's.
//!
//! It looks at what stands rather than at what happened: what was told is remembered until it is over, so that a restart
//! tells nothing twice, and what changes twice while nothing may be told is told as it then is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::config::NotifyConfig;
use crate::config::notify::NotifyEvent;
use crate::notify::channel::SendError;
use crate::notify::item::{Item, Known, Message, Now, Phase, Situation, Standing, Subject};
use crate::notify::words::Writer;
use crate::token_bucket::TokenBucket;

/// Items that can wait for a target; the oldest go first.
const WAITING: usize = 100;
/// What comes within this time goes in one message.
const GATHER: Duration = Duration::from_secs(1);
/// Messages that may follow each other at once after a quiet time.
const BURST: f64 = 3.0;
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15 * 60));
/// A message that the server refuses so often in a row is given up.
const REFUSALS: u32 = 5;

/// What was told, and is not over yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Announced {
    machine: Subject,
    name: String,
    kind: NotifyEvent,
    since: DateTime<Utc>,
    /// When it was told last.
    at: DateTime<Utc>,
}

/// What must survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanState {
    announced: Vec<Announced>,
    /// Oldest first.
    waiting: VecDeque<Item>,
    /// Items that were lost since the last message.
    dropped: u64,
}

/// One target's plan.
pub struct Plan {
    config: NotifyConfig,
    state: PlanState,
    changed: bool,
    bucket: TokenBucket,
    backoff: Backoff,
    refusals: u32,
    /// No attempt before this.
    pause_until: Option<Instant>,
    /// Since when something waits that may be sent.
    gathering: Option<Instant>,
    /// What is being sent.
    in_flight: Vec<Item>,
    /// Of `dropped`, how many the message that is being sent tells.
    confessed: u64,
}

impl Plan {
    pub fn new(config: NotifyConfig, state: PlanState, now: Instant) -> Plan {
        let bucket = TokenBucket::new(config.max_per_hour / 3600.0, BURST, now);
        Plan {
            config,
            state,
            changed: false,
            bucket,
            backoff: Backoff::new(PAUSE.0, PAUSE.1),
            refusals: 0,
            pause_until: None,
            gathering: None,
            in_flight: Vec::new(),
            confessed: 0,
        }
    }

    pub fn state(&self) -> &PlanState {
        &self.state
    }

    /// Whether the state differs from what it was at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn waiting(&self) -> usize {
        self.state.waiting.len()
    }

    /// Decides what is to be told of what stands.
    pub fn look(&mut self, situation: &Situation, writer: &Writer, now: DateTime<Utc>) {
        let quiet = self.is_quiet(writer, now);
        for (subject, known) in situation {
            if subject.as_ref().is_some_and(|machine| !self.config.covers(machine)) {
                continue;
            }
            match &known.now {
                Now::Standing(standing) => self.look_at_standing((subject, known), standing, writer, quiet, now),
                Now::Calm { since } => self.look_at_calm(subject, *since, writer, quiet, now),
                Now::Hidden => {}
            }
        }
        // Of a machine that is gone there is nothing to tell.
        let before = self.state.announced.len();
        self.state.announced.retain(|one| situation.contains_key(&one.machine));
        self.changed |= self.state.announced.len() != before;
    }

    fn look_at_standing(
        &mut self,
        about: (&Subject, &Known),
        standing: &Standing,
        writer: &Writer,
        quiet: bool,
        now: DateTime<Utc>,
    ) {
        let kind = standing.kind;
        let urgent = self.config.urgent.contains(&kind);
        if !self.config.wants(kind) || standing.acknowledged || (quiet && !urgent) {
            return;
        }
        let least = Duration::from_secs_f64(60.0 * self.config.no_broker_after_min);
        if standing.lasted.is_some_and(|lasted| lasted < least) {
            return;
        }
        let known = self.state.announced.iter().position(|one| one.machine == *about.0 && one.kind == kind);
        // How long the broker has been away is counted anew at each start.
        let same = known.filter(|n| kind == NotifyEvent::NoBroker || self.state.announced[*n].since == standing.since);
        if let Some(number) = same {
            let every = TimeDelta::milliseconds((60_000.0 * self.config.repeat_min) as i64);
            // A clock that was set back does not hold it up.
            let passed = (now - self.state.announced[number].at).abs();
            if every > TimeDelta::zero() && passed >= every {
                self.state.announced[number].at = now;
                self.take(writer.raised(about, standing, urgent, true, now));
            }
            return;
        }
        if let Some(number) = known {
            self.state.announced.remove(number);
        }
        let (machine, name) = (about.0.clone(), about.1.name.clone());
        self.state.announced.push(Announced { machine, name, kind, since: standing.since, at: now });
        self.take(writer.raised(about, standing, urgent, false, now));
    }

    /// What was told is over, once nothing stands any more.
    fn look_at_calm(
        &mut self,
        subject: &Subject,
        calm_since: DateTime<Utc>,
        writer: &Writer,
        quiet: bool,
        now: DateTime<Utc>,
    ) {
        let of_it = |one: &Announced| one.machine == *subject;
        let Some(first) = self.state.announced.iter().filter(|one| of_it(one)).min_by_key(|one| one.kind).cloned()
        else {
            return;
        };
        if self.config.wants(NotifyEvent::Cleared) {
            if quiet && !self.config.urgent.contains(&NotifyEvent::Cleared) {
                return;
            }
            self.take(writer.cleared((subject, &first.name), first.kind, (first.since, calm_since), now));
        }
        self.state.announced.retain(|one| !of_it(one));
        self.changed = true;
    }

    /// Puts an item in the queue.
    fn take(&mut self, item: Item) {
        // A reminder of what has not been sent yet says nothing new.
        if item.event == Phase::Repeated {
            self.state
                .waiting
                .retain(|one| !(one.event == Phase::Repeated && one.machine == item.machine && one.kind == item.kind));
        }
        self.state.waiting.push_back(item);
        while self.state.waiting.len() > WAITING {
            self.state.waiting.pop_front();
            self.state.dropped += 1;
        }
        self.changed = true;
    }

    /// The agent has started after an end that nobody wanted.
    pub fn restarted(&mut self, writer: &Writer, now: DateTime<Utc>) {
        if self.config.wants(NotifyEvent::Restarted) {
            let urgent = self.config.urgent.contains(&NotifyEvent::Restarted);
            self.take(writer.restarted(urgent, now));
        }
    }

    /// What is to be sent now, if anything; [`Plan::sent`] must follow.
    pub fn next(&mut self, writer: &Writer, now: DateTime<Utc>, at: Instant) -> Option<Message> {
        if !self.in_flight.is_empty() || self.pause_until.is_some_and(|until| at < until) {
            return None;
        }
        let quiet = self.is_quiet(writer, now);
        let ready = |item: &Item| !quiet || item.urgent;
        if !self.state.waiting.iter().any(ready) {
            self.gathering = None;
            return None;
        }
        let since = *self.gathering.get_or_insert(at);
        if at < since + GATHER || !self.bucket.take(at) {
            return None;
        }
        self.gathering = None;
        self.in_flight = self.state.waiting.iter().filter(|item| ready(item)).cloned().collect();
        self.confessed = self.state.dropped;
        Some(writer.message(self.in_flight.clone(), self.confessed))
    }

    /// What [`Plan::next`] gave was sent, or not.
    pub fn sent(&mut self, outcome: &Result<(), SendError>, at: Instant) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let forget = match outcome {
            Ok(()) => {
                self.backoff.reset();
                (self.pause_until, self.refusals) = (None, 0);
                self.state.dropped -= self.confessed;
                true
            }
            Err(error) => {
                self.bucket.give_back();
                let pause = self.backoff.next().max(error.retry_after.unwrap_or_default()).min(4 * PAUSE.1);
                self.pause_until = Some(at + pause);
                self.refusals = if error.refused { self.refusals + 1 } else { 0 };
                let give_up = self.refusals >= REFUSALS;
                if give_up {
                    self.refusals = 0;
                    self.state.dropped += in_flight.len() as u64;
                    tracing::error!(
                        name = self.config.name(),
                        items = in_flight.len(),
                        "given up: the server refuses it"
                    );
                }
                give_up
            }
        };
        if forget {
            self.state.waiting.retain(|item| !in_flight.contains(item));
            self.changed = true;
        }
    }

    fn is_quiet(&self, writer: &Writer, now: DateTime<Utc>) -> bool {
        self.config.quiet_hours.is_some_and(|hours| hours.contains((writer.local)(now).time()))
    }
}

#[cfg(test)]
mod tests;
