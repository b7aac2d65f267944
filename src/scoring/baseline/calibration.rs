//! From the lanes' scores to one probability: each lane's own, and that of all of them together.

use serde::{Deserialize, Serialize};

use crate::scoring::alarm::SlowCalibration;
use crate::scoring::lanes::{Features, Lane, Lanes};
use crate::scoring::tail::Tail;

/// Every lane's score of one window.
pub(super) type Scores = Vec<(Lane, f64)>;

/// How the lanes' surprises become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Combining {
    /// The most surprised lane speaks: what version 0.1 learned.
    #[default]
    Loudest,
    /// The mean of their fourth powers: what was learned before their squares were taken.
    Together,
    /// The mean of their squares: one strong lane speaks, and so do several weak ones.
    Squares,
}

/// What is normal for each lane, and for all of them together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tails {
    pub tails: Vec<(Lane, Tail)>,
    /// Of all lanes that look at a window alone.
    pub combined: Tail,
    /// Of all lanes, of windows with those before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with_those_before: Option<Tail>,
    #[serde(default)]
    combining: Combining,
}

/// How many times as wide the tails of all lanes together are to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Widening {
    /// For windows by themselves.
    pub alone: f64,
    pub with_those_before: f64,
}

impl Widening {
    pub const NONE: Widening = Widening { alone: 1.0, with_those_before: 1.0 };
}

/// The lanes of one machine with what is normal for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LaneCalibration {
    pub lanes: Lanes,
    #[serde(flatten)]
    pub tails: Tails,
    pub slow: SlowCalibration,
}

impl Tails {
    /// From how windows were judged by others. `stretches` says of each window which stretch of sound it is of: windows
    /// of one stretch are no two witnesses.
    pub fn fit<'a>(judged: impl Iterator<Item = (&'a Scores, usize)> + Clone) -> Option<Tails> {
        let of = |lane: Lane| judged.clone().filter_map(move |(scores, at)| Some((score_of(scores, lane)?, at)));
        let tails: Vec<(Lane, Tail)> = Lane::ALL
            .into_iter()
            .filter_map(|lane| {
                let (scores, stretches): (Vec<f64>, Vec<usize>) = of(lane).unzip();
                Some((lane, Tail::fit_stretches(&scores, &stretches)?))
            })
            .collect();
        let combining = Combining::Squares;
        let combined = |with_those_before: bool| {
            let counts = |scores: &Scores| is_complete(&tails, scores) && (!with_those_before || has_steady(scores));
            let surprises = judged.clone().filter(|(scores, _)| counts(scores)).filter_map(|(scores, stretch)| {
                let (surprise, _) = surprise(&tails, scores, with_those_before, combining)?;
                Some((surprise, stretch))
            });
            let (surprises, stretches): (Vec<f64>, Vec<usize>) = surprises.unzip();
            Tail::fit_stretches(&surprises, &stretches)
        };
        let (with_those_before, combined) = (combined(true), combined(false)?);
        Some(Tails { combined, with_those_before, combining, tails })
    }

    /// Natural logarithm of the share of normal windows that are as unlike the baseline, and the lane that was the most
    /// surprised.
    pub fn ln_p(&self, scores: &Scores) -> Option<(f64, Lane)> {
        let (surprise, lane, tail) = self.surprise(scores)?;
        Some((tail.ln_p(surprise), lane))
    }

    /// As [`Tails::ln_p`], with a tail of all lanes together that is so many times as wide.
    pub fn ln_p_widened(&self, scores: &Scores, times: f64) -> Option<(f64, Lane)> {
        let (surprise, lane, tail) = self.surprise(scores)?;
        Some((tail.clone().widened(times).ln_p(surprise), lane))
    }

    /// How surprised the lanes are together, the one that is the most, and how normal windows surprise them.
    fn surprise(&self, scores: &Scores) -> Option<(f64, Lane, &Tail)> {
        let together = self.with_those_before.as_ref().filter(|_| has_steady(scores));
        let (surprise, lane) = surprise(&self.tails, scores, together.is_some(), self.combining)?;
        Some((surprise, lane, together.unwrap_or(&self.combined)))
    }

    /// As [`Tails::ln_p`], of a window that every lane has judged; the probability itself.
    pub fn p_value(&self, scores: &Scores) -> Option<f64> {
        if !is_complete(&self.tails, scores) {
            return None;
        }
        Some(self.ln_p(scores)?.0.exp())
    }

    /// How many times as wide the tail of all lanes together would have to be, for a window that every lane has judged to
    /// have the probability `p`.
    pub fn widening(&self, scores: &Scores, p: f64) -> Option<f64> {
        if !is_complete(&self.tails, scores) {
            return None;
        }
        let (surprise, _, tail) = self.surprise(scores)?;
        Some(tail.widening(surprise, p))
    }

    /// The same with tails of all lanes together that are so many times as wide.
    #[must_use]
    pub fn widened(mut self, times: Widening) -> Tails {
        self.combined = self.combined.widened(times.alone);
        self.with_those_before = self.with_those_before.map(|tail| tail.widened(times.with_those_before));
        self
    }

    /// Whether a window that every lane has judged is anomalous at this rate: by itself, or with those before it.
    pub fn is_anomalous(&self, scores: &Scores, rate: f64) -> Option<bool> {
        Some(self.p_value(&alone(scores))? < rate || self.p_value(scores)? < rate)
    }

    pub fn of(&self, lane: Lane) -> Option<&Tail> {
        self.tails.iter().find(|(known, _)| *known == lane).map(|(_, tail)| tail)
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let together = self.with_those_before.as_ref().is_none_or(Tail::is_valid);
        self.tails.iter().all(|(_, tail)| tail.is_valid()) && self.combined.is_valid() && together
    }
}

