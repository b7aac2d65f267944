//! Takes one message after the other and says what is to be sent. No I/O but the store; the time is given.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::background::Running;
use super::context::CommandContext;
use super::envelope::Envelope;
use super::error::{Code, CommandError};
use super::learning::Proposing;
use super::messages::{settings_msg, told};
use super::outcome::{Act, Change, Outcome, Output, Switch};
use super::request::{Rejected, Request};
use super::shared::Shared;
use super::store::{Commit, Store};
use crate::clock::Timestamp;
use crate::monitor::MonitorState;
use crate::monitor::settings::Maintenance;
use crate::mqtt::payload::{EventKind, EventMsg, Reply, ReplyError, ReplyStatus, SchemaVersion, encode};
use crate::mqtt::topics::{AgentPart, MachinePart, Topic};
use crate::mqtt::{Incoming, MAX_CONTROL_BYTES};

/// How often distances and the replies of asking commands are written: one transaction a minute.
const FLUSH_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Commands in, things to send out.
pub struct Controller {
    shared: Arc<Shared>,
    store: Store,
    running: Option<Running>,
    proposing: Proposing,
    flushed: DateTime<Utc>,
}

impl Controller {
    pub fn new(shared: Arc<Shared>, store: Store, now: DateTime<Utc>) -> Controller {
        Controller { shared, store, running: None, proposing: Proposing::default(), flushed: now }
    }

    /// What to send at start: the settings of every machine, and whether some were lost.
    pub fn start(&self, now: DateTime<Utc>) -> Vec<Output> {
        let state = self.shared.monitor.lock();
        let settings = state.machines.iter().enumerate();
        let mut out: Vec<_> = settings
            .map(|(number, machine)| {
                Output::Settings(settings_msg(&self.shared, &state, number, &machine.settings, now))
            })
            .collect();
        out.extend(self.baseline_problems(&state, now));
        if let Some(problem) = &self.shared.store_problem {
            out.push(self.event(None, EventKind::SettingsLost, problem.clone(), now));
        }
        out
    }

    /// Takes one message that the client has received.
    pub fn receive(&mut self, incoming: &Incoming, now: DateTime<Utc>) -> Vec<Output> {
        match &incoming.payload {
            Ok(payload) => self.handle(&incoming.topic, payload, incoming.retained, now),
            Err(bytes) => {
                let fault = CommandError::new(
                    Code::TooLarge,
                    format!("expected at most {MAX_CONTROL_BYTES} bytes, found {bytes}"),
                );
                vec![Output::Reply(self.reply(&Envelope::default(), None, Err(fault), now))]
            }
        }
    }

