//! Who is told of an alarm: ntfy, webhook, e-mail. The agent tells by itself, also without a broker.
//!
//! ```text
//! state writer, supervisor -> Notifier (what stands) -> thread `notify`: a Plan for each target, notify.json
//!                                                          -> thread `notify-NAME` for each target -> network
//! ```
//! Whoever hands something in never waits: what stands is replaced behind a lock that nobody holds for long. An alarm is on
//! disk before it comes here, and what was told is in `notify.json` before it goes out, so that neither is lost with the
//! power; what had gone out in that very moment goes out again.

mod channel;
mod item;
mod plan;
mod saved;
mod sender;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex};

pub use self::channel::{SendError, check};
pub use self::item::Now;
use self::item::{Known, Situation, Standing, Subject};
use self::plan::{Plan, PlanState};
use self::saved::SavedFile;
use self::sender::Sender;
use self::words::{Writer, system_zone};
use crate::config::NotifyConfig;
use crate::config::notify::NotifyEvent;
use crate::control::notify::{Notify, TargetStatus, TestOutcome};
use crate::threads::join_until;

/// How long the thread waits where nothing happens: repetitions and quiet hours are late by this at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Two test messages are at least so far apart.
const TEST_EVERY: Duration = Duration::from_secs(5);
/// What is being sent at a stop may take this long.
const LAST_MESSAGE: Duration = Duration::from_millis(800);

/// The agent's handle. Cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    situation: Situation,
    /// Since when the broker has been away.
    away: Option<(Instant, DateTime<Utc>)>,
    targets: Vec<NotifyConfig>,
    status: BTreeMap<String, TargetStatus>,
    /// By the target's place among those that run.
    outcomes: Vec<(usize, Result<(), SendError>)>,
    tested: Option<Instant>,
    poked: bool,
    stop: bool,
}

impl Notifier {
    /// A notifier that tells nothing until [`Notifier::start`].
    pub fn new(agent: &str, page: Option<&str>, targets: &[NotifyConfig]) -> Notifier {
        let writer = Writer { agent: agent.to_owned(), page: page.map(str::to_owned), local: system_zone };
        let inner = Inner { targets: targets.to_vec(), ..Inner::default() };
        Notifier { shared: Arc::new(Shared { writer, inner: inner.into(), wake: Condvar::new() }) }
    }

    /// A machine's alarm as it is now; `name` is what people call it.
    pub fn machine(&self, id: &str, name: &str, now: Now) {
        let known = Known { name: name.to_owned(), now };
        self.change(|inner| inner.situation.insert(Some(id.to_owned()), known.clone()).as_ref() != Some(&known));
    }

    /// A machine is gone: nothing more is told of it.
    pub fn remove_machine(&self, id: &str) {
        self.change(|inner| inner.situation.remove(&Some(id.to_owned())).is_some());
    }

    /// Whether the broker is there.
    pub fn broker(&self, connected: bool) {
        let now = Utc::now();
        self.change(|inner| match (connected, inner.away) {
            (true, None) if inner.situation.contains_key(&None) => false,
            (true, _) => {
                inner.away = None;
                let known = Known { name: self.shared.writer.agent.clone(), now: Now::Calm { since: now } };
                inner.situation.insert(None, known);
                true
            }
            (false, None) => {
                inner.away = Some((Instant::now(), now));
                true
            }
            (false, Some(_)) => false,
        });
    }

    /// Wakes the thread where `change` changes something.
    fn change(&self, change: impl FnOnce(&mut Inner) -> bool) {
        let mut inner = self.shared.inner.lock();
        if change(&mut inner) {
            inner.poked = true;
            drop(inner);
            self.shared.wake.notify_one();
        }
    }

    /// Begins to tell. The situation of all machines has to be handed in before: what is not in it is not told to be over.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(&self, state_dir: &Path) -> std::io::Result<Running> {
        let (file, saved) = SavedFile::open(state_dir);
        let mut work = Work { shared: self.shared.clone(), file, saved, targets: Vec::new() };
        let thread = std::thread::Builder::new().name("notify".into()).spawn(move || work.run())?;
        Ok(Running { notifier: self.clone(), thread })
    }
}

