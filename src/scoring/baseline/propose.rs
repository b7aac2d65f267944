//! From windows of normal running to a baseline: bank, threshold, calibrated lanes, level.

use chrono::{DateTime, TimeDelta};

use super::sample::{LearnSettings, Sample};
use super::{BANK_LIMIT, Baseline, BaselineError, FORMAT, LaneCalibration, Projected, ThresholdBy, check_rate};
use super::{coreset, lane_scores, loudest};
use crate::scoring::alarm::{Alarm, AlarmConfig, AlarmState, SlowCalibration};
use crate::scoring::bank::Bank;
use crate::scoring::lanes::{Features, Lane, Lanes, Rows};
use crate::scoring::stats::{gamma_quantile, normal_quantile};
use crate::scoring::tail::Tail;
use crate::scoring::verdict::{Verdict, judge};

/// Fewest windows for the lanes beside the distance.
pub const LANES_LEAST: usize = 40;
/// Fewest leave-one-out distances for a threshold.
const DISTANCES_LEAST: usize = 4;
/// Windows of one recording that are nearer than this in time count as neighbours, s; less where the recording is short.
const NEIGHBOUR_S: f64 = 30.0;
/// Blocks of time that are left out in turn, to judge each by the rest.
const BLOCKS: usize = 10;
/// Windows that are judged in this way, at most.
const JUDGED_LIMIT: usize = 2048;
/// A window so many quartile ranges above the upper quartile does not belong to normal running ...
const OUTLYING: f64 = 8.0;
/// ... unless there are more than this share of such.
const OUTLYING_SHARE: f64 = 0.03;
/// Windows that somebody has confirmed as normal count as this share of all, at least: at a false alarm rate of 0.01 seven of
/// eight like them are normal.
const CONFIRMED_SHARE: f64 = 0.08;
/// So far below the quietest hundredth of normal running the machine stands still, dB.
const OFF_MARGIN_DB: f64 = 10.0;

/// Every lane's score of one window, judged by windows that are not its neighbours.
type Scores = Vec<(Lane, f64)>;

/// Makes a baseline. The order of `samples` does not matter beyond `recording` and `at_s`, ties aside.
///
/// # Errors
/// What is missing.
pub fn propose<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    settings: &LearnSettings,
) -> Result<Baseline, BaselineError> {
    check_rate(settings.false_alarm_rate)?;
    let mut windows: Vec<&Sample> = samples.into_iter().collect();
    windows.sort_by(|a, b| a.recording.cmp(&b.recording).then(a.at_s.total_cmp(&b.at_s)));

    let mut judged = judge_each(&windows, settings)?;
    let outlying = outlying(&judged, |number| windows[number].confirmed);
    if !outlying.is_empty() {
        let mut number = 0;
        windows.retain(|_| {
            number += 1;
            !outlying.contains(&(number - 1))
        });
        judged = judge_each(&windows, settings)?;
    }

    let weighed = weighed(&windows, &judged);
    let distances: Vec<f64> = weighed.iter().filter_map(|scores| score_of(scores, Lane::Distance)).collect();
    if distances.len() < DISTANCES_LEAST {
        return Err(BaselineError::TooFew { expected: DISTANCES_LEAST, found: distances.len() });
    }
    let (threshold, threshold_by) = threshold(&distances, settings.false_alarm_rate)?;
    let mut calibration = calibrate(&windows, &judged, &weighed, settings);
    let projected = projected(&windows, &judged, threshold, calibration.as_ref(), settings);

    let embeddings: Vec<&[f32]> = windows.iter().map(|one| one.embedding.as_slice()).collect();
    let kept = coreset(&embeddings, BANK_LIMIT);
    let bank = Rows::new(kept.iter().map(|&number| embeddings[number])).ok_or(BaselineError::Mixed)?;
    if let Some(calibration) = &mut calibration {
        let spectra: Vec<&[f32]> = windows.iter().map(|one| one.features.spectrum.as_slice()).collect();
        calibration.lanes.thin(&coreset(&spectra, BANK_LIMIT));
    }

    let mut levels: Vec<f64> = windows.iter().map(|one| one.level_dbfs).collect();
    levels.sort_by(f64::total_cmp);
    let mut left_out = std::collections::BTreeMap::new();
    if !outlying.is_empty() {
        left_out.insert("outlying".to_owned(), outlying.len() as u64);
    }
    Ok(Baseline {
        format: FORMAT,
        machine: settings.machine.clone(),
        origin: settings.origin.clone(),
        learned: String::new(),
        left_out,
        false_alarm_rate: settings.false_alarm_rate,
        threshold,
        threshold_by,
        projected,
        level_dbfs: levels[levels.len() / 2],
        off_below_dbfs: levels[levels.len() / 100] - OFF_MARGIN_DB,
        bank,
        calibration,
        samples: Vec::new(),
        changes: None,
    })
}

