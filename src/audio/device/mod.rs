//! A capture card through cpal and ALSA.

mod clock;
pub mod identity;
pub mod list;
pub mod offer;
mod ring;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, DeviceId, ErrorKind, HostId, StreamConfig};

use self::clock::{Arrival, StreamClock};
use self::identity::{Selector, Target};
use self::offer::{Choice, Layout, Offer, Wish};
use self::ring::{Block, Faults, Reader, ToF32};
use super::source::{Format, Read, Source, SourceError};
use crate::numbers::counted;

/// We ask for deliveries of this length: small ones cost much, and windows are seconds long.
const BLOCK_S: f64 = 0.2;
/// How often we look into the ring.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait in one read.
const WAIT: Duration = Duration::from_millis(200);

/// Which device, and how to open it.
#[derive(Debug, Clone)]
pub struct DeviceRequest {
    pub device: Selector,
    pub wish: Wish,
    /// `/sys` but in tests.
    pub sysfs: PathBuf,
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
    let cards = identity::cards(&request.sysfs);
    let target = request.device.resolve(&cards).map_err(|problem| SourceError::Lost(problem.into()))?;
    let lost = |problem: String| SourceError::Lost(format!("{}: {problem}", request.device).into());
    // Holds ALSA's configuration as long as it is used here.
    let host = cpal::host_from_id(HostId::Alsa).map_err(|error| lost(error.to_string()))?;
    let (name, choice) = plan(&target, &request.wish).map_err(lost)?;
    let device = host.device_by_id(&DeviceId::new(HostId::Alsa, &name)).ok_or_else(|| lost(absent(&target)))?;
    DeviceSource::start(&device, &choice).map_err(|error| lost(explain(&error, &target, &choice)))
}

/// What a device offers, `name` as ALSA has it.
///
/// # Errors
/// One line that says what can be done about it.
pub fn offer_of(target: &Target) -> Result<Offer, String> {
    // ALSA's own complaints to stderr say nothing that ours does not.
    let _quiet = alsa::Output::local_error_handler();
    Offer::of(&target.name).map_err(|error| describe(error.errno(), target).unwrap_or_else(|| error.to_string()))
}

/// What ALSA's error number means for a user; `None` where its own words must do.
fn describe(errno: i32, target: &Target) -> Option<String> {
    match errno {
        libc::ENODEV | libc::ENOENT | libc::ENXIO => Some(absent(target)),
        libc::EBUSY | libc::EAGAIN => Some(BUSY.into()),
        libc::EPERM | libc::EACCES => Some(NO_PERMISSION.into()),
        libc::ECONNREFUSED => Some("its sound server does not answer".into()),
        _ => None,
    }
}

/// Which of ALSA's names to open, and how.
fn plan(target: &Target, wish: &Wish) -> Result<(String, Choice), String> {
    let mut wish = wish.clone();
    if let (Some((card, pcm)), true) = (target.card, target.name.starts_with("plughw:")) {
        // A converter would make up channels: take as many as the card has.
        let card = Target { name: format!("hw:CARD={card},DEV={pcm}"), card: target.card };
        let native = offer_of(&card)?;
        wish.channels = Some(native.choose(&Wish { rate_hz: None, format: None, ..wish.clone() })?.channels);
    }
    let mut choice = offer_of(target)?.choose(&wish)?;
    let mut name = target.name.clone();
    if choice.format.sample_format().is_none() {
        if name.starts_with("hw:") {
            name = format!("plug{name}");
        }
        choice.format = Layout::I32;
    }
    Ok((name, choice))
}

impl DeviceSource {
    fn start(device: &cpal::Device, choice: &Choice) -> Result<DeviceSource, cpal::Error> {
        let block = (f64::from(choice.rate_hz) * BLOCK_S) as u32;
        let mut outcome = Err(cpal::Error::new(ErrorKind::UnsupportedConfig));
        // Cards with small buffers refuse long blocks.
        let sizes = [block, block / 2, block / 4, block / 8].map(BufferSize::Fixed);
        for buffer_size in sizes.into_iter().chain([BufferSize::Default]) {
            let config = StreamConfig { channels: choice.channels, sample_rate: choice.rate_hz, buffer_size };
            outcome = Self::start_with(device, config, choice.format);
            if !matches!(&outcome, Err(error) if error.kind() == ErrorKind::UnsupportedConfig) {
                break;
            }
        }
        outcome
    }

