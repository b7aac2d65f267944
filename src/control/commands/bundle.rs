//! `bundle.reload`: the new bundle is read, checked and warmed up beside the running
//! one, by the worker; the controller switches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::agent::station::Loaded;
use crate::control::Shared;
use crate::control::desk::{Desk, Outcome, Switch};
use crate::control::fault::{Code, Fault};
use crate::control::values::Line;
use crate::control::work::Work;

/// Read a bundle and switch to it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleReload {
    /// A bundle below the bundle root, like `fan-1.4`; default: the configured one.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Line<255>>,
}

impl Execute for BundleReload {
    fn run(self, desk: &mut Desk) -> Result<Outcome, Fault> {
        let shared = desk.shared.clone();
        let configured = &shared.config.bundle.path;
        let choice = match &self.path {
            None => None,
            Some(path) => Some(below(configured, path.as_str())?),
        };
        Ok(Outcome::Work(Work::new(move || {
            let dir = choice.as_deref().unwrap_or(&shared.config.bundle.path);
            ready(&shared, dir, choice.clone())
        })))
    }
}

/// The directory that `path` names below the bundle root, which is where the configured bundle lies.
fn below(configured: &Path, path: &str) -> Result<PathBuf, Fault> {
    let root = configured.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fault = |problem: String| Fault::argument("path", &format!("a bundle below {}", root.display()), problem);
    let real_root = root.canonicalize().map_err(|error| fault(format!("no root: {error}")))?;
    let real = real_root.join(path).canonicalize().map_err(|error| fault(format!("{path:?}: {error}")))?;
    if real == real_root || !real.starts_with(&real_root) {
        return Err(fault(format!("{path:?}, which leaves it")));
    }
    Ok(real)
}

/// Reads and checks the bundle in `dir` for the machines of this agent.
fn ready(shared: &Arc<Shared>, dir: &Path, choice: Option<PathBuf>) -> Result<Outcome, Fault> {
    let invalid = |problem: String| Fault::new(Code::BundleInvalid, format!("{problem}; the running bundle stays"));
    let loaded = Loaded::open(dir, &shared.config).map_err(|error| invalid(error.to_string()))?;
    if let Some(running) = &shared.station.lock().loaded {
        for (number, machine) in shared.config.machine.iter().enumerate() {
            let (expected, found) = (running.window_of(number), loaded.window_of(number));
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
    Ok(Outcome::Switch(Box::new(Switch { loaded, keep: Box::new(|| Ok(())), choice, data })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_cannot_leave_the_root() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("bundles");
        for made in
            [root.join("fan-1"), root.join("deep/fan-2"), dir.path().join("bundles-secret"), dir.path().join("out")]
        {
            std::fs::create_dir_all(made).expect("a writable directory");
        }
        symlink("fan-1", root.join("current")).expect("a link");
        symlink("../out", root.join("sly")).expect("a link");
        let configured = root.join("current");
        let real_root = root.canonicalize().expect("a directory");

        assert_eq!(below(&configured, "fan-1"), Ok(real_root.join("fan-1")));
        assert_eq!(below(&configured, "current"), Ok(real_root.join("fan-1")));
        assert_eq!(below(&configured, "deep/../deep/fan-2"), Ok(real_root.join("deep/fan-2")));
        let absolute = real_root.join("fan-1");
        assert_eq!(below(&configured, absolute.to_str().expect("UTF-8")), Ok(absolute));
        for path in
            ["..", ".", "../out", "../bundles-secret", "sly", "sly/x", "/etc", "/", "fan-1/../..", "none", "a\0b"]
        {
            let fault = below(&configured, path).expect_err(path);
            assert_eq!(fault.code, Code::BadArgument, "{path}");
        }
    }
}
