//! The steps in which the past is asked for.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::row::Row;

/// Points of one answer, at most.
pub const POINTS_LIMIT: i64 = 1500;
/// Rows of a minute are there for so long.
const MINUTES_KEPT_S: i64 = 8 * 86_400;

/// From one point to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// For the last eight days.
    Minute,
    /// Ten minutes, for the last eight days.
    #[serde(rename = "10min")]
    #[value(name = "10min")]
    TenMinutes,
    /// For two years.
    Hour,
    /// Of UTC.
    Day,
}

const ALL: [Step; 4] = [Step::Minute, Step::TenMinutes, Step::Hour, Step::Day];

/// A step that makes too many points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}; from `from` to `to` it makes {points} points, and an answer has {POINTS_LIMIT} at most", self.expected())]
pub struct StepError {
    /// The finest one that does, where any does.
    fits: Option<Step>,
    points: i64,
}

impl StepError {
    fn expected(self) -> String {
        match self.fits {
            Some(step) => format!("expected {step} or longer"),
            None => "expected a shorter time".into(),
        }
    }
}

impl Step {
    pub fn seconds(self) -> i64 {
        match self {
            Step::Minute => 60,
            Step::TenMinutes => 600,
            Step::Hour => 3600,
            Step::Day => 86_400,
        }
    }

    /// The step that was asked for; without one the finest that makes no more than [`POINTS_LIMIT`] points and that is
    /// kept for so long.
    ///
    /// # Errors
    /// It makes more.
    pub fn choose(wanted: Option<Step>, from_s: i64, to_s: i64, now_s: i64) -> Result<Step, StepError> {
        let points = |step: Step| (to_s.saturating_sub(from_s)).div_euclid(step.seconds()).saturating_add(1);
        let fits = |step: &Step| points(*step) <= POINTS_LIMIT;
        let kept = |step: &Step| *step >= Step::Hour || from_s >= now_s - MINUTES_KEPT_S;
        let finest = ALL.into_iter().find(fits);
        match wanted {
            Some(step) if fits(&step) => Ok(step),
            Some(step) => Err(StepError { fits: finest, points: points(step) }),
            None => {
                let found = ALL.into_iter().filter(fits).find(kept);
                found.ok_or(StepError { fits: None, points: points(Step::Day) })
            }
        }
    }
}

/// The word of the command.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Minute => "minute",
            Step::TenMinutes => "10min",
            Step::Hour => "hour",
            Step::Day => "day",
        })
    }
}

/// Rows by their beginning, put together to the step's.
pub(super) fn merged(rows: BTreeMap<i64, Row>, step: Step) -> Vec<(i64, Row)> {
    let start = |at_s: i64| at_s.div_euclid(step.seconds()) * step.seconds();
    let rows: Vec<(i64, Row)> = rows.into_iter().map(|(at_s, row)| (start(at_s), row)).collect();
    let groups = rows.chunk_by(|a, b| a.0 == b.0);
    groups.map(|group| (group[0].0, Row::merged(group.iter().map(|(_, row)| row)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::window;
    use super::*;

    const NOW_S: i64 = 1_800_000_000;

    #[test]
    fn an_answer_is_bounded() {
        let ago = |days: i64| NOW_S - 86_400 * days;
        let choose = |wanted, from_s| Step::choose(wanted, from_s, NOW_S, NOW_S);
        let hour = NOW_S - 3600;
        assert_eq!(choose(None, hour), Ok(Step::Minute));
        assert_eq!(choose(None, ago(1)), Ok(Step::Minute));
        assert_eq!(choose(None, ago(7)), Ok(Step::TenMinutes));
        assert_eq!(choose(None, ago(9)), Ok(Step::Hour));
        assert_eq!(choose(None, ago(730)), Ok(Step::Day));
        assert_eq!(choose(Some(Step::Day), hour), Ok(Step::Day));
        let error = choose(Some(Step::Minute), ago(7)).expect_err("too many");
        assert_eq!(
            error.to_string(),
            "expected 10min or longer; from `from` to `to` it makes 10081 points, and an answer has 1500 at most"
        );
        assert!(choose(None, 0).expect_err("57 years").to_string().starts_with("expected a shorter time;"));
        // An hour of the last year is asked for by its own rows.
        assert_eq!(Step::choose(None, ago(300), ago(300) + 3600, NOW_S), Ok(Step::Hour));
    }

    #[test]
    fn rows_are_put_together_by_their_step() {
        let rows = BTreeMap::from([0, 60, 540, 600, 1260].map(|at| (at, Row::of(&[window(0.1)]))));
        let found: Vec<_> = merged(rows, Step::TenMinutes).into_iter().map(|(at, row)| (at, row.windows)).collect();
        assert_eq!(found, [(0, 3), (600, 1), (1200, 1)]);
    }
}