impl Notify for Notifier {
    fn status(&self) -> Vec<TargetStatus> {
        let inner = self.shared.inner.lock();
        let status = |target: &NotifyConfig| {
            let known = inner.status.get(&target.name()).cloned();
            known.unwrap_or_else(|| TargetStatus::new(target.name(), target.kind))
        };
        inner.targets.iter().map(status).collect()
    }

    fn test(&self, name: Option<&str>) -> Result<Vec<TestOutcome>, Duration> {
        let targets = {
            let mut inner = self.shared.inner.lock();
            let wait = inner.tested.map_or(Duration::ZERO, |at| TEST_EVERY.saturating_sub(at.elapsed()));
            if wait > Duration::ZERO {
                return Err(wait);
            }
            inner.tested = Some(Instant::now());
            inner.targets.clone()
        };
        let chosen: Vec<_> = targets.iter().filter(|target| name.is_none_or(|name| target.name() == name)).collect();
        Ok(test(&self.shared.writer, &chosen))
    }
}

/// Sends a test message to each of `targets`, all at the same time; for whoever has no running agent.
pub fn send_test(agent: &str, page: Option<&str>, targets: &[&NotifyConfig]) -> Vec<TestOutcome> {
    test(&Writer { agent: agent.to_owned(), page: page.map(str::to_owned), local: system_zone }, targets)
}

