//! What control shares with the rest of the agent.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::notify::Notify;
use crate::audio::capture::Capture;
use crate::audio::meters::Meters;
use crate::bundle::store::{BundleStore, InstallError};
use crate::clock::Clock;
use crate::config::Config;
use crate::monitor::Monitor;
use crate::monitor::alarm_store::AlarmStore;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::clips::Clips;
use crate::monitor::history::History;
use crate::monitor::journal::Journal;
use crate::monitor::last_window::LastWindows;
use crate::monitor::trend::Trend;
use crate::mqtt::broker::BrokerLink;

/// What control shares with the rest of the agent.
pub struct Shared {
    pub config: Config,
    pub monitor: Arc<Monitor>,
    pub capture: Arc<Capture>,
    /// Scoring notes every window here.
    pub history: Arc<History>,
    /// And here, for minutes, hours and days.
    pub trend: Arc<Trend>,
    /// Alarms on disk.
    pub alarms: Arc<AlarmStore>,
    /// All alarms that ever were.
    pub journal: Arc<Journal>,
    /// Baselines on disk.
    pub baselines: Arc<BaselineStore>,
    /// The last window of each machine, where `privacy.allow_audio` lets it be asked for.
    pub evidence: Arc<LastWindows>,
    /// Sound and picture of alarms.
    pub clips: Arc<Clips>,
    /// Tells people of alarms.
    pub notify: Arc<dyn Notify>,
    pub clock: Clock,
    /// Id of this start.
    pub boot: String,
    pub started: Instant,
    /// What was wrong with the store at start.
    pub store_problem: Option<String>,
    /// The microphones, for whoever chooses one.
    pub meters: Meters,
    /// The broker that is in use, and the way to change it.
    pub broker: Arc<BrokerLink>,
    /// Where bundles are installed, once it was needed.
    pub bundles: OnceLock<Arc<BundleStore>>,
}

impl Shared {
    /// Where bundles are installed; `chosen` is the one that was reloaded by its path, if any.
    ///
    /// # Errors
    /// As [`BundleStore::open`], where it was not open yet.
    pub fn bundles(&self, chosen: Option<PathBuf>) -> Result<Arc<BundleStore>, InstallError> {
        if let Some(store) = self.bundles.get() {
            return Ok(store.clone());
        }
        let store = Arc::new(BundleStore::open_sparing(&self.config.bundle.path, chosen)?);
        Ok(self.bundles.get_or_init(|| store).clone())
    }
}
