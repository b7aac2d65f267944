//! `state.export` and `state.import`: all that was set and learned, to a new card and back, in pieces like a bundle's.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Execute;
use crate::bundle::store::InstallError;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::{Job, Outcome};
use crate::control::pieces::{Gathered, Pieces};
use crate::control::shared::Shared;
use crate::control::state_archive::export::{self, Exporter};
use crate::control::state_archive::import::{ImportError, Staged};
use crate::control::state_archive::transaction::ImportState;
use crate::control::values::{Bytes, Chunk, Sha256};
use crate::mqtt::Origin;

/// Bytes of the archive in one reply. A multiple of three, so that only the last one's Base64 is padded.
pub const PIECE: usize = 96 * 1024;
/// Where the pieces of an archive gather that is imported.
const UPLOADS: &str = "import-pieces";
/// What was set and learned before the last import.
const BEFORE: &str = "before-import.tar.gz";

/// Make an archive of all that was set and learned, without secrets; the reply says how long it is. With sha256 and offset
/// a piece of it.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateExport {
    /// SHA-256 of the archive, as the reply without it has it.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Of a piece: where in the archive it begins.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Bytes>,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub out: PathBuf,
}

impl Execute for StateExport {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let state_dir = context.shared.config.agent.state_dir.clone();
        match (self.sha256, self.offset) {
            (None, None) => {
                let exporter = exporter(context)?;
                Ok(Outcome::Job(Job::new(move || {
                    let made = exporter.keep().map_err(|error| failed("the export cannot be made", error))?;
                    Ok(Outcome::Answer(json!(made)))
                })))
            }
            (Some(sha256), Some(Bytes(offset))) => {
                let piece = export::piece(&state_dir, sha256.as_str(), offset, PIECE)
                    .map_err(|error| failed("the export cannot be read", error))?;
                let expected = "that of the last state.export; send the command again without it";
                let piece = piece.ok_or_else(|| CommandError::argument("sha256", expected, sha256.as_str()))?;
                Ok(Outcome::Answer(json!({ "offset": offset, "data": BASE64_STANDARD.encode(piece) })))
            }
            _ => {
                let message = "expected sha256 and offset, or neither, found one of them";
                Err(CommandError::new(Code::BadArgument, message))
            }
        }
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> CommandError {
    CommandError::new(Code::Failed, format!("{what}: {error}"))
}

/// What the running agent knows of its state.
fn exporter(context: &CommandContext) -> Result<Exporter, CommandError> {
    let unreadable = |error| failed("what was set cannot be read", error);
    Ok(Exporter {
        state_dir: context.shared.config.agent.state_dir.clone(),
        agent: context.shared.config.agent.id.clone(),
        bundle: context.bundle_label(),
        settings: context.store.settings().map_err(unreadable)?,
        machines: context.store.machines().map_err(unreadable)?.added,
        now: context.now,
    })
}

/// Put what state.export made, here or elsewhere, in place of all that was set and learned, and restart. In pieces: a
/// piece is answered with how far the archive has come; the command with `size` and without a piece imports it once all
/// is there, and tells how far it is before.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateImport {
    /// SHA-256 of the archive; always needed.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Bytes of the whole archive, up to 64 MiB; always needed.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Of a piece: where in the archive it begins.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Bytes>,
    /// Of a piece: its bytes.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Chunk>,
    /// The archive on this computer.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub file: PathBuf,
}

