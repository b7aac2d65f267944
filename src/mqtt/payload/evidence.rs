//! The sound and the picture of a window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::SchemaVersion;
use crate::clock::{ClockMark, Timestamp};

/// `<agent>/<machine>/evidence`: a part of a file that `evidence.get` asked for. Not stored: parts that are lost with the
/// connection do not come again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceMsg {
    pub schema: SchemaVersion,
    /// Time of the window's last sample.
    pub ts: Timestamp,
    pub agent: String,
    pub machine: String,
    /// Of the command; null where it had none.
    pub id: Option<String>,
    /// `audio.wav` or `spectrogram.png`.
    pub file: String,
    /// Number of this part, from 0.
    pub part: u32,
    /// How many parts the file has.
    pub parts: u32,
    /// Length of the whole file, bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file, hex.
    pub sha256: String,
    /// The part's bytes in Base64; no part but the last is padded, so that the parts can simply be joined.
    pub data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockMark>,
}
