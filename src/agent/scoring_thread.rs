//! The scoring thread: takes what was captured, judges it, hands verdicts on. One for all machines: a window takes
//! milliseconds, capture keeps what comes meanwhile, and where that gets more and more, others help. It never waits for a disk: alarms and learners are written by
//! [`StateWriter`](crate::monitor::state_writer::StateWriter), messages by the outbox.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::ahead::Ahead;
use super::between::WindowsBetween;
use super::log_lines;
use super::publisher::Publisher;
use crate::audio::capture::{Capture, CaptureEvent, Captured};
use crate::control::messages;
use crate::monitor::Monitor;
use crate::monitor::hearing::HeardWindow;
use crate::monitor::history::History;
use crate::monitor::last_window::LastWindows;
use crate::monitor::state_writer::WriterHandle;
use crate::monitor::trend::Trend;
use crate::mqtt::payload::EventKind;
use crate::numbers::counted;
use crate::scoring::Reason;
use crate::scoring::alarm::LONGEST_STEP_S;
use crate::scoring::baseline::LearnProgress;
use crate::scoring::gate::debounce::OverloadDebounce;
use crate::threads::join_until;
use crate::window::Window;

/// Time passes for alarms this often, whether sound comes or not.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Alarms are saved at every change, and what leads to them this often.
const SAVE_EVERY: Duration = Duration::from_secs(LONGEST_STEP_S as u64);

/// The running thread.
pub struct ScoringThread {
    thread: JoinHandle<()>,
    turns: Arc<AtomicU64>,
    seen: AtomicU64,
    finish: Arc<AtomicBool>,
}

impl ScoringThread {
    /// # Errors
    /// The thread cannot be started.
    pub fn start(work: ScoringWork) -> io::Result<ScoringThread> {
        let (turns, finish) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let (machines, between) = (HashMap::new(), WindowsBetween::default());
        let ahead = Ahead::new(work.capture.clone(), work.monitor.clone(), work.threads);
        let mut scoring = Scoring { work, ahead, machines, between, started, ticked: started, saved: started };
        let thread = std::thread::Builder::new().name("scoring".into()).spawn({
            let (turns, finish) = (turns.clone(), finish.clone());
            move || {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    let done = finish.load(Ordering::Acquire);
                    if done {
                        scoring.between.stop();
                    }
                    if !scoring.turn() && done {
                        break;
                    }
                }
            }
        })?;
        Ok(ScoringThread { thread, turns, seen: AtomicU64::new(0), finish })
    }

    /// Has it moved since this was last asked?
    pub fn is_alive(&self) -> bool {
        let turns = self.turns.load(Ordering::Relaxed);
        self.seen.swap(turns, Ordering::Relaxed) != turns
    }

    /// Judges what capture, already stopped, has left, and ends; waits for that up to `until`.
    pub fn finish(self, until: Instant) {
        self.finish.store(true, Ordering::Release);
        join_until(self.thread, until, "the scoring thread", "the last windows could not be judged in time");
    }
}

/// What the thread works with.
pub struct ScoringWork {
    pub capture: Arc<Capture>,
    pub monitor: Arc<Monitor>,
    pub publisher: Publisher,
    pub history: Arc<History>,
    pub trend: Arc<Trend>,
    pub evidence: Arc<LastWindows>,
    pub writer: WriterHandle,
    /// `agent.scoring_threads`.
    pub threads: usize,
}

struct Scoring {
    work: ScoringWork,
    ahead: Ahead,
    /// By the machine's number.
    machines: HashMap<usize, Watched>,
    between: WindowsBetween,
    started: Instant,
    ticked: Instant,
    saved: Instant,
}

/// What the thread itself remembers of a machine.
#[derive(Default)]
struct Watched {
    overload: OverloadDebounce,
    /// Of what is being learned: when it was saved, with how many windows; the tenths that were published.
    saved: Option<Instant>,
    windows: u64,
    tenths: u64,
    /// Why its windows are not judged, as the log said last; outside, that nothing was said yet.
    said: Option<Option<Reason>>,
}

