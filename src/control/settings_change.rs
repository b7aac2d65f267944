//! New settings of some machines: thresholds and maintenance.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::messages::event;
use super::output::Output;
use super::shared::Shared;
use super::store::Commit;
use super::transaction::Transaction;
use crate::monitor::MonitorState;
use crate::monitor::settings::{MachineSettings, Maintenance};
use crate::mqtt::payload::{EventKind, SettingsMsg};

/// The new settings of one machine.
pub struct NewSettings {
    /// The machine's number.
    pub number: usize,
    pub id: Arc<str>,
    pub settings: MachineSettings,
    /// What the event says of it.
    pub detail: String,
    /// As the reply and the `settings` topic have it.
    pub message: SettingsMsg,
}

/// Changes settings, together with the reply.
pub struct SettingsChange {
    pub shared: Arc<Shared>,
    pub kind: EventKind,
    pub machines: Vec<NewSettings>,
}

impl Transaction for SettingsChange {
    fn rows(&self) -> Commit<'_> {
        let settings = self.machines.iter().map(|new| (&*new.id, &new.settings));
        Commit { settings: settings.collect(), ..Commit::default() }
    }

    fn apply(&mut self, state: &mut MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let messages = self.machines.iter().map(|new| Output::Settings(new.message.clone()));
        let mut out: Vec<_> = messages.collect();
        for new in self.machines.drain(..) {
            out.extend(use_settings(&self.shared, state, new.number, new.settings, self.kind, new.detail, now));
        }
        out
    }
}

/// Takes settings that are on disk into use; what to send.
pub fn use_settings(
    shared: &Shared,
    state: &mut MonitorState,
    number: usize,
    settings: MachineSettings,
    kind: EventKind,
    detail: String,
    now: DateTime<Utc>,
) -> Vec<Output> {
    let mut out = Vec::new();
    let machine = &mut state.machines[number];
    let note = settings.maintenance(now).map(Maintenance::note);
    machine.settings = settings;
    if kind == EventKind::ThresholdChanged {
        machine.alarm.forget_evidence();
    } else {
        let change = machine.alarm.set_maintenance(note, now);
        if state.note_alarm(number, change) {
            out.push(Output::Alarms);
        }
    }
    out.push(event(shared, number, kind, detail, None, now));
    out
}
