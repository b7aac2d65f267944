//! In which frequencies a window differs from the machine's last normal ones: for machines without lanes of their own,
//! which have no other windows to compare with.

use std::collections::VecDeque;

use super::lanes::Features;
use super::verdict::{Assessment, Verdict};
use super::why::{self, BandDifference};
use crate::features::FrontEnd;

/// Normal windows that are kept.
const WINDOWS: usize = 32;
/// From fewer nothing is told.
const LEAST_WINDOWS: usize = 8;
/// A band counts that is so many standard deviations from its mean.
const LEAST_DEVIATIONS: f64 = 3.0;
/// Bands swing by this much anyway, dB.
const LEAST_DEVIATION_DB: f64 = 0.3;

/// The spectra of a machine's last normal windows, dB, `[n_mels]` each.
#[derive(Debug, Clone, Default)]
pub struct UsualSpectrum {
    front_end: Option<FrontEnd>,
    spectra: VecDeque<Vec<f32>>,
}

impl UsualSpectrum {
    /// Adds the bands to a window that has a reason without a lane, and remembers one that is normal; `may_learn`: the
    /// machine is not known to be ill.
    pub fn note(&mut self, assessment: &mut Assessment, features: &Features, front_end: &FrontEnd, may_learn: bool) {
        if self.front_end.as_ref() != Some(front_end) {
            *self = UsualSpectrum { front_end: Some(front_end.clone()), spectra: VecDeque::new() };
        }
        if let Some(why) = &mut assessment.why
            && why.lane.is_none()
        {
            why.bands = self.bands(&features.spectrum, front_end);
        }
        if assessment.verdict == Verdict::Normal && may_learn {
            self.spectra.truncate(WINDOWS - 1);
            self.spectra.push_front(features.spectrum.clone());
        }
    }

    fn bands(&self, spectrum: &[f32], front_end: &FrontEnd) -> Vec<BandDifference> {
        let count = self.spectra.len() as f64;
        if self.spectra.len() < LEAST_WINDOWS || self.spectra.iter().any(|usual| usual.len() != spectrum.len()) {
            return Vec::new();
        }
        let difference = |(band, value): (usize, &f32)| {
            let usual = self.spectra.iter().map(|usual| f64::from(usual[band]));
            let mean = usual.clone().sum::<f64>() / count;
            let deviation = (usual.map(|usual| (usual - mean).powi(2)).sum::<f64>() / count).sqrt();
            let difference = f64::from(*value) - mean;
            let least = LEAST_DEVIATIONS * deviation.max(LEAST_DEVIATION_DB);
            if difference.abs() < least { 0.0 } else { difference }
        };
        why::bands(&spectrum.iter().enumerate().map(difference).collect::<Vec<_>>(), front_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::judge;
    use crate::scoring::why::Why;

    /// A spectrum that swings a little, with some bands raised.
    fn features(turn: usize, raised: std::ops::Range<usize>) -> Features {
        let swing = |band: usize| ((band * 31 + turn * 17) % 7) as f32 / 7.0;
        let level = |band: usize| -30.0 + swing(band) + if raised.contains(&band) { 8.0 } else { 0.0 };
        Features { spectrum: (0..128).map(level).collect(), ..Features::default() }
    }

    fn note(
        usual: &mut UsualSpectrum,
        features: &Features,
        front_end: &FrontEnd,
        distance: f64,
    ) -> Vec<BandDifference> {
        let mut assessment = judge(distance, 1.0, -20.0);
        assessment.why = (distance > 1.0).then(Why::default);
        usual.note(&mut assessment, features, front_end, true);
        assessment.why.unwrap_or_default().bands
    }

    #[test]
    fn what_is_louder_than_in_the_last_normal_windows_is_named() {
        let (mut usual, front_end) = (UsualSpectrum::default(), FrontEnd::default());
        for turn in 0..LEAST_WINDOWS {
            assert_eq!(note(&mut usual, &features(9, 60..70), &front_end, 2.0), [], "after {turn} windows");
            note(&mut usual, &features(turn, 0..0), &front_end, 0.5);
        }
        let edges = front_end.mel_edges_hz();
        let found = note(&mut usual, &features(9, 60..70), &front_end, 2.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].from_hz, found[0].to_hz), (edges[60].round(), edges[71].round()));
        assert!((found[0].difference_db - 8.0).abs() < 0.5, "{found:?}");
        assert_eq!(note(&mut usual, &features(10, 0..0), &front_end, 2.0), [], "as usual, though it is far away");
        // What is anomalous does not become usual, and another front-end begins anew.
        assert_eq!(note(&mut usual, &features(9, 60..70), &front_end, 2.0), found);
        let other = FrontEnd { fmax_hz: 4000.0, ..front_end };
        assert_eq!(note(&mut usual, &features(9, 60..70), &other, 2.0), []);
    }

    #[test]
    fn what_a_lane_has_said_stays() {
        let (mut usual, front_end) = (UsualSpectrum::default(), FrontEnd::default());
        let bands = vec![BandDifference { from_hz: 1.0, to_hz: 2.0, difference_db: 3.0 }];
        let mut assessment = judge(2.0, 1.0, -20.0);
        assessment.why = Some(Why { lane: Some(crate::scoring::Lane::Burst), bands: bands.clone(), ..Why::default() });
        usual.note(&mut assessment, &features(0, 0..0), &front_end, true);
        assert_eq!(assessment.why.expect("a reason").bands, bands);
    }
}
