//! The agent: wires capture, scoring and MQTT together; starts, supervises and stops them.
//!
//! ```text
//! capture threads -> scoring thread -> outbox -> client's thread -> broker
//!                        monitor <- supervisor <- - control - - - - -
//!                           \-> state writer -> disk -> outbox
//! ```

mod error;
mod lock;
mod machines;
#[cfg(feature = "web")]
mod page;
pub mod process_stats;
mod publisher;
mod scoring_thread;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::MissedTickBehavior;

pub use self::error::AgentError;

use self::lock::StateLock;
use self::machines::Roster;
pub use self::machines::inputs;
#[cfg(feature = "web")]
use self::page::AgentPage;
use self::publisher::Publisher;
use self::scoring_thread::{ScoringThread, ScoringWork};
use crate::audio::capture::{self, Capture};
use crate::audio::meters::Meters;
use crate::clock::Clock;
use crate::config::{BrokerOrigin, Config};
use crate::control::rate_limit;
use crate::control::store::{Lost, StateStore};
use crate::control::{self, Controller};
use crate::monitor::alarm_store::AlarmStore;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::history::History;
use crate::monitor::last_window::LastWindows;
use crate::monitor::model::{ActiveBundle, LoadError};
use crate::monitor::state_writer::{self, StateWriter};
use crate::monitor::{AlarmChange, Monitor};
use crate::mqtt::{IncomingReceiver, Mqtt, MqttOptions};
use crate::notify::{self, Notifier};
use crate::state_files::StateFiles;
use crate::systemd;

/// A clean stop takes no longer than this, whatever hangs.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// Of it, at least this is left for the broker.
const GOODBYE: Duration = Duration::from_secs(2);
/// Overrides and maintenance end with this delay at most.
const TICK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at the watchdog where there is none.
const IDLE: Duration = Duration::from_secs(60);
/// A bundle that was read is taken into use with this delay at most.
const READY_WITHIN: Duration = Duration::from_millis(20);

/// Runs one agent until `shutdown` resolves, then stops it cleanly.
///
/// A bundle that cannot be read does not keep the agent from running: its verdicts are `unknown`, `no_bundle`, until a
/// good one is loaded remotely.
///
/// # Errors
/// What is wrong with the configuration: a machine without model or threshold, a WAV file that is not there.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let _lock = StateLock::take(&config.agent.state_dir)?;
    let mut agent = Agent::start(config)?;
    systemd::ready();
    let outcome = agent.supervise(shutdown).await;
    systemd::stopping();
    agent.controller.flush(Utc::now());
    tokio::task::spawn_blocking(move || agent.stop())
        .await
        .map_err(|error| AgentError::Run(format!("the stop failed: {error}")))?;
    outcome
}

/// The running parts.
struct Agent {
    config: Arc<Config>,
    capture: Arc<Capture>,
    mqtt: Mqtt,
    incoming: IncomingReceiver,
    controller: Controller,
    publisher: Publisher,
    scoring: ScoringThread,
    writer: StateWriter,
    notifier: Notifier,
    notify: notify::Running,
    #[cfg(feature = "web")]
    page: Option<AgentPage>,
}

