//! All sources of one agent: `start` opens them, each stream in its own thread; `next` gives what they captured.

mod cutter;
mod event;
mod lane;
mod live;
mod open;
mod output;
mod queue;
mod recent;
mod stream;

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::event::{CaptureEvent, CaptureState, Captured, MachineStats};
pub use self::live::{LIVE_SAMPLES, LiveSound};
use self::open::{Joining, Planned, SharedDevice};
pub use self::recent::{RECENT_S, RecentSound};
pub use self::stream::{Opener, StreamSpec};

use self::output::CaptureOutput;
use self::stream::{Order, Stream};
use super::config::MachineInput;
use super::meters::HeardDevice;
use super::source::{SourceError, SourceProblem};
use crate::causes::with_causes;

/// Running capture; stops when dropped.
pub struct Capture {
    output: Arc<CaptureOutput>,
    streams: Mutex<Vec<Running>>,
}

/// A stream with its thread.
struct Running {
    /// The machines that listen to it; the stream ends with the last.
    machines: Vec<usize>,
    device: Option<SharedDevice>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// A machine that can be added.
pub struct Prepared {
    input: MachineInput,
    /// What is opened already, where the machine listens to a file or is simulated.
    opened: Option<Planned>,
}

/// Opens what the machines listen to and begins. A device that is not there is waited for; machines on the same device
/// share one stream.
///
/// # Errors
/// `Config` or `Data`: what waiting does not mend, such as a WAV file that is not there.
pub fn start(inputs: Vec<MachineInput>) -> Result<Capture, SourceError> {
    start_with(inputs, Vec::new())
}

/// As [`start`], with machines besides whose sources keep nobody from starting: what cannot be opened is waited for.
///
/// # Errors
/// As [`start`], of the first machines.
pub fn start_with(inputs: Vec<MachineInput>, waiting: Vec<MachineInput>) -> Result<Capture, SourceError> {
    let mut streams = open::streams(inputs)?;
    for input in waiting {
        open::add_waiting(&mut streams, input)?;
    }
    start_planned(streams)
}

/// As [`start`], with any sources.
///
/// # Errors
/// `Lost`: threads cannot be started.
pub fn start_streams(specs: Vec<StreamSpec>) -> Result<Capture, SourceError> {
    start_planned(specs.into_iter().map(|spec| Planned { spec, device: None }).collect())
}

fn start_planned(streams: Vec<Planned>) -> Result<Capture, SourceError> {
    let capture = Capture { output: Arc::new(CaptureOutput::new()), streams: Mutex::default() };
    for (input, _) in streams.iter().flat_map(|planned| &planned.spec.machines) {
        capture.output.join(input);
    }
    for planned in streams {
        capture.streams.lock().push(capture.run(planned)?);
    }
    Ok(capture)
}

impl Capture {
    fn run(&self, Planned { spec, device }: Planned) -> Result<Running, SourceError> {
        let name = spec.machines.first().map_or("capture", |(input, _)| &input.id);
        // The kernel keeps 15 bytes.
        let name = format!("capture-{name}").chars().take(15).collect();
        let machines = spec.machines.iter().map(|(input, _)| input.machine).collect();
        let (orders, received) = mpsc::channel();
        let stream = Stream::new(spec, self.output.clone(), received);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || stream.run())
            .map_err(|error| SourceError::Lost(SourceProblem::of("cannot start a capture thread", error)))?;
        Ok(Running { machines, device, orders, thread })
    }

    /// Checks that a machine can be added, and opens what must not fail later; `instead_of` is the machine that leaves for
    /// it, if any.
    ///
    /// # Errors
    /// `Config` or `Data`: what waiting does not mend. A device that is not there is waited for.
    pub fn prepare(&self, input: MachineInput, instead_of: Option<usize>) -> Result<Prepared, SourceError> {
        if input.source.device.is_none() {
            return Ok(Prepared { opened: Some(open::stream(input.clone())?), input });
        }
        let streams = self.streams.lock();
        let found = streams.iter().filter(|stream| !stream.is_only_of(instead_of)).find_map(|stream| {
            let device = stream.device.as_ref().filter(|device| device.is_meant(&input))?;
            Some(device.joining(&input, self.format_of(stream)))
        });
        found.transpose()?;
        Ok(Prepared { input, opened: None })
    }

