//! All sources of one agent: `start` opens them, each stream in its own thread; `next` gives what they captured.

mod cutter;
mod event;
mod lane;
mod live;
mod open;
mod output;
mod queue;
mod stream;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::event::{CaptureEvent, CaptureState, Captured, MachineStats};
pub use self::live::{LIVE_SAMPLES, LiveSound};
pub use self::stream::{Opener, StreamSpec};

use self::output::CaptureOutput;
use self::stream::Stream;
use super::config::MachineInput;
use super::meters::HeardDevice;
use super::source::{SourceError, SourceProblem};

/// Running capture; stops when dropped.
pub struct Capture {
    output: Arc<CaptureOutput>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Opens what the machines listen to and begins. A device that is not there is waited for; machines on the same device
/// share one stream.
///
/// # Errors
/// `Config` or `Data`: what waiting does not mend, such as a WAV file that is not there.
pub fn start(inputs: Vec<MachineInput>) -> Result<Capture, SourceError> {
    start_streams(open::streams(inputs)?)
}

/// As [`start`], with any sources.
///
/// # Errors
/// `Lost`: threads cannot be started.
pub fn start_streams(specs: Vec<StreamSpec>) -> Result<Capture, SourceError> {
    let machines = || specs.iter().flat_map(|spec| &spec.machines).map(|(input, _)| input);
    let output = Arc::new(CaptureOutput::new(machines()));
    let capture = Capture { output: output.clone(), threads: Mutex::default() };
    for spec in specs {
        let name = spec.machines.first().map_or("capture", |(input, _)| &input.id);
        // The kernel keeps 15 bytes.
        let name = format!("capture-{name}").chars().take(15).collect();
        let stream = Stream::new(spec, output.clone());
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || stream.run())
            .map_err(|error| SourceError::Lost(SourceProblem::of("cannot start a capture thread", error)))?;
        capture.threads.lock().push(thread);
    }
    Ok(capture)
}

impl Capture {
    /// The next window, event or end; `None` if nothing comes within `timeout`, or after [`Capture::stop`] when
    /// everything has been taken.
    pub fn next(&self, timeout: Duration) -> Option<Captured> {
        self.output.queue.next(timeout)
    }

    /// The newest sound of a machine; kept while it is asked for, a few times a second. `None`: nothing new.
    pub fn live(&self, machine: usize) -> Option<LiveSound> {
        self.output.live(machine)?.take()
    }

    /// The devices that machines listen to.
    pub fn devices(&self) -> Vec<HeardDevice> {
        self.output.devices()
    }

    /// How each machine's source is doing, in the order of the machines given.
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
        for thread in self.threads.lock().drain(..) {
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