impl Scoring {
    /// Takes one thing; false if there was none.
    fn turn(&mut self) -> bool {
        // Windows between two others are scored when no sound waits for its verdict.
        let until_tick = TICK_EVERY.saturating_sub(self.ticked.elapsed());
        let captured = self.ahead.next(if self.between.is_empty() { until_tick } else { Duration::ZERO });
        let came = captured.is_some() || !self.between.is_empty();
        match captured {
            Some((Captured::Window(window), heard)) => self.window(&window, heard),
            // Of a machine that was removed meanwhile.
            Some((Captured::Event { machine, .. } | Captured::End { machine }, _))
                if !self.work.monitor.has(machine) => {}
            Some((Captured::Event { machine, event }, _)) => self.publish_capture(machine, event),
            Some((Captured::End { machine }, _)) => self.work.publisher.source_ended(machine),
            None => self.between.score_next(&self.work.monitor),
        }
        if self.ticked.elapsed() >= TICK_EVERY {
            self.ticked = Instant::now();
            self.between.forget_idle(&self.work.monitor);
            if self.work.monitor.tick(Utc::now()) || self.saved.elapsed() >= SAVE_EVERY {
                self.saved = Instant::now();
                self.work.writer.save_alarms();
            }
        }
        came
    }

    fn window(&mut self, window: &Window, heard: Option<HeardWindow>) {
        let ScoringWork { monitor, publisher, history, trend, evidence, writer, .. } = &self.work;
        // Of a machine that was removed meanwhile.
        let Some(mut assessed) = monitor.assess_heard(window, heard) else { return };
        let end = DateTime::from(window.end);
        let id = monitor.id(window.machine);
        history.note(&id, end, assessed.assessment.distance);
        trend.note(&id, end, assessed.hop_s, &assessed.assessment);
        evidence.keep(window);
        publisher.verdict(window.machine, end, &assessed);
        publisher.signal(window.machine, &assessed.signal);
        let given_up = window.fault == Some(Reason::Overload);
        let watched = self.machines.entry(window.machine).or_default();
        let reason = assessed.assessment.reason;
        // What is wrong with a signal has its own events.
        let lasts = reason.is_none_or(Reason::is_of_the_machine);
        if lasts && watched.said != Some(reason) {
            watched.said = Some(reason);
            log_lines::judged(&monitor.id(window.machine), &assessed.assessment);
        }
        if let Some(windows) = watched.overload.observe(given_up, self.started.elapsed()) {
            let detail = format!("{} could not be scored in time", counted(windows, "window"));
            publisher.event(window.machine, EventKind::Overload, Some(detail));
        }
        if assessed.alarm_changed {
            writer.save_alarms();
        }
        if let Some(progress) = &assessed.learning {
            self.learning(window.machine, progress);
        }
        self.between.note(window, assessed.wanted_between.take(), Instant::now());
    }

    /// Publishes progress in steps of a tenth, and has it saved: not so often that it wears the disk out, nor so rarely
    /// that more than a tenth is lost.
    fn learning(&mut self, machine: usize, progress: &LearnProgress) {
        let tenth = (10.0 * progress.share()) as u64;
        let Watched { saved, windows, tenths, .. } = self.machines.entry(machine).or_default();
        // Begun anew.
        if progress.windows < *windows {
            (*windows, *tenths) = (0, 0);
        }
        let since = saved.get_or_insert_with(Instant::now);
        let due = since.elapsed() >= SAVE_EVERY && progress.windows * 10 >= *windows * 11;
        if due || progress.complete {
            (*since, *windows) = (Instant::now(), progress.windows);
            self.work.writer.save_learner(machine);
        }
        if tenth > *tenths {
            *tenths = tenth;
            let (detail, facts) = messages::describe_progress(progress);
            self.work.publisher.event_with(machine, EventKind::BaselineLearning, Some(detail), facts);
        }
    }

    fn publish_capture(&self, machine: usize, event: CaptureEvent) {
        let (event, detail) = match event {
            CaptureEvent::MicLost { why } => (EventKind::MicLost, Some(why)),
            CaptureEvent::MicBack => (EventKind::MicBack, None),
            CaptureEvent::Overrun { gaps, lost_s } => {
                (EventKind::Gap, Some(format!("{}, {lost_s:.3} s of sound lost", counted(gaps, "gap"))))
            }
        };
        self.work.publisher.event(machine, event, detail);
    }
}
