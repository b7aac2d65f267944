//! The capture thread of one stream: one opened device with all the machines on its channels, one WAV source or one
//! simulated machine. It reads, splits the channels, resamples, cuts windows, and keeps the source open for ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::capture::{CaptureEvent, CaptureState, Captured, MachineStats};
use super::cutter::{Cut, Cutter};
use super::queue::Queue;
use super::resample::Resampler;
use super::{Format, MachineInput, Read, Source, SourceError, Window, take_channel};
use crate::config::Channel;
use crate::scoring::Reason;

/// No frame for so long: the source is lost. Frames arriving is the only proof of life.
const STALL: Duration = Duration::from_secs(2);
/// First and longest pause between two attempts to open a lost source.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Gaps are told as events no more often than this; the counts go on.
const GAP_EVENTS: Duration = Duration::from_secs(10);
/// A source that cannot be closed in so long (its sound server hangs, the library has locked itself up) is left behind.
const CLOSING: Duration = Duration::from_secs(3);
/// So long at the stop of the capture.
const CLOSING_AT_STOP: Duration = Duration::from_millis(500);
/// Longest wait of the thread for anything, so that it stops soon when asked to.
const TICK: Duration = Duration::from_millis(100);

/// Opens a source, as often as it takes.
pub type Opener = Arc<dyn Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync>;

/// One source and the machines that hang on it.
pub struct StreamSpec {
    /// What is opened, for logs: the device's selector, the file.
    pub name: String,
    pub open: Opener,
    /// Already opened, where opening it must not fail.
    pub opened: Option<Box<dyn Source>>,
    /// Live sound is never waited with; what is not waits for scoring.
    pub realtime: bool,
    /// With the channel that each takes.
    pub machines: Vec<(MachineInput, Channel)>,
}

/// What the threads of one capture share.
pub(super) struct Shared {
    pub queue: Queue,
    pub stop: AtomicBool,
    pub stats: Mutex<Vec<MachineStats>>,
}

impl Shared {
    pub fn update(&self, machine: usize, change: impl FnOnce(&mut MachineStats)) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = stats.iter_mut().find(|stats| stats.machine == machine) {
            change(stats);
        }
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One machine on the stream.
struct Lane {
    input: MachineInput,
    channel: Channel,
    hop: Duration,
    cutter: Cutter,
    /// Made anew with each opening and after each gap.
    resampler: Option<Resampler>,
    /// Samples at the source's rate that came or were lost since it was opened: the resampler gives them out later.
    taken: u64,
    mono: Vec<f32>,
    resampled: Vec<f32>,
    /// When the next window is due at the latest; past it, a machine that hears nothing says so.
    due: Instant,
    /// Hears nothing, or not long enough for a window.
    blind: bool,
    /// Gaps and seconds lost that no event has told yet, and when the last was told.
    untold: (u64, f64),
    told: Option<Instant>,
}

enum Stage {
    Open(Box<dyn Source>),
    /// Being opened in a thread of its own: a stopped sound server can hold that up for ever.
    Opening(Receiver<Result<Box<dyn Source>, SourceError>>),
    /// To be opened at that time, when the old one is closed.
    Closed {
        until: Instant,
        old: Option<Closing>,
    },
    Ended,
}

/// A source being closed in a thread of its own: that can take for ever too.
struct Closing {
    done: Receiver<()>,
    begun: Instant,
}

impl Closing {
    fn begin(source: Box<dyn Source>) -> Closing {
        let (sender, done) = mpsc::channel();
        let thread = thread::Builder::new().name("close".into()).spawn(move || {
            drop(source);
            drop(sender);
        });
        if let Err(error) = thread {
            // The source was dropped with the thread that never began.
            tracing::debug!("closed in place: {error}");
        }
        Closing { done, begun: Instant::now() }
    }

