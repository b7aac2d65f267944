//! Checks and readers of configured values that several sections share.

use std::fmt;

use serde::de::{DeserializeOwned, IntoDeserializer as _};
use serde::{Deserialize as _, Deserializer, Serialize, de};
use serde_json::{Map, Value};

/// Whether `value` lies within `least` and `most`, both included.
///
/// # Errors
/// One line with the key, what is expected and what was found.
pub fn check_range(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if value.is_finite() && (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key}: expected {least} to {most}, found {value}"))
}

/// `settings` with the fields of `over` in place of their own: how a machine overrides what holds for all.
///
/// # Errors
/// The first field that does not exist or has the wrong type: `k: invalid type: ...`.
pub fn override_fields<T: Serialize + DeserializeOwned>(settings: &T, over: &Map<String, Value>) -> Result<T, String> {
    let own = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    let Value::Object(mut fields) = own else {
        return Err(format!("expected a table of settings, found {own}"));
    };
    fields.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
    read_fields(fields).map_err(|problem| format!("{problem}{}", nearest(&problem)))
}

/// A table's fields as what they are for.
///
/// # Errors
/// The first mistake, with its field: `k: invalid type: ...`.
pub fn read_fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner().to_string();
        let named = path != "." && !problem.contains(&format!("`{path}`"));
        if named { format!("{path}: {problem}") } else { problem }
    })
}

/// For an unknown key or word, the nearest of those that serde's message lists.
pub fn nearest(message: &str) -> String {
    let Some(rest) = ["unknown field `", "unknown variant `"].iter().find_map(|what| message.split(what).nth(1)) else {
        return String::new();
    };
    let mut quoted = rest.split('`');
    let unknown = quoted.next().unwrap_or_default();
    let known = quoted.skip(1).step_by(2);
    // The first forgives a wrong ending, the second two letters that changed places in a short word.
    let likeness =
        |name: &str| strsim::jaro_winkler(unknown, name).max(strsim::normalized_damerau_levenshtein(unknown, name));
    match known.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, name)) if likeness > 0.66 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Reads one of a few words; the error lists them.
///
/// # Errors
/// An unknown word.
pub fn one_of<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let word = String::deserialize(deserializer)?;
    let of_word: serde::de::value::StringDeserializer<serde::de::value::Error> = word.into_deserializer();
    T::deserialize(of_word).map_err(serde::de::Error::custom)
}

/// As [`one_of`], where the key may be left out.
///
/// # Errors
/// An unknown word.
pub fn some_of<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    one_of(deserializer).map(Some)
}

/// A found value in few words, for messages.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// Reads any JSON value with `read`.
///
/// # Errors
/// A value that `read` does not take: what was expected and what was found.
pub fn checked<'de, D, T>(deserializer: D, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    read(&value).ok_or_else(|| de::Error::custom(format!("expected {expected}, found {}", shown(&value))))
}

/// As [`checked`], for a word of the command line.
///
/// # Errors
/// As [`checked`].
pub fn word<T>(text: &str, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    read(text).ok_or_else(|| format!("expected {expected}, found {}", shown(&text.into())))
}

/// A value that is read from JSON and from a word of the command line alike: its type, what is expected, and how each is read.
macro_rules! parsed {
    ([$($generics:tt)*] $type:ty, $expected:expr, $of_json:expr, $of_word:expr) => {
        impl<'de, $($generics)*> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::validate::checked(deserializer, $expected, $of_json)
            }
        }

        impl<$($generics)*> std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $crate::validate::word(text, $expected, $of_word)
            }
        }
    };
}
pub(crate) use parsed;

/// Reads a list of words, or one text with commas between them, as an environment variable has it.
///
/// # Errors
/// Anything else.
pub fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of words")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Ok(words.map(str::to_owned).collect())
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }
    deserializer.deserialize_any(Words)
}
