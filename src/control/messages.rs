//! What control publishes of a machine: its settings, events, and baselines in numbers and in words.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::envelope::Envelope;
use super::error::CommandError;
use super::output::Output;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::monitor::MonitorState;
use crate::monitor::machine::Machine;
use crate::monitor::model::{ActiveBundle, ProvisionalBaseline};
use crate::monitor::settings::{Effective, MachineSettings};
use crate::mqtt::payload::{
    AdaptationMsg, EventKind, EventMsg, Provisional, Reply, ReplyError, ReplyStatus, SchemaVersion, SettingsMsg, encode,
};
use crate::numbers::{counted, short};
use crate::scoring::Baseline;
use crate::scoring::baseline::{Changes, LearnProgress};
use crate::scoring::threshold::ThresholdSource;

/// Describes a threshold in words.
pub fn describe_threshold(effective: Option<Effective>) -> String {
    match effective {
        None => "none".into(),
        Some(Effective { threshold, source }) => format!("{} ({source})", short(threshold)),
    }
}

/// The same, with the false alarm rate where all lanes decide together.
pub fn describe_limit(state: &MonitorState, number: usize, settings: &MachineSettings, now: DateTime<Utc>) -> String {
    let threshold = describe_threshold(state.threshold_with(number, settings, now));
    match state.rate_with(number, settings, now) {
        Some(rate) => format!("{threshold}, all lanes at a false alarm rate of {}", short(rate)),
        None => threshold,
    }
}

/// What the `settings` topic says of a machine with these settings.
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
        false_alarm_rate: state.rate_with(number, settings, now),
        baseline: state.loaded.as_ref().and_then(|l| l.baseline(number)).map(|(baseline, _)| baseline.learned.clone()),
        provisional: state.loaded.as_ref().and_then(|loaded| loaded.provisional(number)).map(provisional_msg),
        adaptation: adaptation_msg(&state.machines[number]),
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

/// What was let in of what a machine does daily; `None` where that is off.
fn adaptation_msg(machine: &Machine) -> Option<AdaptationMsg> {
    let Machine { config, adaptation, .. } = machine;
    config.adapt.then(|| AdaptationMsg { days: adaptation.days(), hours: adaptation.hours() })
}

/// The same of a provisional baseline.
pub fn provisional_msg(provisional: &ProvisionalBaseline) -> Provisional {
    let ProvisionalBaseline { windows, heard_s, wanted_s, .. } = *provisional;
    Provisional { windows, heard_s: heard_s.round(), wanted_s: wanted_s.round() }
}

/// What a baseline is and what it would have meant, in numbers.
pub fn baseline_facts(machine: &str, baseline: &Baseline) -> Value {
    let projected = &baseline.projected;
    json!({
        "machine": machine,
        "learned": baseline.learned,
        "bundle": baseline.origin.bundle,
        "threshold": baseline.threshold,
        "threshold_by": baseline.threshold_by,
        "false_alarm_rate": baseline.false_alarm_rate,
        "windows": projected.windows,
        "rows": baseline.rows().len(),
        "lanes": baseline.has_lanes(),
        "modes": baseline.modes(),
        "mode_levels": baseline.mode_levels(),
        "heard_s": projected.heard_s.round(),
        "left_out": baseline.left_out.values().sum::<u64>(),
        "distance_share": projected.distance_share,
        "distance_alarms": projected.distance_alarms,
        "combined_share": projected.combined_share,
        "combined_alarms": projected.combined_alarms,
        "previous_share": projected.previous_share,
        "expected_share": projected.expected_share,
        "expected_most": projected.expected_most,
        "missing_minutes": projected.missing_minutes,
        "baseline_dbfs": baseline.level_dbfs,
        "off_below_dbfs": baseline.off_below_dbfs,
        "can_be_added_to": baseline.can_be_added_to(),
        "changes": baseline.changes,
    })
}