    /// Waits for its end, for `timeout` at most.
    fn is_done(&self, timeout: Duration) -> bool {
        self.done.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }
}

pub(super) struct Stream {
    name: String,
    open: Opener,
    realtime: bool,
    lanes: Vec<Lane>,
    shared: Arc<Shared>,
    source: Stage,
    /// Since when the source is waited for, or when its last frame came.
    last_frame: Instant,
    /// Frames have come since it was opened.
    heard: bool,
    /// Why it is lost, where that was told.
    lost: Option<String>,
    back_off: Duration,
    frames: Vec<f32>,
}

impl Stream {
    pub fn new(spec: StreamSpec, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let lanes = spec.machines.into_iter().map(|(input, channel)| {
            let hop = (input.hop_s * f64::from(input.rate_hz)).round().max(1.0);
            Lane {
                channel,
                hop: Duration::from_secs_f64(input.hop_s),
                cutter: Cutter::new(input.window_samples, hop as usize),
                resampler: None,
                taken: 0,
                mono: Vec::new(),
                resampled: Vec::new(),
                due: now + Duration::from_secs_f64(input.hop_s),
                blind: false,
                untold: (0, 0.0),
                told: None,
                input,
            }
        });
        let source = match spec.opened {
            Some(source) => Stage::Open(source),
            None => Stage::Closed { until: now, old: None },
        };
        Stream {
            name: spec.name,
            open: spec.open,
            realtime: spec.realtime,
            lanes: lanes.collect(),
            shared,
            source,
            last_frame: now,
            heard: false,
            lost: None,
            back_off: BACK_OFF.0,
            frames: Vec::new(),
        }
    }

    /// Runs until the source ends or the capture is stopped.
    pub fn run(mut self) {
        while !self.shared.stopping() {
            let source = std::mem::replace(&mut self.source, Stage::Ended);
            self.source = match source {
                Stage::Open(source) => self.read(source),
                Stage::Opening(result) => self.await_opening(result),
                Stage::Closed { until, old } => self.rest(until, old),
                Stage::Ended => break,
            };
            self.tell_blindness();
        }
        if let Stage::Open(source) = self.source {
            Closing::begin(source).is_done(CLOSING_AT_STOP);
        }
    }

    fn read(&mut self, mut source: Box<dyn Source>) -> Stage {
        self.frames.clear();
        match source.read(&mut self.frames) {
            Ok(Read::Frames { end }) => {
                if !self.heard
                    && let Err(why) = self.begin(source.format())
                {
                    return self.lose(source, &why);
                }
                self.last_frame = Instant::now();
                self.feed(source.format(), end);
            }
            Ok(Read::Gap { frames }) => self.skip(source.format(), frames),
            Ok(Read::Nothing) if self.last_frame.elapsed() > STALL => {
                let why = format!("no sound has come for {} s", STALL.as_secs());
                return self.lose(source, &why);
            }
            Ok(Read::Nothing) => {}
            Ok(Read::End) => return self.end(source.format()),
            // A file that turns out broken stays broken.
            Err(SourceError::Data(why)) if !self.realtime => {
                tracing::error!(source = self.name, "{why}");
                return self.end(source.format());
            }
            Err(error) => return self.lose(source, &error.to_string()),
        }
        Stage::Open(source)
    }

    /// The first frames have come.
    fn begin(&mut self, format: Format) -> Result<(), String> {
        for lane in &mut self.lanes {
            if let Channel::One(channel) = lane.channel
                && channel >= format.channels
            {
                return Err(format!(
                    "machine {:?} wants channel {channel}, but {} has {} (from 0)",
                    lane.input.id, self.name, format.channels
                ));
            }
            let resampler = Resampler::new(format.rate_hz, lane.input.rate_hz).map_err(|error| error.to_string())?;
            (lane.resampler, lane.taken) = (Some(resampler), 0);
            lane.cutter.restart();
        }
        let was_lost = self.lost.take();
        (self.heard, self.back_off) = (true, BACK_OFF.0);
        tracing::info!(source = self.name, rate_hz = format.rate_hz, channels = format.channels, "hearing");
        for lane in &self.lanes {
            self.shared.update(lane.input.machine, |stats| {
                (stats.state, stats.format, stats.why) = (CaptureState::Live, Some(format), None);
            });
            if was_lost.is_some() {
                let event = Captured::Event { machine: lane.input.machine, event: CaptureEvent::MicBack };
                self.shared.queue.push(event, false);
            }
        }
        Ok(())
    }

