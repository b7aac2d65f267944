//! `bundle.reload`, `bundle.install`, `bundle.rollback`: the new bundle is read, checked and warmed up beside the running
//! one, by the worker; the controller switches.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Execute;
use crate::bundle::TrimOnDrop;
use crate::bundle::download::{self, download};
use crate::bundle::store::{self, BundleStore, InstallError};
use crate::control::bundle_switch::{BundleSwitch, InstallBundle, ReloadBundle, Rollback};
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::{Job, Outcome};
use crate::control::pieces::{Gathered, Pieces};
use crate::control::shared::Shared;
use crate::control::values::{Bytes, Chunk, Sha256, ShortText};
use crate::monitor::model::{ActiveBundle, Misfit};

/// Read a bundle and switch to it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleReload {
    /// A bundle below the bundle root, like `fan-1.4`; default: the configured one.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<ShortText<255>>,
}

impl Execute for BundleReload {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let configured = &shared.config.bundle.path;
        let choice = self.path.map(|path| store::resolve(configured, path.as_str())).transpose()?;
        // The configured bundle by its own name is no choice, and no step to go back from.
        let is_configured = |dir: &PathBuf| dir.canonicalize().ok() == configured.canonicalize().ok();
        let choice = choice.filter(|dir| !is_configured(dir));
        let chosen = context.chosen_bundle()?;
        Ok(Outcome::Job(Job::new(move || {
            let dir = choice.as_deref().unwrap_or(&shared.config.bundle.path);
            let (switch, data) = ready(&shared, dir, Version::AsConfigured)?;
            if switch.is_running() && chosen == choice {
                return Ok(Outcome::Answer(unchanged(data)));
            }
            Ok(Outcome::change(data, ReloadBundle { switch, choice }))
        })))
    }
}

/// Install a bundle and switch to it: from a URL, or in pieces. A piece is answered with how far the archive has come; the
/// command with `size` and without a piece installs it once all is there, and tells how far it is before.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[command(override_usage = "auscult ctl --agent ID bundle.install (--file FILE | --url URL --sha256 SUM)")]
pub struct BundleInstall {
    /// SHA-256 of the archive, as `auscult bundle pack` prints it; needed with --url, worked out with --file.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Where the agent downloads it: http:// or https://, of a host in its `bundle.allow_from`.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<ShortText<2000>>,
    /// In pieces: bytes of the whole archive, up to 64 MiB.
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
    /// An archive on this computer, which is sent in pieces over the broker.
    #[arg(long)]
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl BundleInstall {
    /// One of the pieces of an archive, or the question which ones are there.
    pub fn is_piece(&self) -> bool {
        self.url.is_none() && self.offset.is_some()
    }
}

impl Execute for BundleInstall {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let sha256 = self.sha256.ok_or_else(|| CommandError::argument("sha256", Sha256::EXPECTED, "none"))?;
        let sha256 = sha256.as_str().to_owned();
        let shared = context.shared.clone();
        let bundles = shared.bundles(context.chosen_bundle()?)?;
        match (self.url, self.size, self.offset, self.data) {
            (Some(url), None, None, None) => Ok(Outcome::Job(Job::new(move || {
                let config = &shared.config.bundle;
                let archive = download(url.as_str(), &bundles.upload_dir()?, config, download::TIME_LIMIT)?;
                let mut archive = archive.into_file();
                install(&shared, &bundles, &mut archive, &sha256, None)
            }))),
            (None, Some(Bytes(size)), offset, data) if offset.is_some() == data.is_some() => {
                let pieces = Pieces { dir: bundles.upload_dir()?, sha256 };
                let arrived = match pieces.gather(size, offset.zip(data))? {
                    Gathered::Part(progress) => return Ok(Outcome::Answer(json!(progress))),
                    Gathered::All(arrived) => arrived,
                };
                Ok(Outcome::Job(Job::new(move || {
                    let mut archive = arrived.finish()?;
                    pieces.settle(install(&shared, &bundles, &mut archive, &pieces.sha256, Some(pieces.clone())))
                })))
            }
            _ => Err(CommandError::new(
                Code::BadArgument,
                "expected url alone, or size alone, or size, offset and data, found another combination",
            )),
        }
    }
}

/// Go back to the bundle before.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleRollback {}

