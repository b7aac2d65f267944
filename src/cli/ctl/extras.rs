//! What comes beside a reply: the files of `evidence.get`, the figures of `health.get`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, timeout_at};

use super::clip::{Content, place};
use crate::cli::{Failure, terminal};
use crate::control::commands::{Command, EvidenceGet};
use crate::fs::write_output;
use crate::mqtt::payload::{EvidenceMsg, Health};
use crate::mqtt::simple_client::{Message, SimpleClient};
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart, Topic};
use crate::numbers::{counted, short, span};
use crate::sha256::sha256_hex;

/// A file of evidence is no longer than this: a minute of sound at the highest rate.
const MOST_BYTES: u64 = 32 << 20;

/// What a command makes agents publish beside their replies, and what of it has come.
pub enum Extras {
    None,
    /// By agent.
    Health(BTreeMap<String, Health>),
    /// By agent and file.
    Evidence {
        id: String,
        out: PathBuf,
        /// The one file that is wanted.
        output: Option<PathBuf>,
        files: BTreeMap<(String, String), Pieces>,
    },
}

/// The parts of one file, by their number.
#[derive(Default)]
pub struct Pieces {
    machine: String,
    count: u32,
    bytes: u64,
    sha256: String,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Extras {
    /// What `command`, sent with `id`, will be followed by.
    pub fn of(command: &Command, id: &str) -> Extras {
        match command {
            Command::HealthGet(_) => Extras::Health(BTreeMap::new()),
            Command::EvidenceGet(EvidenceGet { machine: Some(_), out, output, .. }) => Extras::Evidence {
                id: id.to_owned(),
                out: out.clone().unwrap_or_else(|| ".".into()),
                output: output.clone(),
                files: BTreeMap::new(),
            },
            _ => Extras::None,
        }
    }

    /// Subscribes to it; `agent` is an id or `+`.
    ///
    /// # Errors
    /// A broken connection; a broker that does not let it be read.
    pub async fn subscribe(&self, client: &mut SimpleClient, agent: &str) -> Result<(), Failure> {
        let topics = AgentTopics::new(client.root(), agent);
        let filter = match self {
            Extras::None => return Ok(()),
            Extras::Health(_) => topics.of_agent(AgentPart::Health),
            Extras::Evidence { .. } => topics.of_machine("+", MachinePart::Evidence),
        };
        client.subscribe(&[filter]).await?;
        Ok(())
    }

    /// Takes in what is part of it.
    pub fn take(&mut self, message: &Message) {
        match (self, &message.topic) {
            (Extras::Health(all), Topic::Agent { agent, part: AgentPart::Health }) => {
                if let Ok(health) = serde_json::from_slice(&message.payload) {
                    all.insert(agent.clone(), health);
                }
            }
            (Extras::Evidence { id, files, .. }, Topic::Machine { agent, part: MachinePart::Evidence, .. }) => {
                let Ok(part) = serde_json::from_slice::<EvidenceMsg>(&message.payload) else { return };
                if part.id.as_deref() != Some(id) || part.bytes > MOST_BYTES || part.part >= part.parts {
                    return;
                }
                let Ok(data) = STANDARD.decode(&part.data) else { return };
                let pieces = files.entry((agent.clone(), part.file.clone())).or_default();
                (pieces.count, pieces.bytes) = (part.parts, part.bytes);
                (pieces.sha256, pieces.machine) = (part.sha256, part.machine);
                // A part that comes again is the same.
                pieces.parts.insert(part.part, data);
            }
            _ => {}
        }
    }

    /// The files that replies have promised, by agent and name.
    pub fn promised(&self, replies: &[crate::mqtt::payload::Reply]) -> Vec<(String, String)> {
        let Extras::Evidence { .. } = self else { return Vec::new() };
        let files = replies.iter().flat_map(|reply| {
            let files = reply.data.as_ref().and_then(|data| data.get("files")).and_then(|files| files.as_array());
            let names = files.into_iter().flatten().filter_map(|file| file.get("file")?.as_str());
            names.map(|name| (reply.agent.clone(), name.to_owned())).collect::<Vec<_>>()
        });
        files.collect()
    }

    /// Waits for what the replies have promised: `agent` and `file` of each file.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn wait(
        &mut self,
        client: &mut SimpleClient,
        promised: &[(String, String)],
        end: Instant,
    ) -> Result<(), Failure> {
        while !self.is_complete(promised) {
            let Ok(message) = timeout_at(end, client.next()).await else { return Ok(()) };
            self.take(&message?);
        }
        Ok(())
    }