impl Execute for StateImport {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let (Some(sha256), Some(Bytes(size))) = (self.sha256, self.size) else {
            return Err(CommandError::argument("sha256, size", "both of the archive", "one or none"));
        };
        if self.offset.is_some() != self.data.is_some() {
            let message = "expected offset and data, or neither, found one of them";
            return Err(CommandError::new(Code::BadArgument, message));
        }
        let dir = context.shared.config.agent.state_dir.join(UPLOADS);
        fs::create_dir_all(&dir)?;
        let pieces = Pieces { dir, sha256: sha256.as_str().to_owned() };
        let arrived = match pieces.gather(size, self.offset.zip(self.data)).map_err(of_pieces)? {
            Gathered::Part(progress) => return Ok(Outcome::Answer(json!(progress))),
            Gathered::All(arrived) => arrived,
        };
        let (shared, origin, before) = (context.shared.clone(), context.origin, exporter(context)?);
        Ok(Outcome::Job(Job::new(move || {
            let mut archive = arrived.finish().map_err(of_pieces)?;
            let staged = Staged::new(&mut archive, &shared.config, origin == Origin::Page).map_err(refused);
            pieces.settle(staged.and_then(|staged| import(&shared, staged, origin, &before, pieces.clone())))
        })))
    }
}

/// What is wrong with pieces.
fn of_pieces(error: InstallError) -> CommandError {
    let code = match &error {
        InstallError::Argument(_) => Code::BadArgument,
        InstallError::Archive(_) | InstallError::Bundle(_) => Code::StateInvalid,
        InstallError::Io { .. } => Code::Failed,
    };
    CommandError::new(code, error)
}

fn refused(error: ImportError) -> CommandError {
    match error {
        ImportError::Disk(_) => CommandError::new(Code::Failed, error),
        ImportError::Archive(problem) => {
            CommandError::new(Code::StateInvalid, format!("{problem}; nothing was changed"))
        }
    }
}

/// What was there before is kept beside; the rest happens when the reply is on the disk.
fn import(
    shared: &Shared,
    staged: Staged,
    origin: Origin,
    before: &Exporter,
    pieces: Pieces,
) -> Result<Outcome, CommandError> {
    let kept = shared.config.agent.state_dir.join(BEFORE);
    before.write_to(&kept).map_err(|error| failed("what is there now cannot be kept beside", error))?;
    let data = describe(shared, &staged, origin);
    Ok(Outcome::change(data, ImportState { staged, pieces }))
}

/// What the reply says of an import.
fn describe(shared: &Shared, staged: &Staged, origin: Origin) -> Value {
    let contents = &staged.contents;
    let manifest = &contents.manifest;
    let own = shared.config.machine.iter().map(|machine| machine.id.as_str());
    let here: BTreeSet<&str> = own.chain(contents.machines.keys().map(String::as_str)).collect();
    let learned: BTreeSet<&str> = contents.baselines.iter().map(|(machine, _)| machine.as_str()).collect();
    let set = contents.settings.keys().map(String::as_str);
    let elsewhere: BTreeSet<&str> = set.chain(learned.iter().copied()).filter(|id| !here.contains(id)).collect();
    let in_file = |id: &&String| shared.config.machine.iter().any(|machine| machine.id == **id);
    let broker = match (&contents.broker, staged.takes_broker()) {
        (None, _) => "as it is here: the export has none",
        (Some(_), true) => "of the export",
        (Some(broker), false) if broker.needs_password => {
            "as it is here: the export does not hold its password; set it on the agent's page"
        }
        (Some(_), false) if origin == Origin::Broker => {
            "as it is here: it can be changed on the agent's own page alone"
        }
        (Some(_), false) => "as it is here",
    };
    let running = shared.monitor.lock().loaded.as_ref().map(crate::monitor::model::ActiveBundle::label);
    json!({
        "from": manifest.agent,
        "is_own": manifest.agent == shared.config.agent.id,
        "exported": manifest.exported,
        "version": manifest.auscult,
        "added": contents.machines.keys().collect::<Vec<_>>(),
        "in_file": contents.machines.keys().filter(in_file).collect::<Vec<_>>(),
        "settings": contents.settings.keys().collect::<Vec<_>>(),
        "learned": learned,
        "elsewhere": elsewhere,
        "bundle": manifest.bundle,
        "bundle_here": running,
        "broker": broker,
        "restarts": true,
    })
}
