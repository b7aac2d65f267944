//! `bundle.install --file` and `state.import --file`: an archive of this computer, in pieces over the broker, to one agent or to many at once. What
//! an earlier attempt has brought over is not sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::fleet::{Answer, FleetClient, Repetition};
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
        let mut taken = Taken::default();
        let mut start = self.bytes.len();
        for answer in asked.replies {
            match missing(&answer) {
                Some(from) => {
                    start = start.min(from);
                    taken.agents.insert(answer.reply.agent.clone(), BTreeSet::new());
                }
                // It refuses, or all was there and it is installed.
                None => drop(refused.insert(answer.reply.agent.clone(), answer)),
            }
        }
        let offsets: Vec<usize> = (start / PIECE * PIECE..self.bytes.len()).step_by(PIECE).collect();
        let piece = |number: usize| request(&number.to_string(), self.piece(offsets[number]));
        let bar = progress(self.bytes.len(), start);
        let mut sent = 0;
        let mut last_reply_at = Instant::now();
        let mut repetition = Repetition::new(last_reply_at);
        while let Some(slowest) = taken.slowest().filter(|slowest| *slowest < offsets.len()) {
            bar.set_position((start + slowest * PIECE) as u64);
            if sent < offsets.len() && sent < slowest + ON_THE_WAY {
                fleet.send(client, &piece(sent)).await?;
                sent += 1;
                continue;
            }
            let end = last_reply_at + patience;
            let until = repetition.due().min(end);
            let Some(answer) = fleet.next_reply(client, until, |_| {}).await? else {
                let waiting = taken.waiting(sent);
                if until >= end {
                    bar.abandon();
                    let silent: Vec<_> = waiting.into_iter().map(|(agent, _)| agent).collect();
                    let silent = silent.join(", ");
                    let problem = format!("no reply from {silent}; the same command again goes on where it stopped");
                    return Err(anyhow::anyhow!(problem).into());
                }
                if repetition.is_due() {
                    for (agent, number) in waiting {
                        fleet.repeat(client, &agent, &piece(number)).await?;
                    }
                }
                continue;
            };
            let agent = answer.reply.agent.clone();
            let number = answer.reply.id.as_deref().and_then(|id| id.strip_prefix(&attempt)?.parse().ok());
            let is_asked = |number: &usize| *number < sent && taken.agents.contains_key(&agent);
            let Some(number) = number.filter(is_asked) else { continue };
            last_reply_at = Instant::now();
            repetition.answered();
            if answer.reply.error.is_some() {
                taken.agents.remove(&agent);
                refused.insert(agent, answer);
            } else if let Some(lost) = taken.take(&agent, number) {
                fleet.repeat(client, &agent, &piece(lost)).await?;
            }
        }
        bar.finish_and_clear();
        Ok(refused)
    }
}

/// The pieces that each agent has answered, by their numbers.
#[derive(Default)]
struct Taken {
    agents: BTreeMap<String, BTreeSet<usize>>,
    /// What was sent again because later ones were answered before it.
    repeated: BTreeSet<(String, usize)>,
}

impl Taken {
    /// The first piece that some agent has not answered.
    fn slowest(&self) -> Option<usize> {
        self.agents.values().map(first_without).min()
    }

    /// The agents that have not answered all of the first `sent` pieces, each with the first of those.
    fn waiting(&self, sent: usize) -> Vec<(String, usize)> {
        let first = self.agents.iter().map(|(agent, pieces)| (agent.clone(), first_without(pieces)));
        first.filter(|(_, number)| *number < sent).collect()
    }

    /// An agent has answered a piece. The one before it that it has not is lost, since they are sent in order; it is named once.
    fn take(&mut self, agent: &str, number: usize) -> Option<usize> {
        let pieces = self.agents.get_mut(agent)?;
        pieces.insert(number);
        let lost = Some(first_without(pieces)).filter(|first| *first < number)?;
        self.repeated.insert((agent.to_owned(), lost)).then_some(lost)
    }
}

/// The first number that is not among these.
fn first_without(numbers: &BTreeSet<usize>) -> usize {
    numbers.iter().zip(0..).find(|(number, expected)| **number != *expected).map_or(numbers.len(), |(_, first)| first)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_others_overtook_is_sent_again_once() {
        let mut taken = Taken::default();
        assert_eq!(taken.slowest(), None);
        for agent in ["pi-1", "pi-2"] {
            taken.agents.insert(agent.into(), BTreeSet::new());
        }
        assert_eq!((taken.take("pi-1", 0), taken.take("pi-2", 0), taken.take("pi-2", 1)), (None, None, None));
        assert_eq!(taken.take("pi-1", 2), Some(1));
        assert_eq!((taken.take("pi-1", 3), taken.slowest()), (None, Some(1)));
        assert_eq!(taken.waiting(2), [("pi-1".to_owned(), 1)], "pi-2 has answered all that was sent");
        assert_eq!((taken.take("pi-1", 1), taken.slowest()), (None, Some(2)));
        assert_eq!(taken.take("pi-9", 1), None, "it was not asked");
    }
}