    fn is_complete(&self, promised: &[(String, String)]) -> bool {
        match self {
            Extras::Evidence { files, .. } => promised
                .iter()
                .all(|key| files.get(key).is_some_and(|pieces| pieces.parts.len() as u32 == pieces.count)),
            Extras::None | Extras::Health(_) => true,
        }
    }

    /// Writes the files; the line that tells of each.
    ///
    /// # Errors
    /// A file that did not come whole; one that cannot be written.
    pub fn save(self, promised: &[(String, String)]) -> Result<Vec<String>, Failure> {
        let Extras::Evidence { out, output, mut files, .. } = self else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        for key in promised {
            let Some(pieces) = files.remove(key) else {
                return Err(anyhow::anyhow!("{}: {} has not come; ask again, with another --id", key.0, key.1).into());
            };
            match Content::wanted(output.as_deref())? {
                Some((_, content)) if !content.comes_from(&key.1) => {}
                Some((path, content)) => {
                    let bytes = content.from(&key.1, pieces.whole(key)?)?;
                    write_output(path, &bytes).with_context(|| path.display().to_string())?;
                    lines.push(format!("{} ({} bytes)", path.display(), bytes.len()));
                }
                None => lines.push(pieces.save(&out, key)?),
            }
        }
        Ok(lines)
    }
}

impl Pieces {
    /// The file's content.
    fn whole(self, (agent, file): &(String, String)) -> Result<Vec<u8>, Failure> {
        let Pieces { count, bytes, sha256, parts, .. } = self;
        let came = parts.len();
        let content = parts.into_values().collect::<Vec<_>>().concat();
        if content.len() as u64 != bytes || sha256_hex(&content) != sha256 {
            let problem =
                format!("{agent}: {file} did not come whole ({came} of {}); ask again", counted(count, "part"));
            return Err(anyhow::anyhow!("{problem}, with another --id").into());
        }
        Ok(content)
    }

    fn save(self, out: &Path, key: &(String, String)) -> Result<String, Failure> {
        let (machine, file) = (self.machine.clone(), &key.1);
        let content = self.whole(key)?;
        let path = place(out, &format!("{}-{machine}-{file}", key.0))?;
        write_output(&path, &content).with_context(|| path.display().to_string())?;
        Ok(format!("{} ({} bytes)", path.display(), content.len()))
    }
}

/// An agent's figures, for a person.
pub fn describe_health(health: &Health, width: usize) -> String {
    let mb = |value: Option<f64>| value.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MiB"));
    let (agent, mqtt) = (&health.agent, &health.mqtt);
    let mut text = format!("{agent}: up for {}\n", span(health.uptime_s as i64));
    let mut line = |head: &str, what: String| text += &terminal::hang(head, &what, Some(width));
    line("  memory             ", mb(health.memory_mb));
    line("  free on disk       ", mb(health.disk_free_mb));
    if let Some(celsius) = health.cpu_temp_c {
        line("  CPU                ", format!("{celsius:.0} °C"));
    }
    let place = if mqtt.outbox_error.is_none() { "on disk" } else { "in memory" };
    line("  messages waiting   ", format!("{} ({place})", mqtt.outbox_depth));
    line("  given up unsent    ", mqtt.dropped.to_string());
    line("  reconnected        ", counted(mqtt.reconnects, "time"));
    if let Some(error) = &mqtt.last_error {
        line("  last problem       ", error.clone());
    }
    for machine in &health.machines {
        let assessed =
            machine.assessed.map_or(String::new(), |share| format!(", {:.0} % of windows judged", 100.0 * share));
        let level = machine.level_dbfs.map_or(String::new(), |level| format!(", {level:.1} dBFS"));
        line(&format!("{agent} {}: ", machine.machine), format!("{}{level}{assessed}", machine.capture));
        let problems = [machine.capture_problem.clone(), machine.signal.map(|signal| signal.in_words().to_owned())];
        problems.into_iter().flatten().for_each(|problem| line("  ", problem));
        if machine.xruns > 0 || machine.losses > 0 || machine.overload > 0 || machine.dropped > 0 {
            let lost = format!("sound lost {} ({} s)", counted(machine.xruns, "time"), short(machine.lost_s));
            let (source, late) = (counted(machine.losses, "time"), counted(machine.overload, "window"));
            line("  ", format!("{lost}, source lost {source}, {late} too late, {} given up", machine.dropped));
        }
    }
    text
}
