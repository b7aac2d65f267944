//! What recurs daily is let in, where that is switched on: moved once a day, told, kept with the minute's rows.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::messages::{event, settings_msg};
use super::output::Output;
use super::shared::Shared;
use crate::monitor::MonitorState;
use crate::mqtt::payload::EventKind;
use crate::scoring::adaptation::WidenedHour;

/// Moves what is due; what to send of it: an event for each machine and day at most.
pub fn tick(shared: &Shared, now: DateTime<Utc>) -> Vec<Output> {
    let mut state = shared.monitor.lock();
    let moved: Vec<usize> =
        state.machines.iter_mut().filter_map(|(number, machine)| machine.adapt(now).then_some(number)).collect();
    moved.into_iter().flat_map(|number| changed(shared, &state, number, "", now)).collect()
}

/// What to send where the hours of a machine have changed; `why` stands at the event's end.
pub fn changed(shared: &Shared, state: &MonitorState, number: usize, why: &str, now: DateTime<Utc>) -> Vec<Output> {
    let machine = &state.machines[number];
    let hours = machine.adaptation.hours();
    let detail = format!("{}{why}", describe(&hours));
    let facts = json!({ "days": machine.adaptation.days(), "hours": hours });
    vec![
        Output::Settings(settings_msg(shared, state, number, &machine.settings, now)),
        event(shared, number, EventKind::AdaptationChanged, detail, Some(facts), now),
    ]
}

/// What is to be written, by machine; with `all` also what an hour that is not over has.
pub fn take_changed(state: &mut MonitorState, all: bool) -> Vec<(String, String)> {
    let changed = state.machines.iter_mut().filter_map(|(_, machine)| {
        let is_changed = machine.adaptation.take_changed(all);
        is_changed.then(|| (machine.config.id.clone(), machine.adaptation.to_json()))
    });
    changed.collect()
}

/// It could not be written, and is tried again.
pub fn put_back(state: &mut MonitorState, changed: &[(String, String)]) {
    let is_meant = |id: &str| changed.iter().any(|(changed, _)| changed == id);
    let machines = state.machines.iter_mut().filter(|(_, machine)| is_meant(&machine.config.id));
    machines.for_each(|(_, machine)| machine.adaptation.set_changed());
}

/// `0:00 to 5:00 UTC up to 1.45 times as wide`, for each stretch of hours that follow each other.
fn describe(hours: &[WidenedHour]) -> String {
    let stretch = |stretch: &[WidenedHour]| {
        let (from, to) = (stretch[0].hour, stretch[stretch.len() - 1].hour + 1);
        let widest = stretch.iter().map(|hour| hour.times).fold(1.0, f64::max);
        format!("{from}:00 to {to}:00 UTC up to {widest:.2} times")
    };
    let stretches: Vec<_> = hours.chunk_by(|a, b| a.hour + 1 == b.hour).map(stretch).collect();
    match stretches.is_empty() {
        true => "all hours are judged as learned".into(),
        false => format!("what recurs daily: the tail is wider, {}; wear is judged as learned", stretches.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_follow_each_other_are_told_together() {
        let hour = |(hour, times)| WidenedHour { hour, times };
        let hours: Vec<_> = [(0, 1.15), (1, 1.3), (5, 1.15), (23, 1.6)].into_iter().map(hour).collect();
        let told = "what recurs daily: the tail is wider, 0:00 to 2:00 UTC up to 1.30 times, 5:00 to 6:00 UTC up to 1.15 \
                    times, 23:00 to 24:00 UTC up to 1.60 times; wear is judged as learned";
        assert_eq!(describe(&hours), told);
        assert_eq!(describe(&[]), "all hours are judged as learned");
    }
}
