//! What to expect of a baseline in hours that were not heard.

use statrs::distribution::{Beta, ContinuousCDF};

use super::calibration::{Scores, Tails};

/// Sound of one recording that is nearer in time than this is one stretch, s: its windows are no two witnesses.
pub(super) const STRETCH_S: f64 = 60.0;
/// So sure it is that the share will be no larger than told.
const SURE: f64 = 0.8;
/// More of these than nobody will wait for.
const MINUTES_LIMIT: u32 = 60 * 24 * 14;

/// What share of normal windows of other hours will be called anomalous.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expected {
    /// Each fold judged by what the others alone would have taught.
    pub share: f64,
    /// Four times in five it is no more than this.
    pub most: f64,
}

/// `folds` and `stretches` say of each window which it is of. `None` where the folds are too small to teach anything.
pub(super) fn expected(judged: &[Scores], folds: &[usize], stretches: &[usize], rate: f64) -> Option<Expected> {
    let last = folds.iter().copied().max()?;
    let (mut anomalous, mut all) = (0.0, 0.0);
    for fold in 0..=last {
        let of = |own: bool| {
            let windows = judged.iter().zip(folds).zip(stretches);
            windows
                .filter(move |((_, other), _)| (**other == fold) == own)
                .map(|((scores, _), stretch)| (scores, *stretch))
        };
        let Some(tails) = Tails::fit(of(false)) else { continue };
        for p_value in of(true).filter_map(|(scores, _)| tails.p_value(scores)) {
            anomalous += f64::from(u8::from(p_value < rate));
            all += 1.0;
        }
    }
    if all == 0.0 {
        return None;
    }
    let mut distinct = stretches.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let share = anomalous / all;
    Some(Expected { share, most: at_most(share, distinct.len() as f64).max(rate) })
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
/// be already, or would take weeks.
pub(super) fn minutes_missing(most: f64, stretches: usize, rate: f64) -> Option<u32> {
    if most <= 2.0 * rate {
        return None;
    }
    let heard = u32::try_from(stretches).ok()?;
    let enough = (1..).map(|step| heard + 5 * step).take_while(|minutes| *minutes < MINUTES_LIMIT);
    let mut enough = enough.skip_while(|minutes| at_most(rate, f64::from(*minutes)) > 2.0 * rate);
    enough.next().map(|minutes| minutes - heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_stretches_promise_little() {
        assert!((at_most(0.0, 4.0) - (1.0 - 0.2f64.powf(0.25))).abs() < 1e-6);
        assert!(at_most(0.01, 60.0) > 0.02 && at_most(0.01, 600.0) < 0.02);
        assert_eq!(at_most(1.0, 5.0), 1.0);
        assert_eq!(minutes_missing(0.015, 100, 0.01), None);
        let missing = minutes_missing(0.06, 13, 0.01).expect("it can be had");
        assert!((100..400).contains(&missing), "{missing}");
        assert!(at_most(0.01, f64::from(13 + missing)) <= 0.02);
        assert_eq!(minutes_missing(0.5, 3, 1e-6), None);
    }
}
