//! Why a window is anomalous, for the person who walks to the machine.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lanes::Lane;
use crate::features::FrontEnd;

/// Ranges of bands that are named, at most.
const BANDS_LIMIT: usize = 3;
/// A range ends where the difference falls below this share of its peak.
const FLANK: f64 = 0.5;
/// Differences below this are not worth telling, dB.
const LEAST_DB: f64 = 1.0;

/// A range of frequencies that is louder (or quieter) than in the nearest normal windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BandDifference {
    pub from_hz: f64,
    pub to_hz: f64,
    /// Mean over the range, dB.
    pub difference_db: f64,
}

/// How loud a window is beside the way of running that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LevelInMode {
    /// Number of the way of running, from 1, the quietest.
    pub mode: usize,
    /// So many are known.
    pub known: usize,
    /// Its level less the median of that way of running, dB.
    pub difference_db: f64,
}

impl fmt::Display for LevelInMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LevelInMode { mode, known, difference_db } = self;
        let word = if *difference_db < 0.0 { "quieter" } else { "louder" };
        write!(f, "{:.0} dB {word} than in mode {mode} of {known}", difference_db.abs())
    }
}

/// What one window differs in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Why {
    /// Distance as a multiple of the threshold.
    pub ratio: Option<f64>,
    /// Share of normal windows that have a smaller distance, %: of the distribution that the baseline's were fitted with.
    pub percentile: Option<f64>,
    /// Share of normal windows that are as unlike the baseline, over all lanes.
    pub p_value: Option<f64>,
    /// The lane that was the most surprised.
    pub lane: Option<Lane>,
    /// Where the spectrum differs most, the strongest first.
    pub bands: Vec<BandDifference>,
    /// It is of none of so many known ways of running.
    pub unlike_modes: Option<usize>,
    /// It is of a known way of running, but unusually loud or quiet for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_in_mode: Option<LevelInMode>,
    /// It was judged by what had been learned until then, while learning went on.
    pub provisional: bool,
}

/// The sentence that stands wherever a person looks: `burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB`, and before it `unlike
/// any of 3 known modes` or `8 dB louder than in mode 2 of 3` where it is. Empty where nothing is known.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes = self.unlike_modes.map(|known| format!("unlike any of {known} known modes"));
        let level = self.level_in_mode.map(|level| level.to_string());
        let lane = self.lane.map(|lane| lane.to_string());
        // Below the threshold it is what the lanes see that tells.
        let ratio = self.ratio.filter(|ratio| *ratio > 1.0 || self.lane.is_none());
        let ratio = ratio.map(|ratio| format!("{ratio:.1} x threshold"));
        let band = self.bands.first().map(BandDifference::to_string);
        f.write_str(&[modes, level, lane, ratio, band].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Why {
    /// Whether it is farther from normal: by all lanes where they are known, else by the distance.
    pub fn is_worse_than(&self, other: Option<&Why>) -> bool {
        let Some(other) = other else { return true };
        match (self.p_value, other.p_value) {
            (Some(own), Some(others)) if own != others => own < others,
            _ => self.ratio > other.ratio,
        }
    }

    /// How sure it is: `as unusual as 1 normal window in 3000`; `None` where nobody can say, or it is not unusual.
    pub fn rarity(&self) -> Option<String> {
        let windows = 1.0 / self.p_value.filter(|p_value| *p_value > 0.0 && *p_value < 0.1)?;
        Some(match windows {
            1e6.. => "rarer than 1 normal window in 1000000".to_owned(),
            _ => {
                // Two digits: more would promise too much.
                let scale = 10f64.powf(windows.log10().floor() - 1.0);
                format!("as unusual as 1 normal window in {:.0}", (windows / scale).round() * scale)
            }
        })
    }
}

impl fmt::Display for BandDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}-{:.0} Hz {:+.1} dB", self.from_hz, self.to_hz, self.difference_db)
    }
}

