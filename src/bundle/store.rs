//! Installed bundles: directories beside each other, a link to the one in use, and the way back.
//!
//! ```text
//! bundles/
//!   current -> site-fans-2025.2     bundle.path: the bundle in use
//!   site-fans-2025.1/               what rollback goes back to
//!   site-fans-2025.2/
//!   .history.json                   in which order they were installed
//! ```
//!
//! Only the rename of the link changes what is in use, so that a crash at any moment leaves the bundle before or the
//! bundle after. What a crash leaves lying about is removed when the store is opened the next time.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::archive;
use super::files::MANIFEST;
use super::{Bundle, BundleError, TrimOnDrop, TrustedKey};
use crate::archive::sha256_of;
use crate::fs::{self as durable, UNFINISHED};

/// Installed bundles that are kept, the one in use included.
pub const KEPT: usize = 3;

const HISTORY: &str = ".history.json";
const UPLOADS: &str = ".incoming";

/// Why a bundle was not installed, reloaded or rolled back.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// What was asked for cannot be done here.
    #[error("{0}")]
    Argument(String),
    /// The archive is wrong.
    #[error("{0}")]
    Archive(String),
    /// The bundle in it is wrong.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The disk or the network failed.
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

impl InstallError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> InstallError {
        move |error| InstallError::Io { what: what.into(), error }
    }
}

/// The directory of installed bundles. One at a time works on it.
#[derive(Debug)]
pub struct BundleStore {
    root: PathBuf,
    /// Name of the link to the bundle in use.
    link: String,
    /// A bundle that is in use though the link does not point to it.
    spared: Mutex<Option<PathBuf>>,
}

/// A bundle in its place, not yet in use.
#[derive(Debug)]
pub struct Placed {
    /// Where it lies.
    pub dir: PathBuf,
    target: String,
    /// Whether it was there before, and stays if it is not taken into use.
    was_there: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// What the link says.
    target: String,
    /// Whether it was installed here, and may be removed here; not what someone put there and linked by hand.
    installed: bool,
}

impl BundleStore {
    /// Opens the store whose bundle in use is `path` (`bundle.path`), and removes what an interrupted install left.
    ///
    /// # Errors
    /// `Argument` where `path` is a plain directory or file: such a bundle can be reloaded, not replaced.
    pub fn open(path: &Path) -> Result<BundleStore, InstallError> {
        BundleStore::open_sparing(path, None)
    }

