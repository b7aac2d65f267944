//! `setup.find_brokers` and `setup.broker`: what the guide of the first start asks. Only the agent's own page may: they
//! reach into the network of the plant and decide where everything is published.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Execute;
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::config::{BrokerOrigin, MqttConfig};
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::{Job, Outcome};
use crate::control::output::Output;
use crate::control::shared::Shared;
use crate::control::transaction::Transaction;
use crate::control::values::ShortText;
use crate::monitor::MonitorState;
use crate::mqtt::address::BrokerUrls;
use crate::mqtt::broker::{self, BrokerLink, BrokerSettings};
use crate::mqtt::payload::{AgentState, SchemaVersion, Status, encode};
use crate::mqtt::trial::TrialError;
use crate::mqtt::{mdns, trial};
use crate::secret::Secret;

/// Brokers that announce themselves in this network.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupFindBrokers {}

impl Execute for SetupFindBrokers {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        context.only_from_page("brokers")?;
        Ok(Outcome::Job(Job::new(|| {
            let found = mdns::find_brokers(mdns::EVERYBODY).unwrap_or_else(|error| {
                tracing::debug!(%error, "brokers cannot be looked for in this network");
                Vec::new()
            });
            let brokers: Vec<_> = found.iter().map(|it| json!({ "name": it.name, "url": it.url })).collect();
            Ok(Outcome::Answer(json!({ "brokers": brokers })))
        })))
    }
}

/// Try a broker, and use it from then on unless it is only a test.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupBroker {
    /// `mqtt://host:1883`, `mqtts://host:8883`, or `none`.
    #[arg(long)]
    pub url: ShortText<300>,
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<ShortText<200>>,
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// Only try it: nothing is changed.
    #[arg(long)]
    #[serde(default)]
    pub test: bool,
}

impl Execute for SetupBroker {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        context.only_from_page("the broker")?;
        let shared = context.shared.clone();
        if shared.broker.current().origin == BrokerOrigin::File {
            let message =
                "the configuration names the broker ([mqtt] in the file, or AUSCULT__MQTT__...): change it there";
            return Err(CommandError::new(Code::NotAllowed, message));
        }
        let settings = self.settings()?;
        let test = self.test;
        if settings.urls.all().is_empty() {
            let data = json!({ "connected": false, "url": settings.urls });
            return Ok(if test { Outcome::Answer(data) } else { UseBroker::of(&shared, settings).outcome(data) });
        }
        Ok(Outcome::Job(Job::new(move || match try_out(&shared, &settings)? {
            Ok(url) => {
                let data = json!({ "connected": true, "url": url });
                Ok(if test { Outcome::Answer(data) } else { UseBroker::of(&shared, settings).outcome(data) })
            }
            Err(problem) => Ok(Outcome::Answer(json!({ "connected": false, "problem": with_causes(&problem) }))),
        })))
    }
}

impl SetupBroker {
    fn settings(&self) -> Result<BrokerSettings, CommandError> {
        let wrong = |problem: String| CommandError::new(Code::BadArgument, format!("url: {problem}"));
        let urls: BrokerUrls = self.url.as_str().trim().parse().map_err(wrong)?;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let password = self.password.clone().filter(|password| !password.expose().is_empty());
        let username = self.username.as_ref().and_then(|name| given(name.as_str()));
        if password.is_some() && username.is_none() {
            return Err(CommandError::argument("username", "one beside the password", "none"));
        }
        if password.as_ref().is_some_and(|password| password.expose().len() > 1000) {
            return Err(CommandError::argument("password", "at most 1000 bytes", "more"));
        }
        Ok(BrokerSettings { urls, username, password, password_file: None, origin: BrokerOrigin::Page })
    }
}

/// Tries a broker as this agent.
///
/// # Errors
/// Where it cannot even be tried.
fn try_out(shared: &Shared, settings: &BrokerSettings) -> Result<Result<String, TrialError>, CommandError> {
    let failed =
        |error: std::io::Error| CommandError::new(Code::Failed, format!("the broker cannot be tried: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut config: MqttConfig = shared.config.mqtt.clone();
    settings.lay_over(&mut config);
    let status = status(&shared.clock, &shared.boot);
    let tried = runtime.block_on(trial::try_broker(&config, &shared.config.agent.id, status));
    // A name that does not resolve leaves its thread behind.
    runtime.shutdown_background();
    Ok(tried)
}

/// What is true of this agent and harms nobody who reads it.
fn status(clock: &Clock, boot: &str) -> Vec<u8> {
    let (boot, ts) = (boot.to_owned(), clock.now());
    encode(&Status { schema: SchemaVersion, state: AgentState::Online, boot, ts, clock: clock.mark() })
}

/// Uses another broker.
struct UseBroker {
    state_dir: PathBuf,
    link: Arc<BrokerLink>,
    settings: BrokerSettings,
    /// What was kept before.
    before: Option<BrokerSettings>,
}

impl UseBroker {
    fn of(shared: &Shared, settings: BrokerSettings) -> UseBroker {
        let before = Some(shared.broker.current()).filter(|before| before.origin == BrokerOrigin::Page);
        UseBroker { state_dir: shared.config.agent.state_dir.clone(), link: shared.broker.clone(), settings, before }
    }

    fn outcome(self, data: Value) -> Outcome {
        Outcome::change(data, self)
    }
}

impl Transaction for UseBroker {
    fn persist(&mut self) -> Result<(), CommandError> {
        Ok(broker::save(&self.state_dir, Some(&self.settings))?)
    }

    fn revert(&mut self) {
        if let Err(error) = broker::save(&self.state_dir, self.before.as_ref()) {
            tracing::error!(%error, "the broker that was in use before cannot be kept: it is another one after a restart");
        }
    }

    fn apply(&mut self, _: &mut MonitorState, _: DateTime<Utc>) -> Vec<Output> {
        self.link.change(self.settings.clone());
        Vec::new()
    }
}
