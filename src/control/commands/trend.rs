//! `trend.get`: a machine's past.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Execute;
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::control::values::Target;
use crate::monitor::trend::{Row, Spread, Step, TrendError};

/// What is shown without `from`.
const LAST_H: i64 = 24;

/// A machine's past.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrendGet {
    /// The machine; one machine at a time.
    #[arg(long)]
    pub machine: Target,
    /// Begin at this time (RFC 3339, or -90m, -2h, -7d); default: 24 hours before `to`.
    #[arg(long, value_parser = Timestamp::before, allow_hyphen_values = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// End at this time; default: now.
    #[arg(long, value_parser = Timestamp::before, allow_hyphen_values = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// From one point to the next; default: the shortest step that makes no more than 1500 points and is kept for so long.
    #[arg(long, value_enum)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// What each point of the answer has, in this order.
pub const FIELDS: [&str; 17] = [
    "at",
    "windows",
    "assessed",
    "anomalous",
    "distance_min",
    "distance_median",
    "distance_max",
    "score_min",
    "score_median",
    "score_max",
    "level_min",
    "level_median",
    "level_max",
    "threshold",
    "running_s",
    "standing_s",
    "unheard_s",
];

impl Execute for TrendGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let machine = context.machine_id(context.target(&self.machine)?);
        let to = self.to.map_or(context.now, Timestamp::utc);
        let from = self.from.map_or(to - TimeDelta::hours(LAST_H), Timestamp::utc);
        if from >= to {
            let expected = format!("a time before `to`, which is {}", Timestamp::from(to));
            return Err(CommandError::argument("from", &expected, Timestamp::from(from)));
        }
        let (from_s, to_s) = (from.timestamp(), to.timestamp());
        let step = Step::choose(self.step, from_s, to_s, context.now.timestamp())
            .map_err(|error| CommandError::new(Code::BadArgument, format!("step: {error}")))?;
        let rows = context.shared.trend.read(&machine, from_s, to_s + 1, step).map_err(|error| {
            let code = if matches!(error, TrendError::NotYet) { Code::Busy } else { Code::Failed };
            CommandError::new(code, error.to_string())
        })?;
        Ok(Outcome::Answer(json!({
            "machine": &*machine,
            "from": Timestamp::from(from),
            "to": Timestamp::from(to),
            "step": step,
            "step_s": step.seconds(),
            "fields": FIELDS,
            "points": rows.iter().map(|(at_s, row)| point(*at_s, row)).collect::<Vec<_>>(),
        })))
    }
}

/// The values of [`FIELDS`].
fn point(at_s: i64, row: &Row) -> Value {
    let at = DateTime::<Utc>::from_timestamp(at_s, 0).unwrap_or_default();
    let spread = |spread: Option<Spread>, digits: fn(f64) -> f64| {
        let values = spread.map(|Spread { min, median, max }| [min, median, max].map(digits));
        values.map_or([Value::Null, Value::Null, Value::Null], |values| values.map(Value::from))
    };
    let mut values = vec![Value::from(Timestamp::from(at).to_string())];
    values.extend([row.windows, row.assessed, row.anomalous].map(Value::from));
    values.extend(spread(row.distance, significant));
    values.extend(spread(row.score, significant));
    values.extend(spread(row.level_dbfs, tenths));
    values.push(row.threshold.map(significant).into());
    values.extend([row.hours.running_s, row.hours.standing_s, row.hours.unheard_s].map(tenths).map(Value::from));
    Value::Array(values)
}

/// Four digits: more than is kept.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let places = 3 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(places.clamp(-300, 300));
    (value * scale).round() / scale
}

fn tenths(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::judge;

    #[test]
    fn a_point_has_every_field() {
        let mut assessment = judge(0.123_456, 0.5, -31.26);
        assessment.score = Some(0.0);
        let row = Row::of(&[crate::monitor::trend::Sample::new(&assessment, 5.0)]);
        let values = point(1_800_000_000, &row);
        assert_eq!(values.as_array().map(Vec::len), Some(FIELDS.len()));
        assert_eq!(
            values,
            json!([
                "2027-01-15T08:00:00.000Z",
                1,
                1,
                0,
                0.1235,
                0.1235,
                0.1235,
                0.0,
                0.0,
                0.0,
                -31.3,
                -31.3,
                -31.3,
                0.5,
                5.0,
                0.0,
                0.0
            ])
        );
        let none = point(0, &Row::default());
        assert_eq!(none[4], Value::Null);
        for value in [1.0, 0.05, 123.4, 1e-6, 99_990.0] {
            assert!((significant(value) - value).abs() < 1e-9 * value, "{value}");
        }
    }
}
