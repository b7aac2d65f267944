//! `Vec<f32>` as base64 of its little-endian bytes: exact, and a fifth of the size of decimal numbers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes).serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
    let (values, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(D::Error::custom(format!("expected a multiple of 4 bytes, found {}", bytes.len())));
    }
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(D::Error::custom(format!("expected finite numbers, found {value}"))),
        None => Ok(values),
    }
}