impl Execute for BundleRollback {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        let shared = context.shared.clone();
        let chosen = context.chosen_bundle()?;
        Ok(Outcome::Job(Job::new(move || {
            if chosen.is_some() {
                // What was reloaded by its path is left again; what was installed stays as it is.
                let (switch, data) = ready(&shared, &shared.config.bundle.path, Version::Any)?;
                return Ok(Outcome::change(data, ReloadBundle { switch, choice: None }));
            }
            let bundles = shared.bundles(None)?;
            let previous = bundles.previous()?;
            let (switch, data) = ready(&shared, &previous.dir, Version::Any)?;
            Ok(Outcome::change(data, Rollback { switch, bundles, previous }))
        })))
    }
}

impl From<InstallError> for CommandError {
    fn from(error: InstallError) -> CommandError {
        match &error {
            InstallError::Argument(_) => CommandError::new(Code::BadArgument, error),
            InstallError::Archive(_) | InstallError::Bundle(_) => invalid(error),
            InstallError::Io { .. } => CommandError::new(Code::Failed, error),
        }
    }
}

fn invalid(problem: impl std::fmt::Display) -> CommandError {
    CommandError::new(Code::BundleInvalid, format!("{problem}; the running bundle stays"))
}

/// Lays the bundle of an archive in its place and makes it ready; one that is no good leaves nothing.
fn install(
    shared: &Arc<Shared>,
    bundles: &Arc<BundleStore>,
    archive: &mut File,
    sha256: &str,
    pieces: Option<Pieces>,
) -> Result<Outcome, CommandError> {
    let key = shared.config.bundle.trusted_key().map_err(|error| CommandError::new(Code::Failed, error))?;
    let placed = bundles.place(archive, sha256, key.as_ref())?;
    match ready(shared, &placed.dir, Version::AsConfigured) {
        Ok((switch, data)) => {
            Ok(Outcome::change(data, InstallBundle { switch, bundles: bundles.clone(), placed, pieces }))
        }
        Err(error) => {
            if let Err(error) = bundles.discard(placed) {
                tracing::warn!(%error, "a refused bundle cannot be removed");
            }
            Err(error)
        }
    }
}

/// Which versions of the running bundle may take its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// What ran here before may run again.
    Any,
    /// As `bundle.allow_downgrade` says.
    AsConfigured,
}

/// The reply where what was asked for is what runs.
fn unchanged(mut data: Value) -> Value {
    data["note"] = "unchanged: this very bundle is in use".into();
    data
}

/// Reads, checks and warms up the bundle in `dir` for the machines of this agent; with it, what the reply says of it.
fn ready(shared: &Arc<Shared>, dir: &Path, version: Version) -> Result<(BundleSwitch, Value), CommandError> {
    let _trim = TrimOnDrop;
    let machines: Vec<_> = {
        let state = shared.monitor.lock();
        state.machines.iter().map(|(number, machine)| (number, machine.config.clone())).collect()
    };
    let wanted = machines.iter().map(|(number, machine)| (*number, machine, Misfit::Refused));
    let loaded = ActiveBundle::open_for(dir, &shared.config, wanted, &shared.baselines).map_err(invalid)?;
    if let Some(running) = &shared.monitor.lock().loaded {
        if version == Version::AsConfigured && !shared.config.bundle.allows_downgrade() {
            loaded.bundle.check_upgrade(&running.bundle).map_err(invalid)?;
        }
        for (number, machine) in &machines {
            let (expected, found) = (running.window_of(*number), loaded.window_of(*number));
            if expected != found {
                let show = |(rate_hz, samples): (u32, usize)| format!("{samples} samples at {rate_hz} Hz");
                let id = &machine.id;
                let (expected, found) = (show(expected), show(found));
                let problem =
                    format!("machine {id:?}: expected windows of {expected} as they are captured, found {found}");
                return Err(invalid(format!("{problem}; configure this bundle and restart the agent")));
            }
        }
    }
    let bundle = &loaded.bundle;
    let data = json!({
        "bundle": loaded.label(), "name": bundle.name, "version": bundle.version, "digest": bundle.digest,
        "dir": bundle.dir, "engine": loaded.engine(),
    });
    Ok((BundleSwitch { shared: shared.clone(), bundle: Some(loaded) }, data))
}
