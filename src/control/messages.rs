//! What control publishes of a machine: its settings, events, and baselines in numbers and in words.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::outcome::Output;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::monitor::MonitorState;
use crate::monitor::model::ActiveBundle;
use crate::monitor::settings::{Effective, MachineSettings};
use crate::mqtt::payload::{EventKind, EventMsg, SchemaVersion, SettingsMsg};
use crate::scoring::Baseline;
use crate::scoring::baseline::Progress;
use crate::scoring::threshold::ThresholdSource;

/// A threshold in words.
pub fn told(effective: Option<Effective>) -> String {
    match effective {
        None => "none".into(),
        Some(Effective { threshold, source }) => format!("{threshold} ({source})"),
    }
}

/// What the `settings` topic tells of a machine with these settings.
pub fn settings_msg(
    shared: &Shared,
    state: &MonitorState,
    number: usize,
    settings: &MachineSettings,
    now: DateTime<Utc>,
) -> SettingsMsg {
    let effective = state.threshold_with(number, settings, now);
    let label = state.loaded.as_ref().map(ActiveBundle::label);
    let made_for = settings.made_for_another(label.as_deref()).map(str::to_owned);
    let maintenance = settings.maintenance(now);
    let changed = settings.changed.as_ref();
    SettingsMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        machine: state.machines[number].config.id.clone(),
        threshold: effective.map(|found| found.threshold),
        source: effective.map_or(ThresholdSource::Bundle, |found| found.source),
        judge: state.judge_with(number, settings, now),
        baseline: state.loaded.as_ref().and_then(|l| l.baseline(number)).map(|(baseline, _)| baseline.learned.clone()),
        revision: settings.revision.into(),
        by: changed.and_then(|changed| changed.by.clone()),
        reason: changed.and_then(|changed| changed.reason.clone()),
        until: settings.threshold.as_ref().and_then(|over| over.until).map(Timestamp::from),
        bundle: label,
        made_for,
        maintenance: maintenance.is_some(),
        maintenance_until: maintenance.and_then(|maintenance| maintenance.until).map(Timestamp::from),
        clock: shared.clock.mark(),
    }
}

/// What a baseline is and what it would have meant, in numbers.
pub fn facts(machine: &str, baseline: &Baseline) -> Value {
    let meant = &baseline.meant;
    json!({
        "machine": machine,
        "learned": baseline.learned,
        "bundle": baseline.origin.bundle,
        "threshold": baseline.threshold,
        "threshold_by": baseline.threshold_by,
        "false_alarm_rate": baseline.false_alarm_rate,
        "windows": meant.windows,
        "rows": baseline.rows().len(),
        "lanes": baseline.has_lanes(),
        "heard_s": meant.heard_s.round(),
        "left_out": baseline.left_out.values().sum::<u64>(),
        "distance_share": meant.distance_share,
        "distance_alarms": meant.distance_alarms,
        "combined_share": meant.combined_share,
        "combined_alarms": meant.combined_alarms,
        "previous_share": meant.previous_share,
        "baseline_dbfs": baseline.level_dbfs,
        "off_below_dbfs": baseline.off_below_dbfs,
    })
}

/// The same in words.
pub fn said(baseline: &Baseline) -> String {
    let meant = &baseline.meant;
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let previous = meant.previous_share.map(|before| format!(", {} with the present one", share(before)));
    format!(
        "threshold {:.4}: {} of {} windows would have been anomalous{}; apply or discard it",
        baseline.threshold,
        share(meant.distance_share),
        meant.windows,
        previous.unwrap_or_default(),
    )
}

/// How far learning has come.
pub fn progress_event(shared: &Shared, number: usize, progress: &Progress, now: DateTime<Utc>) -> Output {
    let (detail, facts) = progress_told(progress);
    event(shared, number, EventKind::BaselineLearning, detail, Some(facts), now)
}

/// In words and in numbers.
pub fn progress_told(progress: &Progress) -> (String, Value) {
    let Progress { heard_s, wanted_s, windows, left_out, .. } = progress;
    let left: u64 = left_out.values().sum();
    let share = (heard_s / wanted_s).min(1.0);
    let why: Vec<_> = left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(", left out: {}", why.join(", ")) };
    let detail = format!("{:.0} %: {windows} windows{why}", 100.0 * share);
    let facts = json!({
        "share": share, "heard_s": heard_s, "wanted_s": wanted_s, "windows": windows, "left_out": left,
    });
    (detail, facts)
}

/// An event of one machine; `facts` is an object.
pub fn event(
    shared: &Shared,
    number: usize,
    event: EventKind,
    detail: String,
    facts: Option<Value>,
    now: DateTime<Utc>,
) -> Output {
    let mut facts = match facts {
        Some(Value::Object(facts)) => facts,
        _ => Map::new(),
    };
    facts.remove("machine");
    Output::Event(EventMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        machine: Some(shared.config.machine[number].id.clone()),
        event,
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        facts,
        clock: shared.clock.mark(),
        late: false,
    })
}
