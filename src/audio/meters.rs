//! The microphones that there are, each with its live level: for whoever chooses one.
//!
//! Devices are opened only while somebody asks, and closed some seconds later. What a machine listens to is never opened
//! here, not even while it is lost: its level comes from the capture.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::device::identity::{self, Card, Selector};
use super::device::list::{self, Found};
use super::device::offer::Wish;
use super::device::{self, DeviceRequest};
use super::levels::ChannelLevels;
use super::source::{Read, Source, SourceError};
use crate::causes::with_causes;

/// Devices stay open for this long after the last question.
const WANTED_FOR: Duration = Duration::from_secs(5);
/// Between two looks at what is plugged in.
const ROUND: Duration = Duration::from_secs(1);
/// Between two attempts to open a device.
const AGAIN: Duration = Duration::from_secs(2);
/// A device whose frames do not come for so long is opened again.
const STALL: Duration = Duration::from_secs(2);
/// No device is opened here for so long after all were given up for a new machine.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// A device that machines listen to.
#[derive(Debug, Clone)]
pub struct HeardDevice {
    /// As configured.
    pub device: String,
    /// Ids of the machines.
    pub machines: Vec<String>,
    pub levels: Arc<ChannelLevels>,
    /// Why it is not heard.
    pub problem: Option<String>,
}

/// A device as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Metered {
    /// What a machine's `source.device` would be.
    pub device: String,
    pub name: String,
    /// 1 where they cannot be told apart.
    pub channels: usize,
    /// Of each channel; `None`: not known yet.
    pub levels_dbfs: Vec<Option<f64>>,
    pub in_use_by: Vec<String>,
    /// Why it cannot be opened, or is not heard.
    pub problem: Option<String>,
}

/// Says which devices machines listen to.
pub type HeardNow = Box<dyn Fn() -> Vec<HeardDevice> + Send + Sync>;

/// Watches the devices while somebody asks.
pub struct Meters {
    shared: Arc<Shared>,
}

struct Shared {
    sysfs: PathBuf,
    heard: HeardNow,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    wanted_until: Option<Instant>,
    left_alone_until: Option<Instant>,
    /// Whether what is below was found since the watch began.
    ready: bool,
    found: Vec<Found>,
    cards: Vec<Card>,
    meters: Vec<Meter>,
    /// What devices had when they could last be asked, by their name.
    channels: HashMap<String, usize>,
}

impl Meters {
    /// `sysfs` is `/sys` but in tests.
    pub fn new(sysfs: impl Into<PathBuf>, heard: HeardNow) -> Meters {
        let shared = Shared { sysfs: sysfs.into(), heard, state: Mutex::default(), changed: Condvar::new() };
        Meters { shared: Arc::new(shared) }
    }

    /// Whether [`Meters::list`] has something to show; begins to look if nobody did.
    pub fn is_ready(&self) -> bool {
        let mut state = self.shared.state.lock();
        self.want(&mut state);
        state.ready
    }

    /// Waits until the devices were looked for, for `limit` at most.
    pub fn wait(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        self.want(&mut state);
        while !state.ready && !self.shared.changed.wait_until(&mut state, until).timed_out() {}
    }

    /// The devices as they are known now.
    pub fn list(&self) -> Vec<Metered> {
        let heard = (self.shared.heard)();
        let mut state = self.shared.state.lock();
        self.want(&mut state);
        let State { found, cards, meters, channels, .. } = &mut *state;
        found.iter().map(|found| show(found, &heard, cards, meters, channels)).collect()
    }

    /// Gives all devices up for some seconds, so that a machine can open one; waits for that, for `limit` at most.
    pub fn release(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        state.left_alone_until = Some(Instant::now() + LEFT_ALONE);
        let meters = std::mem::take(&mut state.meters);
        drop(state);
        meters.iter().for_each(Meter::stop);
        for meter in meters {
            meter.wait(until.saturating_duration_since(Instant::now()));
        }
    }

    fn want(&self, state: &mut State) {
        state.wanted_until = Some(Instant::now() + WANTED_FOR);
        if state.running {
            return;
        }
        let shared = self.shared.clone();
        match thread::Builder::new().name("meters".into()).spawn(move || shared.watch()) {
            Ok(_) => state.running = true,
            Err(error) => tracing::warn!(%error, "the microphones cannot be looked for"),
        }
    }
}

impl Shared {
    /// Looks what is plugged in as long as somebody asks.
    fn watch(&self) {
        loop {
            let (found, cards) = (list::found(&self.sysfs, false), identity::cards(&self.sysfs));
            let heard = (self.heard)();
            let mut state = self.state.lock();
            if state.wanted_until.is_none_or(|until| until < Instant::now()) {
                let channels = std::mem::take(&mut state.channels);
                *state = State { channels, left_alone_until: state.left_alone_until, ..State::default() };
                return;
            }
            state.adopt(found, cards, &heard, &self.sysfs);
            state.ready = true;
            self.changed.notify_all();
            let until = Instant::now() + ROUND;
            while !self.changed.wait_until(&mut state, until).timed_out() {}
        }
    }
}