    /// Splits, resamples and cuts what has come; its last frame was captured at `end`.
    fn feed(&mut self, format: Format, end: SystemTime) {
        let Stream { lanes, frames, shared, realtime, .. } = self;
        for lane in lanes {
            take_channel(frames, format.channels, lane.channel, &mut lane.mono);
            let level = super::health::level_dbfs(&lane.mono);
            shared.update(lane.input.machine, |stats| {
                (stats.last_frame, stats.level_dbfs) = (Some(Instant::now()), Some(level));
            });
            lane.resampled.clear();
            if let Some(resampler) = &mut lane.resampler {
                resampler.push(&lane.mono, &mut lane.resampled);
            }
            let resampled = std::mem::take(&mut lane.resampled);
            lane.taken += lane.mono.len() as u64;
            lane.cut(&resampled, format, end, shared, *realtime);
            lane.resampled = resampled;
        }
    }

    /// Frames are missing.
    fn skip(&mut self, format: Format, frames: u64) {
        if !self.heard {
            return;
        }
        let lost_s = frames as f64 / f64::from(format.rate_hz);
        tracing::warn!(source = self.name, frames, "sound was lost");
        for lane in &mut self.lanes {
            lane.skip(format, frames, &self.shared, self.realtime);
            lane.untold = (lane.untold.0 + 1, lane.untold.1 + lost_s);
            self.shared.update(lane.input.machine, |stats| {
                stats.gaps += 1;
                stats.lost_s += lost_s;
            });
            if lane.told.is_none_or(|told| told.elapsed() > GAP_EVENTS) {
                let (gaps, lost_s) = std::mem::take(&mut lane.untold);
                lane.told = Some(Instant::now());
                let event = CaptureEvent::Overrun { gaps, lost_s };
                self.shared.queue.push(Captured::Event { machine: lane.input.machine, event }, false);
            }
        }
    }

    fn end(&mut self, format: Format) -> Stage {
        for lane in &mut self.lanes {
            lane.finish(format, &self.shared, self.realtime);
            self.shared.update(lane.input.machine, |stats| stats.state = CaptureState::Ended);
            self.shared.queue.push(Captured::End { machine: lane.input.machine }, false);
        }
        Stage::Ended
    }

    /// The source is gone: said once, tried again for ever.
    fn lose(&mut self, source: Box<dyn Source>, why: &str) -> Stage {
        self.tell_loss(why);
        self.retry(Some(Closing::begin(source)))
    }

    fn retry(&mut self, old: Option<Closing>) -> Stage {
        let until = Instant::now() + self.back_off;
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
        Stage::Closed { until, old }
    }

    fn tell_loss(&mut self, why: &str) {
        self.heard = false;
        let new_reason = self.lost.as_deref() != Some(why);
        if new_reason {
            tracing::warn!(source = self.name, "lost: {why}");
        }
        for lane in &mut self.lanes {
            lane.blind = true;
            let machine = lane.input.machine;
            self.shared.update(machine, |stats| {
                stats.losses += u64::from(self.lost.is_none());
                (stats.state, stats.why) = (CaptureState::Lost, Some(why.to_owned()));
            });
            if self.lost.is_none() {
                let event = CaptureEvent::MicLost { why: why.to_owned() };
                self.shared.queue.push(Captured::Event { machine, event }, false);
            }
        }
        self.lost = Some(why.to_owned());
    }

    /// Between two attempts to open the source.
    fn rest(&mut self, until: Instant, old: Option<Closing>) -> Stage {
        if let Some(closing) = old {
            if closing.is_done(TICK) {
                return Stage::Closed { until, old: None };
            }
            if closing.begun.elapsed() < CLOSING {
                return Stage::Closed { until, old: Some(closing) };
            }
            tracing::warn!(source = self.name, "cannot be closed; left behind");
        } else if let Some(left) = until.checked_duration_since(Instant::now()) {
            thread::sleep(left.min(TICK));
            return Stage::Closed { until, old: None };
        }
        self.begin_opening()
    }

