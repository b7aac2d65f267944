//! The judging thread: takes what was captured, judges it, hands verdicts on. One for all machines: a window takes
//! milliseconds, and capture keeps what comes meanwhile.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::publisher::Publisher;
use crate::audio::capture::{Capture, CaptureEvent, Captured};
use crate::control::messages;
use crate::monitor::Monitor;
use crate::monitor::alarm_store::AlarmStore;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::history::History;
use crate::monitor::last_window::LastWindows;
use crate::mqtt::payload::EventKind;
use crate::scoring::Reason;
use crate::scoring::alarm::LONGEST_STEP_S;
use crate::scoring::baseline::Progress;
use crate::scoring::gate::debounce::OverloadWatch;

/// How long one wait for sound lasts; alarms are told the time in between.
const PATIENCE: Duration = Duration::from_millis(200);
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Alarms are on disk at every change, and what leads to them this often.
const KEEP_EVERY: Duration = Duration::from_secs(LONGEST_STEP_S as u64);

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
    pub fn start(
        capture: Arc<Capture>,
        monitor: Arc<Monitor>,
        publisher: Publisher,
        history: Arc<History>,
        evidence: Arc<LastWindows>,
        book: Arc<AlarmStore>,
        baselines: BaselineStore,
    ) -> io::Result<ScoringThread> {
        let (turns, finish) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let overload = monitor.lock().machines.iter().map(|_| OverloadWatch::default()).collect();
        let (told, kept, learned) = (started, started, HashMap::new());
        let mut scoring = Scoring {
            capture,
            monitor,
            publisher,
            history,
            evidence,
            book,
            overload,
            started,
            told,
            kept,
            baselines,
            learned,
        };
        let thread = std::thread::Builder::new().name("scoring".into()).spawn({
            let (turns, finish) = (turns.clone(), finish.clone());
            move || {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    let done = finish.load(Ordering::Acquire);
                    if !scoring.turn() && done {
                        break;
                    }
                }
                scoring.keep();
                scoring.learned.keys().for_each(|machine| scoring.keep_learner(*machine));
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
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                tracing::error!("the last windows could not be judged in time");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.thread.join().is_err() {
            tracing::error!("the judging thread had panicked");
        }
    }
}

struct Scoring {
    capture: Arc<Capture>,
    monitor: Arc<Monitor>,
    publisher: Publisher,
    history: Arc<History>,
    evidence: Arc<LastWindows>,
    book: Arc<AlarmStore>,
    /// In the configuration's order.
    overload: Vec<OverloadWatch>,
    started: Instant,
    told: Instant,
    kept: Instant,
    baselines: BaselineStore,
    /// Of machines that are being learned: when that was kept, with how many windows; the tenths that were told.
    learned: HashMap<usize, (Instant, u64, u64)>,
}

impl Scoring {
    /// Takes one thing; false if there was none.
    fn turn(&mut self) -> bool {
        let captured = self.capture.next(PATIENCE);
        let came = captured.is_some();
        match captured {
            Some(Captured::Window(window)) => {
                let assessed = self.monitor.assess(&window);
                let end = DateTime::from(window.end);
                self.history.note(self.publisher.id(window.machine), end, assessed.assessment.distance);
                self.evidence.keep(&window);
                self.publisher.verdict(window.machine, end, &assessed);
                self.publisher.signal(window.machine, &assessed.signal);
                let given_up = window.fault == Some(Reason::Overload);
                let windows = self.overload[window.machine].observe(given_up, self.started.elapsed());
                if let Some(windows) = windows {
                    let detail = format!("{windows} windows could not be scored in time");
                    self.publisher.event(window.machine, EventKind::Overload, Some(detail));
                }
                if let Some(progress) = &assessed.learning {
                    self.learning(window.machine, progress);
                }
                if let Some(change) = assessed.alarm {
                    self.keep();
                    self.publisher.alarm(window.machine, &change.to);
                }
            }
            Some(Captured::Event { machine, event }) => self.tell(machine, event),
            Some(Captured::End { machine }) => self.publisher.source_ended(machine),
            None => {}
        }
        if self.told.elapsed() >= TICK_EVERY {
            self.told = Instant::now();
            self.tick(Utc::now());
        }
        came
    }

    /// Time passes: shelving ends, deafness becomes an alarm.
    fn tick(&mut self, now: DateTime<Utc>) {
        let mut state = self.monitor.lock();
        let ticks = state.machines.iter_mut().enumerate();
        let changes: Vec<_> = ticks.filter_map(|(number, machine)| Some((number, machine.alarm.tick(now)?))).collect();
        drop(state);
        if !changes.is_empty() || self.kept.elapsed() >= KEEP_EVERY {
            self.keep();
        }
        for (machine, change) in changes {
            self.publisher.alarm(machine, &change.to);
        }
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        self.book.keep(&self.monitor);
    }

    /// Tells of learning in steps of a tenth, and keeps what was heard: not so often that it wears the disk out, nor so
    /// rarely that more than a tenth is lost.
    fn learning(&mut self, machine: usize, progress: &Progress) {
        let tenth = (10.0 * progress.heard_s / progress.wanted_s) as u64;
        let step = self.learned.entry(machine).or_insert((Instant::now(), 0, 0));
        let (kept, windows, told) = step;
        // Begun anew.
        if progress.windows < *windows {
            (*windows, *told) = (0, 0);
        }
        let due = kept.elapsed() >= KEEP_EVERY && progress.windows * 10 >= *windows * 11;
        let keep = due || progress.complete;
        if tenth > *told {
            *told = tenth;
            let (detail, facts) = messages::progress_told(progress);
            self.publisher.event_with(machine, EventKind::BaselineLearning, Some(detail), facts);
        }
        if keep {
            (*kept, *windows) = (Instant::now(), progress.windows);
            self.keep_learner(machine);
        }
    }

    /// With the monitor locked, so that what is discarded meanwhile is not written again.
    fn keep_learner(&self, machine: usize) {
        let state = self.monitor.lock();
        let Some(learner) = &state.machines[machine].learning.learner else { return };
        if let Err(error) = self.baselines.keep_learner(self.publisher.id(machine), learner) {
            tracing::warn!(machine = self.publisher.id(machine), %error, "what is being learned cannot be kept");
        }
    }

    fn tell(&self, machine: usize, event: CaptureEvent) {
        let (event, detail) = match event {
            CaptureEvent::MicLost { why } => (EventKind::MicLost, Some(why)),
            CaptureEvent::MicBack => (EventKind::MicBack, None),
            CaptureEvent::Overrun { gaps, lost_s } => {
                (EventKind::Gap, Some(format!("{gaps} times, {lost_s:.3} s of sound lost")))
            }
        };
        self.publisher.event(machine, event, detail);
    }
}
