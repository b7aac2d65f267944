//! Commands in, replies out: thresholds retuned, bundles switched and the state asked for by messages.
//!
//! ```text
//! message -> command   envelope, arguments, limits      -> Rejected: an error reply
//!         -> commands  one file each: what is to be done -> Outcome: answer, change or work
//!         -> store     a change and its reply, in one transaction, on the disk
//!         -> station   between two windows
//!         -> out       reply, settings, events
//! ```

pub mod command;
pub mod commands;
pub mod controller;
pub mod desk;
pub mod fault;
pub mod history;
pub mod learning;
pub mod preview;
pub mod rate_limit;
pub mod settings;
pub mod store;
pub mod values;
pub mod work;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub use controller::{Controller, Output};

use crate::agent::alarms::AlarmBook;
use crate::agent::station::Station;
use crate::audio::evidence::LastWindows;
use crate::bundle::store::{InstallError, Store};
use crate::clock::Clock;
use crate::config::Config;
use history::History;

/// What control shares with the rest of the agent.
pub struct Shared {
    pub config: Config,
    pub station: Arc<Station>,
    /// Scoring notes every window here.
    pub history: Arc<History>,
    /// Alarms on disk.
    pub alarms: Arc<AlarmBook>,
    /// The last window of each machine, where `privacy.allow_audio` lets it be asked for.
    pub evidence: Arc<LastWindows>,
    pub clock: Clock,
    /// Id of this start.
    pub boot: String,
    pub started: Instant,
    /// What was wrong with the store at start.
    pub store_problem: Option<String>,
    /// Where bundles are installed, once it was needed.
    pub bundles: OnceLock<Arc<Store>>,
}

impl Shared {
    /// Where bundles are installed; `chosen` is the one that was reloaded by its path, if any.
    ///
    /// # Errors
    /// As [`Store::open`], where it was not open yet.
    pub fn bundles(&self, chosen: Option<PathBuf>) -> Result<Arc<Store>, InstallError> {
        if let Some(store) = self.bundles.get() {
            return Ok(store.clone());
        }
        let store = Arc::new(Store::open_sparing(&self.config.bundle.path, chosen)?);
        Ok(self.bundles.get_or_init(|| store).clone())
    }
}
