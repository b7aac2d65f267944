//! From machines to streams: what each machine listens to, and how that is opened. Machines on one device share its stream.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::stream::{Opener, StreamSpec};
use crate::audio::config::{Channel, MachineInput};
use crate::audio::device::identity::{self, Selector};
use crate::audio::device::offer::Wish;
use crate::audio::device::{self, DeviceRequest};
use crate::audio::paced::Paced;
use crate::audio::source::{Format, Source, SourceError, SourceProblem};
use crate::audio::synth::SynthSource;
use crate::audio::wav::files::WavSource;
use crate::numbers::counted;

/// Directory in which the kernel describes its devices.
const SYSFS: &str = "/sys";

/// A stream that is to be opened.
pub(super) struct Planned {
    pub spec: StreamSpec,
    /// What other machines can join; files and simulated machines are heard by one alone.
    pub device: Option<SharedDevice>,
}

/// A device and how it is opened, the next time too.
pub(super) struct SharedDevice {
    selector: Selector,
    wish: Arc<Mutex<Wish>>,
}

/// What a machine that comes while a device is open finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// It listens to the open stream too.
    Joins,
    /// The device converts, and its open stream has too few channels: it is opened once more, so that nobody loses sound.
    OpensOnceMore,
}

impl SharedDevice {
    /// Whether `input` listens to this device.
    pub fn is_meant(&self, input: &MachineInput) -> bool {
        let device = input.source.device.as_deref().and_then(|device| device.parse::<Selector>().ok());
        device.is_some_and(|device| self.selector.is_same(&device, &identity::cards(Path::new(SYSFS))))
    }

    /// How a machine comes to the device that is open with `format`, or not open at the moment.
    ///
    /// # Errors
    /// `Config`: it wants what the device does not have, or the device opened in another way than it is.
    pub fn joining(&self, input: &MachineInput, format: Option<Format>) -> Result<Joining, SourceError> {
        let source = &input.source;
        let mut wish = self.wish.lock().clone();
        let (rate_hz, channels) =
            (format.map(|format| format.rate_hz), format.and_then(|format| format.channels.try_into().ok()));
        wish.rate_hz = wish.rate_hz.or(rate_hz);
        let asked_channels = wish.channels;
        wish.channels = wish.channels.or(channels);
        agree(&mut wish.rate_hz, source.rate_hz, input, "rate_hz")?;
        agree(&mut wish.channels, source.channels, input, "channels")?;
        if source.format.is_some() && source.format != wish.format {
            let problem = "the device is open for other machines already: leave it out, or set it for them too";
            return Err(config_error(input, "format", problem));
        }
        match (source.channel, format) {
            (Channel::One(channel), Some(format)) if channel >= format.channels => {
                if asked_channels.is_none() && self.converts() {
                    return Ok(Joining::OpensOnceMore);
                }
                let channels = counted(format.channels, "channel");
                let problem = format!("the device has {channels}, counted from 0, found {channel}");
                Err(config_error(input, "channel", &problem))
            }
            _ => Ok(Joining::Joins),
        }
    }

    /// A machine has joined: the device is opened for it too the next time.
    pub fn join(&self, input: &MachineInput) {
        let mut wish = self.wish.lock();
        if let Channel::One(channel) = input.source.channel {
            wish.least_channels = wish.least_channels.max(least_channels(channel));
        }
    }

    /// Any number of channels can be had of it: it is no card, and no name of one.
    fn converts(&self) -> bool {
        matches!(&self.selector, Selector::Alsa(name) if !name.starts_with("hw:") && !name.starts_with("plughw:"))
    }
}

fn least_channels(channel: usize) -> u16 {
    u16::try_from(channel + 1).unwrap_or(u16::MAX)
}

/// The stream of one machine that joins no other.
pub(super) fn stream(input: MachineInput) -> Result<Planned, SourceError> {
    let Some(device) = &input.source.device else {
        return Ok(Planned { spec: file_stream(input)?, device: None });
    };
    let device = device.parse().map_err(|problem: String| config_error(&input, "device", &problem))?;
    device_stream(device, vec![input])
}

/// Finds a place for a machine whose source must not keep the others from starting: what cannot be opened is waited for.
pub(super) fn add_waiting(streams: &mut Vec<Planned>, input: MachineInput) -> Result<(), SourceError> {
    if input.source.device.is_none() {
        let (name, open, realtime) = file_opener(&input);
        let machines = vec![(input, Channel::Mix)];
        streams.push(Planned { spec: StreamSpec { name, open, opened: None, realtime, machines }, device: None });
        return Ok(());
    }
    for Planned { spec, device } in streams.iter_mut() {
        if let Some(device) = device.as_ref().filter(|device| device.is_meant(&input))
            && device.joining(&input, None).is_ok()
        {
            device.join(&input);
            let channel = input.source.channel;
            spec.machines.push((input, channel));
            return Ok(());
        }
    }
    streams.push(stream(input)?);
    Ok(())
}

