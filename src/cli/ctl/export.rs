//! `state.export --out`: the archive comes in pieces, each asked for, and is in its place once it is whole.

use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;

use super::fleet::FleetClient;
use crate::cli::Failure;
use crate::control::commands::{Command, StateExport};
use crate::control::envelope::Envelope;
use crate::control::request::Request;
use crate::control::state_archive::ARCHIVE_LIMIT;
use crate::control::values::{Bytes, Sha256};
use crate::fs::write_output;
use crate::mqtt::payload::Reply;
use crate::mqtt::simple_client::SimpleClient;
use crate::sha256::sha256_hex;

/// What the reply says of the archive.
#[derive(Deserialize)]
struct Made {
    bytes: u64,
    sha256: Sha256,
    left_out: Vec<String>,
}

#[derive(Deserialize)]
struct Piece {
    data: String,
}

/// Fetches the archive that `reply` speaks of and writes it to `out`.
///
/// # Errors
/// A broken connection, an agent that does not answer, a file that cannot be written.
pub async fn fetch(
    client: &mut SimpleClient,
    fleet: &mut FleetClient,
    envelope: &Envelope,
    reply: &Reply,
    out: &Path,
    patience: Duration,
) -> Result<(), Failure> {
    let data = reply.data.clone().unwrap_or_default();
    let Made { bytes, sha256, left_out } = serde_json::from_value(data).map_err(anyhow::Error::from)?;
    if bytes > ARCHIVE_LIMIT {
        return Err(anyhow::anyhow!("expected an export of at most {ARCHIVE_LIMIT} bytes, found {bytes}").into());
    }
    let attempt = format!("{:016x}-", rand::random::<u64>());
    let mut archive: Vec<u8> = Vec::new();
    while (archive.len() as u64) < bytes {
        let offset = archive.len() as u64;
        let id = Some(format!("{attempt}{offset}").parse().expect("a word is a line"));
        let command =
            StateExport { sha256: Some(sha256.clone()), offset: Some(Bytes(offset)), ..StateExport::default() };
        let request = Request { envelope: Envelope { id, ..envelope.clone() }, command: Command::StateExport(command) };
        let answers = fleet.ask(client, &request.to_json(), patience, |_| Ok(()), |_| {}).await?;
        let piece = answers.replies.into_iter().next().map(|answer| answer.reply);
        let piece = piece.ok_or_else(|| anyhow::anyhow!("no reply after {offset} of {bytes} bytes"))?;
        if let Some(error) = piece.error {
            return Err(anyhow::anyhow!("{} after {offset} of {bytes} bytes: {}", reply.agent, error.message).into());
        }
        let Piece { data } = serde_json::from_value(piece.data.unwrap_or_default()).map_err(anyhow::Error::from)?;
        let piece = BASE64_STANDARD.decode(data).map_err(anyhow::Error::from)?;
        if piece.is_empty() {
            return Err(anyhow::anyhow!("{} has no bytes after {offset} of {bytes}", reply.agent).into());
        }
        archive.extend(piece);
    }
    if sha256_hex(&archive) != sha256.as_str() {
        return Err(anyhow::anyhow!("what came is not what {} has exported; do it again", reply.agent).into());
    }
    let problem = |error: std::io::Error| anyhow::anyhow!("{}: {error}", out.display());
    write_output(out, &archive).map_err(problem)?;
    left_out.iter().for_each(|file| eprintln!("left out, because it is damaged: {file}"));
    Ok(())
}