    /// As [`BundleStore::open`]; the bundle in the directory `spared`, which was reloaded by its path, is not removed.
    ///
    /// # Errors
    /// As [`BundleStore::open`].
    pub fn open_sparing(path: &Path, spared: Option<PathBuf>) -> Result<BundleStore, InstallError> {
        let shown = path.display();
        let argument = |problem: String| InstallError::Argument(format!("bundle.path {shown}: {problem}"));
        let (Some(root), Some(link)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(argument("expected a directory and a name in it".into()));
        };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(InstallError::io(path.display().to_string())(error)),
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(_) => {
                return Err(argument(format!(
                    "expected a link to the bundle in use, found a plain directory or file; to install bundles, rename it \
                     and make {shown} a link to it"
                )));
            }
        }
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        fs::create_dir_all(root).map_err(InstallError::io(root.display().to_string()))?;
        let store = BundleStore { root: root.into(), link: link.into(), spared: Mutex::new(spared) };
        store.sweep(&store.root.join(UPLOADS))?;
        store.clean()?;
        Ok(store)
    }

    /// From here on the bundle in `dir` is not removed, and the one spared before may be.
    pub fn spare(&self, dir: Option<PathBuf>) {
        *self.spared.lock().unwrap_or_else(PoisonError::into_inner) = dir;
    }

    fn is_spared(&self, entry: &Entry) -> bool {
        let spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = |path: &Path| path.canonicalize().ok();
        spared.as_deref().and_then(dir).is_some_and(|spared| dir(&self.root.join(&entry.target)) == Some(spared))
    }

    /// Directory for archives on their way, made if need be.
    pub fn upload_dir(&self) -> Result<PathBuf, InstallError> {
        let dir = self.root.join(UPLOADS);
        fs::create_dir_all(&dir).map_err(InstallError::io(dir.display().to_string()))?;
        Ok(dir)
    }

    /// Unpacks `archive` (`.tar.gz` or `.zip`), checks the bundle in it, and lays it at `<name>-<version>`. It is not in
    /// use before [`BundleStore::switch`]. An engine is not loaded here.
    ///
    /// # Errors
    /// Another sha256 than expected, an archive or bundle that is wrong, a bundle without manifest or, with a `key`,
    /// without its signature; a directory of that name that holds something else.
    pub fn place(&self, archive: &mut File, sha256: &str, key: Option<&TrustedKey>) -> Result<Placed, InstallError> {
        let _trim = TrimOnDrop;
        self.clean()?;
        let found = sha256_of(archive).map_err(InstallError::io("reading the archive"))?;
        if found != sha256 {
            return Err(InstallError::Archive(format!("expected an archive of sha256 {sha256}, found {found}")));
        }
        let staging = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.root);
        let staging = staging.map_err(InstallError::io(self.root.display().to_string()))?;
        archive::unpack(archive, staging.path()).map_err(InstallError::Archive)?;
        let bundle = read(staging.path(), key).map_err(|error| within_archive(error, staging.path()))?;
        if bundle.manifest.is_none() {
            return Err(InstallError::Archive(format!("expected {MANIFEST} with name and version, found none")));
        }
        let target = format!("{}-{}", bundle.name, bundle.version);
        let dir = self.root.join(&target);
        if target == self.link {
            return Err(InstallError::Archive(format!("expected another name than {target:?}, which is the link's")));
        }
        if fs::symlink_metadata(&dir).is_ok() {
            if read(&dir, key).is_ok_and(|there| there.manifest_sha256 == bundle.manifest_sha256) {
                return Ok(Placed { dir, target, was_there: true });
            }
            self.make_room(&target)?;
        }
        // In the history first: what is not in it is not ours to remove.
        let mut history = self.history_with_current();
        history.retain(|entry| entry.target != target);
        history.push(Entry { target: target.clone(), installed: true });
        self.write_history(&history)?;
        let done = fs::set_permissions(staging.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755));
        done.and_then(|()| fs::rename(staging.keep(), &dir)).map_err(InstallError::io(dir.display().to_string()))?;
        self.sync()?;
        Ok(Placed { dir, target, was_there: false })
    }

    /// Takes `placed` into use: from here on `bundle.path` is this bundle, through a power cut too. Of the bundles
    /// installed before, the last [`KEPT`] stay; those that were rolled back from do not.
    ///
    /// # Errors
    /// Where the disk fails; then the bundle before is still in use.
    pub fn switch(&self, placed: &Placed) -> Result<(), InstallError> {
        let mut history = self.history_with_current();
        let moved = history.iter().position(|entry| entry.target == placed.target).map(|at| history.remove(at));
        let moved = moved.unwrap_or(Entry { target: placed.target.clone(), installed: false });
        if let Some(current) = self.position(&history) {
            for entry in history.extract_if(current + 1.., |entry| !self.is_spared(entry)) {
                self.remove(&entry)?;
            }
        }
        history.push(moved);
        self.write_history(&history)?;
        self.relink(&placed.target)?;
        while history.len() > KEPT {
            self.remove(&history.remove(0))?;
        }
        self.write_history(&history)
    }

    /// Removes a placed bundle that will not be taken into use; one that was there before stays.
    pub fn discard(&self, placed: Placed) -> Result<(), InstallError> {
        if placed.was_there || self.target().as_ref() == Some(&placed.target) {
            return Ok(());
        }
        let mut history = self.history();
        if let Some(at) = history.iter().position(|entry| entry.target == placed.target) {
            self.remove(&history.remove(at))?;
        }
        self.write_history(&history)
    }

    /// The bundle that was in use before the current one was installed.
    ///
    /// # Errors
    /// `Argument` where there is none.
    pub fn previous(&self) -> Result<Placed, InstallError> {
        let history = self.history();
        let previous = self.position(&history).and_then(|current| history.get(current.checked_sub(1)?));
        let none = || InstallError::Argument("expected a bundle installed before the current one, found none".into());
        let target = previous.ok_or_else(none)?.target.clone();
        Ok(Placed { dir: self.root.join(&target), target, was_there: true })
    }

    /// Takes the bundle of [`BundleStore::previous`] into use again. The one that was current is kept until the next install
    /// or start.
    ///
    /// # Errors
    /// Where the disk fails; then the bundle before is still in use.
    pub fn switch_back(&self, previous: &Placed) -> Result<(), InstallError> {
        self.relink(&previous.target)
    }

    /// What the link says.
    fn target(&self) -> Option<String> {
        fs::read_link(self.root.join(&self.link)).ok()?.to_str().map(str::to_owned)
    }

    fn position(&self, history: &[Entry]) -> Option<usize> {
        let current = self.target()?;
        history.iter().position(|entry| entry.target == current)
    }

    /// The bundles in the order of their installation; without those whose directory is gone.
    fn history(&self) -> Vec<Entry> {
        let file = self.root.join(HISTORY);
        let read = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            text => text.and_then(|text| Ok(serde_json::from_slice(&text)?)),
        };
        let mut history: Vec<Entry> = read.unwrap_or_else(|error| {
            let file = file.display();
            tracing::error!(%error, "{file}: which bundles were installed is lost: the one in use stays, the ones before are neither gone back to nor removed");
            Vec::new()
        });
        // What is removed by it must be a name in this directory, whatever the file says.
        history.retain(|entry| {
            (!entry.installed || is_plain_name(&entry.target)) && self.root.join(&entry.target).is_dir()
        });
        history
    }

    /// The history, in which a bundle that was linked by hand is the newest.
    fn history_with_current(&self) -> Vec<Entry> {
        let mut history = self.history();
        if let Some(target) = self.target()
            && !history.iter().any(|entry| entry.target == target)
        {
            history.push(Entry { target, installed: false });
        }
        history
    }

    fn write_history(&self, history: &[Entry]) -> Result<(), InstallError> {
        let text = serde_json::to_vec(history).expect("names can be written as JSON");
        let path = self.root.join(HISTORY);
        durable::replace(&path, &text).map_err(InstallError::io(path.display().to_string()))
    }

    fn relink(&self, target: &str) -> Result<(), InstallError> {
        let link = self.root.join(&self.link);
        durable::replace_link(&link, Path::new(target)).map_err(InstallError::io(link.display().to_string()))
    }

    /// Moves a directory out of the way of an install, if it may be removed.
    fn make_room(&self, target: &str) -> Result<(), InstallError> {
        let refuse = |why: &str| {
            Err(InstallError::Argument(format!(
                "{target} is there already with other content and {why}; raise the version"
            )))
        };
        if self.target().as_deref() == Some(target) {
            return refuse("is in use");
        }
        match self.history().iter().find(|entry| entry.target == target) {
            Some(entry) if entry.installed => self.remove(entry),
            _ => refuse("was not installed here"),
        }
    }

    /// Removes an installed directory; renamed first, so that none is ever there in part.
    fn remove(&self, entry: &Entry) -> Result<(), InstallError> {
        if !entry.installed || self.target().as_ref() == Some(&entry.target) {
            return Ok(());
        }
        let dir = self.root.join(&entry.target);
        let remove = || {
            let trash = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.root)?;
            match fs::rename(&dir, trash.path().join("bundle")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => trash.close(),
            }
        };
        remove().map_err(InstallError::io(format!("removing {}", dir.display())))
    }

    /// Removes unfinished work, and bundles that were placed or rolled back from but are not in use.
    fn clean(&self) -> Result<(), InstallError> {
        self.sweep(&self.root)?;
        let mut history = self.history();
        if let Some(current) = self.position(&history)
            && current + 1 < history.len()
        {
            for entry in history.extract_if(current + 1.., |entry| !self.is_spared(entry)) {
                self.remove(&entry)?;
            }
            self.write_history(&history)?;
        }
        Ok(())
    }

    /// Removes unfinished work from a directory.
    fn sweep(&self, dir: &Path) -> Result<(), InstallError> {
        let fault = || InstallError::io(dir.display().to_string());
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(fault())?,
        };
        for entry in entries {
            let entry = entry.map_err(fault())?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let is_dir = entry.file_type().map_err(fault())?.is_dir();
                let remove = if is_dir { fs::remove_dir_all } else { fs::remove_file };
                remove(entry.path()).map_err(fault())?;
            }
        }
        Ok(())
    }

    /// Makes renames in the directory last through a power cut.
    fn sync(&self) -> Result<(), InstallError> {
        durable::sync_dir(&self.root).map_err(InstallError::io(self.root.display().to_string()))
    }
}

