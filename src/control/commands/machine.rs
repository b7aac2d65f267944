//! `machine.add`, `machine.set`, `machine.remove`, `machine.list`: machines come, change and go while the agent runs.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Execute;
use crate::audio::MachineInput;
use crate::causes::with_causes;
use crate::config::{BaselineMode, LONGEST_NAME, LONGEST_NOTES, MachineConfig};
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::machine_values::{FieldNames, Fields, MachineChannel, MachineSource, Word};
use crate::control::machines::{AddMachine, ChangeMachine, RemoveMachine, Row};
use crate::control::outcome::Outcome;
use crate::control::shared::Shared;
use crate::control::values::{FalseAlarmRate, Minutes, OnOff, ShortText, Target};
use crate::monitor::baseline_switch::Switches;
use crate::monitor::machine::{LearningState, Machine, Origin};
use crate::monitor::machines::MOST_MACHINES;
use crate::monitor::model::{MachineSetup, standard_window};
use crate::scoring::Judge;
use crate::scoring::alarm::Alarm;
use crate::scoring::threshold::Threshold;

/// A microphone that is only looked at is closed within this time, or the machine has to wait for it.
const LEAVE_WITHIN: Duration = Duration::from_millis(700);

/// Both commands take what a `[[machine]]` of the configuration says.
macro_rules! machine_command {
    ($(#[$about:meta])+ $name:ident { $($(#[$own:meta])+ $field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The machine's id: the third part of its topics, `[a-z0-9][a-z0-9_-]{0,63}`.
            #[arg(long, value_name = "ID")]
            pub machine: ShortText<64>,
            /// What people call it, any text.
            #[arg(long, value_name = "TEXT")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub name: Option<ShortText<LONGEST_NAME>>,
            /// What is worth knowing of it: where it stands, whom to call.
            #[arg(long, value_name = "TEXT")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub notes: Option<ShortText<LONGEST_NOTES>>,
            /// Where its sound comes from: a device as `auscult devices` names it, wav:PATH, synth:KIND, or a JSON object
            /// with the keys of `source`.
            #[arg(long, value_name = "SOURCE")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub source: Option<MachineSource>,
            /// Channel of the source, counted from 0, or `mix`: the mean of all.
            #[arg(long, value_name = "N")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub channel: Option<MachineChannel>,
            /// Seconds from window to window [default: 5].
            #[arg(long, value_name = "S")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub hop_s: Option<f64>,
            /// Which of the bundle's machines it is [default: its id].
            #[arg(long, value_name = "NAME")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub model: Option<ShortText<128>>,
            /// `auto` learns its normal at once, judges provisionally from 40 windows on and for good once it is learned;
            /// `manual` learns when `baseline.learn` says so.
            #[arg(long, value_name = "MODE")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub baseline: Option<Word<BaselineMode>>,
            /// How long `auto` learns, minutes of normal running [default: 60].
            #[arg(long, value_name = "MINUTES")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub baseline_minutes: Option<Minutes>,
            /// Wanted share of normal windows that a learned baseline calls anomalous [default: 0.01].
            #[arg(long, value_name = "RATE")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub false_alarm_rate: Option<FalseAlarmRate>,
            /// What decides: `distance` or `combined`.
            #[arg(long, value_name = "JUDGE")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub judge: Option<Word<Judge>>,
            /// Let what recurs daily into what is normal, hour by hour: true or false [default: false].
            #[arg(long, value_name = "BOOL")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub adapt: Option<OnOff>,
            /// Limit of the distance [default: the bundle's].
            #[arg(long, value_name = "X")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub threshold: Option<Threshold>,
            /// Lower edge of the lowest mel band, Hz [default: the bundle's].
            #[arg(long, value_name = "HZ")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub fmin_hz: Option<f64>,
            /// Upper edge of the highest mel band, Hz [default: the bundle's].
            #[arg(long, value_name = "HZ")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub fmax_hz: Option<f64>,
            /// Keys of [gate] that differ for it: KEY=VALUE,... or a JSON object.
            #[arg(long, value_name = "KEYS")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub gate: Option<Fields>,
            /// Keys of [alarm] that differ for it: KEY=VALUE,... or a JSON object.
            #[arg(long, value_name = "KEYS")]
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub alarm: Option<Fields>,
            $($(#[$own])+ pub $field: $type,)*
        }
    };
}

machine_command! {
    /// Add a machine.
    MachineAdd {}
}

machine_command! {
    /// Change a machine that machine.add has added; what is not given stays.
    MachineSet {
        /// Keys that go back to their defaults, such as threshold,model.
        #[arg(long, value_name = "KEYS")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unset: Option<FieldNames>,
    }
}

/// Lets the microphones go that are only looked at: a card can be opened once.
fn leave_devices(shared: &Shared, input: &MachineInput) {
    if input.source.device.is_some() {
        shared.meters.release(LEAVE_WITHIN);
    }
}

impl Execute for MachineAdd {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let id = self.machine.as_str().to_owned();
        {
            let state = shared.monitor.lock();
            if let Some(number) = state.find(&id) {
                let advice = match state.machines[number].origin {
                    Origin::File => "it stands in the configuration's file",
                    Origin::Command => "machine.set changes it",
                };
                return Err(CommandError::new(Code::BadArgument, format!("machine: {id} is there already: {advice}")));
            }
            if state.machines.len() >= MOST_MACHINES {
                let message = format!("machine: expected at most {MOST_MACHINES} machines, and they are there");
                return Err(CommandError::new(Code::NotAllowed, message));
            }
        }
        let config = merged(Map::from_iter([("id".to_owned(), id.as_str().into())]), &self, &[])?;
        let config = checked(context, config)?;
        let stored = context.store.machines().map_err(|error| CommandError::new(Code::Failed, error))?;
        let leftovers = stored.removed.contains(&id);
        let mut settings = context.store.settings().map_err(|error| CommandError::new(Code::Failed, error))?;
        let settings = settings.remove(&id).unwrap_or_default();

        let number = shared.monitor.next_number();
        let (setup, input) = fitted(context, number, &config, !leftovers)?;
        leave_devices(&shared, &input);
        let prepared = shared.capture.prepare(input, None).map_err(|error| bad_source(&id, &error))?;
        let alarm = config.alarm(&shared.config.alarm).map_err(|error| CommandError::new(Code::BadArgument, error))?;
        let learning = match leftovers {
            true => LearningState { generation: shared.baselines.new_generation(), ..LearningState::default() },
            false => LearningState::restore(&shared.baselines, &id),
        };
        let entry = entry(&config, Origin::Command);
        let row = Row { id, config: stored_text(&config) };
        let alarm = Alarm::new(alarm, context.now);
        let machine = Machine::new(config, Origin::Command, settings.clone(), alarm, learning, context.now);
        let transaction = AddMachine {
            shared,
            machine: Some(Box::new(machine)),
            setup,
            prepared: Some(prepared),
            row,
            settings,
            leftovers,
            why: context.why_alone(),
        };
        Ok(Outcome::change(json!({ "machines": [entry] }), transaction))
    }
}

impl Execute for MachineSet {
    fn run(mut self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let unset = self.unset.take().map(|names| names.0).unwrap_or_default();
        let (number, id, old, generation) = own_machine(context, &self.machine)?;
        let Value::Object(fields) = clean(&old) else { return Err(CommandError::new(Code::Failed, "no settings")) };
        let config = checked(context, merged(fields, &self, &unset)?)?;
        let (setup, mut input) = fitted(context, number, &config, true)?;
        let window_before = {
            let state = shared.monitor.lock();
            state.loaded.as_ref().map_or_else(standard_window, |loaded| loaded.window_of(number))
        };
        let window = (input.rate_hz, input.window_samples);
        let heard_anew = config.source != old.source || config.hop_s != old.hop_s || window != window_before;
        let prepared = if heard_anew {
            input.machine = shared.monitor.next_number();
            leave_devices(&shared, &input);
            Some(shared.capture.prepare(input, Some(number)).map_err(|error| bad_source(&id, &error))?)
        } else {
            None
        };
        let alarm = config.alarm(&shared.config.alarm).map_err(|error| CommandError::new(Code::BadArgument, error))?;
        let (before, after) = (clean(&old), clean(&config));
        let changed: Vec<_> = keys_that_differ(&before, &after);
        let detail = match changed.is_empty() {
            true => format!("nothing{}", context.why()),
            false => format!("{}{}", changed.join(", "), context.why()),
        };
        let entry = entry(&config, Origin::Command);
        let row = Row { id, config: stored_text(&config) };
        let ends_learner = generation.filter(|_| heard_anew);
        let switches = Switches::default();
        let transaction =
            ChangeMachine { shared, number, config, alarm, setup, prepared, ends_learner, switches, row, detail };
        Ok(Outcome::change(json!({ "machines": [entry] }), transaction))
    }
}

/// Remove a machine that machine.add has added, with all that was set and learned of it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineRemove {
    /// The machine.
    #[arg(long, value_name = "ID")]
    pub machine: ShortText<64>,
}

