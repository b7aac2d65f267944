//! What to expect of a baseline in hours that were not heard.

use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

use super::calibration::{Scores, Tails, Widening, alone, has_steady};
use crate::scoring::stats::{conformal_quantile, moments};

/// Sound of one recording that is nearer in time than this is one stretch, s: its windows are no two witnesses.
pub(super) const STRETCH_S: f64 = 60.0;
/// So sure it is that the share will be no larger than told.
const SURE: f64 = 0.8;
/// Wider than so many times no tail is made.
const WIDENING_MOST: f64 = 4.0;
/// So sure it is that another part does not need more.
const SURE_OF_PART: f64 = 0.9;
/// More of these than nobody will wait for.
const MINUTES_LIMIT: u32 = 60 * 24 * 14;

/// What share of normal windows of other hours will be called anomalous.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expected {
    /// Each fold judged by what the others alone would have taught.
    pub share: f64,
    /// Four times in five it is no more than this.
    pub most: f64,
    /// So many stretches are worth one, because those of one part are alike; at least 1.
    alike: f64,
}

/// Parts of what was heard, each judged by what the others alone would have taught.
pub(super) struct LeftOut<'a>(Vec<Part<'a>>);

struct Part<'a> {
    /// What the others would have taught.
    tails: Tails,
    own: Vec<&'a Scores>,
}

