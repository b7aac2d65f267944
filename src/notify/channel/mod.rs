//! The ways out: one file for each kind of target. Blocking, within limits of time; files are read at each message, so
//! that a renewed token counts at once.

mod email;
mod http;
mod ntfy;
mod target;
mod webhook;

pub use self::target::SendError;
use super::item::Message;
use crate::config::NotifyConfig;
use crate::config::notify::TargetKind;

/// Sends a message to a target.
///
/// # Errors
/// What the network or the server says, or what is wrong with a file; without secrets.
pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    match target.kind {
        TargetKind::Ntfy => ntfy::send(target, message),
        TargetKind::Webhook => webhook::send(target, message),
        TargetKind::Email => email::send(target, message),
    }
}

/// Whether a target's files can be read and its server be reached; sends nothing.
///
/// # Errors
/// As [`send`].
pub fn check(target: &NotifyConfig) -> Result<(), SendError> {
    match target.kind {
        TargetKind::Ntfy | TargetKind::Webhook => http::check(target),
        TargetKind::Email => email::check(target),
    }
}
