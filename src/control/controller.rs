//! Takes one message after the other and says what is to be sent. The time is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::adapting;
use super::background::Running;
use super::commands::Command;
use super::context::CommandContext;
use super::envelope::Envelope;
use super::error::{Code, CommandError};
use super::learning::Proposing;
use super::messages::{self, agent_event, baseline_problems, describe_threshold, settings_msg};
use super::outcome::{Change, Outcome};
use super::output::Output;
use super::provisional::Provisionals;
use super::request::{Rejected, Request};
use super::settings_change::use_settings;
use super::shared::Shared;
use super::store::{Commit, StateStore};
use super::transaction::{self, NotMade};
use crate::mqtt::payload::EventKind;
use crate::mqtt::topics::{AgentPart, MachinePart, Topic};
use crate::mqtt::{Incoming, MAX_CONTROL_BYTES, Origin};

/// How often distances and the replies of asking commands are written: one transaction a minute.
const FLUSH_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Commands in, things to send out.
pub struct Controller {
    shared: Arc<Shared>,
    store: StateStore,
    running: Option<Running>,
    proposing: Proposing,
    provisionals: Provisionals,
    flushed: DateTime<Utc>,
}

impl Controller {
    pub fn new(shared: Arc<Shared>, store: StateStore, now: DateTime<Utc>) -> Controller {
        Controller {
            shared,
            store,
            running: None,
            proposing: Proposing::default(),
            provisionals: Provisionals::default(),
            flushed: now,
        }
    }

    /// What to send at start: the settings of every machine, whether some were lost, and which added machines are not there,
    /// with the reason.
    pub fn start(&self, ignored: &BTreeMap<String, String>, now: DateTime<Utc>) -> Vec<Output> {
        let state = self.shared.monitor.lock();
        let settings = state.machines.iter();
        let mut out: Vec<_> = settings
            .map(|(number, machine)| {
                Output::Settings(settings_msg(&self.shared, &state, number, &machine.settings, now))
            })
            .collect();
        out.extend(baseline_problems(&self.shared, &state, now));
        let lost = state.machines.iter();
        let lost = lost.filter_map(|(number, machine)| Some((number, machine.learning.failed.clone()?)));
        out.extend(lost.map(|(number, problem)| {
            messages::event(&self.shared, number, EventKind::BaselineFailed, problem, None, now)
        }));
        if let Some(problem) = &self.shared.store_problem {
            out.push(agent_event(&self.shared, EventKind::SettingsLost, problem.clone(), now));
        }
        for (id, why) in ignored {
            let detail = format!("{id} was added remotely and is not there: {why}");
            out.push(agent_event(&self.shared, EventKind::MachineIgnored, detail, now));
        }
        out
    }

    /// Takes one message that the client has received.
    pub fn receive(&mut self, incoming: &Incoming, now: DateTime<Utc>) -> Vec<Output> {
        match &incoming.payload {
            Ok(payload) => self.handle_from(incoming.origin, &incoming.topic, payload, incoming.retained, now),
            Err(bytes) => {
                let error = CommandError::new(
                    Code::TooLarge,
                    format!("expected at most {MAX_CONTROL_BYTES} bytes, found {bytes}"),
                );
                vec![Output::Reply(messages::reply(&self.shared, &Envelope::default(), None, Err(error), now))]
            }
        }
    }

    /// Takes one message of a control topic, as it comes from the broker.
    pub fn handle(&mut self, topic: &Topic, payload: &[u8], retained: bool, now: DateTime<Utc>) -> Vec<Output> {
        self.handle_from(Origin::Broker, topic, payload, retained, now)
    }