impl Agent {
    /// Reads what earlier runs left, opens everything and starts the threads.
    fn start(mut config: Config) -> Result<Agent, AgentError> {
        if let Err(problem) = config.use_chosen_broker() {
            tracing::error!("{problem}: the broker that was chosen on the page is forgotten");
        }
        let clock = Clock::of_system();
        let now = clock.now().utc();
        let inventory_lost = StateFiles::new(&config.agent.state_dir).check_inventory().err().map(|lost| lost.0);
        let (store, lost) = StateStore::open(&config.agent.state_dir, now);
        let chosen = store.chosen_bundle().unwrap_or_else(|error| {
            tracing::error!(%error, "the bundle that was chosen remotely cannot be read");
            None
        });
        let baselines = Arc::new(BaselineStore::new(&config.agent.state_dir));
        let roster = Roster::read(&config, &store);
        let loaded = load(&config, chosen.as_deref().map(Path::new), &roster, &baselines)?;
        let (inputs, waiting) = roster.inputs(loaded.as_ref());
        let (alarms, saved, alarms_lost) = AlarmStore::open(&config.agent.state_dir);
        let machines = roster.restore(&config, &store, loaded.as_ref(), saved, &baselines, now)?;
        let monitor = Arc::new(Monitor::new(loaded, machines));
        let capture = Arc::new(capture::start_with(inputs, waiting)?);
        let (mqtt, incoming) = Mqtt::start(options_of(&config), clock)
            .map_err(|error| AgentError::Run(format!("cannot start the MQTT client: {error}")))?;
        let notifier = Notifier::new(&config.agent.id, config.web.url.as_deref(), &config.notify);
        let shared = Arc::new(control::Shared {
            config: config.clone(),
            monitor: monitor.clone(),
            capture: capture.clone(),
            history: Arc::new(History::default()),
            alarms: Arc::new(alarms),
            baselines: baselines.clone(),
            evidence: Arc::new(LastWindows::new(config.privacy.allow_audio)),
            notify: Arc::new(notifier.clone()),
            clock: mqtt.clock().clone(),
            boot: mqtt.boot().to_owned(),
            started: Instant::now(),
            store_problem: store_problem([inventory_lost, lost.map(|Lost(problem)| problem), alarms_lost]),
            meters: meters(&capture),
            broker: mqtt.broker(),
            bundles: OnceLock::new(),
        });
        // What an interrupted install left behind goes; a bundle in a plain directory has no store, which is no fault.
        if let Err(error) = shared.bundles(chosen.map(PathBuf::from)) {
            tracing::debug!(%error, "bundles cannot be installed remotely");
        }
        let controller = Controller::new(shared.clone(), store, now);
        let config = Arc::new(config);
        let (handle, jobs) = state_writer::channel();
        let publisher = Publisher::new(
            config.clone(),
            monitor.clone(),
            mqtt.clone(),
            capture.clone(),
            handle.clone(),
            notifier.clone(),
        );
        // Before anything is published, so that the page misses nothing.
        #[cfg(feature = "web")]
        let page = AgentPage::open(&config, &mqtt, monitor.clone(), capture.clone());
        roster.removed.iter().for_each(|id| mqtt.retire_machine(id));
        publisher.birth();
        let notify = notifier
            .start(&config.agent.state_dir)
            .map_err(|error| AgentError::Run(format!("cannot start a thread: {error}")))?;
        publisher.announce();
        publisher.send(controller.start(&roster.ignored, now));
        let publish = {
            let publisher = publisher.clone();
            move |change: &AlarmChange| publisher.alarm(change)
        };
        let thread = |error| AgentError::Run(format!("cannot start a thread: {error}"));
        let writer =
            StateWriter::start((handle.clone(), jobs), monitor.clone(), shared.alarms.clone(), baselines, publish)
                .map_err(thread)?;
        let work = ScoringWork {
            capture: capture.clone(),
            monitor,
            publisher: publisher.clone(),
            history: shared.history.clone(),
            evidence: shared.evidence.clone(),
            writer: handle,
        };
        let scoring = ScoringThread::start(work).map_err(thread)?;
        #[cfg(feature = "web")]
        if page.is_some() {
            publisher.health();
        }
        match roster.machines.len() {
            #[cfg(feature = "web")]
            0 => waits_for_setup(page.as_ref().map(AgentPage::url)),
            #[cfg(not(feature = "web"))]
            0 => waits_for_setup(None),
            machines => tracing::info!(agent = config.agent.id, machines, "listening"),
        }
        Ok(Agent {
            config,
            capture,
            mqtt,
            incoming,
            controller,
            publisher,
            scoring,
            writer,
            notifier,
            notify,
            #[cfg(feature = "web")]
            page,
        })
    }

