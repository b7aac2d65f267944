//! What the capture threads share with who takes from them: the queue, how each source is doing, the sign to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::event::{CaptureEvent, Captured, MachineStats};
use super::live::LiveTap;
use super::queue::Queue;
use super::recent::RecentTap;
use crate::audio::config::MachineInput;
use crate::audio::levels::ChannelLevels;
use crate::audio::meters::HeardDevice;

/// Where all streams of one capture put what they have.
pub(super) struct CaptureOutput {
    pub queue: Queue,
    stop: AtomicBool,
    stats: Mutex<Vec<MachineStats>>,
    /// By the machine's number.
    live: RwLock<HashMap<usize, Arc<LiveTap>>>,
    /// By the machine's number; used once the last minute is to be kept.
    recent: RwLock<HashMap<usize, Arc<RecentTap>>>,
    keeps_recent: AtomicBool,
    /// The devices that machines listen to.
    devices: Mutex<Vec<OpenDevice>>,
}

/// A device that is kept open for machines.
pub(super) struct OpenDevice {
    /// As the first of its machines has it.
    pub device: String,
    /// Their numbers.
    pub machines: Vec<usize>,
    pub levels: Arc<ChannelLevels>,
}

impl CaptureOutput {
    pub fn new() -> Self {
        CaptureOutput {
            queue: Queue::default(),
            stop: AtomicBool::new(false),
            stats: Mutex::default(),
            live: RwLock::default(),
            recent: RwLock::default(),
            keeps_recent: AtomicBool::new(false),
            devices: Mutex::default(),
        }
    }

    /// Shows a device as one that machines listen to, until [`CaptureOutput::remove_device`].
    pub fn add_device(&self, device: OpenDevice) {
        self.devices.lock().push(device);
    }

    /// Another machine listens to a device.
    pub fn join_device(&self, levels: &Arc<ChannelLevels>, machine: usize) {
        let mut devices = self.devices.lock();
        if let Some(device) = devices.iter_mut().find(|device| Arc::ptr_eq(&device.levels, levels)) {
            device.machines.push(machine);
        }
    }

    /// Other machines listen to it now.
    pub fn change_device(&self, levels: &Arc<ChannelLevels>, machines: Vec<usize>) {
        let mut devices = self.devices.lock();
        if let Some(device) = devices.iter_mut().find(|device| Arc::ptr_eq(&device.levels, levels)) {
            device.machines = machines;
        }
    }

    pub fn remove_device(&self, levels: &Arc<ChannelLevels>) {
        self.devices.lock().retain(|device| !Arc::ptr_eq(&device.levels, levels));
    }

    /// The devices that machines listen to, and how they are.
    pub fn devices(&self) -> Vec<HeardDevice> {
        let stats = self.stats.lock();
        let of =
            |machines: &[usize]| stats.iter().filter(|stats| machines.contains(&stats.machine)).collect::<Vec<_>>();
        let devices = self.devices.lock();
        let devices = devices.iter().map(|OpenDevice { device, machines, levels }| {
            let stats = of(machines);
            HeardDevice {
                device: device.clone(),
                machines: stats.iter().map(|stats| stats.id.clone()).collect(),
                levels: levels.clone(),
                problem: stats.iter().find_map(|stats| stats.why.clone()),
            }
        });
        devices.collect()
    }

    /// A machine is to be captured: it has statistics from now on.
    pub fn join(&self, input: &MachineInput) {
        self.live.write().insert(input.machine, Arc::new(LiveTap::new(input.rate_hz)));
        self.recent.write().insert(input.machine, Arc::new(RecentTap::new(input.rate_hz)));
        self.stats.lock().push(MachineStats::new(input));
    }

    /// A machine is captured no more: what of it waits in the queue is dropped, and so is what still comes.
    pub fn leave(&self, machine: usize) {
        self.live.write().remove(&machine);
        self.recent.write().remove(&machine);
        self.stats.lock().retain(|stats| stats.machine != machine);
        self.queue.shut_out(machine);
    }

    pub fn live(&self, machine: usize) -> Option<Arc<LiveTap>> {
        self.live.read().get(&machine).cloned()
    }

    pub fn recent(&self, machine: usize) -> Option<Arc<RecentTap>> {
        self.recent.read().get(&machine).cloned()
    }

    /// From now on the last minute of every machine is kept.
    pub fn keep_recent(&self) {
        self.keeps_recent.store(true, Ordering::Relaxed);
    }

    pub fn keeps_recent(&self) -> bool {
        self.keeps_recent.load(Ordering::Relaxed)
    }

    pub fn update(&self, machine: usize, change: impl FnOnce(&mut MachineStats)) {
        if let Some(stats) = self.stats.lock().iter_mut().find(|stats| stats.machine == machine) {
            change(stats);
        }
    }

    pub fn stats(&self) -> Vec<MachineStats> {
        self.stats.lock().clone()
    }

    /// Puts an event into the queue; an event never waits for room.
    pub fn event(&self, machine: usize, event: CaptureEvent) {
        self.queue.push(Captured::Event { machine, event }, false);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks every stream to end. Nobody waits for the queue any longer; what is in it can still be taken.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.queue.close();
    }
}