    /// Takes one message of a control topic.
    pub fn handle_from(
        &mut self,
        origin: Origin,
        topic: &Topic,
        payload: &[u8],
        retained: bool,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
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
            let error = CommandError::new(Code::BadArgument, message);
            return vec![Output::Reply(messages::reply(&self.shared, envelope, command, Err(error), now))];
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
                let Rejected { envelope, command, error } = *rejected;
                self.answer(&envelope, command.as_deref(), Err(error), now)
            }
            Ok(request) => {
                let name = request.command.name();
                match self.run(&request, origin, is_ours, now) {
                    Ok(outcome) => self.conclude(&request.envelope, name, outcome, now),
                    Err(error) => {
                        if request.command.changes_something() {
                            tracing::info!("{name} was refused: {}", error.message);
                        }
                        self.answer(&request.envelope, Some(name), Err(error), now)
                    }
                }
            }
        }
    }

    /// Does what a command results in.
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
            Outcome::Announce(data, within) => {
                [vec![Output::Announce(within)], self.answer(envelope, Some(command), Ok(data), now)].concat()
            }
            Outcome::Evidence(data, parts) => {
                let mut out = self.answer(envelope, Some(command), Ok(data), now);
                out.extend(parts.into_iter().map(Output::Evidence));
                out
            }
            Outcome::Change(change) => self.change(envelope, command, change, now),
            Outcome::Job(job) => match Running::start(job, command, envelope.clone()) {
                Ok(running) => {
                    self.running = Some(running);
                    Vec::new()
                }
                Err(error) => self.answer(envelope, Some(command), Err(error), now),
            },
        }
    }

    fn run(
        &mut self,
        request: &Request,
        origin: Origin,
        is_ours: bool,
        now: DateTime<Utc>,
    ) -> Result<Outcome, CommandError> {
        let Envelope { id, tag, expires, by, .. } = &request.envelope;
        if let (Some(tag), false) = (tag, is_ours) {
            let expected = format!("one of this agent's tags ({})", self.shared.config.agent.tags.join(", "));
            return Err(CommandError::argument("tag", &expected, format_args!("{:?}", tag.as_str())));
        }
        if expires.is_some_and(|expires| expires.utc() <= now) {
            let message = "expires: expected a time after now, the command is not done; send it again with a later one";
            return Err(CommandError::new(Code::Expired, message));
        }
        let id = id.as_ref().map(|id| id.as_str());
        let line = describe(&request.command, by.as_ref().map(|by| by.as_str()));
        // The page asks for much, and an archive comes in many pieces.
        match request.command.changes_something() {
            true => tracing::info!("{line}"),
            false => tracing::debug!(id, "{line}"),
        }
        let envelope = &request.envelope;
        let mut context = CommandContext { shared: &self.shared, store: &self.store, envelope, origin, now };
        let outcome = request.command.clone().run(&mut context)?;
        let waits = match &outcome {
            Outcome::Job(_) => true,
            Outcome::Change(change) => change.transaction.waits_for_jobs(),
            _ => false,
        };
        match &self.running {
            Some(running) if waits => {
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
        let reply = messages::reply(&self.shared, envelope, command, result, now);
        if let (Some(id), false) = (&envelope.id, passing) {
            self.store.remember(id.as_str(), &String::from_utf8_lossy(&reply), now);
        }
        vec![Output::Reply(reply)]
    }

    /// Makes a change and answers the command that asked for it.
    fn change(
        &mut self,
        envelope: &Envelope,
        command: &'static str,
        change: Change,
        now: DateTime<Utc>,
    ) -> Vec<Output> {
        let reply = messages::reply(&self.shared, envelope, Some(command), Ok(change.data), now);
        let text = String::from_utf8_lossy(&reply);
        let reply_of = envelope.id.as_ref().map(|id| (id.as_str(), &*text));
        let error = match transaction::make(change.transaction, reply_of, &mut self.store, &self.shared.monitor, now) {
            Ok(out) => return [vec![Output::Reply(reply)], out].concat(),
            Err(NotMade::Refused(error)) => error,
            Err(NotMade::Reply(error)) => {
                let message = format!("nothing was changed, because it cannot be kept: {error}");
                CommandError::new(Code::Failed, message)
            }
        };
        tracing::error!("{command} was not done: {}", error.message);
        self.answer(envelope, Some(command), Err(error), now)
    }

    /// Time passes: what has ended is tidied up, what is done is answered, what waits is written.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = self.expire(now);
        out.extend(self.proposing.tick(&self.shared, now));
        out.extend(self.provisionals.tick(&self.shared, now));
        out.extend(adapting::tick(&self.shared, now));
        if let Some(result) = self.running.as_ref().and_then(Running::poll)
            && let Some(running) = self.running.take()
        {
            out.extend(self.finish(&running, result, now));
        }
        // Also when the clock was set back.
        if (now - self.flushed).abs() >= FLUSH_EVERY {
            self.write_waiting(false, now);
        }
        out
    }

    /// Is a bundle being read? Then [`Controller::tick`] should come soon.
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Writes all that waits, at the end.
    pub fn flush(&mut self, now: DateTime<Utc>) {
        self.write_waiting(true, now);
    }

    /// Writes distances, replies and what recurs daily, once a minute; of the latter what a whole hour has brought, and
    /// `all` at the end.
    fn write_waiting(&mut self, all: bool, now: DateTime<Utc>) {
        self.flushed = now;
        let adaptations = adapting::take_changed(&mut self.shared.monitor.lock(), all);
        if let Err(error) = self.store.flush(&self.shared.history.take(), &adaptations, now) {
            adapting::put_back(&mut self.shared.monitor.lock(), &adaptations);
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
            .filter_map(|(number, machine)| {
                let mut settings = machine.settings.clone();
                let ended = settings.expire(now);
                ended.any().then_some((number, settings, ended))
            })
            .collect();
        let threshold_of = |number: usize, settings| describe_threshold(state.threshold_with(number, settings, now));
        let thresholds: Vec<_> = ended.iter().map(|(number, settings, _)| threshold_of(*number, settings)).collect();
        drop(state);
        for ((number, settings, ended), threshold) in ended.into_iter().zip(thresholds) {
            let id = self.shared.monitor.id(number);
            let commit = Commit { settings: vec![(&id, &settings)], ..Commit::default() };
            if let Err(error) = self.store.commit(&commit, now) {
                tracing::warn!(%error, machine = &*id, "what has ended cannot be noted as ended");
            }
            let mut state = self.shared.monitor.lock();
            let kinds =
                [(ended.threshold, EventKind::ThresholdChanged), (ended.maintenance, EventKind::MaintenanceOff)];
            for (_, kind) in kinds.into_iter().filter(|(ended, _)| *ended) {
                let detail = match kind {
                    EventKind::ThresholdChanged => format!("the override has ended: {threshold} again"),
                    _ => "the maintenance has ended".to_owned(),
                };
                out.extend(use_settings(&self.shared, &mut state, number, settings.clone(), kind, detail, now));
            }
            out.push(Output::Settings(settings_msg(&self.shared, &state, number, &settings, now)));
        }
        out
    }

    /// A job is done: its outcome, or why it failed.
    fn finish(&mut self, running: &Running, result: Result<Outcome, CommandError>, now: DateTime<Utc>) -> Vec<Output> {
        let Running { envelope, command, .. } = running;
        match result {
            Ok(outcome) => self.conclude(envelope, command, outcome, now),
            Err(error) => {
                tracing::warn!("{command} was not done: {}", error.message);
                let mut out = self.answer(envelope, Some(command), Err(error.clone()), now);
                if error.code == Code::BundleInvalid {
                    out.push(agent_event(&self.shared, EventKind::BundleFailed, error.message, now));
                }
                out
            }
        }
    }
}

/// What of a command's arguments the log tells: none of those that may hold a secret.
const TOLD: [&str; 12] = [
    "machine",
    "threshold",
    "false_alarm_rate",
    "minutes",
    "on",
    "until",
    "comment",
    "path",
    "name",
    "baseline",
    "target",
    "outcome",
];

/// `threshold.set by ana: machine ventilator, threshold 0.31`.
fn describe(command: &Command, by: Option<&str>) -> String {
    let arguments = command.arguments();
    let told = TOLD.iter().filter_map(|name| {
        let text = match arguments.get(*name)? {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(format!("{name} {text}"))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{}{by}{}{told}", command.name(), if told.is_empty() { "" } else { ": " })
}
