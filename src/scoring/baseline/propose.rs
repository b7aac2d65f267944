//! From windows of normal running to a baseline: bank, threshold, calibrated lanes, level.

use chrono::{DateTime, TimeDelta};

use super::averages::Averages;
use super::calibration::{LaneCalibration, Scores, Tails, Widening, alone, lane_scores, score_of};
use super::expected::{Expected, LeftOut, STRETCH_S, alike, minutes_missing};
use super::modes::{ModeWindow, Modes};
use super::sample::{LearnSettings, Sample};
use super::{BANK_LIMIT, Baseline, BaselineError, FORMAT, Projected, ThresholdBy, check_rate, coreset};
use crate::scoring::alarm::{Alarm, AlarmConfig, AlarmState, SlowCalibration};
use crate::scoring::bank::Bank;
use crate::scoring::lanes::{Features, Lane, Lanes, Rows};
use crate::scoring::stats::{conformal_quantile, gamma_quantile, normal_quantile};
use crate::scoring::verdict::{Verdict, judge};

/// Least sound for the lanes beside the distance, s; windows that overlap hear it once.
pub const LANES_LEAST_S: f64 = 20.0;
/// Fewest windows for them: fewer say nothing of what is rare.
const LANES_LEAST_WINDOWS: usize = 12;
/// Windows of a learner that goes on from which a provisional baseline is made.
pub const PROVISIONAL_LEAST: usize = 40;
/// Fewest scores that tell what stands out.
const OUTLYING_LEAST: usize = 40;
/// Fewest leave-one-out distances for a threshold.
const DISTANCES_LEAST: usize = 4;
/// Windows of one recording that are nearer than this in time count as neighbours, s; less where the recording is short.
const NEIGHBOUR_S: f64 = 30.0;
/// Parts of what was heard that are left out in turn, to judge each by the rest: whole recordings ...
const FOLDS: usize = 5;
/// ... where there are so many, else parts of the time.
const RECORDINGS_LEAST: usize = 3;
/// A recording's neighbours in time are at most this part of all that was heard.
const NEIGHBOUR_PARTS: f64 = 10.0;
/// Windows that are judged in this way, at most.
const JUDGED_LIMIT: usize = 2048;
/// A window so many quartile ranges above the upper quartile does not belong to normal running ...
const OUTLYING: f64 = 8.0;
/// ... unless there are more than this share of such.
const OUTLYING_SHARE: f64 = 0.03;
/// Windows that somebody has confirmed as normal count as this share of all, at least: at a false alarm rate of 0.01 seven of
/// eight like them are normal.
const CONFIRMED_SHARE: f64 = 0.08;
/// So far below the quietest hundredth of normal running, or of its quietest way of running, the machine stands still, dB.
const OFF_MARGIN_DB: f64 = 10.0;

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

    let weighed = weighed(&windows);
    let of_distance = |number: &usize| score_of(&judged[*number], Lane::Distance);
    let distances: Vec<f64> = weighed.iter().filter_map(of_distance).collect();
    if distances.len() < DISTANCES_LEAST {
        return Err(BaselineError::TooFew { expected: DISTANCES_LEAST, found: distances.len() });
    }
    let (threshold, threshold_by) = threshold(&distances, settings.false_alarm_rate)?;
    let (folds, stretches) = (folds(&windows), stretches(&windows));
    let left_out = LeftOut::new(&judged, &folds, &stretches);
    // Parts of one recording are of one day, and say nothing of others; what somebody has confirmed lies far out, and makes
    // the tail wide by itself.
    let is_known = whole_recordings(&windows).is_some() && !windows.iter().any(|window| window.confirmed);
    let widening = if is_known { left_out.widening(settings.false_alarm_rate) } else { Widening::NONE };
    let mut calibration = calibrate(&windows, &judged, &weighed, &stretches, widening, settings);
    let expected = calibration.as_ref().and_then(|LaneCalibration { tails, .. }| {
        let means = stretch_means(&windows, &judged, &stretches, tails);
        left_out.expected(widening, means.len(), alike(&means), settings.false_alarm_rate)
    });
    let stretches = stretches.last().map_or(0, |last| last + 1);
    let projected = projected(&windows, &judged, threshold, calibration.as_ref(), expected, stretches, settings);

    let embeddings: Vec<&[f32]> = windows.iter().map(|one| one.embedding.as_slice()).collect();
    let kept = coreset(&embeddings, BANK_LIMIT);
    let bank = Rows::new(kept.iter().map(|&number| embeddings[number])).ok_or(BaselineError::Mixed)?;
    if let Some(calibration) = &mut calibration {
        let spectra: Vec<&[f32]> = windows.iter().map(|one| one.features.spectrum.as_slice()).collect();
        calibration.lanes.thin(&coreset(&spectra, BANK_LIMIT));
    }

    let modes = Modes::find(&mode_windows(&windows, settings.origin.front_end.window_s));

    let mut levels: Vec<f64> = windows.iter().map(|one| one.level_dbfs).collect();
    levels.sort_by(f64::total_cmp);
    // What is rare and of no way of running, a stop that was heard too, says nothing of how quiet the machine runs.
    let quietest_mode = modes.iter().flat_map(Modes::levels).map(|mode| mode.from_dbfs).reduce(f64::min);
    let rarely_below = levels[(OUTLYING_SHARE * levels.len() as f64) as usize];
    let quietest_dbfs = quietest_mode.map_or(levels[levels.len() / 100], |quietest| quietest.min(rarely_below));
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
        off_below_dbfs: quietest_dbfs - OFF_MARGIN_DB,
        bank,
        calibration,
        modes,
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
    let folds = folds(windows);
    let apart = |own: usize, other: usize| folds[own] != folds[other] && !near(own, other);
    // Parts of one recording are no other day, and what somebody has confirmed is normal by itself.
    let whole = whole_recordings(windows).is_some();
    let distance_apart = |own: usize, other: usize| match whole && !windows[own].confirmed {
        true => apart(own, other),
        false => !near(own, other),
    };
    let distance = |own: usize| {
        let (_, distance) =
            bank.nearest_where(&windows[own].embedding, |other| other != own && distance_apart(own, other))?;
        Some((Lane::Distance, distance))
    };
    let mut judged: Vec<Scores> = (0..windows.len()).map(|own| distance(own).into_iter().collect()).collect();
    if !enough_for_lanes(windows, window_s) {
        return Ok(judged);
    }

    let step = windows.len().div_ceil(JUDGED_LIMIT).max(1);
    let averages = Averages::of(windows, window_s);
    for fold in 0..FOLDS {
        let own: Vec<usize> = (0..windows.len()).filter(|number| folds[*number] == fold).collect();
        let (Some(&first), Some(&last)) = (own.first(), own.last()) else { continue };
        let others: Vec<usize> =
            (0..windows.len()).filter(|&other| apart(first, other) && apart(last, other)).collect();
        let features: Vec<&Features> = others.iter().map(|&number| &windows[number].features).collect();
        let Some(lanes) = Lanes::fit(&features, |a, b| near(others[a], others[b])) else { continue };
        let steady = averages.as_ref().and_then(|averages| averages.lane(&others, Some((first, last)), guard_s));
        for number in own.into_iter().step_by(step) {
            judged[number].extend(lane_scores(&lanes, f64::NAN, &windows[number].features));
            let average = averages.as_ref().and_then(|averages| averages.mean(number));
            let score = steady.as_ref().zip(average).and_then(|(lane, average)| lane.score(average));
            judged[number].extend(score.map(|score| (Lane::Steady, score)));
        }
    }
    Ok(judged)
}

