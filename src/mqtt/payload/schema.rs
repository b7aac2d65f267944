//! The JSON Schema of every payload, made from the types.

use schemars::{JsonSchema, Schema, json_schema};

use super::alarm::AlarmMsg;
use super::compat::CompatRecord;
use super::event::EventMsg;
use super::evidence::EvidenceMsg;
use super::health::Health;
use super::reply::{Command, Reply};
use super::settings::SettingsMsg;
use super::status::{Info, Status};
use super::verdict::VerdictMsg;

/// Name and JSON Schema of every payload.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    fn of<T: JsonSchema>() -> Schema {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        settings.into_generator().into_root_schema_for::<T>()
    }
    vec![
        ("status", of::<Status>()),
        ("info", of::<Info>()),
        ("health", of::<Health>()),
        ("verdict", of::<VerdictMsg>()),
        ("alarm", of::<AlarmMsg>()),
        ("settings", of::<SettingsMsg>()),
        ("event", of::<EventMsg>()),
        ("evidence", of::<EvidenceMsg>()),
        ("control", of::<Command>()),
        ("reply", of::<Reply>()),
        ("threshold_set", json_schema!({ "title": "threshold/set: a bare number", "type": "number" })),
        ("compat", of::<CompatRecord>()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_required_but_the_clock() {
        for (name, schema) in schemas() {
            if matches!(name, "control" | "threshold_set") {
                continue;
            }
            let schema = schema.to_value();
            let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
            for field in schema["properties"].as_object().expect("an object").keys() {
                let optional = field == "clock";
                assert_eq!(!optional, required.iter().any(|r| **r == *field), "{name}.{field}");
            }
        }
    }
}
