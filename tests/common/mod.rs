//! The test rig: real parts, started for one test and ended with it.
#![allow(dead_code, reason = "each test binary uses its own part of the rig")]

pub mod agent_process;
pub mod broker;
pub mod bundles;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod inbox;
pub mod kill_on_drop;
pub mod models;
pub mod network;
pub mod overlay;
pub mod program;
pub mod recordings;
pub mod sound;
pub mod wait;

use std::path::PathBuf;

/// `../shared` from the project's root: real bundle, real audio, golden values. `None`, said so, where it is missing;
/// under `CI=true` that is a failure.
pub fn shared() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if folder.join("golden").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", folder.display());
    eprintln!("SKIPPED: {} is missing", folder.display());
    None
}

/// LiteRT's library as `tests/setup.sh` fetches it.
pub fn litert_library() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/litert");
    let library = folder.join(std::env::consts::ARCH).join("libLiteRt.so");
    assert!(library.is_file(), "{} is missing: run tests/setup.sh", library.display());
    library
}
