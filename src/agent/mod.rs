//! The agent: wires capture, scoring and MQTT together; starts, supervises and stops them.
//!
//! ```text
//! capture threads -> judge thread -> outbox -> client's thread -> broker
//!                      monitor <- supervisor <- - control - - - -
//! ```

mod lock;
#[cfg(feature = "web")]
mod page;
pub mod process_stats;
mod publisher;
mod scoring_thread;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::MissedTickBehavior;

use self::lock::StateLock;
#[cfg(feature = "web")]
use self::page::AgentPage;
use self::publisher::Publisher;
use self::scoring_thread::ScoringThread;
use crate::audio::capture::{self, Capture};
use crate::audio::{MachineInput, SourceError};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::rate_limit;
use crate::control::store::{Lost, Store};
use crate::control::{self, Controller};
use crate::features::FrontEnd;
use crate::monitor::Monitor;
use crate::monitor::alarm_store::AlarmStore;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::history::History;
use crate::monitor::last_window::LastWindows;
use crate::monitor::machine::{LearningState, Machine, SignalState, WindowCounts};
use crate::monitor::model::{ActiveBundle, LoadError};
use crate::monitor::settings::Maintenance;
use crate::mqtt::discovery::{self, Described};
use crate::mqtt::{Mqtt, MqttOptions};
use crate::systemd;

/// A clean stop takes no longer than this, whatever hangs.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// Of it, at least this is left for the broker.
const FAREWELL: Duration = Duration::from_secs(2);
/// Overrides and maintenance end with this delay at most.
const TICK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at the watchdog where there is none.
const IDLE: Duration = Duration::from_secs(60);
/// A bundle that was read is taken into use with this delay at most.
const READY_WITHIN: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What is configured cannot be run, and waiting does not mend it.
    #[error("{0}")]
    Config(String),
    /// The system refuses what every agent needs.
    #[error("{0}")]
    Run(String),
}

impl From<SourceError> for AgentError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Config(_) | SourceError::Data(_) => AgentError::Config(error.to_string()),
            SourceError::Lost(_) => AgentError::Run(error.to_string()),
        }
    }
}

/// Runs one agent until `shutdown` resolves, then stops it cleanly.
///
/// A bundle that cannot be read does not keep the agent from running: its verdicts are `unknown`, `no_bundle`, until a
/// good one is loaded from afar.
///
/// # Errors
/// What is wrong with the configuration: a machine without model or threshold, a WAV file that is not there.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let clock = Clock::of_system();
    let now = clock.now().utc();
    let _lock = StateLock::take(&config.agent.state_dir)?;
    let (store, lost) = Store::open(&config.agent.state_dir, now);
    let chosen = store.chosen_bundle().unwrap_or_else(|error| {
        tracing::error!(%error, "which bundle was chosen from afar cannot be read");
        None
    });
    let loaded = load(&config, chosen.as_deref().map(Path::new))?;
    let inputs = inputs(&config, loaded.as_ref());
    let (book, mut kept, alarms_lost) = AlarmStore::open(&config.agent.state_dir);
    let book = Arc::new(book);
    let mut settings = store.settings().unwrap_or_else(|error| {
        tracing::error!(%error, "what was set from afar cannot be read");
        BTreeMap::new()
    });
    let baselines = BaselineStore::new(&config.agent.state_dir);
    let machines = config.machine.iter().enumerate().map(|(number, machine)| {
        let alarm = machine.alarm(&config.alarm).map_err(AgentError::Config)?;
        let settings = settings.remove(&machine.id).unwrap_or_default();
        let mut alarm = kept.restore(&machine.id, alarm, now);
        // Maintenance is kept with the settings; a power cut may have come before the alarm was told.
        if settings.maintenance(now).is_some() != alarm.in_maintenance() {
            alarm.set_maintenance(settings.maintenance(now).map(Maintenance::note), now);
        }
        let baseline = loaded.as_ref().and_then(|loaded| loaded.baseline(number));
        alarm.calibrate(baseline.and_then(|(baseline, _)| baseline.slow()));
        Ok(Machine {
            config: machine.clone(),
            settings,
            alarm,
            counts: WindowCounts::default(),
            last: None,
            learning: LearningState::restore(&baselines, &machine.id),
            signal: SignalState::default(),
        })
    });
    let machines = machines.collect::<Result<_, AgentError>>()?;
    let monitor = Arc::new(Monitor::new(loaded, machines));
    let capture = Arc::new(capture::start(inputs)?);

    let (mqtt, mut incoming) = Mqtt::start(options_of(&config), clock)
        .map_err(|error| AgentError::Run(format!("cannot start the MQTT client: {error}")))?;
    let history = Arc::new(History::default());
    let evidence = Arc::new(LastWindows::new(config.privacy.allow_audio));
    let shared = Arc::new(control::Shared {
        config: config.clone(),
        monitor: monitor.clone(),
        history: history.clone(),
        alarms: book.clone(),
        evidence: evidence.clone(),
        clock: mqtt.clock().clone(),
        boot: mqtt.boot().to_owned(),
        started: Instant::now(),
        store_problem: lost.map(|Lost(problem)| problem).or(alarms_lost),
        bundles: OnceLock::new(),
    });
    // What an interrupted install left behind goes; a bundle in a plain directory has no store, which is no fault.
    if let Err(error) = shared.bundles(chosen.map(PathBuf::from)) {
        tracing::debug!(%error, "bundles cannot be installed from afar");
    }
    let mut controller = Controller::new(shared, store, now);
    let config = Arc::new(config);
    let publisher = Publisher::new(config.clone(), monitor.clone(), mqtt.clone(), capture.clone());
    // Before anything is published, so that the page misses nothing.
    #[cfg(feature = "web")]
    let mut page = AgentPage::open(&config, &mqtt, capture.clone());
    publisher.birth();
    let described: Vec<_> =
        config.machine.iter().map(|machine| Described { id: &machine.id, model: machine.model() }).collect();
    discovery::announce(&config.homeassistant, &described, &config.agent.state_dir, &mqtt);
    publisher.say(controller.start(now));
    let scoring =
        ScoringThread::start(capture.clone(), monitor.clone(), publisher.clone(), history, evidence, book, baselines)
            .map_err(|error| AgentError::Run(format!("cannot start the judging thread: {error}")))?;
    #[cfg(feature = "web")]
    if page.is_some() {
        publisher.health();
    }
    systemd::ready();
    tracing::info!(agent = config.agent.id, machines = config.machine.len(), "listening");

    let health_every = Duration::from_secs_f64(config.agent.health_every_s);
    let mut health = tokio::time::interval_at(tokio::time::Instant::now() + health_every, health_every);
    let watchdog = systemd::watchdog_interval();
    let mut heartbeat = tokio::time::interval(watchdog.unwrap_or(IDLE));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut tick = tokio::time::interval(TICK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut commands = rate_limit::for_commands(Instant::now());
    tokio::pin!(shutdown);
    let outcome = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            // What the plant asks of this agent.
            message = incoming.recv(), if commands.ready_at() <= Instant::now() => {
                let Some(message) = message else {
                    break Err(AgentError::Run("the MQTT client has ended by itself".into()));
                };
                publisher.say(controller.receive(&message, Utc::now()));
                commands.take(Instant::now());
            }
            // Time passes for overrides and maintenance.
            _ = tick.tick() => {
                publisher.say(controller.tick(Utc::now()));
                #[cfg(feature = "web")]
                if let Some(page) = &mut page {
                    page.follow(&mqtt);
                }
            }
            // A bundle that is being read may be ready.
            () = tokio::time::sleep(READY_WITHIN), if controller.is_busy() => publisher.say(controller.tick(Utc::now())),
            _ = health.tick() => publisher.health(),
            // systemd ends an agent whose judge stands still, or whose outbox writes no more.
            _ = heartbeat.tick() => if watchdog.is_some() && scoring.is_alive() && mqtt.is_alive() { systemd::alive() },
        }
    };
    systemd::stopping();
    controller.flush(Utc::now());
    tokio::task::spawn_blocking(move || stop(&capture, scoring, &mqtt))
        .await
        .map_err(|error| AgentError::Run(format!("the stop failed: {error}")))?;
    outcome
}

