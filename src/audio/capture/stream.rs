//! The capture thread of one stream: one opened device with all the machines on its channels, one WAV source or one
//! simulated machine. It reads, splits the channels, resamples, cuts windows, and keeps the source open for ever.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::event::{CaptureEvent, CaptureState, Captured};
use super::lane::CaptureLane;
use super::output::{CaptureOutput, OpenDevice};
use crate::audio::config::{Channel, MachineInput};
use crate::audio::levels::ChannelLevels;
use crate::audio::source::{Format, Read, Source, SourceError};
use crate::backoff::Backoff;
use crate::causes::with_causes;
use crate::numbers::counted;

/// No frame for so long: the source is lost. Frames arriving is the only proof of life.
const STALL: Duration = Duration::from_secs(2);
/// First and longest pause between two attempts to open a lost source.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
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

/// How far the stream is with its source.
enum SourceState {
    Open(Box<dyn Source>),
    /// Being opened in its own thread: a stopped sound server can hold that up for ever.
    Opening(Receiver<Result<Box<dyn Source>, SourceError>>),
    /// To be opened at that time, when the old one is closed.
    Closed {
        until: Instant,
        old: Option<Closing>,
    },
    Ended,
}

/// A source being closed in its own thread: that can take for ever too.
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

/// What a running stream is asked to do.
pub(super) enum Order {
    /// A machine listens too, to this channel.
    Join(Box<MachineInput>, Channel),
    /// A machine listens no more. A stream without machines ends.
    Leave(usize),
}

pub(super) struct Stream {
    name: String,
    open: Opener,
    realtime: bool,
    lanes: Vec<CaptureLane>,
    output: Arc<CaptureOutput>,
    orders: Receiver<Order>,
    source: SourceState,
    /// Since when the source is waited for, or when its last frame came.
    last_frame: Instant,
    /// Frames have come since it was opened.
    has_frames: bool,
    /// Why it is lost, where that was reported.
    lost: Option<String>,
    /// A machine has joined since the source began to be opened: it may have been opened without its channel.
    joined_late: bool,
    backoff: Backoff,
    frames: Vec<f32>,
    levels: Arc<ChannelLevels>,
}

impl Stream {
    pub fn new(spec: StreamSpec, output: Arc<CaptureOutput>, orders: Receiver<Order>) -> Self {
        let now = Instant::now();
        let levels = Arc::new(ChannelLevels::default());
        if let Some(device) = spec.machines.first().and_then(|(input, _)| input.source.device.clone()) {
            let machines = spec.machines.iter().map(|(input, _)| input.machine).collect();
            output.add_device(OpenDevice { device, machines, levels: levels.clone() });
        }
        let lanes = spec
            .machines
            .into_iter()
            .map(|(input, channel)| CaptureLane::new(input, channel, spec.realtime, output.clone(), now));
        let lanes = lanes.collect();
        let source = match spec.opened {
            Some(source) => SourceState::Open(source),
            None => SourceState::Closed { until: now, old: None },
        };
        Stream {
            name: spec.name,
            open: spec.open,
            realtime: spec.realtime,
            lanes,
            output,
            orders,
            source,
            last_frame: now,
            has_frames: false,
            lost: None,
            joined_late: false,
            backoff: Backoff::new(BACK_OFF.0, BACK_OFF.1),
            frames: Vec::new(),
            levels,
        }
    }

    /// Runs until the source ends or the capture is stopped.
    pub fn run(mut self) {
        while !self.output.stopping() {
            self.take_orders();
            if self.lanes.is_empty() {
                break;
            }
            let source = std::mem::replace(&mut self.source, SourceState::Ended);
            self.source = match source {
                SourceState::Open(source) => self.read(source),
                SourceState::Opening(result) => self.await_opening(result),
                SourceState::Closed { until, old } => self.rest(until, old),
                SourceState::Ended => break,
            };
            let now = Instant::now();
            self.lanes.iter_mut().for_each(|lane| lane.emit_overdue(now));
        }
        self.output.remove_device(&self.levels);
        if let SourceState::Open(source) = self.source {
            Closing::begin(source).is_done(CLOSING_AT_STOP);
        }
    }

