//! From a message on a control topic to a command with its arguments, and back. Bounded in size and depth; whatever is
//! wrong is refused by name, with the id that the reply should carry.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::commands::{Command, ThresholdSet};
use super::envelope::Envelope;
use super::error::{Code, CommandError};
use super::values::{ShortText, Target};
use crate::mqtt::MAX_CONTROL_BYTES;
use crate::scoring::threshold::Threshold;
use crate::validate::shown;

/// No message is looked at that is longer: a piece of a bundle as Base64.
pub const LARGEST_MESSAGE: usize = MAX_CONTROL_BYTES;
/// Longest message of a command that carries no data.
pub const LARGEST_COMMAND: usize = 16 * 1024;
/// Longest bare number on `threshold/set`.
const LARGEST_NUMBER: usize = 64;

/// A command as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub envelope: Envelope,
    pub command: Command,
}

/// A message that is no command, with as much of it as could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    pub envelope: Envelope,
    /// The command's name, even one that does not exist.
    pub command: Option<String>,
    pub error: CommandError,
}

impl Request {
    /// Reads the payload of a control topic.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(payload: &[u8]) -> Result<Request, Box<Rejected>> {
        let mut envelope = Envelope::default();
        let mut name = None;
        read(payload, &mut envelope, &mut name)
            .map(|command| Request { envelope: envelope.clone(), command })
            .map_err(|error| Box::new(Rejected { envelope, command: name, error }))
    }

    /// Reads a bare number, as a slider on `<machine>/threshold/set` sends it.
    ///
    /// # Errors
    /// Where it is no threshold.
    pub fn bare_threshold(machine: &str, payload: &[u8]) -> Result<Request, Box<Rejected>> {
        let envelope = Envelope::default();
        let number = std::str::from_utf8(payload).ok().filter(|text| text.len() <= LARGEST_NUMBER);
        let threshold: Result<Threshold, String> = number
            .ok_or_else(|| "expected a bare number, found something else".to_owned())
            .and_then(|n| n.trim().parse());
        match threshold {
            Ok(threshold) => {
                let machine = Target::One(machine.to_owned());
                Ok(Request {
                    envelope,
                    command: Command::ThresholdSet(ThresholdSet { machine, threshold, until: None }),
                })
            }
            Err(problem) => {
                let error = CommandError::new(Code::BadArgument, format!("threshold: {problem}"));
                Err(Box::new(Rejected { envelope, command: Some("threshold.set".into()), error }))
            }
        }
    }

    /// The payload to send.
    pub fn to_json(&self) -> Value {
        let Envelope { id, tag, expires, by, reason } = &self.envelope;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.into(), value);
            }
        };
        put("id", id.as_ref().map(|id| id.as_str().into()));
        put("command", Some(self.command.name().into()));
        put("tag", tag.as_ref().map(|tag| tag.as_str().into()));
        put("expires", expires.map(|expires| expires.to_string().into()));
        put("by", by.as_ref().map(|by| by.as_str().into()));
        put("reason", reason.as_ref().map(|reason| reason.as_str().into()));
        fields.extend(self.command.arguments());
        Value::Object(fields)
    }
}

/// Reads a message into `envelope` and `name` as far as it gets.
fn read(payload: &[u8], envelope: &mut Envelope, name: &mut Option<String>) -> Result<Command, CommandError> {
    let too_large = |most: usize| {
        let found = payload.len();
        Err(CommandError::new(Code::TooLarge, format!("expected at most {most} bytes, found {found}")))
    };
    if payload.len() > LARGEST_MESSAGE {
        return too_large(LARGEST_MESSAGE);
    }
    let value: Value = serde_json::from_slice(payload)
        .map_err(|error| CommandError::new(Code::BadJson, format!("expected one JSON object: {error}")))?;
    let Value::Object(mut fields) = value else {
        return Err(CommandError::new(Code::BadJson, format!("expected one JSON object, found {}", shown(&value))));
    };
    // The tag first: a mistake in what is meant for others is not ours to answer.
    envelope.tag = take(&mut fields, "tag")?;
    envelope.id = take(&mut fields, "id")?;
    if let Some(schema) = take::<Value>(&mut fields, "schema")?
        && schema != 1
    {
        return Err(CommandError::argument("schema", "1", shown(&schema)));
    }
    let found: Option<ShortText<64>> = take(&mut fields, "command")?;
    let Some(found) = found else {
        let expected = format!("one of {}", Command::NAMES.join(", "));
        return Err(CommandError::argument("command", &expected, "none"));
    };
    *name = Some(found.as_str().to_owned());
    envelope.expires = take(&mut fields, "expires")?;
    envelope.by = take(&mut fields, "by")?;
    envelope.reason = take(&mut fields, "reason")?;
    if payload.len() > LARGEST_COMMAND && !fields.contains_key("data") {
        return too_large(LARGEST_COMMAND);
    }
    Command::read(found.as_str(), fields)
}

/// Takes one field out; absent and null are the same.
fn take<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Result<Option<T>, CommandError> {
    match fields.remove(name) {
        None => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map_err(|error| CommandError::new(Code::BadArgument, format!("{name}: {error}"))),
    }
}