/// Whether every lane that looks at a window alone has judged it: the first windows of a recording have none before them.
fn is_complete(tails: &[(Lane, Tail)], scores: &Scores) -> bool {
    tails.iter().all(|(lane, _)| *lane == Lane::Steady || score_of(scores, *lane).is_some())
}

pub(super) fn has_steady(scores: &Scores) -> bool {
    score_of(scores, Lane::Steady).is_some()
}

/// The scores of the lanes that look at a window alone.
pub(super) fn alone(scores: &Scores) -> Scores {
    scores.iter().copied().filter(|(lane, _)| *lane != Lane::Steady).collect()
}

pub(super) fn score_of(scores: &Scores, wanted: Lane) -> Option<f64> {
    scores.iter().find(|(lane, _)| *lane == wanted).map(|(_, score)| *score)
}

/// The score of every lane that looks at one window alone.
pub(super) fn lane_scores(lanes: &Lanes, distance: f64, features: &Features) -> Scores {
    let distance = Some((Lane::Distance, distance)).filter(|(_, distance)| distance.is_finite());
    distance.into_iter().chain(lanes.scores(features)).collect()
}

/// How surprised the lanes are together, with the one that looks at those before the window too or without it, and the one that is the
/// most. A lane's surprise is minus the logarithm of its score's probability under the baseline.
fn surprise(
    tails: &[(Lane, Tail)],
    scores: &Scores,
    with_those_before: bool,
    combining: Combining,
) -> Option<(f64, Lane)> {
    let counts = |(lane, _): &&(Lane, f64)| with_those_before || *lane != Lane::Steady;
    let surprise = |(lane, score): &(Lane, f64)| {
        let (_, tail) = tails.iter().find(|(known, _)| known == lane)?;
        Some((-tail.ln_p(*score), *lane))
    };
    let all: Vec<(f64, Lane)> = scores.iter().filter(counts).filter_map(surprise).collect();
    let (loudest, lane) = all.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let together = match combining {
        Combining::Loudest => loudest,
        Combining::Together => mean_power(&all, 4),
        Combining::Squares => mean_power(&all, 2),
    };
    Some((together, lane))
}

/// The root of the mean power of all surprises.
fn mean_power(all: &[(f64, Lane)], power: i32) -> f64 {
    let powers: f64 = all.iter().map(|(surprise, _)| surprise.powi(power)).sum();
    (powers / all.len() as f64).powf(1.0 / f64::from(power))
}