/// The recordings that windows are of, rising, where they can be left out one by one: there are some, and none of them is
/// most of what was heard.
fn whole_recordings(windows: &[&Sample]) -> Option<Vec<u32>> {
    let recordings: Vec<&[&Sample]> = windows.chunk_by(|a, b| a.recording == b.recording).collect();
    let longest = recordings.iter().map(|recording| recording.len()).max()?;
    let can_be = recordings.len() >= RECORDINGS_LEAST && 2 * longest <= windows.len();
    can_be.then(|| recordings.iter().map(|recording| recording[0].recording).collect())
}

/// Which fold each window is of: recordings are whole, and folds are neighbours in the order of their names, which is
/// mostly that of time.
fn folds(windows: &[&Sample]) -> Vec<usize> {
    let of = whole_recordings(windows);
    let count = of.as_ref().map_or(windows.len(), Vec::len);
    let rank = |number: usize, window: &&Sample| match &of {
        Some(recordings) => recordings.partition_point(|recording| *recording < window.recording),
        None => number,
    };
    windows.iter().enumerate().map(|(number, window)| rank(number, window) * FOLDS / count.max(1)).collect()
}

/// Which stretch of sound each window is of.
fn stretches(windows: &[&Sample]) -> Vec<usize> {
    let mut stretch = 0;
    let mut began = None;
    let of = |window: &&Sample| {
        let (recording, at_s) = *began.get_or_insert((window.recording, window.at_s));
        if window.recording != recording || window.at_s - at_s >= STRETCH_S {
            began = Some((window.recording, window.at_s));
            stretch += 1;
        }
        stretch
    };
    windows.iter().map(of).collect()
}