fn read(dir: &Path, key: Option<&TrustedKey>) -> Result<Bundle, BundleError> {
    match key {
        Some(key) => Bundle::read_signed(dir, key),
        None => Bundle::read(dir),
    }
}

/// The file as it is called in the archive; where it was unpacked is nobody's business.
fn within_archive(error: BundleError, dir: &Path) -> BundleError {
    let file = error.file.strip_prefix(dir).map_or_else(|_| error.file.clone(), Path::to_path_buf);
    BundleError { file, ..error }
}

fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) && !name.starts_with('.')
}

/// The directory that `bundle.reload` with `path` means: below the one that holds `bundle.path`, links followed.
///
/// # Errors
/// `Argument` for an absolute path, `..`, a hidden name, a link that leads out, or what is no directory.
pub fn resolve(bundle_path: &Path, path: &str) -> Result<PathBuf, InstallError> {
    let argument = |problem: &str| {
        let shown: String = path.chars().take(128).collect();
        InstallError::Argument(format!("path: expected a directory below the bundles' own, found {shown:?}{problem}"))
    };
    let plain = |component: Component| match component {
        Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
        _ => false,
    };
    if path.is_empty() || path.contains('\0') || !Path::new(path).components().all(plain) {
        return Err(argument(""));
    }
    let root = bundle_path.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = root.canonicalize().map_err(InstallError::io(root.display().to_string()))?;
    let found = root.join(path).canonicalize().map_err(|error| argument(&format!(": {error}")))?;
    if !found.starts_with(&root) || found == root {
        return Err(argument(", which leads out of it"));
    }
    if !found.is_dir() {
        return Err(argument(", which is not a directory"));
    }
    Ok(found)
}
