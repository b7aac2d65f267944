//! From machines to streams: what each machine listens to, and how that is opened. Machines on one device share its stream.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::stream::{Opener, StreamSpec};
use crate::audio::config::{Channel, MachineInput};
use crate::audio::device::identity::{self, Selector};
use crate::audio::device::offer::Wish;
use crate::audio::device::{self, DeviceRequest};
use crate::audio::paced::Paced;
use crate::audio::source::{Source, SourceError, SourceProblem};
use crate::audio::synth::SynthSource;
use crate::audio::wav::files::WavSource;

/// Directory in which the kernel describes its devices.
const SYSFS: &str = "/sys";

/// Sorts machines by what they listen to.
pub(super) fn streams(inputs: Vec<MachineInput>) -> Result<Vec<StreamSpec>, SourceError> {
    let mut specs = Vec::new();
    let mut devices: Vec<(Selector, Vec<MachineInput>)> = Vec::new();
    let cards = identity::cards(Path::new(SYSFS));
    for input in inputs {
        let Some(device) = &input.source.device else {
            specs.push(file_stream(input)?);
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

/// A file or directory ends where the device would go on: it is opened here, so that what is wrong with it is reported at
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
    let of_machine = |why| SourceProblem::of(format!("machine {:?}: source.wav", input.id), why);
    let opened = open().map_err(|error| match error {
        SourceError::Config(why) => SourceError::Config(of_machine(why)),
        SourceError::Data(why) => SourceError::Data(of_machine(why)),
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
