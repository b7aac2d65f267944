//! The judging thread: takes what was captured, judges it, hands verdicts on. One for all machines: a window takes
//! milliseconds, and capture keeps what comes meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::alarms::AlarmBook;
use super::report::Reporter;
use super::station::Station;
use crate::audio::capture::{Capture, CaptureEvent, Captured};
use crate::control::history::History;
use crate::mqtt::payload::EventKind;
use crate::scoring::alarm::LONGEST_STEP_S;

/// How long one wait for sound lasts; alarms are told the time in between.
const PATIENCE: Duration = Duration::from_millis(200);
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Alarms are on disk at every change, and what leads to them this often.
const KEEP_EVERY: Duration = Duration::from_secs(LONGEST_STEP_S as u64);

/// The running thread.
pub struct Judge {
    thread: JoinHandle<()>,
    turns: Arc<AtomicU64>,
    seen: AtomicU64,
    finish: Arc<AtomicBool>,
}

impl Judge {
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        capture: Arc<Capture>,
        station: Arc<Station>,
        reporter: Reporter,
        history: Arc<History>,
        book: AlarmBook,
    ) -> io::Result<Judge> {
        let (turns, finish) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
        let mut work = Work { capture, station, reporter, history, book, told: Instant::now(), kept: Instant::now() };
        let thread = std::thread::Builder::new().name("judge".into()).spawn({
            let (turns, finish) = (turns.clone(), finish.clone());
            move || {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    let done = finish.load(Ordering::Acquire);
                    if !work.turn() && done {
                        break;
                    }
                }
                work.keep();
            }
        })?;
        Ok(Judge { thread, turns, seen: AtomicU64::new(0), finish })
    }

    /// Has it moved since this was last asked?
    pub fn is_alive(&self) -> bool {
        let turns = self.turns.load(Ordering::Relaxed);
        self.seen.swap(turns, Ordering::Relaxed) != turns
    }

    /// Judges what capture, already stopped, has left, and ends.
    pub fn finish(self) {
        self.finish.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the judging thread had panicked");
        }
    }
}

struct Work {
    capture: Arc<Capture>,
    station: Arc<Station>,
    reporter: Reporter,
    history: Arc<History>,
    book: AlarmBook,
    told: Instant,
    kept: Instant,
}

impl Work {
    /// Takes one thing; false if there was none.
    fn turn(&mut self) -> bool {
        let captured = self.capture.next(PATIENCE);
        let came = captured.is_some();
        match captured {
            Some(Captured::Window(window)) => {
                let judged = self.station.judge(&window);
                let end = DateTime::from(window.end);
                self.history.note(self.reporter.id(window.machine), end, judged.assessment.distance);
                self.reporter.verdict(window.machine, end, &judged);
                if let Some(change) = judged.alarm {
                    self.keep();
                    self.reporter.alarm(window.machine, &change.to);
                }
            }
            Some(Captured::Event { machine, event }) => self.tell(machine, event),
            Some(Captured::End { machine }) => self.reporter.source_ended(machine),
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
        let mut inner = self.station.lock();
        let ticks = inner.machines.iter_mut().enumerate();
        let changes: Vec<_> = ticks.filter_map(|(number, machine)| Some((number, machine.alarm.tick(now)?))).collect();
        drop(inner);
        if !changes.is_empty() || self.kept.elapsed() >= KEEP_EVERY {
            self.keep();
        }
        for (machine, change) in changes {
            self.reporter.alarm(machine, &change.to);
        }
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        self.book.keep(&self.station.lock().machines);
    }

    fn tell(&self, machine: usize, event: CaptureEvent) {
        let (event, detail) = match event {
            CaptureEvent::MicLost { why } => (EventKind::MicLost, Some(why)),
            CaptureEvent::MicBack => (EventKind::MicBack, None),
            CaptureEvent::Overrun { gaps, lost_s } => {
                (EventKind::Gap, Some(format!("{gaps} times, {lost_s:.3} s of sound lost")))
            }
        };
        self.reporter.event(machine, event, detail);
    }
}
