//! The values that commands take. Each says what it expects and what it found, from JSON and from the command line alike.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::BASELINE_MINUTES;
use crate::scoring::baseline::check_rate;
use crate::validate::{checked, parsed};

/// How long to learn, minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Minutes(#[schemars(extend("minimum" = 0.05, "maximum" = 20160))] f64);

impl Minutes {
    const EXPECTED: &str = "a number of minutes from 0.05 to 20160";

    pub fn new(minutes: f64) -> Option<Minutes> {
        (BASELINE_MINUTES.0..=BASELINE_MINUTES.1).contains(&minutes).then_some(Minutes(minutes))
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

parsed!([] Minutes, Self::EXPECTED, |value| Minutes::new(value.as_f64()?), |text| Minutes::new(text.parse().ok()?));

/// A share of windows: above 0, at most 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Rate")]
pub struct FalseAlarmRate(#[schemars(extend("exclusiveMinimum" = 0, "maximum" = 0.5))] f64);

impl FalseAlarmRate {
    const EXPECTED: &str = "a number above 0 and at most 0.5";

    pub fn new(rate: f64) -> Option<FalseAlarmRate> {
        check_rate(rate).is_ok().then_some(FalseAlarmRate(rate))
    }

    pub fn get(self) -> f64 {
        self.0
    }
}

parsed!(
    [] FalseAlarmRate, Self::EXPECTED,
    |value| FalseAlarmRate::new(value.as_f64()?), |text| FalseAlarmRate::new(text.parse().ok()?)
);

/// One machine by its id, or `"*"`: all of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    All,
    One(String),
}

impl Target {
    const EXPECTED: &str = "a machine's id or \"*\" for all";

    fn read(text: &str) -> Option<Target> {
        match text {
            "*" => Some(Target::All),
            id if (1..=64).contains(&id.len()) && !id.contains(char::is_control) => Some(Target::One(id.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::All => "*",
            Target::One(id) => id,
        })
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

parsed!([] Target, Self::EXPECTED, |value| Target::read(value.as_str()?), Target::read);

/// A line of text of at most `MOST` characters: who, why, an id, a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShortText<const MOST: usize>(String);

impl<const MOST: usize> ShortText<MOST> {
    fn expected() -> String {
        format!("1 to {MOST} characters without line breaks and hidden ones")
    }

    fn read(text: &str) -> Option<Self> {
        let fits = !text.is_empty()
            && text.chars().nth(MOST).is_none()
            && !text.contains(|c: char| c.is_control() || is_hidden(c));
        fits.then(|| ShortText(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MOST: usize> From<ShortText<MOST>> for String {
    fn from(line: ShortText<MOST>) -> String {
        line.0
    }
}

parsed!([const MOST: usize] ShortText<MOST>, &Self::expected(), |value| Self::read(value.as_str()?), Self::read);

/// Characters that nobody sees and that turn or split what stands beside them; the joiners of scripts and emoji are none.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// SHA-256 of a file, 64 hex digits; kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sha256(String);

impl Sha256 {
    pub(super) const EXPECTED: &str = "the 64 hex digits of a SHA-256";

    fn read(text: &str) -> Option<Sha256> {
        let fits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Sha256(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

parsed!([] Sha256, Self::EXPECTED, |value| Sha256::read(value.as_str()?), Sha256::read);

/// A whole number of bytes, up to 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, "a whole number of bytes from 0", |value| {
            value.as_u64().filter(|bytes| *bytes < 1 << 53).map(Bytes)
        })
    }
}

/// A piece of a file, as Base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk(pub Vec<u8>);

impl Serialize for Chunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, "bytes as Base64", |value| BASE64_STANDARD.decode(value.as_str()?).ok().map(Chunk))
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Switch")]
pub struct OnOff(pub bool);

impl OnOff {
    const EXPECTED: &str = "true or false";
}

parsed!([] OnOff, Self::EXPECTED, |value| value.as_bool().map(OnOff), |text| text.parse().ok().map(OnOff));

/// The JSON Schema of a value that is written as a string.
macro_rules! string_schema {
    ([$($generics:tt)*] $type:ty, $name:expr, $schema:tt) => {
        impl<$($generics)*> JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

string_schema!([] Target, "Target", { "type": "string", "description": Target::EXPECTED, "minLength": 1, "maxLength": 64 });
string_schema!([] Chunk, "Piece", { "type": "string", "contentEncoding": "base64" });
string_schema!([] Sha256, "Sha256", { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" });
string_schema!([const MOST: usize] ShortText<MOST>, format!("Line{MOST}"),
    { "type": "string", "minLength": 1, "maxLength": MOST });

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn lines_are_bounded() {
        assert!(from_value::<ShortText<4>>(json!("äöü€")).is_ok());
        for text in ["", "five!", "a\nb", "a\0"] {
            assert!(from_value::<ShortText<4>>(json!(text)).is_err(), "{text:?}");
        }
        assert!(from_value::<Target>(json!("*")).is_ok_and(|target| target == Target::All));
        assert!(from_value::<Sha256>(json!("zz")).is_err());
    }
}