    /// Begins to capture a machine. The others on its device go on without losing a frame. What cannot be opened is waited
    /// for, as at the start.
    pub fn add(&self, Prepared { input, opened }: Prepared) {
        let machine = input.machine;
        self.output.join(&input);
        let mut streams = self.streams.lock();
        streams.retain(|stream| !stream.thread.is_finished());
        let joins = |stream: &&mut Running| {
            let device = stream.device.as_ref().filter(|device| device.is_meant(&input));
            device.is_some_and(|device| {
                matches!(device.joining(&input, self.format_of(stream)), Ok(Joining::Joins))
                    && !stream.machines.is_empty()
            })
        };
        if let Some(stream) = streams.iter_mut().find(joins) {
            if let Some(device) = &stream.device {
                device.join(&input);
            }
            let order = Order::Join(Box::new(input.clone()), input.source.channel);
            if stream.orders.send(order).is_ok() {
                stream.machines.push(machine);
                return;
            }
        }
        let planned = opened.map_or_else(|| open::stream(input), Ok);
        match planned.and_then(|planned| self.run(planned)) {
            Ok(running) => streams.push(running),
            Err(error) => {
                let why = with_causes(&error);
                tracing::error!(machine, "a machine cannot be heard: {why}");
                self.output.update(machine, |stats| {
                    (stats.state, stats.why) = (CaptureState::Lost, Some(why.clone()));
                });
                self.output.event(machine, CaptureEvent::MicLost { why });
            }
        }
    }

    /// Ends the capture of a machine; what of it waits in [`Capture::next`] is dropped. The others on its device go on
    /// without losing a frame; a device that nobody listens to is closed.
    pub fn remove(&self, machine: usize) {
        self.output.leave(machine);
        let mut streams = self.streams.lock();
        for stream in streams.iter_mut().filter(|stream| stream.machines.contains(&machine)) {
            stream.machines.retain(|of_stream| *of_stream != machine);
            // A stream that has ended by itself takes no orders.
            stream.orders.send(Order::Leave(machine)).ok();
        }
    }

    /// How a stream's source is open, as its machines' statistics have it.
    fn format_of(&self, stream: &Running) -> Option<super::source::Format> {
        let stats = self.output.stats();
        let live =
            |stats: &&MachineStats| stats.state == CaptureState::Live && stream.machines.contains(&stats.machine);
        stats.iter().find(live)?.format
    }

    /// The next window, event or end; `None` if nothing comes within `timeout`, or after [`Capture::stop`] when
    /// everything has been taken.
    pub fn next(&self, timeout: Duration) -> Option<Captured> {
        self.output.queue.next(timeout)
    }

    /// The newest sound of a machine; kept while it is asked for, a few times a second. `None`: nothing new.
    pub fn live(&self, machine: usize) -> Option<LiveSound> {
        self.output.live(machine)?.take()
    }

    /// From now on the last minute of every machine is kept.
    pub fn keep_recent(&self) {
        self.output.keep_recent();
    }

    /// The last minute of a machine's sound; `None` where none is kept.
    pub fn recent(&self, machine: usize) -> Option<RecentSound> {
        self.output.recent(machine)?.sound()
    }

    /// The devices that machines listen to.
    pub fn devices(&self) -> Vec<HeardDevice> {
        self.output.devices()
    }

    /// How each machine's source is doing, in the order of the machines' numbers.
    pub fn stats(&self) -> Vec<MachineStats> {
        let mut stats = self.output.stats();
        stats.sort_by_key(|stats| stats.machine);
        for stats in &mut stats {
            (stats.overload, stats.forgotten) = self.output.queue.losses(stats.machine);
        }
        stats
    }

    /// Ends all threads, within a second. Whole windows that were captured can still be taken.
    pub fn stop(&self) {
        self.output.stop();
        for stream in self.streams.lock().drain(..) {
            if stream.thread.join().is_err() {
                tracing::error!("a capture thread had panicked");
            }
        }
    }
}

impl Running {
    /// Whether no other machine than `machine` listens to it.
    fn is_only_of(&self, machine: Option<usize>) -> bool {
        self.machines.iter().all(|of_stream| Some(*of_stream) == machine)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}
