//! All sources of one agent: `start` opens them, each stream in its own thread; `next` gives what they captured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::device::offer::Wish;
use super::device::{self, DeviceRequest};
use super::queue::Queue;
use super::stream::{Shared, Stream, StreamSpec};
use super::{Format, MachineInput, Source, SourceError, Window};
use crate::config::Channel;

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
            stats.overload = self.shared.queue.losses(stats.machine).0;
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
    let mut devices: Vec<(String, Vec<MachineInput>)> = Vec::new();
    for input in inputs {
        if let Some(device) = input.source.device.clone() {
            match devices.iter_mut().find(|(name, _)| *name == device) {
                Some((_, machines)) => machines.push(input),
                None => devices.push((device, vec![input])),
            }
        } else {
            specs.push(file_stream(input)?);
        }
    }
    for (device, machines) in devices {
        specs.push(device_stream(device, machines)?);
    }
    Ok(specs)
}

fn device_stream(device: String, machines: Vec<MachineInput>) -> Result<StreamSpec, SourceError> {
    let mut request = DeviceRequest { device: device.clone(), wish: Wish::default() };
    for input in &machines {
        match (request.wish.rate_hz, input.source.rate_hz) {
            (Some(one), Some(other)) if one != other => {
                return Err(SourceError::Config(format!(
                    "machine {:?}: source.rate_hz: {device} is opened once for all its machines: expected {one} as above, found {other}",
                    input.id
                )));
            }
            (None, rate_hz) => request.wish.rate_hz = rate_hz,
            _ => {}
        }
        if let Channel::One(channel) = input.source.channel {
            let least = u16::try_from(channel + 1).unwrap_or(u16::MAX);
            request.wish.least_channels = request.wish.least_channels.max(Some(least));
        }
    }
    let machines = machines.into_iter().map(|input| {
        let channel = input.source.channel;
        (input, channel)
    });
    Ok(StreamSpec {
        name: device,
        open: Arc::new(move || Ok(Box::new(device::open(&request)?) as Box<dyn Source>)),
        opened: None,
        realtime: true,
        machines: machines.collect(),
    })
}

fn file_stream(input: MachineInput) -> Result<StreamSpec, SourceError> {
    Err(SourceError::Config(format!("machine {:?}: source: only devices can be listened to yet", input.id)))
}
