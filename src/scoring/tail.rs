//! From a score to its probability under the baseline, finer than the baseline has windows.

use serde::{Deserialize, Serialize};

/// Share of the baseline's scores that the tail is fitted to.
const SHARE: f64 = 0.25;
/// Fewest scores for a tail, and fewest to learn from at all.
const LEAST_TAIL: usize = 5;
/// Scores kept below the tail, at most.
const KNOTS: usize = 128;
/// More scores than anybody learns from.
const COUNT_LIMIT: usize = 1 << 31;
/// Fewest scores that a tail can be fitted to.
pub const LEAST_SCORES: usize = 2 * LEAST_TAIL;

/// The distribution of a baseline's scores: the scores themselves below, an exponential tail above.
///
/// The tail is the *predictive* distribution of an exponential whose mean was estimated from `m` exceedances
/// (Lomax with shape `m`): `p = m/(n+1) * (1 + (x - u) / (m * mean))^-m`. It is a little heavier than the plain
/// exponential, and so keeps the false alarm rate also where the baseline is small. Where it is known of which stretch of
/// sound each score is, `m` in the exponent counts stretches: neighbours in time are alike and say little anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// Scores that it was made from.
    count: usize,
    /// Scores beyond `start`.
    beyond: usize,
    /// Stretches of sound that those are of, where that is known: so many witnesses the tail has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stretches: Option<usize>,
    start: f64,
    mean_excess: f64,
    /// Rising scores below `start` with the share of the baseline at or above each.
    body: Vec<(f64, f64)>,
}

impl Tail {
    /// `None` for fewer than [`LEAST_SCORES`] scores, or where one is not finite.
    pub fn fit(scores: &[f64]) -> Option<Tail> {
        let count = scores.len();
        if count < LEAST_SCORES || scores.iter().any(|score| !score.is_finite()) {
            return None;
        }
        let mut sorted = scores.to_vec();
        sorted.sort_by(f64::total_cmp);
        let beyond = ((SHARE * count as f64).round() as usize).clamp(LEAST_TAIL, count - 1);
        let below = count - beyond;
        let start = 0.5 * (sorted[below - 1] + sorted[below]);
        let mean_excess = sorted[below..].iter().map(|score| score - start).sum::<f64>() / beyond as f64;
        // A baseline without any spread still distinguishes "the same" from "more".
        let mean_excess = mean_excess.max(1e-9 * start.abs()).max(f64::MIN_POSITIVE);
        let step = below.div_ceil(KNOTS).max(1);
        let knot = |number: usize| (sorted[number], (count - number) as f64 / (count + 1) as f64);
        let body = (0..below).step_by(step).map(knot).collect();
        Some(Tail { count, beyond, stretches: None, start, mean_excess, body })
    }

    /// As [`Tail::fit`]; `stretches` says of each score which stretch of sound it is of.
    pub fn fit_stretches(scores: &[f64], stretches: &[usize]) -> Option<Tail> {
        let tail = Tail::fit(scores)?;
        let mut beyond: Vec<usize> = scores
            .iter()
            .zip(stretches)
            .filter(|(score, _)| **score > tail.start)
            .map(|(_, stretch)| *stretch)
            .collect();
        beyond.sort_unstable();
        beyond.dedup();
        Some(Tail { stretches: Some(beyond.len().clamp(1, tail.beyond)), ..tail })
    }

    /// Natural logarithm of the probability that a normal window scores `score` or more.
    pub fn ln_p(&self, score: f64) -> f64 {
        let tail_share = self.beyond as f64 / (self.count + 1) as f64;
        if score >= self.start {
            let shape = self.stretches.unwrap_or(self.beyond) as f64;
            return tail_share.ln() - shape * ((score - self.start) / (shape * self.mean_excess)).ln_1p();
        }
        let above = self.body.partition_point(|(knot, _)| *knot <= score);
        let (high, low_p) = self.body.get(above).copied().unwrap_or((self.start, tail_share));
        let Some(&(low, high_p)) = above.checked_sub(1).and_then(|below| self.body.get(below)) else {
            return self.body.first().map_or(0.0, |(_, p)| p.ln());
        };
        let part = if high > low { (score - low) / (high - low) } else { 1.0 };
        (high_p + part * (low_p - high_p)).ln()
    }