/// Judges every window by those that are not its neighbours in time: the distance one by one, the lanes in blocks of
/// time. Where there are too many, every so-manieth is judged by the lanes; the others have a distance only.
fn judge_each(windows: &[&Sample], settings: &LearnSettings) -> Result<Vec<Scores>, BaselineError> {
    let window_s = settings.origin.front_end.window_s;
    let guard_s = guard_s(windows, window_s);
    let near = |a: usize, b: usize| {
        let (a, b) = (windows[a], windows[b]);
        // A hair less, so that windows end to end are apart whatever their times' rounding.
        a.recording == b.recording && (a.at_s - b.at_s).abs() < guard_s - 1e-3
    };
    let rows = Rows::new(windows.iter().map(|one| one.embedding.as_slice()));
    let bank = rows.map(|rows| {
        let values: Vec<f32> = rows.iter().flatten().copied().collect();
        ndarray::Array2::from_shape_vec((rows.len(), rows.width()), values)
    });
    let Some(Ok(bank)) = bank else {
        return Err(if windows.is_empty() {
            BaselineError::TooFew { expected: DISTANCES_LEAST, found: 0 }
        } else {
            BaselineError::Mixed
        });
    };
    let bank = Bank::new(bank);
    let distance = |own: usize| {
        let (_, distance) = bank.nearest_where(&windows[own].embedding, |other| other != own && !near(own, other))?;
        Some((Lane::Distance, distance))
    };
    let mut judged: Vec<Scores> = (0..windows.len()).map(|own| distance(own).into_iter().collect()).collect();
    if windows.len() < LANES_LEAST {
        return Ok(judged);
    }

    let step = windows.len().div_ceil(JUDGED_LIMIT).max(1);
    for block in 0..BLOCKS {
        let own = block * windows.len() / BLOCKS..(block + 1) * windows.len() / BLOCKS;
        let (Some(first), Some(last)) = (own.clone().next(), own.clone().last()) else { continue };
        let apart = |other: &usize| !own.contains(other) && !near(first, *other) && !near(last, *other);
        let others: Vec<usize> = (0..windows.len()).filter(apart).collect();
        let features: Vec<&Features> = others.iter().map(|&number| &windows[number].features).collect();
        let Some(lanes) = Lanes::fit(&features, |a, b| near(others[a], others[b])) else { continue };
        for number in own.step_by(step) {
            let scores = lane_scores(&lanes, f64::NAN, &windows[number].features);
            judged[number].extend(scores);
        }
    }
    Ok(judged)
}

/// How far apart in time windows must be, s: at least so far that they share no sample.
fn guard_s(windows: &[&Sample], window_s: f64) -> f64 {
    let breaks = |pair: &[&Sample]| match pair[0].recording == pair[1].recording {
        true => (pair[1].at_s - pair[0].at_s).min(window_s),
        false => window_s,
    };
    let span_s: f64 = window_s + windows.windows(2).map(breaks).sum::<f64>();
    NEIGHBOUR_S.min(span_s / BLOCKS as f64).max(window_s)
}

