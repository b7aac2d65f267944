//! Rows as they lie in the file: those of an hour or of a day together, in columns, compressed. A year of a machine is
//! then some 200 kB instead of some MB.
//!
//! Each column has a number of 16 bits for each step, low bytes before high bytes; 0 is "none". Counts are as they are,
//! times in 0.1 s, levels in 0.1 dB above -200 dBFS, distances, scores and thresholds on a logarithmic scale, which keeps
//! them to 0.02 %. The compressed stream (zlib) carries a check sum.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::row::{Hours, Row, Spread};
use crate::sqlite::SqliteError;

/// Of this layout.
const VERSION: u8 = 1;
const COLUMNS: usize = 16;
/// The smallest value of the logarithmic scale, and how many decades it spans.
const LOG_FROM: f64 = 1e-6;
const LOG_DECADES: f64 = 12.0;
const LOG_STEPS: f64 = 65_534.0;
const LEVEL_FROM_DBFS: f64 = -200.0;

/// The steps of a pack, each with a row or without.
pub type Steps = Vec<Option<Row>>;

/// Writes a pack.
pub fn write(steps: &[Option<Row>]) -> Vec<u8> {
    let rows: Vec<[u16; COLUMNS]> = steps.iter().map(|row| row.as_ref().map_or([0; COLUMNS], numbers)).collect();
    let mut bytes = vec![VERSION];
    for column in 0..COLUMNS {
        for byte in 0..2 {
            bytes.extend(rows.iter().map(|row| row[column].to_le_bytes()[byte]));
        }
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    written.expect("memory takes every byte")
}

/// Reads what [`write`] wrote of so many steps.
///
/// # Errors
/// `Damaged`: it is something else.
pub fn read(bytes: &[u8], steps: usize) -> Result<Steps, SqliteError> {
    let length = 1 + 2 * COLUMNS * steps;
    let mut found = Vec::with_capacity(length);
    let read = ZlibDecoder::new(bytes).take(length as u64 + 1).read_to_end(&mut found);
    read.map_err(SqliteError::damaged)?;
    if found.len() != length || found[0] != VERSION {
        return Err(SqliteError::damaged(format!("expected a pack of {steps} steps, found {} bytes", found.len())));
    }
    let number = |column: usize, step: usize| {
        let at = 1 + 2 * column * steps + step;
        u16::from_le_bytes([found[at], found[at + steps]])
    };
    Ok((0..steps).map(|step| row(std::array::from_fn(|column| number(column, step)))).collect())
}

fn numbers(row: &Row) -> [u16; COLUMNS] {
    let count = |count: u32| count.min(u16::MAX.into()) as u16;
    let tenths = |seconds: f64| (10.0 * seconds).round().clamp(0.0, u16::MAX.into()) as u16;
    let spread = |spread: Option<Spread>, number: fn(f64) -> u16| {
        spread.map_or([0; 3], |Spread { min, median, max }| [min, median, max].map(number))
    };
    let Hours { running_s, standing_s, unheard_s } = row.hours;
    let distance = spread(row.distance, of_log);
    let score = spread(row.score, of_log);
    let level = spread(row.level_dbfs, of_level);
    let mut all = [0; COLUMNS];
    let numbers = [count(row.windows), count(row.assessed), count(row.anomalous)]
        .into_iter()
        .chain([running_s, standing_s, unheard_s].map(tenths))
        .chain(distance)
        .chain(score)
        .chain(level)
        .chain([row.threshold.map_or(0, of_log)]);
    all.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
    all
}

/// `None` where there was no window.
fn row(numbers: [u16; COLUMNS]) -> Option<Row> {
    let [windows, assessed, anomalous, running, standing, unheard, rest @ ..] = numbers;
    let [distance_min, distance, distance_max, score_min, score, score_max, level_min, level, level_max, threshold] =
        rest;
    let spread = |numbers: [u16; 3], value: fn(u16) -> Option<f64>| {
        let [min, median, max] = numbers.map(value);
        Some(Spread { min: min?, median: median?, max: max? })
    };
    let seconds = |tenths: u16| f64::from(tenths) / 10.0;
    (windows > 0).then(|| Row {
        windows: windows.into(),
        assessed: assessed.into(),
        anomalous: anomalous.into(),
        hours: Hours { running_s: seconds(running), standing_s: seconds(standing), unheard_s: seconds(unheard) },
        distance: spread([distance_min, distance, distance_max], log_of),
        score: spread([score_min, score, score_max], log_of),
        level_dbfs: spread([level_min, level, level_max], level_of),
        threshold: log_of(threshold),
    })
}

fn of_log(value: f64) -> u16 {
    let decades = (value / LOG_FROM).log10().max(0.0);
    1 + (decades / LOG_DECADES * LOG_STEPS).round().min(LOG_STEPS) as u16
}

fn log_of(number: u16) -> Option<f64> {
    let step = f64::from(number.checked_sub(1)?);
    // The scale's end stands for all that is smaller, 0 among it.
    Some(if step == 0.0 { 0.0 } else { LOG_FROM * 10f64.powf(step / LOG_STEPS * LOG_DECADES) })
}

fn of_level(dbfs: f64) -> u16 {
    1 + (10.0 * (dbfs - LEVEL_FROM_DBFS)).round().clamp(0.0, 10_000.0) as u16
}

fn level_of(number: u16) -> Option<f64> {
    Some(LEVEL_FROM_DBFS + f64::from(number.checked_sub(1)?) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::{unknown, window};
    use super::*;
    use crate::scoring::Reason;

    fn steps() -> Steps {
        let busy = |step: u32| Row::of(&[0.11, 0.2, 0.63].map(|distance| window(distance * f64::from(step + 1))));
        let mut steps: Steps = (0..60).map(|step| Some(busy(step))).collect();
        steps[3] = None;
        steps[4] = Some(Row::of(&[unknown(Reason::NoSignal)]));
        steps[5] = Some(Row::of(&[window(0.0)]));
        steps
    }

    #[test]
    fn rows_survive_to_a_fiftieth_of_a_percent() {
        let steps = steps();
        let read_back = read(&write(&steps), 60).expect("a pack");
        for (step, (before, after)) in steps.iter().zip(&read_back).enumerate() {
            let (Some(before), Some(after)) = (before, after) else {
                assert_eq!((before, after, step), (&None, &None, 3));
                continue;
            };
            assert_eq!((before.windows, before.assessed, before.hours), (after.windows, after.assessed, after.hours));
            let near = |a: f64, b: f64| (a - b).abs() <= 2.2e-4 * a.abs();
            let same = |a: Option<Spread>, b: Option<Spread>| match (a, b) {
                (Some(a), Some(b)) => near(a.min, b.min) && near(a.median, b.median) && near(a.max, b.max),
                (a, b) => a.is_none() && b.is_none(),
            };
            assert!(same(before.distance, after.distance) && same(before.score, after.score), "{before:?} {after:?}");
            let level = |row: &Row| row.level_dbfs.map(|level| (10.0 * level.median).round());
            assert_eq!(level(before), level(after));
        }
        assert_eq!(read(&write(&read_back), 60).expect("a pack"), read_back, "a second time costs nothing more");
    }

    #[test]
    fn what_is_no_pack_is_damaged() {
        let bytes = write(&steps());
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let huge = write(&vec![None; 100_000]);
        for bytes in [&flipped[..], &bytes[..bytes.len() - 3], &[], &[7; 40], &huge] {
            assert!(matches!(read(bytes, 60), Err(SqliteError::Damaged(_))), "{} bytes", bytes.len());
        }
        assert!(read(&bytes, 24).is_err());
    }
}
