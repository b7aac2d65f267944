//! A file that an agent gives out in pieces, each asked for.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::fleet::FleetClient;
use crate::cli::Failure;
use crate::control::commands::Command;
use crate::control::envelope::Envelope;
use crate::control::request::Request;
use crate::mqtt::simple_client::SimpleClient;
use crate::sha256::sha256_hex;

#[derive(Deserialize)]
struct Piece {
    data: String,
}

/// What is to be fetched of an agent.
pub struct Wanted<'a> {
    pub agent: &'a str,
    /// What people call it.
    pub what: &'a str,
    pub bytes: u64,
    pub sha256: &'a str,
}

/// Fetches it; `command` asks for the piece from an offset on.
///
/// # Errors
/// A broken connection, an agent that does not answer, what came is something else.
pub async fn fetch(
    client: &mut SimpleClient,
    fleet: &mut FleetClient,
    envelope: &Envelope,
    patience: Duration,
    wanted: &Wanted<'_>,
    command: impl Fn(u64) -> Command,
) -> Result<Vec<u8>, Failure> {
    let Wanted { agent, what, bytes, sha256 } = wanted;
    let attempt = format!("{:016x}-", rand::random::<u64>());
    let mut whole: Vec<u8> = Vec::new();
    while (whole.len() as u64) < *bytes {
        let offset = whole.len() as u64;
        let id = Some(format!("{attempt}{offset}").parse().expect("a word is a line"));
        let request = Request { envelope: Envelope { id, ..envelope.clone() }, command: command(offset) };
        let answers = fleet.ask(client, &request.to_json(), patience, |_| Ok(()), |_| {}).await?;
        let piece = answers.replies.into_iter().next().map(|answer| answer.reply);
        let piece = piece.ok_or_else(|| anyhow::anyhow!("no reply after {offset} of {bytes} bytes"))?;
        if let Some(error) = piece.error {
            return Err(anyhow::anyhow!("{agent} after {offset} of {bytes} bytes: {}", error.message).into());
        }
        let Piece { data } = serde_json::from_value(piece.data.unwrap_or_default()).map_err(anyhow::Error::from)?;
        let piece = BASE64_STANDARD.decode(data).map_err(anyhow::Error::from)?;
        if piece.is_empty() {
            return Err(anyhow::anyhow!("{agent} has no bytes after {offset} of {bytes}").into());
        }
        whole.extend(piece);
    }
    if sha256_hex(&whole) != *sha256 {
        return Err(anyhow::anyhow!("what came is not {what} of {agent}; do it again").into());
    }
    Ok(whole)
}