fn score_of(scores: &Scores, wanted: Lane) -> Option<f64> {
    scores.iter().find(|(lane, _)| *lane == wanted).map(|(_, score)| *score)
}

const LANES: [Lane; 4] = [Lane::Distance, Lane::Spectrum, Lane::Envelope, Lane::Burst];

/// The scores, those of confirmed windows so often that they make up [`CONFIRMED_SHARE`]: what was heard for a minute counts
/// as if it were heard again and again.
fn weighed(windows: &[&Sample], judged: &[Scores]) -> Vec<Scores> {
    let confirmed = windows.iter().zip(judged).filter(|(window, _)| window.confirmed).map(|(_, scores)| scores);
    let count = confirmed.clone().count();
    let wanted = (CONFIRMED_SHARE * judged.len() as f64) as usize;
    let copies = wanted.saturating_sub(count);
    judged.iter().cloned().chain(confirmed.cycle().take(if count > 0 { copies } else { 0 }).cloned()).collect()
}

/// Numbers of the windows that stand out so far, in any lane, that they are no normal running; none that somebody has
/// confirmed.
fn outlying(judged: &[Scores], is_confirmed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut found = std::collections::BTreeSet::new();
    for lane in LANES {
        let mut sorted: Vec<f64> = judged.iter().filter_map(|scores| score_of(scores, lane)).collect();
        sorted.sort_by(f64::total_cmp);
        if sorted.len() < LANES_LEAST {
            continue;
        }
        let (lower, upper) = (sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4]);
        let limit = upper + OUTLYING * (upper - lower);
        let beyond = judged.iter().enumerate().filter(|(_, scores)| score_of(scores, lane) > Some(limit));
        found.extend(beyond.map(|(number, _)| number).filter(|number| !is_confirmed(*number)));
    }
    // More than a few are part of how this machine runs.
    let most = (OUTLYING_SHARE * judged.len() as f64) as usize;
    if found.len() > most { Vec::new() } else { found.into_iter().collect() }
}

/// The conformal quantile `s[ceil((1 - p)(n + 1))]`; below `1/p` windows, where there is no such, a gamma distribution.
fn threshold(distances: &[f64], rate: f64) -> Result<(f64, ThresholdBy), BaselineError> {
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((1.0 - rate) * (sorted.len() + 1) as f64 - 1e-9).ceil() as usize;
    let (threshold, by) = match sorted.get(rank.saturating_sub(1)) {
        Some(quantile) => (*quantile, ThresholdBy::Quantile),
        None => (gamma_quantile(&sorted, 1.0 - rate).ok_or(BaselineError::NoSpread)?, ThresholdBy::Gamma),
    };
    if threshold > 0.0 && threshold.is_finite() { Ok((threshold, by)) } else { Err(BaselineError::NoSpread) }
}

/// Fits the lanes to all windows, and their tails to how each window was judged by the others.
fn calibrate(
    windows: &[&Sample],
    judged: &[Scores],
    weighed: &[Scores],
    settings: &LearnSettings,
) -> Option<LaneCalibration> {
    if windows.len() < LANES_LEAST {
        return None;
    }
    let guard_s = guard_s(windows, settings.origin.front_end.window_s);
    let near = |a: usize, b: usize| {
        windows[a].recording == windows[b].recording && (windows[a].at_s - windows[b].at_s).abs() < guard_s - 1e-3
    };
    let features: Vec<&Features> = windows.iter().map(|one| &one.features).collect();
    let lanes = Lanes::fit(&features, near)?;
    let scores = |lane: Lane| -> Vec<f64> { weighed.iter().filter_map(|scores| score_of(scores, lane)).collect() };
    let tails: Vec<(Lane, Tail)> =
        LANES.into_iter().filter_map(|lane| Some((lane, Tail::fit(&scores(lane))?))).collect();
    let complete = |scores: &&Scores| scores.len() == tails.len();
    let surprises: Vec<f64> =
        weighed.iter().filter(complete).filter_map(|scores| Some(loudest(&tails, scores)?.0)).collect();
    let combined = Tail::fit(&surprises)?;
    let windows = judged.iter().filter(complete).count();
    let slow = SlowCalibration { windows, correlation: correlation(judged, &tails, &combined) };
    Some(LaneCalibration { lanes, tails, combined, slow })
}