impl Execute for MachineRemove {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let (number, ..) = own_machine(context, &self.machine)?;
        let generation = shared.baselines.new_generation();
        let id = context.machine_id(number);
        let data = json!({ "machines": [{ "machine": &*id, "removed": true }] });
        Ok(Outcome::change(data, RemoveMachine { shared, number, id, generation, why: context.why_alone() }))
    }
}

/// The machines, how each is set up, and whether it comes from the file or from a command.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MachineList {}

impl Execute for MachineList {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let stored = context.store.machines().map_err(|error| CommandError::new(Code::Failed, error))?;
        let state = context.shared.monitor.lock();
        let machines: Vec<_> = state.machines.values().map(|machine| entry(&machine.config, machine.origin)).collect();
        // Kept, but not there: the file has a machine of that id, or what is kept cannot be read.
        let added: BTreeMap<_, _> = state.machines.values().map(|m| (m.config.id.as_str(), m.origin)).collect();
        let is_there = |id: &str| added.get(id) == Some(&Origin::Command);
        let ignored: Vec<_> = stored.added.into_keys().filter(|id| !is_there(id)).collect();
        Ok(Outcome::Answer(json!({ "machines": machines, "ignored": ignored })))
    }
}

/// The machine that a command may change: number, id, configuration, and the generation of its learner where it has one.
fn own_machine(
    context: &CommandContext,
    id: &ShortText<64>,
) -> Result<(usize, String, MachineConfig, Option<u64>), CommandError> {
    let number = context.targets(&Target::One(id.as_str().to_owned()))?[0];
    let state = context.shared.monitor.lock();
    let machine = &state.machines[number];
    if machine.origin == Origin::File {
        let id = &machine.config.id;
        let message = format!(
            "machine: {id} stands in the configuration's file: it is changed and removed there, and counts from the \
             agent's next start on"
        );
        return Err(CommandError::new(Code::NotAllowed, message));
    }
    let generation = machine.learning.learner.as_ref().map(|_| machine.learning.generation);
    Ok((number, machine.config.id.clone(), machine.config.clone(), generation))
}