/// How the MQTT client is set up.
fn options_of(config: &Config) -> MqttOptions {
    let Config { agent, mqtt, outbox, compat, homeassistant, .. } = config;
    MqttOptions::from_config(&agent.id, &agent.state_dir, mqtt, outbox, compat, homeassistant)
}

/// Capture first, then what it left, then the farewell.
fn stop(capture: &Capture, scoring: ScoringThread, mqtt: &Mqtt) {
    let end = Instant::now() + STOP_LIMIT;
    capture.stop();
    scoring.finish(end - FAREWELL);
    let report = mqtt.stop(end.saturating_duration_since(Instant::now()));
    if report.left > 0 {
        tracing::info!(messages = report.left, "wait on disk for the next start");
    }
    match report.stopped_published {
        true => tracing::info!("stopped; the broker knows"),
        false => tracing::warn!("stopped; the broker could not be told"),
    }
}

/// The bundle that was chosen from afar, else the configured one; `None`, said loudly, where its files are not fit for use.
fn load(config: &Config, chosen: Option<&Path>) -> Result<Option<ActiveBundle>, AgentError> {
    if let Some(chosen) = chosen {
        match ActiveBundle::open(chosen, config) {
            Ok(loaded) => {
                tracing::info!(bundle = loaded.label(), engine = loaded.engine(), "bundle in use, as chosen from afar");
                return Ok(Some(loaded));
            }
            Err(error) => tracing::error!(%error, "the bundle chosen from afar cannot be used: the configured one is"),
        }
    }
    match ActiveBundle::open(&config.bundle.path, config) {
        Ok(loaded) => {
            tracing::info!(bundle = loaded.label(), engine = loaded.engine(), "bundle in use");
            Ok(Some(loaded))
        }
        Err(error @ LoadError::Machine { .. }) => Err(AgentError::Config(error.to_string())),
        Err(LoadError::Bundle(error)) => {
            tracing::error!(%error, "no bundle: every verdict is unknown until a good one is loaded");
            Ok(None)
        }
    }
}

/// What capture needs to know; the standard front-end's window where there is no bundle.
pub fn inputs(config: &Config, loaded: Option<&ActiveBundle>) -> Vec<MachineInput> {
    let standard = FrontEnd::default();
    let standard = (standard.rate_hz, standard.window_samples());
    let machines = config.machine.iter().enumerate();
    machines
        .map(|(number, machine)| {
            let (rate_hz, window_samples) = loaded.map_or(standard, |loaded| loaded.window_of(number));
            MachineInput {
                machine: number,
                id: machine.id.clone(),
                source: machine.source.clone(),
                hop_s: machine.hop_s,
                rate_hz,
                window_samples,
            }
        })
        .collect()
}
