//! What a user can set about a machine's source, and what capture needs to know of the machine.

use std::path::PathBuf;

use auscult_signal::push_means;
use serde::{Deserialize, Serialize};

use super::device::identity::Selector;
use super::device::offer::Layout;
use super::synth;
use crate::validate::{check_range, some_of};
use crate::window::RATES_HZ;

/// Where a machine's sound comes from: exactly one of `device`, `wav`, `synth`, and what goes with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { device = \"usb-path:1-1.3\" }")]
pub struct SourceConfig {
    /// Capture device: `usb-path:PORT`, `usb-id:VENDOR:PRODUCT[:SERIAL]`, `card:NAME`, or an ALSA name.
    pub device: Option<String>,
    /// A WAV file or a directory of them.
    pub wav: Option<PathBuf>,
    /// A simulated machine: `fan`, `blower`, `pump`.
    pub synth: Option<String>,

    /// Channel of the device or file, from 0, or `"mix"` for the mean of all; default `"mix"`.
    pub channel: Channel,
    /// Rate to open the device at, Hz; default: the best it offers, 48000 where it does.
    pub rate_hz: Option<u32>,
    /// Number of channels to open the device with; default: what its machines need.
    pub channels: Option<u16>,
    /// Sample format to open the device with: `i16`, `i24`, `i32`, `f32`; default: the best it offers.
    #[serde(deserialize_with = "some_of")]
    pub format: Option<Layout>,

    /// WAV: begin again at the end; default false.
    #[serde(rename = "loop")]
    pub repeat: bool,
    /// WAV, synth: at the pace of real time; default true. `false` goes as fast as scoring can.
    pub realtime: Option<bool>,

    /// Synth: the fault to develop; default: none.
    pub fault: Option<String>,
    /// Synth: seconds until the fault begins; default 0.
    pub fault_after_s: Option<f64>,
    /// Synth: seconds from then until its full strength; default 0.
    pub fault_grow_s: Option<f64>,
    /// Synth: strength of the fault, 0..1; default 0.6.
    pub strength: Option<f64>,
    /// Synth: which individual machine; default: made from the machine's id.
    pub seed: Option<u64>,
    /// Synth: which recording of that machine; default 0.
    pub take: Option<u64>,
    /// Synth: pace as a multiple of real time; default 1. Above 1 it waits for scoring rather than lose windows.
    pub speed: Option<f64>,
}

/// One channel of a source, or the mean of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "RawChannel", into = "RawChannel")]
pub enum Channel {
    #[default]
    Mix,
    One(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawChannel {
    Number(i64),
    Word(String),
}

impl TryFrom<RawChannel> for Channel {
    type Error = String;

    fn try_from(raw: RawChannel) -> Result<Self, String> {
        match raw {
            RawChannel::Number(number) => number.to_string().parse(),
            RawChannel::Word(word) => word.parse(),
        }
    }
}

impl From<Channel> for RawChannel {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Mix => RawChannel::Word("mix".into()),
            Channel::One(number) => RawChannel::Number(number as i64),
        }
    }
}

impl std::str::FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "mix" {
            return Ok(Channel::Mix);
        }
        text.parse().map(Channel::One).map_err(|_| format!("expected a channel number from 0 or \"mix\", found {text}"))
    }
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Channel::Mix => f.write_str("mix"),
            Channel::One(number) => number.fmt(f),
        }
    }
}

impl SourceConfig {
    /// Its sound comes faster than time passes: what happens in it is not found by the clock.
    pub fn is_faster_than_real_time(&self) -> bool {
        self.device.is_none() && (self.realtime == Some(false) || self.speed.is_some_and(|speed| speed > 1.0))
    }

    /// Checks what types alone do not say; `key` is where the source stands in the configuration.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self, key: &str) -> Result<(), String> {
        let kinds = [("device", self.device.is_some()), ("wav", self.wav.is_some()), ("synth", self.synth.is_some())];
        let given: Vec<_> = kinds.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            return Err(format!("{key}: expected one of device, wav, synth, found {found}"));
        }
        let kind = given[0];
        let only = [
            ("rate_hz", "device", self.rate_hz.is_some()),
            ("channels", "device", self.channels.is_some()),
            ("format", "device", self.format.is_some()),
            ("loop", "wav", self.repeat),
            ("fault", "synth", self.fault.is_some()),
            ("fault_after_s", "synth", self.fault_after_s.is_some()),
            ("fault_grow_s", "synth", self.fault_grow_s.is_some()),
            ("strength", "synth", self.strength.is_some()),
            ("seed", "synth", self.seed.is_some()),
            ("take", "synth", self.take.is_some()),
            ("speed", "synth", self.speed.is_some()),
        ];
        if let Some((field, owner, _)) = only.iter().find(|(_, owner, there)| *there && *owner != kind) {
            return Err(format!("{key}.{field}: goes with {owner}, not with {kind}"));
        }
        if let Some(device) = &self.device {
            device.parse::<Selector>().map_err(|problem| format!("{key}.device: {problem}"))?;
        }
        if let (Some(channels), Channel::One(channel)) = (self.channels, self.channel)
            && channel >= usize::from(channels)
        {
            return Err(format!("{key}.channel: expected below channels = {channels}, found {channel}"));
        }
        if let Some(rate_hz) = self.rate_hz {
            check_range(
                &format!("{key}.rate_hz"),
                f64::from(rate_hz),
                f64::from(*RATES_HZ.start()),
                f64::from(*RATES_HZ.end()),
            )?;
        }
        if let Some(strength) = self.strength {
            check_range(&format!("{key}.strength"), strength, 0.0, 1.0)?;
        }
        if let Some(after) = self.fault_after_s {
            check_range(&format!("{key}.fault_after_s"), after, 0.0, 1e9)?;
        }
        if let Some(grow) = self.fault_grow_s {
            check_range(&format!("{key}.fault_grow_s"), grow, 0.0, 1e9)?;
        }
        if let Some(speed) = self.speed {
            check_range(&format!("{key}.speed"), speed, 0.1, 1000.0)?;
            if self.realtime == Some(false) {
                return Err(format!("{key}.speed: with realtime = false it goes as fast as scoring can"));
            }
        }
        if self.synth.is_some() {
            synth::check(self).map_err(|problem| format!("{key}.{problem}"))?;
        }
        if self.device.is_some() && self.realtime == Some(false) {
            return Err(format!("{key}.realtime: a device is always real time"));
        }
        Ok(())
    }
}

/// Makes `mono` one channel of interleaved `frames`, or the mean of all.
pub fn take_channel(frames: &[f32], channels: usize, channel: Channel, mono: &mut Vec<f32>) {
    mono.clear();
    if let (1, Channel::One(0) | Channel::Mix) = (channels, channel) {
        return mono.extend_from_slice(frames);
    }
    match channel {
        Channel::One(channel) => {
            mono.extend(frames.chunks_exact(channels.max(1)).filter_map(|frame| frame.get(channel)));
        }
        Channel::Mix => push_means(frames, channels, mono),
    }
}

/// What the capture side needs to know of one machine.
#[derive(Debug, Clone)]
pub struct MachineInput {
    /// Number of the machine in the configuration.
    pub machine: usize,
    /// Its id, for logs and thread names.
    pub id: String,
    pub source: SourceConfig,
    /// Seconds from window to window.
    pub hop_s: f64,
    /// Rate that the bundle wants, Hz.
    pub rate_hz: u32,
    /// Length of a window at that rate.
    pub window_samples: usize,
}
