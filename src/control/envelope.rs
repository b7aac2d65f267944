//! What every command carries beside its arguments: who asks for what, until when, and how the reply is recognised.

use super::values::ShortText;
use crate::clock::Timestamp;

/// The parts of a command that are the same for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Envelope {
    /// The reply carries it, and what has the same id is done once.
    pub id: Option<ShortText<128>>,
    /// On `fleet/control`: only for agents with this tag.
    pub tag: Option<ShortText<64>>,
    /// Not to be done from this time on.
    pub expires: Option<Timestamp>,
    /// Who sends it.
    pub by: Option<ShortText<64>>,
    /// And why.
    pub reason: Option<ShortText<200>>,
}
