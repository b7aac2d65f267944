//! The cheap lanes beside the encoder: what it is blind to, for next to nothing.
//!
//! The encoder sees the shape of a spectrogram that was stretched to 0..1; what moves slowly through it and what is
//! short and rare get lost. Six lanes look there, each against the machine's own baseline:
//!
//! * `spectrum`: the time-averaged mel spectrum in dB, less the mean of its three nearest baseline windows ([`spectrum`]).
//! * `envelope`: the level of 14 or so bands in steps of 8 ms; what they all do together, weighted by how steady each
//!   is; its power spectrum from 0.5 to 40 Hz against the baseline's mean. The score is its highest peak.
//! * `burst`: how far the loudest 64 ms of each band rise above its median, in the baseline's standard deviations; the
//!   most conspicuous band counts.
//! * `shape`: what `spectrum` compares, without its level, its bands weighed by how they vary together ([`shape`]).
//! * `texture`: how much each band flutters, as a profile over bands ([`texture`]).
//! * `steady`: the mean spectrum of the last windows, up to a minute of them ([`steady`]).

pub(super) mod base64_f32;
mod boxes;
mod features;
mod rows;
mod shape;
mod spectrum;
mod steady;
mod texture;

pub use features::{FeatureExtractor, Features};
pub use rows::Rows;
use rows::are_positive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use shape::ShapeLane;
use spectrum::SpectrumLane;
pub use steady::SteadyLane;
use texture::TextureLane;

/// Modulation bins that the baseline's mean is smoothed over.
const MODULATION_SMOOTHING: usize = 5;
/// Least scatter of a band's bursts, dB.
const LEAST_BURST_SCATTER_DB: f64 = 0.3;

/// Who spoke up: the encoder's distance, or one of the cheap lanes beside it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, strum::Display,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Lane {
    /// The embedding's distance to the bank.
    Distance,
    /// The time-averaged spectrum.
    Spectrum,
    /// The spectrum of the level's slow movement, band by band.
    Envelope,
    /// Short bursts above the rest of the window.
    Burst,
    /// The time-averaged spectrum without its level, its bands weighed by how they vary together.
    Shape,
    /// How much each band flutters.
    Texture,
    /// The spectrum averaged over the last windows, up to a minute of them.
    Steady,
}

impl Lane {
    pub const ALL: [Lane; 7] =
        [Lane::Distance, Lane::Spectrum, Lane::Envelope, Lane::Burst, Lane::Shape, Lane::Texture, Lane::Steady];

    /// Whether it sees what comes and goes within a window, as what is not of the machine mostly does.
    pub fn is_unsteady(self) -> bool {
        matches!(self, Lane::Burst | Lane::Texture)
    }
}

/// Peaks in the spectrum of the level's movement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeLane {
    /// Log of the baseline's mean power at each modulation frequency.
    #[serde(with = "base64_f32")]
    floor: Vec<f32>,
}

impl EnvelopeLane {
    /// `None` for windows that are too short to have modulations.
    fn fit<'a>(envelopes: impl ExactSizeIterator<Item = &'a [f32]>) -> Option<Self> {
        let count = envelopes.len() as f64;
        let mut mean: Vec<f64> = Vec::new();
        for envelope in envelopes {
            mean.resize(envelope.len(), 0.0);
            for (sum, value) in mean.iter_mut().zip(envelope) {
                *sum += f64::from(*value).exp() / count;
            }
        }
        if mean.is_empty() {
            return None;
        }
        let smoothed = |bin: usize| {
            let around = &mean[bin.saturating_sub(MODULATION_SMOOTHING / 2)..];
            let around = &around[..around.len().min(MODULATION_SMOOTHING)];
            (around.iter().sum::<f64>() / around.len() as f64).ln() as f32
        };
        Some(EnvelopeLane { floor: (0..mean.len()).map(smoothed).collect() })
    }

    /// Amplitude of the highest peak over the baseline's mean; windows whose level moves more at all frequencies are
    /// measured by their own median.
    fn score(&self, envelope: &[f32]) -> Option<f64> {
        if envelope.is_empty() || envelope.len() != self.floor.len() {
            return None;
        }
        let mut above: Vec<f32> = envelope.iter().zip(&self.floor).map(|(value, floor)| value - floor).collect();
        let peak = above.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let middle = above.len() / 2;
        let median = above.select_nth_unstable_by(middle, f32::total_cmp).1.max(0.0);
        Some((0.5 * f64::from(peak - median)).exp())
    }
}