    fn begin_opening(&mut self) -> Stage {
        let (sender, receiver) = mpsc::channel();
        let open = self.open.clone();
        let opening = thread::Builder::new().name("open".into()).spawn(move || {
            // Nobody waits for it any longer once the capture has stopped.
            sender.send(open()).ok();
        });
        match opening {
            Ok(_) => Stage::Opening(receiver),
            Err(error) => {
                self.tell_loss(&format!("cannot start a thread: {error}"));
                self.retry(None)
            }
        }
    }

    fn await_opening(&mut self, result: Receiver<Result<Box<dyn Source>, SourceError>>) -> Stage {
        match result.recv_timeout(TICK) {
            Ok(Ok(source)) => {
                self.last_frame = Instant::now();
                Stage::Open(source)
            }
            Ok(Err(error)) => {
                self.tell_loss(&error.to_string());
                self.retry(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.tell_loss("opening it failed inside the sound library");
                self.retry(None)
            }
            Err(RecvTimeoutError::Timeout) => {
                if self.lost.is_none() && self.last_frame.elapsed() > STALL {
                    self.tell_loss("the sound system does not answer");
                }
                Stage::Opening(result)
            }
        }
    }

    /// `no_signal` at the hop's pace for each machine that hears nothing.
    fn tell_blindness(&mut self) {
        let now = Instant::now();
        for lane in self.lanes.iter_mut().filter(|lane| lane.blind) {
            while lane.due <= now {
                let end = SystemTime::now() - (now - lane.due);
                lane.due += lane.hop;
                self.shared.update(lane.input.machine, |stats| stats.windows += 1);
                let (machine, fault) = (lane.input.machine, Some(Reason::NoSignal));
                let window = Window { machine, end, samples: Vec::new(), fault };
                self.shared.queue.push(Captured::Window(window), false);
            }
        }
    }
}

impl Lane {
    /// Cuts resampled sound, whose last frame was captured at `end`.
    fn cut(&mut self, samples: &[f32], format: Format, end: SystemTime, shared: &Shared, realtime: bool) {
        let mut cuts = Vec::new();
        self.cutter.push(samples, &mut |cut| cuts.push(cut));
        self.emit(cuts, format, end, shared, realtime);
    }

    /// Sound is missing: what the resampler still holds comes first, then the hole.
    fn skip(&mut self, format: Format, frames: u64, shared: &Shared, realtime: bool) {
        let (mut rest, mut cuts) = (Vec::new(), Vec::new());
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut rest);
        }
        self.resampler = Resampler::new(format.rate_hz, self.input.rate_hz).ok();
        self.cutter.push(&rest, &mut |cut| cuts.push(cut));
        let missing = frames as f64 * f64::from(self.input.rate_hz) / f64::from(format.rate_hz);
        self.cutter.lose((missing.round() as u64).max(1), &mut |cut| cuts.push(cut));
        self.taken += frames;
        self.emit(cuts, format, SystemTime::now(), shared, realtime);
    }

    fn finish(&mut self, format: Format, shared: &Shared, realtime: bool) {
        let mut rest = Vec::new();
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut rest);
        }
        self.cut(&rest, format, SystemTime::now(), shared, realtime);
    }

    /// Sends the windows on; the last sample that was taken in was captured at `end`.
    fn emit(&mut self, cuts: Vec<Cut>, format: Format, end: SystemTime, shared: &Shared, realtime: bool) {
        for Cut { end: position, samples, fault } in cuts {
            let taken_s = self.taken as f64 / f64::from(format.rate_hz);
            let behind_s = taken_s - position as f64 / f64::from(self.input.rate_hz);
            let end = end - Duration::from_secs_f64(behind_s.max(0.0));
            self.due = Instant::now() + self.hop;
            self.blind = false;
            shared.update(self.input.machine, |stats| stats.windows += 1);
            let window = Window { machine: self.input.machine, end, samples, fault };
            shared.queue.push(Captured::Window(window), !realtime);
        }
    }
}