    fn start_with(device: &cpal::Device, config: StreamConfig, format: Layout) -> Result<Self, cpal::Error> {
        match format {
            Layout::I32 => Self::start_as::<i32>(device, config),
            Layout::F32 => Self::start_as::<f32>(device, config),
            Layout::I24 => Self::start_as::<cpal::I24>(device, config),
            Layout::I16 => Self::start_as::<i16>(device, config),
            Layout::U8 => Self::start_as::<u8>(device, config),
            Layout::I24Packed => Err(cpal::Error::new(ErrorKind::UnsupportedConfig)),
        }
    }

    fn start_as<T: ToF32>(device: &cpal::Device, config: StreamConfig) -> Result<Self, cpal::Error> {
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
                tracing::debug!(%error, "the stream has ended");
                return Err(SourceError::Lost(ended(&error).into()));
            }
            if Instant::now() >= deadline {
                return Ok(Read::Nothing);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Of a device that is configured; the list of devices says it otherwise.
pub(super) const NO_SUCH: &str = "no such capture device; `auscult devices` lists them";
const BUSY: &str = "busy: another program has it open; `fuser -v /dev/snd/*` shows which";
const NO_PERMISSION: &str =
    "no permission: the agent's user must be in the group audio (`sudo usermod -aG audio USER`, then a new login)";

/// Why ALSA does not know a device.
fn absent(target: &Target) -> String {
    let Some((card, pcm)) = target.card else {
        return NO_SUCH.into();
    };
    // sysfs knows the card, so it is there: what keeps us from it?
    match std::fs::File::open(format!("/dev/snd/controlC{card}")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => NO_PERMISSION.into(),
        Err(_) => format!("the card is there, but not /dev/snd/pcmC{card}D{pcm}c: in a container, pass /dev/snd in"),
        Ok(_) => "the card does not answer".into(),
    }
}

/// Why a stream that ran does so no more. What ALSA says of it, by the name of its own function and with an error number
/// that it does not know itself, says nothing to a person.
fn ended(error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => NO_PERMISSION.into(),
        ErrorKind::DeviceBusy => BUSY.into(),
        _ => "the microphone stopped delivering: it was unplugged, or its sound server has ended".into(),
    }
}

/// What went wrong with a device, and what to do about it.
fn explain(error: &cpal::Error, target: &Target, choice: &Choice) -> String {
    match error.kind() {
        ErrorKind::DeviceBusy => BUSY.into(),
        ErrorKind::PermissionDenied => NO_PERMISSION.into(),
        ErrorKind::DeviceNotAvailable => absent(target),
        ErrorKind::UnsupportedOperation => "cannot capture".into(),
        ErrorKind::UnsupportedConfig => {
            let Choice { rate_hz, channels, format } = choice;
            let offer = offer_of(target).map_or_else(|error| error, |offer| offer.to_string());
            let channels = counted(*channels, "channel");
            format!("refuses {channels}, {rate_hz} Hz, {format} together; it offers {offer}")
        }
        _ => {
            let said = error.to_string();
            match said.contains("snd_") {
                true => "the card, or the sound server behind it, does not answer".into(),
                false => said,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cards that refuse need hardware; the text of the errors can be tested.
    #[test]
    fn what_keeps_a_card_from_being_opened_is_an_error_with_the_cure() {
        let target = Target { name: "hw:CARD=97,DEV=0".into(), card: Some((97, 0)) };
        for (errno, words) in [
            (libc::EBUSY, "fuser -v /dev/snd/"),
            (libc::EACCES, "in the group audio (`sudo usermod -aG audio USER`"),
            (libc::EPERM, "in the group audio"),
            (libc::ENODEV, "not /dev/snd/pcmC97D0c: in a container, pass /dev/snd in"),
            (libc::ENOENT, "not /dev/snd/pcmC97D0c"),
            (libc::ECONNREFUSED, "sound server does not answer"),
        ] {
            let problem = describe(errno, &target).expect("words of our own");
            assert!(problem.contains(words), "{errno}: {problem}");
        }
        let choice = Choice { rate_hz: 48_000, channels: 2, format: Layout::I16 };
        for (kind, words) in [
            (ErrorKind::DeviceBusy, "busy"),
            (ErrorKind::PermissionDenied, "group audio"),
            (ErrorKind::UnsupportedConfig, "refuses 2 channels, 48000 Hz, i16 together; it offers"),
        ] {
            let problem = explain(&cpal::Error::new(kind), &target, &choice);
            assert!(problem.contains(words), "{problem}");
        }
        // As it comes where PulseAudio ends.
        let alsa = cpal::Error::with_message(
            ErrorKind::BackendError,
            "ALSA function 'snd_pcm_poll_descriptors_revents' failed with error 'Unknown errno (-5)'",
        );
        for words in [ended(&alsa), explain(&alsa, &target, &choice)] {
            assert!(!words.contains("snd_") && words.contains("sound server"), "{words}");
        }
    }
}