/// Bursts above the rest of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BurstLane {
    #[serde(with = "base64_f32")]
    mean: Vec<f32>,
    #[serde(with = "base64_f32")]
    scatter: Vec<f32>,
}

impl BurstLane {
    fn fit<'a>(bursts: impl ExactSizeIterator<Item = &'a [f32]> + Clone) -> Self {
        let count = bursts.len().max(1) as f64;
        let bands = bursts.clone().map(<[f32]>::len).min().unwrap_or(0);
        let column = |band: usize| bursts.clone().map(move |burst| f64::from(burst[band]));
        let mean: Vec<f64> = (0..bands).map(|band| column(band).sum::<f64>() / count).collect();
        let scatter = mean.iter().enumerate().map(|(band, mean)| {
            let variance = column(band).map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            (variance.sqrt() + LEAST_BURST_SCATTER_DB) as f32
        });
        BurstLane { scatter: scatter.collect(), mean: mean.iter().map(|value| *value as f32).collect() }
    }

    fn score(&self, burst: &[f32]) -> Option<f64> {
        if burst.len() != self.mean.len() {
            return None;
        }
        let deviations = burst.iter().zip(&self.mean).zip(&self.scatter).map(|((value, mean), s)| (value - mean) / s);
        deviations.map(f64::from).reduce(f64::max)
    }
}

/// The cheap lanes of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lanes {
    pub spectrum: SpectrumLane,
    pub envelope: Option<EnvelopeLane>,
    pub burst: BurstLane,
    /// Missing in what was learned before there was such a lane.
    #[serde(default)]
    shape: Option<ShapeLane>,
    /// As `shape`.
    #[serde(default)]
    texture: Option<TextureLane>,
    /// Missing where too little was heard without a break, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady: Option<SteadyLane>,
}

impl Lanes {
    /// Learns from a baseline's windows; `near(i, j)` says that two of them are too close in time to be compared.
    /// `None` where there are none or they do not belong together.
    pub fn fit(windows: &[&Features], near: impl Fn(usize, usize) -> bool) -> Option<Self> {
        let first = windows.first()?;
        let alike =
            |one: &&Features| one.envelope.len() == first.envelope.len() && one.burst.len() == first.burst.len();
        if !windows.iter().all(alike) {
            return None;
        }
        let rows = Rows::new(windows.iter().map(|one| one.spectrum.as_slice()))?;
        // Windows that an earlier version has heard have no texture.
        let profiles = Rows::new(windows.iter().map(|one| one.texture.as_slice()));
        let (spectrum, differences) = SpectrumLane::fit(rows, &near);
        Some(Lanes {
            shape: ShapeLane::fit(&differences),
            texture: profiles.as_ref().and_then(TextureLane::fit),
            spectrum,
            envelope: EnvelopeLane::fit(windows.iter().map(|one| one.envelope.as_slice())),
            burst: BurstLane::fit(windows.iter().map(|one| one.burst.as_slice())),
            steady: None,
        })
    }

    /// How unlike the baseline a window is in each lane that looks at it alone; larger is less alike. The units are each lane's own.
    pub fn scores(&self, window: &Features) -> impl Iterator<Item = (Lane, f64)> {
        let compared = self.spectrum.compare(&window.spectrum);
        let shape = |lane: &ShapeLane| lane.score(&window.spectrum, &compared.as_ref()?.1);
        let shape = self.shape.as_ref().and_then(shape);
        [
            (Lane::Spectrum, compared.map(|(score, _)| score)),
            (Lane::Envelope, self.envelope.as_ref().and_then(|lane| lane.score(&window.envelope))),
            (Lane::Burst, self.burst.score(&window.burst)),
            (Lane::Shape, shape),
            (Lane::Texture, self.texture.as_ref().and_then(|lane| lane.score(&window.texture))),
        ]
        .into_iter()
        .filter_map(|(lane, score)| Some((lane, score?)))
    }

    /// Keeps only those windows whose number `keep` has; the scatter stays as it was learned.
    pub fn thin(&mut self, keep: &[usize]) {
        self.spectrum.thin(keep);
        if let Some(texture) = &mut self.texture {
            texture.thin(keep);
        }
    }

    /// Whether what was read fits together.
    pub fn is_valid(&self) -> bool {
        let newer = self.shape.as_ref().is_none_or(ShapeLane::is_valid)
            && self.texture.as_ref().is_none_or(TextureLane::is_valid)
            && self.steady.as_ref().is_none_or(SteadyLane::is_valid);
        let bursts = self.burst.mean.len() == self.burst.scatter.len() && are_positive(&self.burst.scatter);
        newer && self.spectrum.is_valid() && bursts
    }
}