fn test(writer: &Writer, targets: &[&NotifyConfig]) -> Vec<TestOutcome> {
    let send = |target: &NotifyConfig| {
        let problem = channel::send(target, &writer.test(&target.name())).err().map(|error| error.problem);
        TestOutcome { name: target.name(), kind: target.kind, sent: problem.is_none(), problem }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = targets.iter().map(|target| scope.spawn(move || send(target))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// The running thread.
pub struct Running {
    notifier: Notifier,
    thread: JoinHandle<()>,
}

impl Running {
    /// Keeps what could not be sent, and ends; waits for that up to `until`.
    pub fn finish(self, until: Instant) {
        self.notifier.change(|inner| {
            inner.stop = true;
            true
        });
        join_until(
            self.thread,
            until,
            "the notifier",
            "notifications that were not sent yet could not be saved in time",
        );
    }
}

/// A target while it runs.
struct Target {
    plan: Plan,
    sender: Sender,
    sending: bool,
    status: TargetStatus,
}

struct Work {
    shared: Arc<Shared>,
    file: SavedFile,
    saved: saved::Saved,
    targets: Vec<Target>,
}

impl Work {
    fn run(&mut self) {
        let crashed = std::mem::replace(&mut self.saved.running, true);
        let targets = self.shared.inner.lock().targets.clone();
        for config in targets {
            let state = self.saved.targets.remove(&config.name()).unwrap_or_default();
            self.open(config, state);
        }
        // What is no target any more is told nothing.
        self.saved.targets.clear();
        if crashed {
            let now = Utc::now();
            self.targets.iter_mut().for_each(|target| target.plan.restarted(&self.shared.writer, now));
        }
        let mut first = true;
        loop {
            let stop = self.turn(std::mem::take(&mut first));
            if stop {
                return self.end();
            }
            let mut inner = self.shared.inner.lock();
            if !inner.poked {
                let wait = if self.targets.is_empty() { 60 * LOOK_EVERY } else { LOOK_EVERY };
                self.shared.wake.wait_for(&mut inner, wait);
            }
            inner.poked = false;
        }
    }

    /// Looks at what stands, keeps what is to be told, then sends it; whether the agent stops.
    fn turn(&mut self, save: bool) -> bool {
        let (situation, outcomes, stop) = {
            let mut inner = self.shared.inner.lock();
            (situation(&inner, &self.shared.writer), std::mem::take(&mut inner.outcomes), inner.stop)
        };
        self.take_outcomes(outcomes);
        let (now, at) = (Utc::now(), Instant::now());
        for target in &mut self.targets {
            target.plan.look(&situation, &self.shared.writer, now);
        }
        self.keep(save);
        if !stop {
            for target in self.targets.iter_mut().filter(|target| !target.sending) {
                if let Some(message) = target.plan.next(&self.shared.writer, now, at) {
                    target.sending = target.sender.send(message);
                }
            }
        }
        self.publish_status();
        stop
    }

    fn open(&mut self, config: NotifyConfig, state: PlanState) {
        let (number, name, shared) = (self.targets.len(), config.name(), self.shared.clone());
        let report = move |outcome| {
            let mut inner = shared.inner.lock();
            inner.outcomes.push((number, outcome));
            inner.poked = true;
            drop(inner);
            shared.wake.notify_one();
        };
        match Sender::start(config.clone(), report) {
            Ok(sender) => {
                let status = TargetStatus::new(name, config.kind);
                let plan = Plan::new(config, state, Instant::now());
                self.targets.push(Target { plan, sender, sending: false, status });
            }
            Err(error) => tracing::error!(name, %error, "a thread cannot be started: no notifications are sent there"),
        }
    }

    fn take_outcomes(&mut self, outcomes: Vec<(usize, Result<(), SendError>)>) {
        for (number, outcome) in outcomes {
            let Some(target) = self.targets.get_mut(number) else { continue };
            let name = &target.status.name;
            target.sending = false;
            target.plan.sent(&outcome, Instant::now());
            match outcome {
                Ok(()) => {
                    if target.status.problem.take().is_some() {
                        tracing::info!("notifications reach {name} again");
                    }
                    target.status.sent = Some(Utc::now().into());
                }
                Err(SendError { problem, .. }) => {
                    // Once for each problem: the attempts go on.
                    if target.status.problem.as_ref() != Some(&problem) {
                        tracing::warn!("notifications do not reach {name}: {problem}; trying again");
                    }
                    target.status.problem = Some(problem);
                }
            }
        }
    }

    /// Writes what has changed.
    fn keep(&mut self, always: bool) {
        let mut changed = always;
        for target in &mut self.targets {
            changed |= target.plan.take_changed();
        }
        if changed || self.file.is_failing() {
            self.write();
        }
    }

    fn write(&mut self) {
        let states = self.targets.iter().map(|target| (target.status.name.clone(), target.plan.state().clone()));
        self.saved.targets = states.collect();
        self.file.save(&self.saved);
        self.saved.targets.clear();
    }

    fn publish_status(&mut self) {
        for target in &mut self.targets {
            target.status.waiting = target.plan.waiting();
        }
        let status = self.targets.iter().map(|target| (target.status.name.clone(), target.status.clone()));
        self.shared.inner.lock().status = status.collect();
    }

    /// Waits a moment for what is being sent, then says on disk that this end was wanted.
    fn end(&mut self) {
        let until = Instant::now() + LAST_MESSAGE;
        while self.targets.iter().any(|target| target.sending) && Instant::now() < until {
            let outcomes = {
                let mut inner = self.shared.inner.lock();
                if inner.outcomes.is_empty() {
                    self.shared.wake.wait_until(&mut inner, until);
                }
                std::mem::take(&mut inner.outcomes)
            };
            self.take_outcomes(outcomes);
        }
        self.saved.running = false;
        self.write();
    }
}

/// What stands now, the broker's absence included.
fn situation(inner: &Inner, writer: &Writer) -> Situation {
    let mut situation = inner.situation.clone();
    let of_agent: Subject = None;
    if let Some((at, since)) = inner.away {
        let standing = Standing {
            kind: NotifyEvent::NoBroker,
            since,
            acknowledged: false,
            why: None,
            count: 0,
            detail: None,
            lasted: Some(at.elapsed()),
        };
        situation.insert(of_agent, Known { name: writer.agent.clone(), now: Now::Standing(standing) });
    } else {
        // Nothing is known of it yet: what was told before the start stays told.
        situation.entry(of_agent).or_insert_with(|| Known { name: writer.agent.clone(), now: Now::Hidden });
    }
    situation
}