/// `fields` of a `[[machine]]` with what the command gives over them.
fn merged(
    mut fields: Map<String, Value>,
    command: &impl Serialize,
    unset: &[String],
) -> Result<Map<String, Value>, CommandError> {
    for name in unset {
        if matches!(name.as_str(), "id" | "source" | "machine") {
            return Err(CommandError::argument("unset", "keys that have a default", name));
        }
        let known = fields.remove(name).is_some() || DEFAULTED.contains(&name.as_str());
        if !known {
            let expected = format!("some of {}", DEFAULTED.join(", "));
            return Err(CommandError::argument("unset", &expected, name));
        }
    }
    let Ok(Value::Object(mut given)) = serde_json::to_value(command) else {
        return Err(CommandError::new(Code::Failed, "arguments that cannot be written"));
    };
    given.remove("machine");
    let channel = given.remove("channel");
    for (name, value) in given {
        match (fields.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) if matches!(name.as_str(), "gate" | "alarm") => {
                old.extend(new)
            }
            (_, value) => drop(fields.insert(name, value)),
        }
    }
    let Some(Value::Object(source)) = fields.get_mut("source") else {
        return Err(CommandError::argument("source", "where the machine's sound comes from", "none"));
    };
    if let Some(channel) = channel {
        source.insert("channel".into(), channel);
    }
    Ok(fields)
}