impl<'a> LeftOut<'a> {
    /// `folds` and `stretches` say of each window which it is of. Folds without which nothing can be taught are missing.
    pub fn new(judged: &'a [Scores], folds: &[usize], stretches: &[usize]) -> LeftOut<'a> {
        let last = folds.iter().copied().max().map_or(0, |last| last + 1);
        let part = |fold: usize| {
            let of = |own: bool| (0..judged.len()).filter(move |number| (folds[*number] == fold) == own);
            let tails = Tails::fit(of(false).map(|number| (&judged[number], stretches[number])))?;
            Some(Part { tails, own: of(true).map(|number| &judged[number]).collect() })
        };
        LeftOut((0..last).filter_map(part).collect())
    }

    /// How many times as wide the tails are to be made, so that of the windows of another part like these no more than
    /// `rate` are called anomalous, nine times in ten; at least 1. Parts need more or less, and those few are all that is
    /// known of how much a part can need: Student's distribution says how far another one may lie beyond them.
    pub fn widening(&self, rate: f64) -> Widening {
        let together =
            |tails: &Tails, scores: &Scores| has_steady(scores).then(|| tails.widening(scores, rate)).flatten();
        Widening {
            alone: self.widening_of(rate, |tails, scores| tails.widening(&alone(scores), rate)),
            with_those_before: self.widening_of(rate, together),
        }
    }

    fn widening_of(&self, rate: f64, of: impl Fn(&Tails, &Scores) -> Option<f64>) -> f64 {
        let needed = |Part { tails, own }: &Part| {
            let mut needed: Vec<f64> = own.iter().filter_map(|scores| of(tails, scores)).collect();
            needed.sort_by(f64::total_cmp);
            conformal_quantile(&needed, rate).or(needed.last().copied())
        };
        let parts: Vec<f64> = self.0.iter().filter_map(needed).collect();
        let count = parts.len() as f64;
        let Some((mean, variance)) = moments(&parts) else { return 1.0 };
        let beyond = StudentsT::new(0.0, 1.0, count - 1.0).map_or(0.0, |student| student.inverse_cdf(SURE_OF_PART));
        (mean + beyond * (variance * (1.0 + 1.0 / count)).sqrt()).clamp(1.0, WIDENING_MOST)
    }

    /// What is to be expected with tails that are so many times as wide, of so many `stretches`, of which `alike` are worth one.
    pub fn expected(&self, widening: Widening, stretches: usize, alike: f64, rate: f64) -> Option<Expected> {
        let judged = self.0.iter().flat_map(|Part { tails, own }| {
            let tails = tails.clone().widened(widening);
            own.iter().filter_map(|scores| tails.is_anomalous(scores, rate)).collect::<Vec<_>>()
        });
        let (anomalous, all) =
            judged.fold((0.0, 0.0), |(found, all), anomalous| (found + f64::from(u8::from(anomalous)), all + 1.0));
        if all == 0.0 {
            return None;
        }
        let share = anomalous / all;
        Some(Expected { share, most: at_most(share, stretches as f64 / alike).max(rate), alike })
    }
}

/// How many stretches are worth one, because those of one recording are alike; at least 1. Of each stretch its recording,
/// rising, and its mean score.
///
/// Kish's design effect, from the correlation within recordings that Fisher's one-way analysis of variance finds. That one
/// day is judged by others does not show how few days there are: what parts them is in the tails already.
pub(super) fn alike(stretches: &[(u32, f64)]) -> f64 {
    let recordings: Vec<&[(u32, f64)]> = stretches.chunk_by(|a, b| a.0 == b.0).collect();
    let (all, count) = (stretches.len() as f64, recordings.len() as f64);
    if recordings.len() < 2 || recordings.len() == stretches.len() {
        return 1.0;
    }
    let mean = |of: &[(u32, f64)]| of.iter().map(|(_, score)| score).sum::<f64>() / of.len() as f64;
    let overall = mean(stretches);
    let between =
        recordings.iter().map(|of| of.len() as f64 * (mean(of) - overall).powi(2)).sum::<f64>() / (count - 1.0);
    let within = |of: &&[(u32, f64)]| of.iter().map(|(_, score)| (score - mean(of)).powi(2)).sum::<f64>();
    let within = recordings.iter().map(within).sum::<f64>() / (all - count);
    let squares = recordings.iter().map(|of| (of.len() as f64).powi(2)).sum::<f64>();
    let size = (all - squares / all) / (count - 1.0);
    let varies = between + (size - 1.0) * within;
    let correlation = if varies > 0.0 { ((between - within) / varies).clamp(0.0, 1.0) } else { 0.0 };
    1.0 + (all / count - 1.0) * correlation
}

/// Upper end of the exact interval (Clopper and Pearson) for a share that was seen in so many independent stretches.
fn at_most(share: f64, stretches: f64) -> f64 {
    let seen = share * stretches;
    if seen >= stretches {
        return 1.0;
    }
    Beta::new(seen + 1.0, stretches - seen).map_or(1.0, |beta| beta.inverse_cdf(SURE))
}

/// Minutes of other hours beyond the `stretches` heard until twice the asked rate can be promised; `None` where it can
/// be already, would take weeks, or more is anomalous than more minutes can cure.
pub(super) fn minutes_missing(expected: Expected, stretches: usize, rate: f64) -> Option<u32> {
    let Expected { share, most, alike } = expected;
    if most <= 2.0 * rate || share > rate {
        return None;
    }
    let heard = u32::try_from(stretches).ok()?;
    let enough = (1..).map(|step| heard + 5 * step).take_while(|minutes| *minutes < MINUTES_LIMIT);
    let mut enough = enough.skip_while(|minutes| at_most(rate, f64::from(*minutes) / alike) > 2.0 * rate);
    enough.next().map(|minutes| minutes - heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::lanes::Lane;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Three days of 60 windows; the last one lies higher by `shift`.
    fn days(shift: f64) -> (Vec<Scores>, Vec<usize>) {
        let mut rng = StdRng::seed_from_u64(5);
        let window = |number: usize| {
            let mut score = || if number >= 120 { shift } else { 0.0 } - rng.random_range(1e-6..1.0f64).ln();
            vec![(Lane::Distance, score()), (Lane::Spectrum, score())]
        };
        ((0..180).map(window).collect(), (0..180).map(|number| number / 60).collect())
    }

    #[test]
    fn what_differs_from_day_to_day_widens_the_tail() {
        let of = |shift: f64| {
            let (judged, folds) = days(shift);
            let stretches: Vec<usize> = (0..judged.len()).map(|number| number / 6).collect();
            let left_out = LeftOut::new(&judged, &folds, &stretches);
            let widening = left_out.widening(0.01);
            let share = |widening: Widening| left_out.expected(widening, 3, 1.0, 0.01).expect("three days").share;
            (widening.alone, share(Widening::NONE), share(widening))
        };
        let (alike, _, kept) = of(0.0);
        assert!(alike < 2.0 && kept <= 0.02, "{alike} {kept}");
        let (widening, before, after) = of(6.0);
        assert!(widening > alike && widening <= WIDENING_MOST, "{widening}");
        assert!(after < before, "{before} {after}");
    }

    #[test]
    fn minutes_of_days_that_differ_are_few_witnesses() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut days = |shift: f64| -> Vec<(u32, f64)> {
            let minute = |number: u32| (number / 10, shift * f64::from(number / 10) + rng.random_range(-1.0..1.0));
            (0..30).map(minute).collect()
        };
        assert!(alike(&days(0.0)) < 3.0, "of days that are alike each minute tells");
        let far = alike(&days(10.0));
        assert!((9.5..=10.0).contains(&far), "three days are three witnesses: {far}");
        let each: Vec<(u32, f64)> = (0..30).map(|number| (number, f64::from(number))).collect();
        assert_eq!(alike(&each), 1.0, "recordings of one stretch each");
        let one: Vec<(u32, f64)> = each.iter().map(|(_, score)| (0, *score)).collect();
        assert_eq!(alike(&one), 1.0, "one recording says nothing of others");
        assert_eq!(alike(&[(0, 1.0), (0, 1.0), (1, 1.0)]), 1.0, "nothing varies");
    }

    #[test]
    fn few_stretches_promise_little() {
        assert!((at_most(0.0, 4.0) - (1.0 - 0.2f64.powf(0.25))).abs() < 1e-6);
        assert!(at_most(0.01, 60.0) > 0.02 && at_most(0.01, 600.0) < 0.02);
        assert_eq!(at_most(1.0, 5.0), 1.0);
        let of = |share: f64, most: f64, alike: f64| Expected { share, most, alike };
        assert_eq!(minutes_missing(of(0.0, 0.015, 1.0), 100, 0.01), None);
        let missing = minutes_missing(of(0.0, 0.06, 1.0), 13, 0.01).expect("it can be had");
        assert!((100..400).contains(&missing), "{missing}");
        assert!(at_most(0.01, f64::from(13 + missing)) <= 0.02);
        let of_unlike_days = minutes_missing(of(0.0, 0.06, 4.0), 13, 0.01).expect("it can be had");
        assert!(of_unlike_days > 3 * missing, "{of_unlike_days}");
        assert_eq!(minutes_missing(of(0.19, 0.45, 1.0), 13, 0.01), None, "minutes do not cure what was found");
        assert_eq!(minutes_missing(of(0.0, 0.5, 1.0), 3, 1e-6), None);
    }
}