/// Sorts machines by what they listen to.
pub(super) fn streams(inputs: Vec<MachineInput>) -> Result<Vec<Planned>, SourceError> {
    let mut specs = Vec::new();
    let mut devices: Vec<(Selector, Vec<MachineInput>)> = Vec::new();
    let cards = identity::cards(Path::new(SYSFS));
    for input in inputs {
        let Some(device) = &input.source.device else {
            specs.push(Planned { spec: file_stream(input)?, device: None });
            continue;
        };
        let device: Selector = device.parse().map_err(|problem: String| config_error(&input, "device", &problem))?;
        match devices.iter_mut().find(|(known, _)| known.is_same(&device, &cards)) {
            Some((_, machines)) => machines.push(input),
            None => devices.push((device, vec![input])),
        }
    }
    for (device, machines) in devices {
        specs.push(device_stream(device, machines)?);
    }
    Ok(specs)
}

fn config_error(input: &MachineInput, field: &str, problem: &str) -> SourceError {
    SourceError::Config(format!("machine {:?}: source.{field}: {problem}", input.id).into())
}

fn device_stream(device: Selector, machines: Vec<MachineInput>) -> Result<Planned, SourceError> {
    let name = device.to_string();
    // Machines that come later find every channel of a card open.
    let mut wish = Wish { all_channels: true, ..Wish::default() };
    for input in &machines {
        let source = &input.source;
        agree(&mut wish.rate_hz, source.rate_hz, input, "rate_hz")?;
        agree(&mut wish.channels, source.channels, input, "channels")?;
        agree(&mut wish.format, source.format, input, "format")?;
        if let Channel::One(channel) = source.channel {
            wish.least_channels = wish.least_channels.max(least_channels(channel));
        }
    }
    let shared = SharedDevice { selector: device.clone(), wish: Arc::new(Mutex::new(wish)) };
    let wish = shared.wish.clone();
    let machines = machines.into_iter().map(|input| {
        let channel = input.source.channel;
        (input, channel)
    });
    let open = move || {
        let request = DeviceRequest { device: device.clone(), wish: wish.lock().clone(), sysfs: SYSFS.into() };
        Ok(Box::new(device::open(&request)?) as Box<dyn Source>)
    };
    let spec = StreamSpec { name, open: Arc::new(open), opened: None, realtime: true, machines: machines.collect() };
    Ok(Planned { spec, device: Some(shared) })
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

/// How a file or a simulated machine is opened: its name for logs, what opens it, whether its sound is live.
fn file_opener(input: &MachineInput) -> (String, Opener, bool) {
    let source = &input.source;
    let Some(path) = source.wav.clone() else {
        let (source, id) = (source.clone(), input.id.clone());
        let (paced, speed) = (source.realtime != Some(false), source.speed.unwrap_or(1.0));
        let open: Opener = Arc::new(move || {
            let machine = Box::new(SynthSource::new(&source, &id)?);
            Ok(if paced { Box::new(Paced::at_speed(machine, speed)) } else { machine })
        });
        // Time that is made to run faster can as well run slower where scoring does not keep up.
        return (format!("simulated {}", input.id), open, !input.source.is_faster_than_real_time());
    };
    let (channel, rate_hz, repeat) = (source.channel, input.rate_hz, source.repeat);
    let realtime = !source.is_faster_than_real_time();
    let name = path.display().to_string();
    let open = move || {
        // Opening a pipe or a device would wait for who writes to it.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            return Err(SourceError::Config(format!("{}: expected a file or a directory", path.display()).into()));
        }
        let wav = Box::new(WavSource::open(&path, channel, rate_hz, repeat)?) as Box<dyn Source>;
        Ok(if realtime { Box::new(Paced::new(wav)) as Box<dyn Source> } else { wav })
    };
    (name, Arc::new(open), realtime)
}

/// A file or directory ends where the device would go on: it is opened here, so that what is wrong with it is said at
/// once, and again whenever it was lost.
fn file_stream(input: MachineInput) -> Result<StreamSpec, SourceError> {
    let (name, open, realtime) = file_opener(&input);
    let opened = open().map_err(|error| match (error, &input.source.wav) {
        (SourceError::Config(why), Some(_)) => {
            SourceError::Config(SourceProblem::of(format!("machine {:?}: source.wav", input.id), why))
        }
        (SourceError::Data(why), Some(_)) => {
            SourceError::Data(SourceProblem::of(format!("machine {:?}: source.wav", input.id), why))
        }
        (other, _) => other,
    })?;
    let machines = vec![(input, Channel::Mix)];
    Ok(StreamSpec { name, open, opened: Some(opened), realtime, machines })
}
