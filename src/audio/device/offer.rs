//! What a capture device offers, and which of it we take.

use cpal::{SampleFormat, SupportedBufferSize, SupportedStreamConfigRange};

/// Rates we ask for first, Hz: those that resample well to the bundle's, then what there is.
const RATES_HZ: [u32; 6] = [48_000, 96_000, 44_100, 32_000, 16_000, 192_000];
/// Sample formats, the best first.
const FORMATS: [SampleFormat; 10] = [
    SampleFormat::I32,
    SampleFormat::F32,
    SampleFormat::I24,
    SampleFormat::I16,
    SampleFormat::F64,
    SampleFormat::U32,
    SampleFormat::U24,
    SampleFormat::U16,
    SampleFormat::I8,
    SampleFormat::U8,
];

/// What a stream is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub rate_hz: u32,
    pub channels: u16,
    pub format: SampleFormat,
    /// Least and most frames of one delivery, where the device tells.
    pub block_frames: Option<(u32, u32)>,
}

/// What is asked of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub rate_hz: Option<u32>,
    /// Exactly so many.
    pub channels: Option<u16>,
    /// At least so many; `None` where all are mixed.
    pub least_channels: Option<u16>,
    pub format: Option<SampleFormat>,
}

/// Takes the best of what is offered.
///
/// # Errors
/// One line: what was asked for, what the device offers.
pub fn choose(offers: &[SupportedStreamConfigRange], wish: &Wish) -> Result<Choice, String> {
    let least = wish.least_channels.unwrap_or(1);
    let fits = |offer: &&SupportedStreamConfigRange| {
        let channels = offer.channels();
        wish.channels.map_or(channels >= least, |exactly| channels == exactly)
            && wish.format.is_none_or(|format| format == offer.sample_format())
            && wish.rate_hz.is_none_or(|rate| (offer.min_sample_rate()..=offer.max_sample_rate()).contains(&rate))
            && FORMATS.contains(&offer.sample_format())
    };
    let fitting: Vec<_> = offers.iter().filter(fits).collect();
    // A converter takes any number of channels, and would make up those that the microphone lacks: as few as are needed.
    let counts = channel_counts(offers);
    let converts = counts.len() > 8;
    let channels = fitting.iter().map(|offer| offer.channels());
    let channels = if converts || wish.least_channels.is_some() { channels.min() } else { channels.max() };
    let best = channels.and_then(|channels| {
        let rated = fitting.iter().filter(|offer| offer.channels() == channels);
        let rate_of = |offer: &SupportedStreamConfigRange| {
            let range = offer.min_sample_rate()..=offer.max_sample_rate();
            let preferred = RATES_HZ.into_iter().find(|rate| range.contains(rate));
            wish.rate_hz.or(preferred).unwrap_or(offer.max_sample_rate())
        };
        let rank_of = |offer: &SupportedStreamConfigRange| {
            let rate = rate_of(offer);
            let rate_rank = RATES_HZ.iter().position(|&known| known == rate).unwrap_or(RATES_HZ.len());
            let format_rank = FORMATS.iter().position(|&known| known == offer.sample_format());
            (rate_rank, u32::MAX - rate, format_rank)
        };
        let offer = rated.min_by_key(|offer| rank_of(offer))?;
        let block_frames = match *offer.buffer_size() {
            SupportedBufferSize::Range { min, max } => Some((min, max)),
            SupportedBufferSize::Unknown => None,
        };
        Some(Choice { rate_hz: rate_of(offer), channels, format: offer.sample_format(), block_frames })
    });
    best.ok_or_else(|| format!("expected {}; it offers {}", describe_wish(wish), describe(offers)))
}

/// The numbers of channels on offer, ascending.
pub fn channel_counts(offers: &[SupportedStreamConfigRange]) -> Vec<u16> {
    let mut counts: Vec<u16> = offers.iter().map(SupportedStreamConfigRange::channels).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// The ranges of rates on offer, Hz, ascending.
pub fn rates(offers: &[SupportedStreamConfigRange]) -> Vec<(u32, u32)> {
    let mut rates: Vec<_> = offers.iter().map(|offer| (offer.min_sample_rate(), offer.max_sample_rate())).collect();
    rates.sort_unstable();
    rates.dedup();
    rates
}

/// The sample formats on offer that we can take, the best first.
pub fn formats(offers: &[SupportedStreamConfigRange]) -> Vec<String> {
    let offered = |format: &&SampleFormat| offers.iter().any(|offer| offer.sample_format() == **format);
    FORMATS.iter().filter(offered).map(ToString::to_string).collect()
}

/// In one line, for a user.
pub fn describe(offers: &[SupportedStreamConfigRange]) -> String {
    if offers.is_empty() {
        return "nothing that can be read".into();
    }
    let (counts, rates) = (channel_counts(offers), rates(offers));
    let contiguous = counts.len() > 2 && usize::from(counts[counts.len() - 1] - counts[0]) == counts.len() - 1;
    let counts = if contiguous {
        format!("{} to {}", counts[0], counts[counts.len() - 1])
    } else {
        counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let rates = rates.iter().map(|&(from, to)| if from == to { from.to_string() } else { format!("{from} to {to}") });
    let rates = rates.collect::<Vec<_>>().join(", ");
    format!("{counts} channels; {rates} Hz; {}", formats(offers).join(", "))
}

fn describe_wish(wish: &Wish) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = wish.rate_hz {
        parts.push(format!("{rate} Hz"));
    }
    match (wish.channels, wish.least_channels) {
        (Some(channels), _) => parts.push(format!("{channels} channels")),
        (None, Some(least)) => parts.push(format!("at least {least} channels")),
        (None, None) => {}
    }
    if let Some(format) = wish.format {
        parts.push(format.to_string());
    }
    if parts.is_empty() { "anything that can be read".into() } else { parts.join(", ") }
}