/// Of each stretch its recording and the mean normal score of its windows; those without a score are missing.
fn stretch_means(windows: &[&Sample], judged: &[Scores], stretches: &[usize], tails: &Tails) -> Vec<(u32, f64)> {
    let scored: Vec<(usize, u32, f64)> = (0..windows.len())
        .filter_map(|number| {
            Some((stretches[number], windows[number].recording, normal_score(&judged[number], tails)?))
        })
        .collect();
    let mean = |of: &[(usize, u32, f64)]| of.iter().map(|(.., score)| score).sum::<f64>() / of.len() as f64;
    scored.chunk_by(|a, b| a.0 == b.0).map(|of| (of[0].1, mean(of))).collect()
}

/// How improbable a window's scores are, as a normal score.
fn normal_score(scores: &Scores, tails: &Tails) -> Option<f64> {
    Some(normal_quantile(1.0 - tails.p_value(scores)?).clamp(-3.0, 4.0))
}

/// Whether there is sound enough for the lanes beside the distance.
fn enough_for_lanes(windows: &[&Sample], window_s: f64) -> bool {
    windows.len() >= LANES_LEAST_WINDOWS && heard_s(windows, window_s) >= LANES_LEAST_S - 1e-3
}

/// Length of the sound that the windows are of, s; what overlaps counts once.
fn heard_s(windows: &[&Sample], window_s: f64) -> f64 {
    let span = |pair: &[&Sample]| match pair[0].recording == pair[1].recording {
        true => (pair[1].at_s - pair[0].at_s).min(window_s),
        false => window_s,
    };
    window_s + windows.windows(2).map(span).sum::<f64>()
}

/// How far apart in time windows must be, s: at least so far that they share no sample.
fn guard_s(windows: &[&Sample], window_s: f64) -> f64 {
    NEIGHBOUR_S.min(heard_s(windows, window_s) / NEIGHBOUR_PARTS).max(window_s)
}

/// Numbers of the windows, those of confirmed ones so often that they make up [`CONFIRMED_SHARE`]: what was heard for a
/// minute counts as if it were heard again and again.
fn weighed(windows: &[&Sample]) -> Vec<usize> {
    let confirmed = (0..windows.len()).filter(|number| windows[*number].confirmed);
    let count = confirmed.clone().count();
    let wanted = (CONFIRMED_SHARE * windows.len() as f64) as usize;
    let copies = wanted.saturating_sub(count);
    (0..windows.len()).chain(confirmed.cycle().take(if count > 0 { copies } else { 0 })).collect()
}

/// Numbers of the windows that stand out so far, in any lane, that they are no normal running; none that somebody has
/// confirmed.
fn outlying(judged: &[Scores], is_confirmed: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut found = std::collections::BTreeSet::new();
    // One that stands out does so in the averages of many.
    for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Steady) {
        let mut sorted: Vec<f64> = judged.iter().filter_map(|scores| score_of(scores, lane)).collect();
        sorted.sort_by(f64::total_cmp);
        if sorted.len() < OUTLYING_LEAST {
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

/// The conformal quantile; below `1/rate` windows, where there is no such, a gamma distribution.
fn threshold(distances: &[f64], rate: f64) -> Result<(f64, ThresholdBy), BaselineError> {
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (threshold, by) = match conformal_quantile(&sorted, rate) {
        Some(quantile) => (quantile, ThresholdBy::Quantile),
        None => (gamma_quantile(&sorted, 1.0 - rate).ok_or(BaselineError::NoSpread)?, ThresholdBy::Gamma),
    };
    if threshold > 0.0 && threshold.is_finite() { Ok((threshold, by)) } else { Err(BaselineError::NoSpread) }
}

/// Fits the lanes to all windows, and their tails to how each window was judged by the others.
fn calibrate(
    windows: &[&Sample],
    judged: &[Scores],
    weighed: &[usize],
    stretches: &[usize],
    widening: Widening,
    settings: &LearnSettings,
) -> Option<LaneCalibration> {
    if !enough_for_lanes(windows, settings.origin.front_end.window_s) {
        return None;
    }
    let guard_s = guard_s(windows, settings.origin.front_end.window_s);
    let near = |a: usize, b: usize| {
        windows[a].recording == windows[b].recording && (windows[a].at_s - windows[b].at_s).abs() < guard_s - 1e-3
    };
    let features: Vec<&Features> = windows.iter().map(|one| &one.features).collect();
    let averages = Averages::of(windows, settings.origin.front_end.window_s);
    let all: Vec<usize> = (0..windows.len()).collect();
    let steady = averages.and_then(|averages| averages.lane(&all, None, guard_s));
    let mut lanes = Lanes::fit(&features, near)?;
    lanes.steady = steady;
    let tails = Tails::fit(weighed.iter().map(|&number| (&judged[number], stretches[number])))?.widened(widening);
    let mut apart = a_hop_apart(windows, settings.hop_s);
    apart.retain(|number| tails.p_value(&judged[*number]).is_some());
    let correlation = correlation(apart.iter().map(|number| &judged[*number]), &tails);
    let slow = SlowCalibration { windows: apart.len(), correlation };
    Some(LaneCalibration { lanes, tails, slow })
}

/// Numbers of the windows that follow each other by a hop at least, as those do that are judged in use; what begins between
/// them is left out.
fn a_hop_apart(windows: &[&Sample], hop_s: f64) -> Vec<usize> {
    let mut apart: Vec<usize> = Vec::with_capacity(windows.len());
    for (number, window) in windows.iter().enumerate() {
        let last = apart.last().map(|last| windows[*last]);
        let overlaps = |last: &Sample| last.recording == window.recording && window.at_s - last.at_s <= hop_s - 1e-3;
        if !last.is_some_and(overlaps) {
            apart.push(number);
        }
    }
    apart
}

/// What ways of running are found in: no window shares sound with another. What was added is looked at by itself, as it may
/// lie at the same times as the rest, where sound came faster than in real time.
fn mode_windows<'a>(windows: &[&'a Sample], window_s: f64) -> Vec<ModeWindow<'a>> {
    let (confirmed, heard): (Vec<&Sample>, Vec<&Sample>) = windows.iter().partition(|window| window.confirmed);
    let apart = [heard, confirmed].into_iter().flat_map(|part| {
        let apart = a_hop_apart(&part, window_s);
        apart.into_iter().map(move |number| part[number].as_mode_window())
    });
    apart.collect()
}