/// Describes the same in words, and whether it `waits` for a person or is taken into use by itself.
pub fn describe_baseline(baseline: &Baseline, waits: bool) -> String {
    let projected = &baseline.projected;
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let next = if waits { "apply or discard it" } else { "taken into use by itself" };
    if let Some(changes) = &baseline.changes {
        return describe_changes(baseline.threshold, changes, next);
    }
    let previous = projected.previous_share.map(|before| format!(", {} with the present one", share(before)));
    let modes =
        Some(baseline.modes()).filter(|modes| *modes > 1).map(|modes| format!("; {modes} ways of running found"));
    let promise = projected.promise(baseline.false_alarm_rate).map(|promise| format!("; all lanes: {promise}"));
    format!(
        "threshold {:.4}: {} of {} would have been anomalous{}{}{}; {next}",
        baseline.threshold,
        share(projected.distance_share),
        counted(projected.windows, "window"),
        previous.unwrap_or_default(),
        promise.unwrap_or_default(),
        modes.unwrap_or_default(),
    )
}

/// What an addition changes, in words.
fn describe_changes(threshold: f64, changes: &Changes, next: &str) -> String {
    let Changes { added, previous_threshold, gone, still, found, missed, .. } = changes;
    let added = counted(*added, "window");
    let mut parts = vec![format!("{added} added, threshold {previous_threshold:.4} -> {threshold:.4}")];
    let alarms = gone.len() + still.len();
    if alarms > 0 {
        parts.push(format!("{} of {} with a clip would not have come", gone.len(), counted(alarms, "alarm")));
    }
    let faults = found.len() + missed.len();
    if faults > 0 {
        parts.push(format!("{} of {} would still be found", found.len(), counted(faults, "known fault")));
    }
    format!("{}; {next}", parts.join("; "))
}

/// How far learning has come.
pub fn progress_event(shared: &Shared, number: usize, progress: &LearnProgress, now: DateTime<Utc>) -> Output {
    let (detail, facts) = describe_progress(progress);
    event(shared, number, EventKind::BaselineLearning, detail, Some(facts), now)
}

/// In words and in numbers.
pub fn describe_progress(progress: &LearnProgress) -> (String, Value) {
    let LearnProgress { heard_s, wanted_s, windows, left_out, .. } = progress;
    let left: u64 = left_out.values().sum();
    let share = progress.share();
    let why: Vec<_> = left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(", left out: {}", why.join(", ")) };
    let detail = format!("{:.0} %: {}{why}", 100.0 * share, counted(*windows, "window"));
    let facts = json!({
        "share": share, "heard_s": heard_s, "wanted_s": wanted_s, "windows": windows, "left_out": left,
    });
    (detail, facts)
}

/// Learned baselines that do not count under the running bundle.
pub fn baseline_problems(shared: &Shared, state: &MonitorState, now: DateTime<Utc>) -> Vec<Output> {
    let Some(loaded) = &state.loaded else { return Vec::new() };
    let problem = |number| Some((number, loaded.baseline_problem(number)?.to_owned()));
    let problems = state.machines.numbers().into_iter().filter_map(problem);
    problems.map(|(number, problem)| event(shared, number, EventKind::BaselineFailed, problem, None, now)).collect()
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
    let machine = Some(shared.monitor.id(number).to_string());
    Output::Event(EventMsg { machine, facts, ..event_msg(shared, event, detail, now) })
}

/// An event of the agent.
pub fn agent_event(shared: &Shared, event: EventKind, detail: String, now: DateTime<Utc>) -> Output {
    Output::Event(event_msg(shared, event, detail, now))
}

fn event_msg(shared: &Shared, event: EventKind, detail: String, now: DateTime<Utc>) -> EventMsg {
    EventMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        machine: None,
        event,
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        facts: Map::new(),
        clock: shared.clock.mark(),
        late: false,
    }
}

/// The reply to a command, encoded.
pub fn reply(
    shared: &Shared,
    envelope: &Envelope,
    command: Option<&str>,
    result: Result<Value, CommandError>,
    now: DateTime<Utc>,
) -> Vec<u8> {
    let (status, data, error) = match result {
        Ok(data) => (ReplyStatus::Ok, Some(data), None),
        Err(CommandError { code, message }) => (ReplyStatus::Error, None, Some(ReplyError { code, message })),
    };
    encode(&Reply {
        schema: SchemaVersion,
        ts: Timestamp::from(now),
        agent: shared.config.agent.id.clone(),
        id: envelope.id.clone().map(String::from),
        command: command.map(str::to_owned),
        status,
        error,
        data,
        clock: shared.clock.mark(),
        late: false,
    })
}
