//! The values that the machine commands take besides those of [`values`](super::values).

use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::audio::{Channel, SourceConfig};
use crate::validate::{checked, shown, word};

/// Where a machine's sound comes from, as the key `source` of the configuration has it, or in one word.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineSource(Map<String, Value>);

impl MachineSource {
    const EXPECTED: &str = "a device, wav:PATH, synth:KIND, or an object with the keys of a source";

    fn read(value: &Value) -> Result<MachineSource, String> {
        let fields = match value {
            Value::Object(fields) => fields.clone(),
            Value::String(text) => match text.split_once(':') {
                _ if text.trim().is_empty() => return Err(format!("expected {}, found none", Self::EXPECTED)),
                Some((kind @ ("wav" | "synth"), rest)) => Map::from_iter([(kind.to_owned(), rest.into())]),
                _ => Map::from_iter([("device".to_owned(), text.as_str().into())]),
            },
            other => return Err(format!("expected {}, found {}", Self::EXPECTED, shown(other))),
        };
        serde_json::from_value::<SourceConfig>(Value::Object(fields.clone())).map_err(|error| error.to_string())?;
        Ok(MachineSource(fields))
    }
}

impl Serialize for MachineSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MachineSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        MachineSource::read(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl FromStr for MachineSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        MachineSource::read(&object(text).unwrap_or_else(|| text.into()))
    }
}

/// A channel, or the mean of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MachineChannel(pub Channel);

impl<'de> Deserialize<'de> for MachineChannel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, "a channel number from 0 or \"mix\"", |value| {
            Some(MachineChannel(serde_json::from_value(value.clone()).ok()?))
        })
    }
}

impl FromStr for MachineChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(MachineChannel)
    }
}

/// Some keys of a section, with their values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fields(Map<String, Value>);

impl Fields {
    const EXPECTED: &str = "KEY=VALUE,... or an object";
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, "an object with keys of the section", |value| Some(Fields(value.as_object()?.clone())))
    }
}

impl FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word(text, Self::EXPECTED, |text| {
            if let Some(Value::Object(fields)) = object(text) {
                return Some(Fields(fields));
            }
            let field = |pair: &str| {
                let (key, value) = pair.split_once('=')?;
                let value = value.trim();
                Some((key.trim().to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
            };
            text.split(',').map(field).collect::<Option<_>>().map(Fields)
        })
    }
}

/// Names of keys.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FieldNames(pub Vec<String>);

impl<'de> Deserialize<'de> for FieldNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, "a list of keys", |value| {
            let names = value.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned()));
            names.collect::<Option<_>>().map(FieldNames)
        })
    }
}

impl FromStr for FieldNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(FieldNames(text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()))
    }
}

/// One of a few words, each of which stands for a `T`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Word<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        T::deserialize(value).map(Word).map_err(serde::de::Error::custom)
    }
}

impl<T: DeserializeOwned> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        T::deserialize(json!(text)).map(Word).map_err(|error| error.to_string())
    }
}

/// A word of the command line that is a JSON object.
fn object(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// The JSON Schema of a value with a form of its own.
macro_rules! schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

schema!(MachineSource, "Source", { "type": ["object", "string"], "description": MachineSource::EXPECTED });
schema!(MachineChannel, "Channel", { "type": ["integer", "string"], "description": "a number from 0, or mix" });
schema!(Fields, "Fields", { "type": "object" });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BaselineMode;

    #[test]
    fn sources_and_keys_come_in_words_and_as_json() {
        let source = |text: &str| text.parse::<MachineSource>().map(|source| json!(source));
        assert_eq!(source("usb-path:1-1.3"), Ok(json!({ "device": "usb-path:1-1.3" })));
        assert_eq!(source("wav:/a:b"), Ok(json!({ "wav": "/a:b" })));
        assert_eq!(source(r#"{"synth":"fan","seed":3}"#), Ok(json!({ "synth": "fan", "seed": 3 })));
        assert!(source("").is_err() && source(r#"{"devise":"x"}"#).is_err_and(|error| error.contains("devise")));
        let fields = |text: &str| text.parse::<Fields>().map(|fields| json!(fields));
        assert_eq!(fields("k=3, kind=\"x\",on=true"), Ok(json!({ "k": 3, "kind": "x", "on": true })));
        assert!(fields("k").is_err());
        assert_eq!("auto".parse::<Word<BaselineMode>>(), Ok(Word(BaselineMode::Auto)));
        assert!("atuo".parse::<Word<BaselineMode>>().is_err_and(|error| error.contains("auto")));
    }
}
