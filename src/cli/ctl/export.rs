//! `state.export --out`: the archive comes in pieces, each asked for, and is in its place once it is whole.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::fleet::FleetClient;
use super::pieces::{self, Wanted};
use crate::cli::Failure;
use crate::control::commands::{Command, StateExport};
use crate::control::envelope::Envelope;
use crate::control::state_archive::ARCHIVE_LIMIT;
use crate::control::values::{Bytes, Sha256};
use crate::fs::write_output;
use crate::mqtt::payload::Reply;
use crate::mqtt::simple_client::SimpleClient;

/// What the reply says of the archive.
#[derive(Deserialize)]
struct Made {
    bytes: u64,
    sha256: Sha256,
    left_out: Vec<String>,
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
    let wanted = Wanted { agent: &reply.agent, what: "the export", bytes, sha256: sha256.as_str() };
    let command = |offset| {
        let piece = StateExport { sha256: Some(sha256.clone()), offset: Some(Bytes(offset)), ..StateExport::default() };
        Command::StateExport(piece)
    };
    let archive = pieces::fetch(client, fleet, envelope, patience, &wanted, command).await?;
    let problem = |error: std::io::Error| anyhow::anyhow!("{}: {error}", out.display());
    write_output(out, &archive).map_err(problem)?;
    left_out.iter().for_each(|file| eprintln!("left out, because it is damaged: {file}"));
    Ok(())
}
