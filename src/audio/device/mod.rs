//! A capture card through cpal and ALSA.

pub mod clock;
pub mod offer;
mod ring;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, DeviceId, ErrorKind, FromSample, HostId, SampleFormat, SizedSample, StreamConfig};

use self::clock::{Arrival, StreamClock};
use self::offer::{Choice, Wish};
use self::ring::{Block, Faults, Reader};
use super::{Format, Read, Source, SourceError};

/// We ask for deliveries of this length: small ones cost much, and windows are seconds long.
const BLOCK_S: f64 = 0.2;
/// How often we look into the ring.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait in one read.
const WAIT: Duration = Duration::from_millis(200);

/// Which device, and how to open it.
#[derive(Debug, Clone)]
pub struct DeviceRequest {
    /// As in the configuration.
    pub device: String,
    pub wish: Wish,
}

/// An opened capture device.
pub struct DeviceSource {
    format: Format,
    reader: Reader,
    faults: Arc<Faults>,
    clock: StreamClock,
    opened: Instant,
    /// Frames of all blocks seen by the clock.
    counted: u64,
    /// Blocks that wait until it is clear whether frames are missing before them.
    held: VecDeque<Piece>,
    /// What can be handed out.
    ready: VecDeque<Piece>,
    /// Closed with the rest. Last, so that the callbacks end after everything is out of the ring.
    _stream: cpal::Stream,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// So many frames; the count of frames up to and with its last.
    Frames(usize, u64),
    Gap(u64),
}

/// Opens a device and lets it run.
///
/// # Errors
/// `Lost`, with what can be done about it.
pub fn open(request: &DeviceRequest) -> Result<DeviceSource, SourceError> {
    // ALSA's own complaints to stderr say nothing that ours does not.
    let _quiet = alsa::Output::local_error_handler();
    let name = &request.device;
    let fault = |error: cpal::Error| SourceError::Lost(explain(name, &error));
    let host = cpal::host_from_id(HostId::Alsa).map_err(fault)?;
    let device = host
        .device_by_id(&DeviceId::new(HostId::Alsa, name))
        .ok_or_else(|| SourceError::Lost(format!("{name}: no such capture device; `auscult devices` lists them")))?;
    let offers: Vec<_> = device.supported_input_configs().map_err(fault)?.collect();
    let choice =
        offer::choose(&offers, &request.wish).map_err(|problem| SourceError::Lost(format!("{name}: {problem}")))?;
    DeviceSource::start(&device, &choice).map_err(|error| match error.kind() {
        ErrorKind::UnsupportedConfig => {
            SourceError::Lost(format!("{name}: refuses {choice:?}; it offers {}", offer::describe(&offers)))
        }
        _ => fault(error),
    })
}

impl DeviceSource {
    fn start(device: &cpal::Device, choice: &Choice) -> Result<DeviceSource, cpal::Error> {
        let wanted = (f64::from(choice.rate_hz) * BLOCK_S) as u32;
        let buffer = choice.block_frames.map(|(least, most)| BufferSize::Fixed(wanted.clamp(least, most.max(least))));
        let buffers = buffer.into_iter().chain([BufferSize::Default]);
        let mut outcome = Err(cpal::Error::new(ErrorKind::UnsupportedConfig));
        for buffer_size in buffers {
            let config = StreamConfig { channels: choice.channels, sample_rate: choice.rate_hz, buffer_size };
            outcome = Self::start_with(device, config, choice.format);
            if !matches!(&outcome, Err(error) if error.kind() == ErrorKind::UnsupportedConfig) {
                break;
            }
        }
        outcome
    }

    fn start_with(device: &cpal::Device, config: StreamConfig, format: SampleFormat) -> Result<Self, cpal::Error> {
        match format {
            SampleFormat::I8 => Self::start_as::<i8>(device, config),
            SampleFormat::I16 => Self::start_as::<i16>(device, config),
            SampleFormat::I24 => Self::start_as::<cpal::I24>(device, config),
            SampleFormat::I32 => Self::start_as::<i32>(device, config),
            SampleFormat::U8 => Self::start_as::<u8>(device, config),
            SampleFormat::U16 => Self::start_as::<u16>(device, config),
            SampleFormat::U24 => Self::start_as::<cpal::U24>(device, config),
            SampleFormat::U32 => Self::start_as::<u32>(device, config),
            SampleFormat::F32 => Self::start_as::<f32>(device, config),
            SampleFormat::F64 => Self::start_as::<f64>(device, config),
            _ => Err(cpal::Error::new(ErrorKind::UnsupportedConfig)),
        }
    }

