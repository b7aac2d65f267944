//! The agent: wires capture, scoring and MQTT together; starts, supervises and stops them.
//!
//! ```text
//! capture threads -> scoring thread -> outbox -> client's thread -> broker
//!                        monitor <- supervisor <- - control - - - - -
//!                           \-> state writer -> disk -> outbox
//! ```

mod ahead;
mod announcing;
mod between;
mod error;
mod lock;
mod log_lines;
mod machines;
#[cfg(feature = "web")]
mod page;
pub mod process_stats;
mod publisher;
mod scoring_thread;
mod start;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::MissedTickBehavior;

pub use self::error::AgentError;

use self::announcing::Announcing;
use self::lock::StateLock;
pub use self::machines::{Roster, inputs};
#[cfg(feature = "web")]
use self::page::AgentPage;
#[cfg(feature = "web")]
pub use self::page::page_options;
use self::publisher::Publisher;
use self::scoring_thread::ScoringThread;
use crate::audio::capture::Capture;
use crate::config::{BrokerOrigin, Config};
use crate::control::{Controller, Output, rate_limit};
use crate::monitor::clips::ClipKeeper;
use crate::monitor::state_writer::StateWriter;
use crate::monitor::trend::writer::TrendWriter;
use crate::mqtt::{IncomingReceiver, Mqtt};
use crate::notify::{self, Notifier};
use crate::numbers::counted;
use crate::systemd;
use crate::threads::join_until;

/// A clean stop takes no longer than this, whatever hangs; the last alarms' clips apart.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// Of it, at least this is left for the broker.
const GOODBYE: Duration = Duration::from_secs(2);
/// They have this long; systemd waits 10 s in the packages.
const CLIPS_LIMIT: Duration = Duration::from_secs(8);
/// Overrides and maintenance end with this delay at most.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the watchdog where there is none.
const IDLE: Duration = Duration::from_secs(60);
/// A bundle that was read is taken into use with this delay at most.
const READY_WITHIN: Duration = Duration::from_millis(20);
/// What was answered before a restart reaches browsers in this time.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How an agent ends, where nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum End {
    /// As it was asked to.
    Stopped,
    /// To be started anew: its state is another one now.
    Restart,
}

/// Runs one agent until `shutdown` resolves, then stops it cleanly.
///
/// A bundle that cannot be read does not keep the agent from running: its verdicts are `unknown`, `no_bundle`, until a
/// good one is loaded remotely.
///
/// # Errors
/// What is wrong with the configuration: a machine without model or threshold, a WAV file that is not there.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<End, AgentError> {
    let _lock = StateLock::take(&config.agent.state_dir)?;
    let mut agent = Agent::start(config)?;
    systemd::ready();
    let outcome = agent.supervise(shutdown).await;
    match outcome {
        // To systemd this process goes on.
        Ok(End::Restart) => systemd::status("restarting with what was imported"),
        _ => systemd::stopping(),
    }
    tokio::task::spawn_blocking(move || agent.stop()).await.map_err(AgentError::system("the stop failed"))?;
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
    trend: TrendWriter,
    clips: ClipKeeper,
    notifier: Notifier,
    notify: notify::Running,
    #[cfg(feature = "web")]
    page: Option<AgentPage>,
}

impl Agent {
    /// Takes commands and lets time pass until `shutdown` resolves.
    async fn supervise(&mut self, shutdown: impl Future<Output = ()>) -> Result<End, AgentError> {
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
        let mut announcing = Announcing::default();
        let mut reporting: Option<tokio::task::JoinHandle<()>> = None;
        let mut restart_at: Option<Instant> = None;
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(End::Stopped),
                // What the plant asks of this agent.
                message = incoming.recv(), if restart_at.is_none() && commands.ready_at() <= Instant::now() => {
                    let Some(message) = message else {
                        return Err(AgentError::Ended("MQTT client"));
                    };
                    let outputs = controller.receive(&message, Utc::now());
                    announcing.ask(&outputs, rand::random(), Instant::now());
                    publisher.send(outputs);
                    commands.take(Instant::now());
                }
                // Time passes for overrides and maintenance.
                _ = tick.tick() => {
                    if restart_at.is_some_and(|at| at <= Instant::now()) {
                        return Ok(End::Restart);
                    }
                    let outputs = controller.tick(Utc::now());
                    restart_at = restart_at.or(restart_of(&outputs));
                    publisher.send(outputs);
                    if announcing.take(Instant::now()) {
                        mqtt.announce();
                    }
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
                    let outputs = controller.tick(Utc::now());
                    restart_at = restart_at.or(restart_of(&outputs));
                    publisher.send(outputs);
                }
                // Beside all this: the alarms of the last days are read from the disk for it, which may be slow.
                _ = health.tick() => if reporting.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let publisher = publisher.clone();
                    reporting = Some(tokio::task::spawn_blocking(move || publisher.health()));
                },
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
        let begun = Instant::now();
        let end = begun + STOP_LIMIT;
        self.capture.stop();
        self.scoring.finish(end - GOODBYE);
        self.clips.stop();
        self.writer.finish(end - GOODBYE);
        self.trend.finish(end - GOODBYE);
        self.notify.finish(end - GOODBYE);
        // Beside the farewell: a disk that hangs does not hold it up.
        let mut controller = self.controller;
        let flush = std::thread::Builder::new().name("flush".into()).spawn(move || controller.flush(Utc::now()));
        let without_broker = self.mqtt.broker().current().urls.all().is_empty();
        let report = self.mqtt.stop(end.saturating_duration_since(Instant::now()));
        if report.left > 0 {
            tracing::info!("kept on disk and sent after the next start: {}", counted(report.left, "message"));
        }
        match report.stopped_published {
            true => tracing::info!("stopped, and the broker has been told"),
            false if without_broker => tracing::info!("stopped"),
            false => tracing::warn!("stopped; the broker could not be told"),
        }
        if let Ok(flush) = flush {
            join_until(flush, end, "the keeper of distances", "distances of the last minute could not be kept in time");
        }
        self.clips.finish(begun + CLIPS_LIMIT);
    }
}

/// When to start anew, where that is asked for.
fn restart_of(outputs: &[Output]) -> Option<Instant> {
    outputs.contains(&Output::Restart).then(|| Instant::now() + RESTART_AFTER)
}