/// What a machine need not say.
const DEFAULTED: [&str; 15] = [
    "name",
    "notes",
    "hop_s",
    "model",
    "baseline",
    "baseline_minutes",
    "false_alarm_rate",
    "judge",
    "adapt",
    "threshold",
    "fmin_hz",
    "fmax_hz",
    "gate",
    "alarm",
    "channel",
];

/// Reads and checks a machine as the configuration's file is.
fn checked(context: &CommandContext, fields: Map<String, Value>) -> Result<MachineConfig, CommandError> {
    let refused = |problem: String| {
        // The command calls the id `machine`.
        let problem = problem.strip_prefix("machine.").unwrap_or(&problem);
        let problem = problem.strip_prefix("id:").map_or(problem.to_owned(), |rest| format!("machine:{rest}"));
        CommandError::new(Code::BadArgument, problem)
    };
    let config = serde_path_to_error::deserialize::<_, MachineConfig>(Value::Object(fields))
        .map_err(|error| refused(format!("{}: {}", error.path(), error.inner())))?;
    let shared = &context.shared.config;
    config.check("machine", &shared.gate, &shared.alarm).map_err(refused)?;
    Ok(config)
}

/// What the machine is judged with under the running bundle, and what capture needs to know; with `learned`, what was
/// learned of it counts.
fn fitted(
    context: &CommandContext,
    number: usize,
    config: &MachineConfig,
    learned: bool,
) -> Result<(Option<MachineSetup>, MachineInput), CommandError> {
    let shared = &context.shared;
    let setup = shared.monitor.lock().loaded.as_mut().map(|loaded| loaded.fit(config, &shared.config));
    let mut setup = setup.transpose().map_err(|problem| CommandError::new(Code::BadArgument, problem))?;
    if let (Some(setup), true) = (&mut setup, learned) {
        setup.restore(&config.id, &shared.baselines);
    }
    let window = setup.as_ref().map_or_else(standard_window, MachineSetup::window);
    Ok((setup, config.input(number, window)))
}

fn bad_source(id: &str, error: &crate::audio::SourceError) -> CommandError {
    let text = with_causes(error);
    let prefix = format!("machine {id:?}: ");
    CommandError::new(Code::BadArgument, text.strip_prefix(&prefix).unwrap_or(&text))
}

/// A machine as `machine.list` shows it.
fn entry(config: &MachineConfig, origin: Origin) -> Value {
    let mut entry = Map::from_iter([("machine".to_owned(), config.id.as_str().into()), ("from".into(), json!(origin))]);
    if let Value::Object(mut fields) = clean(config) {
        fields.remove("id");
        entry.extend(fields);
    }
    Value::Object(entry)
}

/// The configuration without what it does not say.
fn clean(config: &MachineConfig) -> Value {
    let mut value = json!(config);
    let says = |value: &Value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty());
    if let Value::Object(fields) = &mut value {
        if let Some(Value::Object(source)) = fields.get_mut("source") {
            source.retain(|name, value| says(value) && !(name == "loop" && value == &Value::Bool(false)));
        }
        // An agent of an earlier version, which knows no such key, reads what is kept.
        fields.retain(|name, value| says(value) && !(name == "adapt" && value == &Value::Bool(false)));
    }
    value
}

fn stored_text(config: &MachineConfig) -> String {
    clean(config).to_string()
}

/// Names of the keys that two machines do not have in common.
fn keys_that_differ(before: &Value, after: &Value) -> Vec<String> {
    let keys = [before, after].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
    let mut keys: Vec<_> = keys.filter(|key| before.get(*key) != after.get(*key)).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}