    fn start_as<T: SizedSample + Send + 'static>(
        device: &cpal::Device,
        config: StreamConfig,
    ) -> Result<Self, cpal::Error>
    where
        f32: FromSample<T>,
    {
        let format = Format { rate_hz: config.sample_rate, channels: usize::from(config.channels) };
        let faults = Arc::new(Faults::default());
        let (mut writer, reader) = ring::ring(format.rate_hz, format.channels, faults.clone());
        let error_faults = faults.clone();
        let stream = device.build_input_stream(
            config,
            move |data: &[T], _: &cpal::InputCallbackInfo| writer.write(data),
            move |error| error_faults.note(error),
            Some(Duration::from_millis(500)),
        )?;
        stream.play()?;
        Ok(DeviceSource {
            format,
            reader,
            faults,
            clock: StreamClock::new(format.rate_hz),
            opened: Instant::now(),
            counted: 0,
            held: VecDeque::new(),
            ready: VecDeque::new(),
            _stream: stream,
        })
    }

    /// Looks at the blocks that have come: which can be handed out, which must wait, where frames are missing.
    fn sort(&mut self) {
        while let Ok(Block { frames, at, dropped, overrun }) = self.reader.blocks.pop() {
            let at_s = at.saturating_duration_since(self.opened).as_secs_f64();
            self.counted += frames as u64 + dropped;
            let piece = Piece::Frames(frames, self.counted);
            if overrun {
                let lost_s = self.clock.lost(self.counted, at_s);
                self.ready.append(&mut self.held);
                let lost = (lost_s * f64::from(self.format.rate_hz)) as u64;
                self.ready.extend([Piece::Gap(lost.max(1) + dropped), piece]);
                continue;
            }
            let before = (dropped > 0).then_some(Piece::Gap(dropped));
            match self.clock.observe(self.counted, at_s) {
                Arrival::OnTime => self.ready.append(&mut self.held),
                Arrival::Late => {
                    self.held.extend(before.into_iter().chain([piece]));
                    continue;
                }
                Arrival::Lost(lost_s) => {
                    self.ready.push_back(Piece::Gap((lost_s * f64::from(self.format.rate_hz)).round() as u64));
                    self.ready.append(&mut self.held);
                }
            }
            self.ready.extend(before.into_iter().chain([piece]));
        }
    }

    /// Hands out what is ready, up to the next gap.
    fn hand_out(&mut self, frames: &mut Vec<f32>) -> Option<Read> {
        if let Some(&Piece::Gap(frames)) = self.ready.front() {
            self.ready.pop_front();
            return Some(Read::Gap { frames });
        }
        let mut end = None;
        while let Some(&Piece::Frames(count, counted)) = self.ready.front() {
            self.ready.pop_front();
            let chunk = self.reader.samples.read_chunk(count * self.format.channels).ok()?;
            frames.extend(chunk);
            end = Some(counted);
        }
        let captured_s = self.clock.time_s(end?)?;
        let age_s = self.opened.elapsed().as_secs_f64() - captured_s;
        Some(Read::Frames { end: SystemTime::now() - Duration::from_secs_f64(age_s.max(0.0)) })
    }
}

impl Source for DeviceSource {
    fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError> {
        let deadline = Instant::now() + WAIT;
        loop {
            self.sort();
            if let Some(read) = self.hand_out(frames) {
                return Ok(read);
            }
            if let Some(error) = self.faults.fatal() {
                return Err(SourceError::Lost(error.to_string()));
            }
            if Instant::now() >= deadline {
                return Ok(Read::Nothing);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// What went wrong with a device, and what to do about it.
fn explain(name: &str, error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceBusy => {
            format!("{name}: busy: another program has it open; `fuser -v /dev/snd/*` shows which")
        }
        ErrorKind::PermissionDenied => {
            format!(
                "{name}: no permission: the agent's user must be in the group audio (`sudo usermod -aG audio USER`)"
            )
        }
        ErrorKind::DeviceNotAvailable => format!("{name}: not there, or its sound server does not run"),
        ErrorKind::UnsupportedOperation => format!("{name}: cannot capture"),
        _ => format!("{name}: {error}"),
    }
}
