//! What a capture device offers, and which of it we take.

use std::fmt;

use alsa::Direction;
use alsa::pcm::{Format as AlsaFormat, HwParams, PCM};
use cpal::SampleFormat;

use crate::numbers::counted;

/// Rates we ask for first, Hz: those that resample well to the bundle's, then what there is.
const RATES_HZ: [u32; 6] = [48_000, 96_000, 44_100, 32_000, 16_000, 192_000];
/// Rates that are tried where a device has single rates only, Hz.
const SINGLE_RATES_HZ: [u32; 13] =
    [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 192_000];
/// More channels than any card has: a device that takes so many converts.
const CONVERTER_CHANNELS: u32 = 32;

/// How a device lays out its samples, the best for us first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    I32,
    F32,
    I24,
    I16,
    U8,
    /// 24 bits in three bytes: read through ALSA's `plughw:`.
    I24Packed,
}

impl Layout {
    const ALL: [(Layout, &'static [AlsaFormat]); 6] = [
        (Layout::I32, &[AlsaFormat::S32LE, AlsaFormat::S32BE]),
        (Layout::F32, &[AlsaFormat::FloatLE, AlsaFormat::FloatBE]),
        (Layout::I24, &[AlsaFormat::S24LE, AlsaFormat::S24BE]),
        (Layout::I16, &[AlsaFormat::S16LE, AlsaFormat::S16BE]),
        (Layout::U8, &[AlsaFormat::U8]),
        (Layout::I24Packed, &[AlsaFormat::S243LE, AlsaFormat::S243BE]),
    ];

    /// What cpal calls it; `None` where it needs a converter.
    pub fn sample_format(self) -> Option<SampleFormat> {
        match self {
            Layout::I32 => Some(SampleFormat::I32),
            Layout::F32 => Some(SampleFormat::F32),
            Layout::I24 => Some(SampleFormat::I24),
            Layout::I16 => Some(SampleFormat::I16),
            Layout::U8 => Some(SampleFormat::U8),
            Layout::I24Packed => None,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::I32 => "i32",
            Layout::F32 => "f32",
            Layout::I24 => "i24",
            Layout::I16 => "i16",
            Layout::U8 => "u8",
            Layout::I24Packed => "i24packed",
        })
    }
}

/// What a device offers. Not every combination of it need be possible.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Offer {
    /// Numbers of channels, ascending.
    pub channels: Vec<u16>,
    /// Ranges of rates, Hz, ascending.
    pub rates_hz: Vec<(u32, u32)>,
    /// The best first.
    pub formats: Vec<Layout>,
    /// It converts: takes any number of channels, and makes up those that the microphone lacks.
    pub converts: bool,
}

/// What is asked of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub rate_hz: Option<u32>,
    /// Exactly so many.
    pub channels: Option<u16>,
    /// At least so many.
    pub least_channels: u16,
    /// All that the microphone has.
    pub all_channels: bool,
    pub format: Option<Layout>,
}

/// What a stream is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub rate_hz: u32,
    pub channels: u16,
    pub format: Layout,
}

impl Offer {
    /// Asks the device itself: opens and closes it.
    ///
    /// # Errors
    /// ALSA's: busy, no permission, not there.
    pub fn of(name: &str) -> Result<Offer, alsa::Error> {
        let pcm = PCM::new(name, Direction::Capture, true)?;
        let params = HwParams::any(&pcm)?;
        let (least, most) = (params.get_channels_min()?, params.get_channels_max()?);
        let converts = most >= CONVERTER_CHANNELS;
        let counts = (least.max(1)..=most.min(CONVERTER_CHANNELS)).filter(|&count| params.test_channels(count).is_ok());
        let (slowest, fastest) = (params.get_rate_min()?, params.get_rate_max()?);
        let rates_hz = if slowest == fastest || params.test_rate(slowest + 1).is_ok() {
            vec![(slowest, fastest)]
        } else {
            let mut single: Vec<_> = SINGLE_RATES_HZ.into_iter().chain([slowest, fastest]).collect();
            single.sort_unstable();
            single.dedup();
            single.into_iter().filter(|&rate| params.test_rate(rate).is_ok()).map(|rate| (rate, rate)).collect()
        };
        let there = |(_, formats): &&(Layout, &[AlsaFormat])| formats.iter().any(|&f| params.test_format(f).is_ok());
        Ok(Offer {
            channels: counts.filter_map(|count| u16::try_from(count).ok()).collect(),
            rates_hz,
            formats: Layout::ALL.iter().filter(there).map(|(layout, _)| *layout).collect(),
            converts,
        })
    }