    /// Takes commands and lets time pass until `shutdown` resolves.
    async fn supervise(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let Agent { config, mqtt, incoming, controller, publisher, scoring, writer, notifier, .. } = self;
        let mut was_connected = false;
        let health_every = Duration::from_secs_f64(config.agent.health_every_s);
        let mut health = tokio::time::interval_at(tokio::time::Instant::now() + health_every, health_every);
        let watchdog = systemd::watchdog_interval();
        let mut heartbeat = tokio::time::interval(watchdog.unwrap_or(IDLE));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut tick = tokio::time::interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut commands = rate_limit::for_commands(Instant::now());
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                // What the plant asks of this agent.
                message = incoming.recv(), if commands.ready_at() <= Instant::now() => {
                    let Some(message) = message else {
                        return Err(AgentError::Run("the MQTT client has ended by itself".into()));
                    };
                    publisher.send(controller.receive(&message, Utc::now()));
                    commands.take(Instant::now());
                }
                // Time passes for overrides and maintenance.
                _ = tick.tick() => {
                    publisher.send(controller.tick(Utc::now()));
                    let broker = mqtt.broker().current();
                    let connected = mqtt.is_connected() || broker.urls.all().is_empty();
                    was_connected |= connected;
                    // Nobody has asked for the one on this computer: that it is not there is no trouble.
                    if was_connected || broker.origin != BrokerOrigin::Default {
                        notifier.broker(connected);
                    }
                    #[cfg(feature = "web")]
                    if let Some(page) = &mut self.page {
                        page.follow(mqtt);
                    }
                }
                // A bundle that is being read may be ready.
                () = tokio::time::sleep(READY_WITHIN), if controller.is_busy() => {
                    publisher.send(controller.tick(Utc::now()));
                }
                _ = health.tick() => publisher.health(),
                // systemd ends an agent whose scoring stands still, or whose outbox or state are written no more.
                _ = heartbeat.tick() => if watchdog.is_some() {
                    let (scores, writes) = (scoring.is_alive(), writer.is_alive(Instant::now()));
                    if scores && writes && mqtt.is_alive() {
                        systemd::alive();
                    }
                },
            }
        }
    }

    /// Stops capture first, scores and saves what it left, then says goodbye to the broker.
    fn stop(self) {
        let end = Instant::now() + STOP_LIMIT;
        self.capture.stop();
        self.scoring.finish(end - GOODBYE);
        self.writer.finish(end - GOODBYE);
        self.notify.finish(end - GOODBYE);
        let report = self.mqtt.stop(end.saturating_duration_since(Instant::now()));
        if report.left > 0 {
            tracing::info!(messages = report.left, "messages wait on disk for the next start");
        }
        match report.stopped_published {
            true => tracing::info!("stopped; the broker knows"),
            false => tracing::warn!("stopped; the broker could not be reached"),
        }
    }
}

/// Everything that was lost, in one line; each goes to the log.
fn store_problem(problems: [Option<String>; 3]) -> Option<String> {
    let all: Vec<String> = problems.into_iter().flatten().collect();
    all.iter().for_each(|problem| tracing::error!("lost of the last run: {problem}"));
    (!all.is_empty()).then(|| all.join("; "))
}

/// Says where an agent without machines is set up.
fn waits_for_setup(page: Option<&str>) {
    let line = match page {
        Some(url) => format!("waiting for set-up: open {url} in a browser, or run `auscult setup`"),
        None => "waiting for set-up: no machine is configured, and there is no page to add one".to_owned(),
    };
    tracing::warn!("{line}");
    systemd::status(&line);
}

/// The microphones, for whoever chooses one; those that machines listen to are left to the capture.
fn meters(capture: &Arc<Capture>) -> Meters {
    let capture = Arc::downgrade(capture);
    Meters::new("/sys", Box::new(move || capture.upgrade().map_or_else(Vec::new, |capture| capture.devices())))
}

/// How the MQTT client is set up.
fn options_of(config: &Config) -> MqttOptions {
    let Config { agent, mqtt, outbox, compat, homeassistant, .. } = config;
    MqttOptions::from_config(&agent.id, &agent.state_dir, mqtt, outbox, compat, homeassistant)
}

/// The bundle that was chosen remotely, else the configured one, else the demo's where nobody has configured any; `None`,
/// and an error in the log, where its files are not fit for use.
fn load(
    config: &Config,
    chosen: Option<&Path>,
    roster: &Roster,
    baselines: &BaselineStore,
) -> Result<Option<ActiveBundle>, AgentError> {
    let open = |dir: &Path| ActiveBundle::open_for(dir, config, roster.wanted(), baselines);
    if let Some(chosen) = chosen {
        match open(chosen) {
            Ok(loaded) => {
                tracing::info!(bundle = loaded.label(), engine = loaded.engine(), "bundle in use, as chosen remotely");
                return Ok(Some(loaded));
            }
            Err(error) => {
                tracing::error!(%error, "the bundle that was chosen remotely cannot be used: the configured one is")
            }
        }
    }
    if let Some(demo) = config.bundle.demo() {
        return Ok(match open(&demo) {
            Ok(loaded) => {
                tracing::warn!(
                    bundle = loaded.label(),
                    "no bundle is configured: the demo's is in use, which knows simulated machines only; its encoder is good \
                     for learning a machine's normal, its machines are not yours"
                );
                Some(loaded)
            }
            Err(error) => {
                tracing::error!(%error, "no bundle: every verdict is unknown until a good one is loaded");
                None
            }
        });
    }
    match open(&config.bundle.path) {
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