/// Correlation of one window's normal score with the next one's.
fn correlation<'a>(judged: impl Iterator<Item = &'a Scores>, tails: &Tails) -> f64 {
    let scores: Vec<f64> = judged.filter_map(|scores| normal_score(scores, tails)).collect();
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
    expected: Option<Expected>,
    stretches: usize,
    settings: &LearnSettings,
) -> Projected {
    let window_s = settings.origin.front_end.window_s;
    let by_distance: Vec<Option<bool>> =
        judged.iter().map(|scores| Some(score_of(scores, Lane::Distance)? > threshold)).collect();
    let rate = settings.false_alarm_rate;
    let by_all = calibration.map(|LaneCalibration { tails, .. }| -> Vec<Option<bool>> {
        judged.iter().map(|scores| tails.is_anomalous(scores, rate)).collect()
    });
    // As alarms count them.
    let by_themselves = calibration.map(|LaneCalibration { tails, .. }| -> Vec<Option<bool>> {
        judged.iter().map(|scores| Some(tails.p_value(&alone(scores))? < rate)).collect()
    });
    let over = |limit: f64| {
        let distances = judged.iter().filter_map(|scores| score_of(scores, Lane::Distance));
        distances.filter(|distance| *distance > limit).count() as f64 / judged.len().max(1) as f64
    };
    Projected {
        windows: windows.len(),
        heard_s: heard_s(windows, window_s),
        distance_share: share(&by_distance),
        combined_share: by_all.as_deref().map(share),
        distance_alarms: alarms(windows, &by_distance, settings.hop_s),
        combined_alarms: by_themselves.map(|verdicts| alarms(windows, &verdicts, settings.hop_s)),
        previous_share: settings.previous_threshold.map(over),
        stretches,
        expected_share: expected.map(|expected| expected.share),
        expected_most: expected.map(|expected| expected.most),
        missing_minutes: expected.and_then(|expected| minutes_missing(expected, stretches, rate)),
    }
}

fn share(verdicts: &[Option<bool>]) -> f64 {
    let known = verdicts.iter().flatten().count().max(1) as f64;
    verdicts.iter().flatten().filter(|&&anomalous| anomalous).count() as f64 / known
}

/// Alarms that the default settings would have raised on these verdicts.
fn alarms(windows: &[&Sample], verdicts: &[Option<bool>], hop_s: f64) -> usize {
    let Some(first) = windows.first() else { return 0 };
    let at = |seconds: f64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(((seconds - first.at_s) * 1000.0) as i64);
    let mut alarm = Alarm::new(AlarmConfig::default(), DateTime::UNIX_EPOCH);
    let mut raised = 0;
    for number in a_hop_apart(windows, hop_s) {
        let (window, Some(anomalous)) = (windows[number], verdicts[number]) else { continue };
        let assessment = judge(if anomalous { 2.0 } else { 0.5 }, 1.0, window.level_dbfs);
        debug_assert!(assessment.verdict != Verdict::Unknown, "both distances are finite");
        let change = alarm.on_verdict(&assessment, at(window.at_s));
        raised += usize::from(change.is_some_and(|change| change.to.state == AlarmState::Active));
    }
    raised
}