    /// Takes the best of it.
    ///
    /// # Errors
    /// One line: what was asked for, what is offered.
    pub fn choose(&self, wish: &Wish) -> Result<Choice, String> {
        let fault = |expected: String| format!("expected {expected}; the device offers {self}");
        let mut enough = self.channels.iter().copied().filter(|&count| count >= wish.least_channels);
        let channels = match wish.channels {
            Some(exactly) => enough.find(|&count| count == exactly),
            // A converter does not state how many there are; with fewer asked for, it mixes them itself.
            // Whoever wants one that is not there has no sound by itself: the others are heard.
            None if wish.all_channels && !self.converts => self.channels.last().copied(),
            None => enough.next(),
        };
        let channels = channels.ok_or_else(|| {
            fault(match (wish.channels, wish.least_channels) {
                (Some(exactly), _) => counted(exactly, "channel"),
                (None, 0) => "any channel".into(),
                (None, least) => format!("a channel {}, counted from 0", least - 1),
            })
        })?;
        let offered = |rate: &u32| self.rates_hz.iter().any(|(from, to)| (from..=to).contains(&rate));
        let rate_hz = match wish.rate_hz {
            Some(rate) => Some(rate).filter(offered).ok_or_else(|| fault(format!("{rate} Hz")))?,
            None => RATES_HZ
                .into_iter()
                .find(offered)
                .or(self.rates_hz.last().map(|&(_, most)| most))
                .ok_or_else(|| fault("any rate".into()))?,
        };
        let format = match wish.format {
            Some(format) => self.formats.iter().copied().find(|&offered| offered == format),
            None => self.formats.first().copied(),
        };
        let format = format.ok_or_else(|| {
            fault(wish.format.map_or("a sample format that can be read".into(), |format| format.to_string()))
        })?;
        Ok(Choice { rate_hz, channels, format })
    }
}

/// In one line, for a user.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} channels; {} Hz; {}", self.channels_text(), self.rates_text(), self.formats_text())
    }
}

impl Offer {
    pub fn channels_text(&self) -> String {
        match self.channels.as_slice() {
            [] => "no".into(),
            [first, .., last] if self.converts => format!("{first} to {last}"),
            counts => join(counts),
        }
    }

    pub fn rates_text(&self) -> String {
        let text = |&(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from} to {to}") };
        join(&self.rates_hz.iter().map(text).collect::<Vec<_>>())
    }

    pub fn formats_text(&self) -> String {
        if self.formats.is_empty() { "no format that can be read".into() } else { join(&self.formats) }
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Offer {
        let formats = vec![Layout::I24, Layout::I16];
        Offer { channels: vec![2, 4], rates_hz: vec![(44_100, 44_100), (48_000, 48_000)], formats, converts: false }
    }

    fn converter() -> Offer {
        let formats = Layout::ALL.map(|(layout, _)| layout).to_vec();
        Offer { channels: (1..=32).collect(), rates_hz: vec![(4000, 384_000)], formats, converts: true }
    }

    #[test]
    fn the_best_is_taken() {
        let choice = |offer: Offer, wish: Wish| {
            let choice = offer.choose(&wish).expect("it is offered");
            (choice.channels, choice.rate_hz, choice.format)
        };
        let mix = || Wish { all_channels: true, ..Wish::default() };
        let one = |channel: u16| Wish { least_channels: channel + 1, ..Wish::default() };
        assert_eq!(choice(card(), mix()), (4, 48_000, Layout::I24));
        assert_eq!(choice(card(), one(0)), (2, 48_000, Layout::I24));
        assert_eq!(choice(card(), Wish { rate_hz: Some(44_100), ..one(2) }), (4, 44_100, Layout::I24));
        assert_eq!(choice(card(), Wish { format: Some(Layout::I16), ..mix() }), (4, 48_000, Layout::I16));
        assert_eq!(choice(converter(), mix()), (1, 48_000, Layout::I32));
        assert_eq!(choice(converter(), Wish { all_channels: true, ..one(2) }), (3, 48_000, Layout::I32));
        assert_eq!(
            choice(converter(), Wish { channels: Some(4), rate_hz: Some(16_000), ..mix() }),
            (4, 16_000, Layout::I32)
        );
        let odd = Offer { rates_hz: vec![(8000, 8000), (22_050, 22_050)], ..card() };
        assert_eq!(choice(odd, mix()), (4, 22_050, Layout::I24));
    }

    #[test]
    fn what_is_not_offered_is_an_error_that_lists_what_is() {
        for (wish, words) in [
            (Wish { channels: Some(3), ..Wish::default() }, "expected 3 channels"),
            (Wish { least_channels: 5, ..Wish::default() }, "expected a channel 4, counted from 0"),
            (Wish { rate_hz: Some(96_000), ..Wish::default() }, "expected 96000 Hz"),
            (Wish { format: Some(Layout::F32), ..Wish::default() }, "expected f32"),
        ] {
            let error = card().choose(&wish).expect_err(words);
            let offer = "the device offers 2, 4 channels; 44100, 48000 Hz; i24, i16";
            assert!(error.contains(words) && error.contains(offer), "{error}");
        }
    }
}