/// The ranges in which `difference_db`, one for each mel band, is largest.
pub fn bands(difference_db: &[f64], front_end: &FrontEnd) -> Vec<BandDifference> {
    let edges = front_end.mel_edges_hz();
    let mut left = difference_db.to_vec();
    let mut found: Vec<BandDifference> = Vec::new();
    while found.len() < BANDS_LIMIT {
        let strongest = left.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        let Some((peak, &height)) = strongest.filter(|(_, height)| height.abs() >= LEAST_DB) else { break };
        // A side lobe of what was named already adds nothing.
        if found.first().is_some_and(|first| height.abs() < FLANK * first.difference_db.abs()) {
            break;
        }
        let belongs = |band: &usize| left[*band] * height.signum() >= FLANK * height.abs();
        let from = (0..peak).rev().take_while(belongs).last().unwrap_or(peak);
        let to = (peak + 1..left.len()).take_while(belongs).last().unwrap_or(peak);
        let range = &mut left[from..=to];
        let difference_db = range.iter().sum::<f64>() / range.len() as f64;
        range.fill(0.0);
        let (Some(from_hz), Some(to_hz)) = (edges.get(from), edges.get(to + 2)) else { break };
        found.push(BandDifference {
            from_hz: from_hz.round(),
            to_hz: to_hz.round(),
            difference_db: (10.0 * difference_db).round() / 10.0,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_is_known() {
        let bands = vec![BandDifference { from_hz: 2142.0, to_hz: 2302.0, difference_db: 7.6 }];
        let lane = Some(Lane::Burst);
        let why = Why { ratio: Some(2.31), percentile: Some(99.5), lane, bands, ..Why::default() };
        let sentence = "burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB";
        assert_eq!(why.to_string(), sentence);
        let below = Why { ratio: Some(0.7), ..why.clone() };
        assert_eq!(below.to_string(), "burst, 2142-2302 Hz +7.6 dB");
        let unlike = Why { unlike_modes: Some(3), ..why.clone() };
        assert_eq!(unlike.to_string(), format!("unlike any of 3 known modes, {sentence}"));
        let level_in_mode = Some(LevelInMode { mode: 2, known: 3, difference_db: 7.8 });
        let louder = Why { level_in_mode, ..why };
        assert_eq!(louder.to_string(), format!("8 dB louder than in mode 2 of 3, {sentence}"));
        assert_eq!(Why { ratio: Some(1.04), ..Why::default() }.to_string(), "1.0 x threshold");
        assert_eq!(Why::default().to_string(), "");
    }

    #[test]
    fn how_sure_it_is_is_said_in_windows() {
        let of = |p_value: f64| Why { p_value: Some(p_value), ..Why::default() }.rarity();
        assert_eq!(of(1.0 / 3041.0).as_deref(), Some("as unusual as 1 normal window in 3000"));
        assert_eq!(of(0.04).as_deref(), Some("as unusual as 1 normal window in 25"));
        assert_eq!(of(1e-9).as_deref(), Some("rarer than 1 normal window in 1000000"));
        for p_value in [0.5, 0.0, f64::NAN, -1.0] {
            assert_eq!(of(p_value), None);
        }
        assert_eq!(Why::default().rarity(), None);
    }

    #[test]
    fn ranges_are_given_in_hz_the_strongest_first() {
        let front_end = FrontEnd::default();
        let edges = front_end.mel_edges_hz();
        let mut difference = vec![0.2; front_end.n_mels];
        difference[40..50].fill(-6.0);
        difference[90..93].fill(9.0);
        difference[10] = 1.5;
        let found = bands(&difference, &front_end);
        let round = |hz: f64| hz.round();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].from_hz, found[0].to_hz), (round(edges[90]), round(edges[94])));
        assert_eq!((found[1].from_hz, found[1].to_hz), (round(edges[40]), round(edges[51])));
        assert_eq!((found[0].difference_db, found[1].difference_db), (9.0, -6.0));
        assert!(bands(&vec![0.0; front_end.n_mels], &front_end).is_empty());
    }
}
