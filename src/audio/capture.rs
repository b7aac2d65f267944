//! All sources of one agent: `start` opens them, each stream in its own thread; `next` gives what they captured.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::device::identity::{self, Card, Selector};
use super::device::offer::Wish;
use super::device::{self, DeviceRequest};
use super::files::WavSource;
use super::queue::Queue;
use super::stream::{Opener, Shared, Stream, StreamSpec};
use super::synth::SynthSource;
use super::{Format, MachineInput, Paced, Source, SourceError, Window};
use crate::config::Channel;

/// Where the kernel tells of its devices.
const SYSFS: &str = "/sys";

/// What capture has to say, in the order of its coming.
#[derive(Debug)]
pub enum Captured {
    /// The next window of a machine.
    Window(Window),
    /// Something happened to a machine's source.
    Event { machine: usize, event: CaptureEvent },
    /// A machine's source has come to its end: no more windows.
    End { machine: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum CaptureEvent {
    /// The source was lost or cannot be opened; told once, however long it takes.
    MicLost { why: String },
    /// Its frames come again.
    MicBack,
    /// Sound was lost while the source was running: so many times, so many seconds, since the last such event.
    Overrun { gaps: u64, lost_s: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureState {
    /// Not heard yet.
    Starting,
    Live,
    Lost,
    Ended,
}

/// How one machine's source is doing; counts since the start.
#[derive(Debug, Clone)]
pub struct MachineStats {
    pub machine: usize,
    pub id: String,
    pub state: CaptureState,
    /// Why it is lost.
    pub why: Option<String>,
    /// What the source delivers; `None` before its first frame.
    pub format: Option<Format>,
    /// Windows cut, those without sound too.
    pub windows: u64,
    /// Times that sound was lost while the source was running (overruns, holes).
    pub gaps: u64,
    /// Seconds of sound lost so.
    pub lost_s: f64,
    /// Times that the source was lost.
    pub losses: u64,
    /// Windows that could not be scored in time.
    pub overload: u64,
    /// Windows of which nothing is left, because nobody took them for hours.
    pub forgotten: u64,
    /// When the last frame came.
    pub last_frame: Option<Instant>,
    /// Level of the last frames, dB of full scale.
    pub level_dbfs: Option<f64>,
}

impl MachineStats {
    fn new(input: &MachineInput) -> Self {
        MachineStats {
            machine: input.machine,
            id: input.id.clone(),
            state: CaptureState::Starting,
            why: None,
            format: None,
            windows: 0,
            gaps: 0,
            lost_s: 0.0,
            losses: 0,
            overload: 0,
            forgotten: 0,
            last_frame: None,
            level_dbfs: None,
        }
    }
}

/// Running capture; stops when dropped.
pub struct Capture {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Opens what the machines listen to and begins. A device that is not there is waited for; machines on the same device
/// share one stream.
///
/// # Errors
/// `Config` or `Data`: what waiting does not mend, such as a WAV file that is not there.
pub fn start(inputs: Vec<MachineInput>) -> Result<Capture, SourceError> {
    start_streams(streams(inputs)?)
}

/// As [`start`], with any sources.
///
/// # Errors
/// `Lost`: threads cannot be started.
pub fn start_streams(specs: Vec<StreamSpec>) -> Result<Capture, SourceError> {
    let stats = specs.iter().flat_map(|spec| &spec.machines).map(|(input, _)| MachineStats::new(input)).collect();
    let shared = Arc::new(Shared { queue: Queue::default(), stop: AtomicBool::new(false), stats: Mutex::new(stats) });
    let capture = Capture { shared: shared.clone(), threads: Mutex::default() };
    for spec in specs {
        let name = spec.machines.first().map_or("capture", |(input, _)| &input.id);
        // The kernel keeps 15 bytes.
        let name = format!("hear-{name}").chars().take(15).collect();
        let stream = Stream::new(spec, shared.clone());
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || stream.run())
            .map_err(|error| SourceError::Lost(format!("cannot start a capture thread: {error}")))?;
        capture.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
    Ok(capture)
}

impl Capture {
    /// The next window, event or end; `None` if nothing comes within `timeout`, or after [`Capture::stop`] when
    /// everything has been taken.
    pub fn next(&self, timeout: Duration) -> Option<Captured> {
        self.shared.queue.next(timeout)
    }

    /// How each machine's source is doing, in the order of the machines given.
    pub fn stats(&self) -> Vec<MachineStats> {
        let mut stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stats.sort_by_key(|stats| stats.machine);
        for stats in &mut stats {
            (stats.overload, stats.forgotten) = self.shared.queue.losses(stats.machine);
        }
        stats
    }

    /// Every source has ended or capture was stopped; what is captured may still wait in [`Capture::next`].
    pub fn ended(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(JoinHandle::is_finished)
    }

    /// Ends all threads, within a second. Whole windows that were captured can still be taken.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.queue.close();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a capture thread had panicked");
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sorts machines by what they listen to.
fn streams(inputs: Vec<MachineInput>) -> Result<Vec<StreamSpec>, SourceError> {
    let mut specs = Vec::new();
    let mut devices: Vec<(Selector, Vec<MachineInput>)> = Vec::new();
    let cards = identity::cards(Path::new(SYSFS));
    for input in inputs {
        let Some(device) = &input.source.device else {
            specs.push(file_stream(input)?);
            continue;
        };
        let device: Selector = device.parse().map_err(|problem: String| config_error(&input, "device", &problem))?;
        match devices.iter_mut().find(|(known, _)| same(known, &device, &cards)) {
            Some((_, machines)) => machines.push(input),
            None => devices.push((device, vec![input])),
        }
    }
    for (device, machines) in devices {
        specs.push(device_stream(device, machines)?);
    }
    Ok(specs)
}

/// A card can be opened once: two ways to say the same card are one stream.
fn same(one: &Selector, other: &Selector, cards: &[Card]) -> bool {
    let card = |selector: &Selector| selector.resolve(cards).ok()?.card;
    one == other || card(one).is_some_and(|found| card(other) == Some(found))
}

fn config_error(input: &MachineInput, field: &str, problem: &str) -> SourceError {
    SourceError::Config(format!("machine {:?}: source.{field}: {problem}", input.id))
}

fn device_stream(device: Selector, machines: Vec<MachineInput>) -> Result<StreamSpec, SourceError> {
    let name = device.to_string();
    let mut wish = Wish::default();
    for input in &machines {
        let source = &input.source;
        agree(&mut wish.rate_hz, source.rate_hz, input, "rate_hz")?;
        agree(&mut wish.channels, source.channels, input, "channels")?;
        agree(&mut wish.format, source.format, input, "format")?;
        match source.channel {
            Channel::One(channel) => {
                wish.least_channels = wish.least_channels.max(u16::try_from(channel + 1).unwrap_or(u16::MAX));
            }
            Channel::Mix => wish.all_channels = true,
        }
    }
    let request = DeviceRequest { device, wish, sysfs: SYSFS.into() };
    let machines = machines.into_iter().map(|input| {
        let channel = input.source.channel;
        (input, channel)
    });
    Ok(StreamSpec {
        name,
        open: Arc::new(move || Ok(Box::new(device::open(&request)?) as Box<dyn Source>)),
        opened: None,
        realtime: true,
        machines: machines.collect(),
    })
}

/// All machines on a device want it opened in the same way.
fn agree<T: Copy + PartialEq + fmt::Display>(
    wish: &mut Option<T>,
    asked: Option<T>,
    input: &MachineInput,
    field: &str,
) -> Result<(), SourceError> {
    match (*wish, asked) {
        (Some(one), Some(other)) if one != other => {
            let problem =
                format!("the device is opened once for all its machines: expected {one} as before, found {other}");
            Err(config_error(input, field, &problem))
        }
        (None, asked) => {
            *wish = asked;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A file or directory ends where the device would go on: it is opened here, so that what is wrong with it is said at
/// once, and again whenever it was lost.
fn file_stream(input: MachineInput) -> Result<StreamSpec, SourceError> {
    let source = &input.source;
    let Some(path) = source.wav.clone() else {
        return synth_stream(input);
    };
    let (channel, rate_hz, repeat) = (source.channel, input.rate_hz, source.repeat);
    let realtime = source.realtime.unwrap_or(true);
    let name = path.display().to_string();
    let open = move || {
        let wav = Box::new(WavSource::open(&path, channel, rate_hz, repeat)?) as Box<dyn Source>;
        Ok(if realtime { Box::new(Paced::new(wav)) as Box<dyn Source> } else { wav })
    };
    let opened = open().map_err(|error| match error {
        SourceError::Config(why) => SourceError::Config(format!("machine {:?}: source.wav: {why}", input.id)),
        SourceError::Data(why) => SourceError::Data(format!("machine {:?}: source.wav: {why}", input.id)),
        lost => lost,
    })?;
    let machines = vec![(input, Channel::Mix)];
    Ok(StreamSpec { name, open: Arc::new(open), opened: Some(opened), realtime, machines })
}

fn synth_stream(input: MachineInput) -> Result<StreamSpec, SourceError> {
    let (source, id) = (input.source.clone(), input.id.clone());
    let (paced, speed) = (source.realtime != Some(false), source.speed.unwrap_or(1.0));
    // Time that is made to run faster can as well run slower where scoring does not keep up.
    let realtime = paced && speed <= 1.0;
    let open: Opener = Arc::new(move || {
        let machine = Box::new(SynthSource::new(&source, &id)?);
        Ok(if paced { Box::new(Paced::at_speed(machine, speed)) } else { machine })
    });
    let (name, opened) = (format!("simulated {}", input.id), Some(open()?));
    Ok(StreamSpec { name, open, opened, realtime, machines: vec![(input, Channel::Mix)] })
}
