//! `bundle.install --file` and `state.import --file`: an archive of this computer, in pieces over the broker, to one agent or to many at once. What
//! an earlier attempt has brought over is not sent again.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::fleet::{Answer, FleetClient};
use crate::bundle::ARCHIVE_LIMIT;
use crate::cli::Failure;
use crate::control::commands::{BundleInstall, Command, StateImport};
use crate::control::envelope::Envelope;
use crate::control::request::Request;
use crate::control::values::{Bytes, Chunk, Sha256};
use crate::mqtt::simple_client::SimpleClient;
use crate::sha256::sha256_hex;

/// Bytes of a piece: with Base64 around it, it stays well below what an agent takes in.
const PIECE: usize = 128 * 1024;
/// Pieces on their way to the slowest agent.
const ON_THE_WAY: usize = 8;

/// An archive to send.
pub struct Upload {
    kind: Kind,
    bytes: Vec<u8>,
    sha256: Sha256,
}

/// What is in the archive.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bundle,
    State,
}

impl Upload {
    /// # Errors
    /// A file that cannot be read, or is larger than any archive may be.
    pub fn read(kind: Kind, file: &Path) -> Result<Upload, Failure> {
        let problem = |problem: String| Failure::data(anyhow::anyhow!("{}: {problem}", file.display()));
        let bytes = std::fs::read(file).map_err(|error| problem(error.to_string()))?;
        if bytes.is_empty() || bytes.len() as u64 > ARCHIVE_LIMIT {
            let found = bytes.len();
            return Err(problem(format!("expected an archive of 1 to {ARCHIVE_LIMIT} bytes, found {found}")));
        }
        let sha256 = sha256_hex(&bytes).parse().expect("64 hex digits");
        Ok(Upload { kind, bytes, sha256 })
    }

    /// What installs or imports the archive once all of it is there.
    pub fn command(&self) -> Command {
        self.command_with(None, None)
    }

    fn piece(&self, offset: usize) -> Command {
        let piece = &self.bytes[offset..self.bytes.len().min(offset + PIECE)];
        self.command_with(Some(Bytes(offset as u64)), Some(Chunk(piece.to_vec())))
    }

    fn command_with(&self, offset: Option<Bytes>, data: Option<Chunk>) -> Command {
        let (sha256, size) = (Some(self.sha256.clone()), Some(Bytes(self.bytes.len() as u64)));
        match self.kind {
            Kind::Bundle => {
                Command::BundleInstall(BundleInstall { sha256, size, offset, data, ..BundleInstall::default() })
            }
            Kind::State => Command::StateImport(StateImport { sha256, size, offset, data, ..StateImport::default() }),
        }
    }

    /// Sends what is missing to those who are asked; the replies of agents that will take no more of it.
    ///
    /// # Errors
    /// A broken connection; no agent that has it all.
    pub async fn send(
        &self,
        client: &mut SimpleClient,
        fleet: &mut FleetClient,
        envelope: &Envelope,
        patience: Duration,
    ) -> Result<BTreeMap<String, Answer>, Failure> {
        // Ids of this attempt alone: what an earlier one was answered says nothing of what is there now.
        let attempt = format!("{:016x}-", rand::random::<u64>());
        let request = |part: &str, command: Command| {
            let id = Some(format!("{attempt}{part}").parse().expect("a word is a line"));
            Request { envelope: Envelope { id, ..envelope.clone() }, command }.to_json()
        };
        let asked = fleet.ask(client, &request("begin", self.command()), patience, |_| Ok(()), |_| {}).await?;
        let mut refused = BTreeMap::new();
        // Pieces that each agent has answered.
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let mut start = self.bytes.len();
        for answer in asked.replies {
            match missing(&answer) {
                Some(from) => {
                    start = start.min(from);
                    taken.insert(answer.reply.agent.clone(), 0);
                }
                // It refuses, or all was there and it is installed.
                None => drop(refused.insert(answer.reply.agent.clone(), answer)),
            }
        }
        let offsets: Vec<usize> = (start / PIECE * PIECE..self.bytes.len()).step_by(PIECE).collect();
        let bar = progress(self.bytes.len(), start);
        let mut sent = 0;
        let mut last_reply_at = Instant::now();
        while let Some(slowest) = taken.values().min().copied().filter(|slowest| *slowest < offsets.len()) {
            bar.set_position((start + slowest * PIECE) as u64);
            if sent < offsets.len() && sent < slowest + ON_THE_WAY {
                fleet.send(client, &request(&sent.to_string(), self.piece(offsets[sent]))).await?;
                sent += 1;
                continue;
            }
            let Some(answer) = fleet.next_reply(client, last_reply_at + patience, |_| {}).await? else {
                bar.abandon();
                let silent: Vec<_> = taken.iter().filter(|(_, taken)| **taken < sent).map(|(id, _)| &**id).collect();
                let silent = silent.join(", ");
                let problem = format!("no reply from {silent}; the same command again goes on where it stopped");
                return Err(anyhow::anyhow!(problem).into());
            };
            let agent = answer.reply.agent.clone();
            let is_ours = answer.reply.id.as_deref().is_some_and(|id| id.starts_with(&attempt));
            let Some(pieces) = taken.get_mut(&agent).filter(|_| is_ours) else { continue };
            last_reply_at = Instant::now();
            if answer.reply.error.is_some() {
                taken.remove(&agent);
                refused.insert(agent, answer);
            } else {
                *pieces += 1;
            }
        }
        bar.finish_and_clear();
        Ok(refused)
    }
}

/// First byte that an agent has not got; `None` where it says anything else.
fn missing(answer: &Answer) -> Option<usize> {
    answer.reply.data.as_ref()?.get("missing")?.get(0).and_then(Value::as_u64).map(|from| from as usize)
}

fn progress(bytes: usize, there: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "sending {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(bytes as u64).with_style(style).with_position(there as u64)
}