    /// Takes one message of a control topic.
    pub fn handle(&mut self, topic: &Topic, payload: &[u8], retained: bool, now: DateTime<Utc>) -> Vec<Output> {
        // An empty message clears a retained one: nothing is asked.
        if payload.is_empty() {
            return Vec::new();
        }
        let request = match topic {
            Topic::Machine { machine, part: MachinePart::ThresholdSet, .. } => {
                Request::bare_threshold(machine, payload)
            }
            Topic::Agent { part: AgentPart::Control, .. } | Topic::FleetControl => Request::parse(payload),
            _ => return Vec::new(),
        };
        let (envelope, command) = match &request {
            Ok(Request { envelope, command }) => (envelope, Some(command.name())),
            Err(rejected) => (&rejected.envelope, rejected.command.as_deref()),
        };
        let tags = &self.shared.config.agent.tags;
        let is_ours = envelope.tag.as_ref().is_none_or(|tag| tags.iter().any(|own| own == tag.as_str()));
        if !is_ours && *topic == Topic::FleetControl {
            return Vec::new();
        }
        if retained {
            let message = "retained: expected a message that is not retained, ignored this one; \
                           clear the topic with an empty retained message and send the command again";
            let fault = CommandError::new(Code::BadArgument, message);
            return vec![Output::Reply(self.reply(envelope, command, Err(fault), now))];
        }
        let id = envelope.id.as_ref().map(|id| id.as_str());
        match id.map(|id| self.store.reply(id)).transpose() {
            Ok(Some(Some(reply))) => return vec![Output::Reply(reply.into_bytes())],
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "cannot look up earlier replies"),
        }
        if let Some(running) = &self.running
            && running.envelope.id.is_some()
            && running.envelope.id == envelope.id
        {
            // The reply comes when it is done.
            return Vec::new();
        }
        match request {
            Err(rejected) => {
                let Rejected { envelope, command, fault } = *rejected;
                self.answer(&envelope, command.as_deref(), Err(fault), now)
            }
            Ok(request) => {
                let name = request.command.name();
                match self.run(&request, is_ours, now) {
                    Ok(outcome) => self.conclude(&request.envelope, name, outcome, now),
                    Err(fault) => self.answer(&request.envelope, Some(name), Err(fault), now),
                }
            }
        }
    }

    /// Does what a command comes to.
    fn conclude(
        &mut self,
        envelope: &Envelope,
        command: &'static str,
        outcome: Outcome,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
        match outcome {
            Outcome::Answer(data) => self.answer(envelope, Some(command), Ok(data), now),
            Outcome::Health(data) => {
                [vec![Output::Health], self.answer(envelope, Some(command), Ok(data), now)].concat()
            }
            Outcome::Evidence(data, parts) => {
                let mut out = self.answer(envelope, Some(command), Ok(data), now);
                out.extend(parts.into_iter().map(Output::Evidence));
                out
            }
            Outcome::Change(change) => self.change(envelope, command, change, now),
            Outcome::Act(act) => self.act(envelope, command, act, now),
            Outcome::Switch(switch) => self.switch(envelope, command, *switch, now),
            Outcome::Job(work) => match Running::start(work, command, envelope.clone()) {
                Ok(running) => {
                    self.running = Some(running);
                    Vec::new()
                }
                Err(fault) => self.answer(envelope, Some(command), Err(fault), now),
            },
        }
    }

    fn run(&mut self, request: &Request, is_ours: bool, now: DateTime<Utc>) -> Result<Outcome, CommandError> {
        let Envelope { id, tag, expires, by, .. } = &request.envelope;
        if let (Some(tag), false) = (tag, is_ours) {
            let expected = format!("one of this agent's tags ({})", self.shared.config.agent.tags.join(", "));
            return Err(CommandError::argument("tag", &expected, format_args!("{:?}", tag.as_str())));
        }
        if expires.is_some_and(|expires| expires.utc() <= now) {
            let message = "expires: expected a time after now, the command is not done; send it again with a later one";
            return Err(CommandError::new(Code::Expired, message));
        }
        let (id, by) = (id.as_ref().map(|id| id.as_str()), by.as_ref().map(|by| by.as_str()));
        tracing::info!(command = request.command.name(), id, by, "command");
        let mut context = CommandContext { shared: &self.shared, store: &self.store, envelope: &request.envelope, now };
        let outcome = request.command.clone().run(&mut context)?;
        match (&outcome, &self.running) {
            (Outcome::Job(_), Some(running)) => {
                let message = format!("{} is under way; send it again when that is done", running.command);
                Err(CommandError::new(Code::Busy, message))
            }
            _ => Ok(outcome),
        }
    }

    /// Answers a command that changed nothing.
    fn answer(
        &mut self,
        envelope: &Envelope,
        command: Option<&str>,
        result: Result<Value, CommandError>,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
        let passing = result.as_ref().is_err_and(CommandError::is_passing);
        let reply = self.reply(envelope, command, result, now);
        if let (Some(id), false) = (&envelope.id, passing) {
            self.store.remember(id.as_str(), &String::from_utf8_lossy(&reply), now);
        }
        vec![Output::Reply(reply)]
    }

    /// Writes new settings with their reply, then takes them into use, then tells of them.
    fn change(
        &mut self,
        envelope: &Envelope,
        command: &'static str,
        change: Change,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
        let messages: Vec<_> = {
            let state = self.shared.monitor.lock();
            let machines = change.machines.iter();
            machines.map(|(number, settings, _)| settings_msg(&self.shared, &state, *number, settings, now)).collect()
        };
        let data = serde_json::json!({ "machines": messages });
        let shared = self.shared.clone();
        let id = |number: usize| shared.config.machine[number].id.as_str();
        let settings = change.machines.iter().map(|(number, new, _)| (id(*number), new)).collect();
        let mut out = match self.confirm(envelope, command, data, Commit { settings, ..Commit::default() }, now) {
            Ok(reply) => vec![reply],
            Err(refused) => return refused,
        };
        out.extend(messages.into_iter().map(Output::Settings));
        out.extend(self.apply(change, now));
        out
    }

    /// Makes any other change, in the order that [`Act`] says.
    fn act(&mut self, envelope: &Envelope, command: &'static str, act: Act, now: DateTime<Utc>) -> Vec<Output> {
        if let Err(fault) = (act.keep)() {
            tracing::error!(command, error = fault.message, "a change cannot be kept and is not made");
            return self.answer(envelope, Some(command), Err(fault), now);
        }
        let shared = self.shared.clone();
        let settings = act.settings.iter().map(|(number, new)| (shared.config.machine[*number].id.as_str(), new));
        let commit = Commit { settings: settings.collect(), ..Commit::default() };
        let mut out = match self.confirm(envelope, command, act.data, commit, now) {
            Ok(reply) => vec![reply],
            Err(refused) => return refused,
        };
        let mut state = shared.monitor.lock();
        for (number, settings) in act.settings {
            state.machines[number].settings = settings;
        }
        out.extend((act.apply)(&mut state));
        out
    }

    /// Writes a change together with the reply that confirms it; the reply, or the refusal where it cannot be kept.
    fn confirm(
        &mut self,
        envelope: &Envelope,
        command: &'static str,
        data: Value,
        commit: Commit,
        now: DateTime<Utc>,
    ) -> Result<Output, Vec<Output>> {
        let reply = self.reply(envelope, Some(command), Ok(data), now);
        let text = String::from_utf8_lossy(&reply);
        let reply_of = envelope.id.as_ref().map(|id| (id.as_str(), &*text));
        match self.store.commit(&Commit { reply: reply_of, ..commit }, now) {
            Ok(()) => Ok(Output::Reply(reply)),
            Err(error) => {
                tracing::error!(command, %error, "a change cannot be kept and is not made");
                let message = format!("nothing was changed, because it cannot be kept: {error}");
                Err(self.answer(envelope, Some(command), Err(CommandError::new(Code::Failed, message)), now))
            }
        }
    }

    /// Takes settings that are kept into use; what to tell of it.
    fn apply(&self, Change { machines, kind }: Change, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        let mut state = self.shared.monitor.lock();
        for (number, settings, what) in machines {
            let machine = &mut state.machines[number];
            if kind == EventKind::ThresholdChanged {
                machine.alarm.forget_evidence();
            } else {
                let note = settings.maintenance(now).map(Maintenance::note);
                let change = machine.alarm.set_maintenance(note, now);
                out.extend(change.map(|change| Output::Alarm { machine: number, change }));
            }
            machine.settings = settings;
            out.push(self.event(Some(number), kind, what, now));
        }
        out
    }

    /// Time passes: what has ended is tidied up, what is done is answered, what waits is written.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.expire(now);
        out.extend(self.proposing.tick(&self.shared, now));
        if let Some(result) = self.running.as_ref().and_then(Running::poll)
            && let Some(running) = self.running.take()
        {
            out.extend(self.finish(&running, result, now));
        }
        // Also when the clock was set back.
        if (now - self.flushed).abs() >= FLUSH_EVERY {
            self.flush(now);
        }
        out
    }

    /// Is a bundle being read? Then [`Controller::tick`] should come soon.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Writes distances and replies that wait: once a minute and at the end.
    pub fn flush(&mut self, now: DateTime<Utc>) {
        self.flushed = now;
        if let Err(error) = self.store.flush(&self.shared.history.take(), now) {
            tracing::warn!(%error, "distances of the last minute are not kept");
        }
    }

    /// Drops overrides and maintenance that have ended. They do not count any more already.
    fn expire(&mut self, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        let state = self.shared.monitor.lock();
        let ended: Vec<_> = state
            .machines
            .iter()
            .enumerate()
            .filter_map(|(number, machine)| {
                let mut settings = machine.settings.clone();
                let ended = settings.expire(now);
                ended.any().then_some((number, settings, ended))
            })
            .collect();
        let told_of = |number: usize, settings| told(state.threshold_with(number, settings, now));
        let words: Vec<_> = ended.iter().map(|(number, settings, _)| told_of(*number, settings)).collect();
        drop(state);
        for ((number, settings, ended), threshold) in ended.into_iter().zip(words) {
            let id = &self.shared.config.machine[number].id;
            let commit = Commit { settings: vec![(id.as_str(), &settings)], ..Commit::default() };
            if let Err(error) = self.store.commit(&commit, now) {
                tracing::warn!(%error, machine = id, "what has ended cannot be noted as ended");
            }
            let kinds =
                [(ended.threshold, EventKind::ThresholdChanged), (ended.maintenance, EventKind::MaintenanceOff)];
            for (_, kind) in kinds.into_iter().filter(|(ended, _)| *ended) {
                let what = match kind {
                    EventKind::ThresholdChanged => format!("the override has ended: {threshold} again"),
                    _ => "the maintenance has come to its end".to_owned(),
                };
                out.extend(self.apply(Change { machines: vec![(number, settings.clone(), what)], kind }, now));
            }
            let state = self.shared.monitor.lock();
            out.push(Output::Settings(settings_msg(&self.shared, &state, number, &settings, now)));
        }
        out
    }

    /// A job is done: what it comes to, or why it failed.
    fn finish(&mut self, running: &Running, result: Result<Outcome, CommandError>, now: DateTime<Utc>) -> Vec<Output> {
        let Running { envelope, command, .. } = running;
        match result {
            Ok(outcome) => self.conclude(envelope, command, outcome, now),
            Err(fault) => {
                tracing::warn!(command, error = fault.message, "not done");
                let mut out = self.answer(envelope, Some(command), Err(fault.clone()), now);
                if fault.code == Code::BundleInvalid {
                    out.push(self.event(None, EventKind::BundleFailed, fault.message, now));
                }
                out
            }
        }
    }

    /// Takes another bundle into use: kept, switched between two windows, told.
    fn switch(
        &mut self,
        envelope: &Envelope,
        command: &'static str,
        switch: Switch,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
        let Switch { loaded, keep, choice, data, after } = switch;
        if let Err(fault) = keep() {
            tracing::error!(command, error = fault.message, "the bundle stays");
            return self.answer(envelope, Some(command), Err(fault), now);
        }
        let choice = choice.as_deref().and_then(|path: &std::path::Path| path.to_str());
        let reply =
            match self.confirm(envelope, command, data, Commit { bundle: Some(choice), ..Commit::default() }, now) {
                Ok(reply) => reply,
                Err(refused) => return refused,
            };
        after();
        let to = loaded.label();
        let mut state = self.shared.monitor.lock();
        let old = state.loaded.replace(loaded);
        let MonitorState { loaded, machines } = &mut *state;
        for (number, machine) in machines.iter_mut().enumerate() {
            let baseline = loaded.as_ref().and_then(|loaded| loaded.baseline(number));
            machine.alarm.calibrate(baseline.and_then(|(baseline, _)| baseline.slow()));
            machine.alarm.forget_evidence();
        }
        drop(state);
        let from = old.as_ref().map_or_else(|| "none".to_owned(), |old| old.label());
        drop(old);
        tracing::info!(from, to, "bundle switched");

        let mut out = vec![reply, Output::Info];
        let state = self.shared.monitor.lock();
        for (number, machine) in state.machines.iter().enumerate() {
            out.push(Output::Settings(settings_msg(&self.shared, &state, number, &machine.settings, now)));
            out.push(self.event(Some(number), EventKind::BundleChanged, format!("{from} -> {to}"), now));
        }
        out.extend(self.baseline_problems(&state, now));
        out
    }

    /// Learned baselines that do not count under the running bundle.
    fn baseline_problems(&self, state: &MonitorState, now: DateTime<Utc>) -> Vec<Output> {
        let Some(loaded) = &state.loaded else { return Vec::new() };
        let problem = |number| Some((number, loaded.baseline_problem(number)?.to_owned()));
        let told = (0..state.machines.len()).filter_map(problem);
        told.map(|(number, problem)| self.event(Some(number), EventKind::BaselineFailed, problem, now)).collect()
    }

    fn event(&self, machine: Option<usize>, event: EventKind, detail: String, now: DateTime<Utc>) -> Output {
        Output::Event(EventMsg {
            schema: SchemaVersion,
            ts: Timestamp::from(now),
            agent: self.shared.config.agent.id.clone(),
            machine: machine.map(|number| self.shared.config.machine[number].id.clone()),
            event,
            detail: Some(detail).filter(|detail| !detail.is_empty()),
            facts: serde_json::Map::new(),
            clock: self.shared.clock.mark(),
            late: false,
        })
    }

    fn reply(
        &self,
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
            agent: self.shared.config.agent.id.clone(),
            id: envelope.id.clone().map(String::from),
            command: command.map(str::to_owned),
            status,
            error,
            data,
            clock: self.shared.clock.mark(),
            late: false,
        })
    }
}