fn p_value(scores: &Scores, tails: &[(Lane, Tail)], combined: &Tail) -> Option<f64> {
    if scores.len() < tails.len() {
        return None;
    }
    Some(combined.ln_p(loudest(tails, scores)?.0).exp())
}

/// Correlation of one window's normal score with the next one's.
fn correlation(judged: &[Scores], tails: &[(Lane, Tail)], combined: &Tail) -> f64 {
    let normal = |scores| Some(normal_quantile(1.0 - p_value(scores, tails, combined)?).clamp(-3.0, 4.0));
    let scores: Vec<f64> = judged.iter().filter_map(normal).collect();
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let variance: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    let shared: f64 = scores.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if variance > 0.0 { (shared / variance).clamp(0.0, 0.99) } else { 0.0 }
}

/// What the proposal says about these windows, each judged by the others.
fn projected(
    windows: &[&Sample],
    judged: &[Scores],
    threshold: f64,
    calibration: Option<&LaneCalibration>,
    settings: &LearnSettings,
) -> Projected {
    let window_s = settings.origin.front_end.window_s;
    let by_distance: Vec<Option<bool>> =
        judged.iter().map(|scores| Some(score_of(scores, Lane::Distance)? > threshold)).collect();
    let by_all = calibration.map(|LaneCalibration { tails, combined, .. }| -> Vec<Option<bool>> {
        let anomalous = |scores| Some(p_value(scores, tails, combined)? < settings.false_alarm_rate);
        judged.iter().map(anomalous).collect()
    });
    let over = |limit: f64| {
        let distances = judged.iter().filter_map(|scores| score_of(scores, Lane::Distance));
        distances.filter(|distance| *distance > limit).count() as f64 / judged.len().max(1) as f64
    };
    let span = |pair: &[&Sample]| match pair[0].recording == pair[1].recording {
        true => (pair[1].at_s - pair[0].at_s).min(window_s),
        false => window_s,
    };
    Projected {
        windows: windows.len(),
        heard_s: window_s + windows.windows(2).map(span).sum::<f64>(),
        distance_share: share(&by_distance),
        combined_share: by_all.as_deref().map(share),
        distance_alarms: alarms(windows, &by_distance),
        combined_alarms: by_all.map(|verdicts| alarms(windows, &verdicts)),
        previous_share: settings.previous_threshold.map(over),
    }
}

fn share(verdicts: &[Option<bool>]) -> f64 {
    let known = verdicts.iter().flatten().count().max(1) as f64;
    verdicts.iter().flatten().filter(|&&anomalous| anomalous).count() as f64 / known
}

/// Alarms that the default settings would have raised on these verdicts.
fn alarms(windows: &[&Sample], verdicts: &[Option<bool>]) -> usize {
    let Some(first) = windows.first() else { return 0 };
    let at = |seconds: f64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(((seconds - first.at_s) * 1000.0) as i64);
    let mut alarm = Alarm::new(AlarmConfig::default(), DateTime::UNIX_EPOCH);
    let mut raised = 0;
    for (window, anomalous) in windows.iter().zip(verdicts) {
        let Some(anomalous) = anomalous else { continue };
        let assessment = judge(if *anomalous { 2.0 } else { 0.5 }, 1.0, window.level_dbfs);
        debug_assert!(assessment.verdict != Verdict::Unknown, "both distances are finite");
        let change = alarm.on_verdict(&assessment, at(window.at_s));
        raised += usize::from(change.is_some_and(|change| change.to.state == AlarmState::Active));
    }
    raised
}