    fn read(&mut self, mut source: Box<dyn Source>) -> SourceState {
        self.frames.clear();
        match source.read(&mut self.frames) {
            Ok(Read::Frames { end }) => {
                if !self.has_frames {
                    let format = source.format();
                    if self.joined_late && !self.lanes.iter().all(|lane| lane.finds_channel(format)) {
                        // Nobody has heard anything yet, so nobody loses anything.
                        return self.retry(Some(Closing::begin(source)));
                    }
                    self.begin(format);
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
            // A file that turns out broken stays broken; one of which nothing was heard has not ended.
            Err(SourceError::Data(why)) if !self.realtime && self.has_frames => {
                tracing::error!(source = self.name, "{}", with_causes(&why));
                return self.end(source.format());
            }
            Err(error) => return self.lose(source, &with_causes(&error)),
        }
        SourceState::Open(source)
    }

    /// Machines join and leave while the source goes on as it is.
    fn take_orders(&mut self) {
        let mut changed = false;
        while let Ok(order) = self.orders.try_recv() {
            changed = true;
            match order {
                Order::Leave(machine) => self.lanes.retain(|lane| lane.machine() != machine),
                Order::Join(input, channel) => {
                    let (realtime, output) = (self.realtime, self.output.clone());
                    let mut lane = CaptureLane::new(*input, channel, realtime, output, Instant::now());
                    match (&self.source, &self.lost) {
                        (SourceState::Open(source), _) if self.has_frames => {
                            begin_lane(&self.name, &mut lane, source.format(), &self.output, false);
                        }
                        (_, Some(why)) => lose_lane(&mut lane, why, &self.output, false),
                        _ => {}
                    }
                    self.joined_late = true;
                    self.output.join_device(&self.levels, lane.machine());
                    self.lanes.push(lane);
                }
            }
        }
        if changed {
            self.output.change_device(&self.levels, self.lanes.iter().map(CaptureLane::machine).collect());
        }
    }

    /// The first frames have come.
    fn begin(&mut self, format: Format) {
        let was_lost = self.lost.take().is_some();
        self.has_frames = true;
        self.backoff.reset();
        let channels = counted(format.channels, "channel");
        tracing::info!("hearing {}: {} Hz, {channels}", self.name, format.rate_hz);
        for lane in &mut self.lanes {
            begin_lane(&self.name, lane, format, &self.output, was_lost);
        }
    }

    /// Every machine takes its channel of what has come; the last frame was captured at `end`.
    fn feed(&mut self, format: Format, end: SystemTime) {
        self.levels.leave(&self.frames, format.channels);
        for lane in &mut self.lanes {
            lane.feed(&self.frames, format, end);
        }
    }

    /// Frames are missing.
    fn skip(&mut self, format: Format, frames: u64) {
        if !self.has_frames {
            return;
        }
        tracing::warn!(source = self.name, frames, "sound was lost");
        for lane in &mut self.lanes {
            lane.skip(format, frames);
        }
    }

    fn end(&mut self, format: Format) -> SourceState {
        for lane in &mut self.lanes {
            lane.finish(format);
            self.output.update(lane.machine(), |stats| stats.state = CaptureState::Ended);
            self.output.queue.push(Captured::End { machine: lane.machine() }, false);
        }
        SourceState::Ended
    }

    /// The source is gone: this is reported once, and opening is tried again for ever.
    fn lose(&mut self, source: Box<dyn Source>, why: &str) -> SourceState {
        self.report_loss(why);
        self.retry(Some(Closing::begin(source)))
    }

    fn retry(&mut self, old: Option<Closing>) -> SourceState {
        let until = Instant::now() + self.backoff.next();
        SourceState::Closed { until, old }
    }

    fn report_loss(&mut self, why: &str) {
        self.has_frames = false;
        let new_reason = self.lost.as_deref() != Some(why);
        if new_reason {
            tracing::warn!(source = self.name, "lost: {why}");
        }
        for lane in &mut self.lanes {
            lose_lane(lane, why, &self.output, self.lost.is_some());
        }
        self.lost = Some(why.to_owned());
    }

    /// Between two attempts to open the source.
    fn rest(&mut self, until: Instant, old: Option<Closing>) -> SourceState {
        if let Some(closing) = old {
            if closing.is_done(TICK) {
                return SourceState::Closed { until, old: None };
            }
            if closing.begun.elapsed() < CLOSING {
                return SourceState::Closed { until, old: Some(closing) };
            }
            tracing::warn!(source = self.name, "cannot be closed; left behind");
        } else if let Some(left) = until.checked_duration_since(Instant::now()) {
            thread::sleep(left.min(TICK));
            return SourceState::Closed { until, old: None };
        }
        self.begin_opening()
    }

    fn begin_opening(&mut self) -> SourceState {
        let (sender, receiver) = mpsc::channel();
        let open = self.open.clone();
        self.joined_late = false;
        let opening = thread::Builder::new().name("open".into()).spawn(move || {
            // Nobody waits for it any longer once the capture has stopped.
            sender.send(open()).ok();
        });
        match opening {
            Ok(_) => SourceState::Opening(receiver),
            Err(error) => {
                self.report_loss(&format!("cannot start a thread: {error}"));
                self.retry(None)
            }
        }
    }

    fn await_opening(&mut self, result: Receiver<Result<Box<dyn Source>, SourceError>>) -> SourceState {
        match result.recv_timeout(TICK) {
            Ok(Ok(source)) => {
                self.last_frame = Instant::now();
                SourceState::Open(source)
            }
            Ok(Err(error)) => {
                self.report_loss(&with_causes(&error));
                self.retry(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.report_loss("opening it failed inside the sound library");
                self.retry(None)
            }
            Err(RecvTimeoutError::Timeout) => {
                if self.lost.is_none() && self.last_frame.elapsed() > STALL {
                    self.report_loss("the sound system does not answer");
                }
                SourceState::Opening(result)
            }
        }
    }
}

/// A machine hears an open source from its beginning on, or is without sound where that does not have what it wants.
fn begin_lane(source: &str, lane: &mut CaptureLane, format: Format, output: &CaptureOutput, was_lost: bool) {
    if let Err(why) = lane.begin(source, format) {
        tracing::error!(source, "{why}");
        return lose_lane(lane, &why, output, was_lost);
    }
    output.update(lane.machine(), |stats| {
        (stats.state, stats.format, stats.why) = (CaptureState::Live, Some(format), None);
    });
    if was_lost {
        output.event(lane.machine(), CaptureEvent::MicBack);
    }
}

/// A machine is without sound from now on; reported once.
fn lose_lane(lane: &mut CaptureLane, why: &str, output: &CaptureOutput, was_lost: bool) {
    lane.lose_sound();
    output.update(lane.machine(), |stats| {
        stats.losses += u64::from(!was_lost);
        (stats.state, stats.why) = (CaptureState::Lost, Some(why.to_owned()));
    });
    if !was_lost {
        output.event(lane.machine(), CaptureEvent::MicLost { why: why.to_owned() });
    }
}