impl State {
    /// Begins to measure what is new and free, and ends what is gone or taken.
    fn adopt(&mut self, found: Vec<Found>, cards: Vec<Card>, heard: &[HeardDevice], sysfs: &std::path::Path) {
        let is_free = |selector: &Selector| !heard.iter().any(|heard| is_same(&heard.device, selector, &cards));
        // A dropped meter ends by itself.
        self.meters.retain(|meter| {
            found.iter().any(|found| found.selector == meter.device) && is_free(&meter.device) && !meter.has_ended()
        });
        if self.left_alone_until.is_none_or(|until| until < Instant::now()) {
            for Found { selector, .. } in &found {
                if is_free(selector) && !self.meters.iter().any(|meter| meter.device == *selector) {
                    self.meters.extend(Meter::start(selector.clone(), sysfs.to_owned()));
                }
            }
        }
        (self.found, self.cards) = (found, cards);
    }
}

/// Whether what is configured means this device.
fn is_same(configured: &str, device: &Selector, cards: &[Card]) -> bool {
    configured.parse::<Selector>().is_ok_and(|configured| configured.is_same(device, cards))
}

fn show(
    found: &Found,
    heard: &[HeardDevice],
    cards: &[Card],
    meters: &[Meter],
    known: &mut HashMap<String, usize>,
) -> Metered {
    let device = found.selector.to_string();
    let heard: Vec<_> = heard.iter().filter(|heard| is_same(&heard.device, &found.selector, cards)).collect();
    let meter = meters.iter().find(|meter| meter.device == found.selector);
    let (levels, problem) = match (heard.first(), meter) {
        (Some(heard), _) => (heard.levels.take(), heard.problem.clone()),
        (None, Some(meter)) => (meter.shared.levels.take(), meter.shared.problem.lock().clone()),
        (None, None) => (Vec::new(), found.target.as_ref().err().cloned()),
    };
    let channels = known.entry(device.clone()).or_insert(1);
    // Machines open no more channels than they need.
    *channels = levels.len().max(*channels);
    let mut levels_dbfs: Vec<_> = levels.into_iter().map(Some).collect();
    levels_dbfs.resize(*channels, None);
    Metered {
        device,
        name: found.name.clone(),
        channels: *channels,
        levels_dbfs,
        in_use_by: heard.iter().flat_map(|heard| heard.machines.clone()).collect(),
        problem,
    }
}

/// One device that is being measured; ends when dropped, without being waited for.
struct Meter {
    device: Selector,
    shared: Arc<MeterShared>,
    done: Receiver<()>,
}

#[derive(Default)]
struct MeterShared {
    levels: ChannelLevels,
    problem: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Meter {
    fn start(device: Selector, sysfs: PathBuf) -> Option<Meter> {
        let shared = Arc::new(MeterShared::default());
        // Asked for from the beginning, so that the first answer has a level.
        shared.levels.take();
        let (sender, done) = mpsc::channel();
        let (ours, wish) = (shared.clone(), Wish { all_channels: true, ..Wish::default() });
        let request = DeviceRequest { device: device.clone(), wish, sysfs };
        let measure = move || {
            while !ours.stop.load(Ordering::Relaxed) {
                if let Err(error) = ours.measure(&request) {
                    *ours.problem.lock() = Some(with_causes(&error));
                    ours.rest();
                }
            }
            drop(sender);
        };
        match thread::Builder::new().name("meter".into()).spawn(measure) {
            Ok(_) => Some(Meter { device, shared, done }),
            Err(error) => {
                tracing::warn!(%error, "a microphone cannot be measured");
                None
            }
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.done.try_recv() == Err(mpsc::TryRecvError::Disconnected)
    }

    fn wait(&self, limit: Duration) {
        if self.done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("{} cannot be closed in time", self.device);
        }
    }
}

impl MeterShared {
    fn measure(&self, request: &DeviceRequest) -> Result<(), SourceError> {
        let mut source = device::open(request)?;
        let (mut frames, mut last) = (Vec::new(), Instant::now());
        while !self.stop.load(Ordering::Relaxed) {
            frames.clear();
            match source.read(&mut frames)? {
                Read::Frames { .. } => {
                    last = Instant::now();
                    *self.problem.lock() = None;
                    self.levels.leave(&frames, source.format().channels);
                }
                _ if last.elapsed() > STALL => {
                    let problem = format!("{}: no sound has come for {} s", request.device, STALL.as_secs());
                    return Err(SourceError::Lost(problem.into()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Until the device is tried again.
    fn rest(&self) {
        let until = Instant::now() + AGAIN;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
    }
}
