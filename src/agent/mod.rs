//! The agent: wires capture, scoring and MQTT together; starts, supervises and stops them.
//!
//! ```text
//! capture threads -> judge thread -> outbox -> client's thread -> broker
//!                      station <- supervisor <- - control - - - -
//! ```

mod alarms;
mod judge;
mod report;
pub mod station;
pub mod vitals;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use self::alarms::AlarmBook;
use self::judge::Judge;
use self::report::Reporter;
use self::station::{Loaded, LoadError, Machine, Station, Tally};
use crate::audio::capture::{self, Capture};
use crate::audio::{MachineInput, SourceError};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::settings::MachineSettings;
use crate::features::FrontEnd;
use crate::mqtt::{Mqtt, MqttOptions};
use crate::systemd;

/// A clean stop takes no longer than this.
const STOP_LIMIT: Duration = Duration::from_secs(4);
const HEALTH_EVERY: Duration = Duration::from_secs(60);

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
    let loaded = load(&config)?;
    let inputs = inputs(&config, loaded.as_ref());
    let mut book = AlarmBook::open(&config.agent.state_dir);
    let now = clock.now().utc();
    let machines = config.machine.iter().map(|machine| {
        let alarm = machine.alarm(&config.alarm).map_err(AgentError::Config)?;
        Ok(Machine {
            config: machine.clone(),
            settings: MachineSettings::default(),
            alarm: book.restore(&machine.id, alarm, now),
            tally: Tally::default(),
            last: None,
        })
    });
    let station = Arc::new(Station::new(loaded, machines.collect::<Result<_, AgentError>>()?));

    let (mqtt, mut incoming) = Mqtt::start(MqttOptions::from_config(&config), clock)
        .map_err(|error| AgentError::Run(format!("cannot start the MQTT client: {error}")))?;
    let config = Arc::new(config);
    let reporter = Reporter::new(config.clone(), station.clone(), mqtt.clone());
    reporter.birth();
    let capture = match capture::start(inputs) {
        Ok(capture) => Arc::new(capture),
        Err(error) => {
            mqtt.stop(STOP_LIMIT);
            return Err(error.into());
        }
    };
    let judge = Judge::start(capture.clone(), station.clone(), reporter.clone(), book)
        .map_err(|error| AgentError::Run(format!("cannot start the judging thread: {error}")))?;
    systemd::ready();
    tracing::info!(agent = config.agent.id, machines = config.machine.len(), "listening");

    let mut health = tokio::time::interval_at(tokio::time::Instant::now() + HEALTH_EVERY, HEALTH_EVERY);
    let watchdog = systemd::watchdog_interval();
    let mut heartbeat = tokio::time::interval(watchdog.unwrap_or(HEALTH_EVERY));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // What the plant asks of this agent.
            message = incoming.recv() => match message {
                Some(message) => tracing::warn!(topic = %message.topic, "a command came"),
                None => break,
            },
            _ = health.tick() => reporter.health(&capture),
            // systemd ends an agent whose judge stands still.
            _ = heartbeat.tick() => if watchdog.is_some() && judge.is_alive() { systemd::alive() },
        }
    }
    systemd::stopping();
    tokio::task::spawn_blocking(move || stop(&capture, judge, &mqtt))
        .await
        .map_err(|error| AgentError::Run(format!("the stop failed: {error}")))
}

/// Capture first, then what it left, then the farewell.
fn stop(capture: &Capture, judge: Judge, mqtt: &Mqtt) {
    capture.stop();
    judge.finish();
    let report = mqtt.stop(STOP_LIMIT);
    if report.left > 0 {
        tracing::info!(messages = report.left, "wait on disk for the next start");
    }
    if !report.said_stopped {
        tracing::warn!("the broker could not be told that the agent has stopped");
    }
}

/// The configured bundle; `None`, said loudly, where its files are not fit for use.
fn load(config: &Config) -> Result<Option<Loaded>, AgentError> {
    match Loaded::open(&config.bundle.path, config) {
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
fn inputs(config: &Config, loaded: Option<&Loaded>) -> Vec<MachineInput> {
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