    /// How many times as wide its tail would have to be for `score` to have the probability `p`; 0 for scores below it.
    pub fn widening(&self, score: f64, p: f64) -> f64 {
        let (share, shape) =
            (self.beyond as f64 / (self.count + 1) as f64, self.stretches.unwrap_or(self.beyond) as f64);
        if p >= share || score <= self.start {
            return 0.0;
        }
        (score - self.start) / (shape * self.mean_excess * ((share / p).powf(1.0 / shape) - 1.0))
    }

    /// The same with a tail that is so many times as wide.
    #[must_use]
    pub fn widened(mut self, times: f64) -> Tail {
        self.mean_excess *= times;
        self
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let finite = self.start.is_finite() && self.mean_excess > 0.0 && self.mean_excess.is_finite();
        let ordered = self.body.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        let probable = !self.body.is_empty() && self.body.iter().all(|(_, p)| *p > 0.0 && *p <= 1.0);
        let witnesses = self.stretches.is_none_or(|stretches| (1..=self.beyond).contains(&stretches));
        let counted = self.count <= COUNT_LIMIT && (1..=self.count).contains(&self.beyond);
        finite && ordered && probable && witnesses && counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_exponential_is_continued() {
        let scores: Vec<f64> = (0..1000).map(|i| -(1.0 - (f64::from(i) + 0.5) / 1000.0).ln()).collect();
        let tail = Tail::fit(&scores).expect("enough scores");
        for score in [0.1, 0.5, 1.0, 2.0, 4.0, 7.0] {
            assert!((tail.ln_p(score) + score).abs() < 0.15, "{score}: {}", tail.ln_p(score));
        }
    }

    proptest! {
        #[test]
        fn more_is_never_more_likely(scores in prop::collection::vec(-1e3..1e3f64, 10..200), a in -2e3..2e3f64, b in -2e3..2e3f64) {
            let tail = Tail::fit(&scores).expect("enough scores");
            prop_assert!(tail.is_valid());
            let (p_low, p_high) = (tail.ln_p(a.min(b)), tail.ln_p(a.max(b)));
            prop_assert!(p_low <= 0.0 && p_high <= p_low + 1e-12, "{p_low} {p_high}");
        }
    }

    #[test]
    fn fewer_witnesses_make_a_heavier_tail() {
        let scores: Vec<f64> = (0..80).map(|number| f64::from(number) / 10.0).collect();
        let of = |each: usize| {
            let stretches: Vec<usize> = (0..80).map(|number| number / each).collect();
            Tail::fit_stretches(&scores, &stretches).expect("enough scores")
        };
        let (many, few, plain) = (of(1), of(10), Tail::fit(&scores).expect("enough scores"));
        assert!(many.is_valid() && few.is_valid());
        assert_eq!(many.ln_p(20.0), plain.ln_p(20.0));
        assert!(few.ln_p(20.0) > plain.ln_p(20.0) + 1.0, "{} {}", few.ln_p(20.0), plain.ln_p(20.0));
        assert_eq!(few.ln_p(3.0), plain.ln_p(3.0));
    }

    #[test]
    fn a_tail_can_be_made_as_wide_as_a_score_needs_it() {
        let scores: Vec<f64> = (0..80).map(|number| f64::from(number) / 10.0).collect();
        let tail = Tail::fit(&scores).expect("enough scores");
        for score in [9.0, 20.0, 300.0] {
            let wide = tail.clone().widened(tail.widening(score, 0.01));
            assert!((wide.ln_p(score) - 0.01f64.ln()).abs() < 1e-9, "{score}: {}", wide.ln_p(score));
            assert_eq!(wide.ln_p(3.0), tail.ln_p(3.0));
        }
        assert_eq!((tail.widening(3.0, 0.01), tail.widening(20.0, 0.4)), (0.0, 0.0));
    }

    #[test]
    fn without_spread_more_is_still_more() {
        let tail = Tail::fit(&[3.0; 20]).expect("enough scores");
        assert!(tail.ln_p(3.0) > -2.0);
        assert!(tail.ln_p(3.1) < -50.0);
        assert_eq!(Tail::fit(&[1.0; 3]), None);
        assert_eq!(Tail::fit(&[f64::NAN; 30]), None);
    }
}
