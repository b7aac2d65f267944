//! Would a broker do? Connects, logs in, subscribes as the agent does and looks whether what it publishes comes back.

use std::time::Duration;

use super::address::BrokerUrls;
use super::config::MqttConfig;
use super::simple_client::{SimpleClient, SimpleClientError};
use super::topics::{AgentPart, AgentTopics, MachinePart, Topic};
use super::version::Version;

/// What is published must come back within this time, as the agent will want it.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// What the broker keeps comes within this time after the subscription.
const KEPT_WITHIN: Duration = Duration::from_millis(1500);
/// The whole takes no longer.
const LIMIT: Duration = Duration::from_secs(25);
/// No machine has this id: a command to it does nothing.
const NOBODY: &str = "check";

/// Why a broker would not do; with its causes a line for a person.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Client(#[from] SimpleClientError),
    #[error("connected and logged in, but then {0}: do the broker's access rules allow this agent to write and read?")]
    Afterwards(SimpleClientError),
    #[error("connected and logged in, but {0}")]
    Denied(SimpleClientError),
    #[error("{urls}: no answer within {} s", LIMIT.as_secs())]
    Late { urls: BrokerUrls },
    #[error(
        "{url}: connected and logged in, but what is published to {topic} does not come back: do the broker's access rules \
         allow this agent to write and read it?"
    )]
    NoEcho { url: String, topic: String },
}

/// What a broker lets an agent do.
#[derive(Debug)]
pub struct Rights {
    /// The version of MQTT that was spoken.
    pub version: Version,
    /// Topics where commands do not arrive.
    pub silent: Vec<String>,
}

impl TrialError {
    /// Of what came after the login.
    fn after(error: SimpleClientError) -> TrialError {
        match error {
            SimpleClientError::Denied { .. } | SimpleClientError::Ended { .. } | SimpleClientError::Refused { .. } => {
                TrialError::Denied(error)
            }
            error => TrialError::Afterwards(error),
        }
    }
}

/// Tries the broker of `config` for agent `agent`, whose true status is `status`; its address. What is published is not
/// retained.
///
/// # Errors
/// What is wrong.
pub async fn try_broker(config: &MqttConfig, agent: &str, status: Vec<u8>) -> Result<String, TrialError> {
    within_limit(config, async {
        let mut client = begin(config, "trial", agent).await?;
        echo_status(&mut client, agent, status).await?;
        let url = client.url().to_owned();
        client.close().await?;
        Ok(url)
    })
    .await
}

/// Tries what agent `agent` needs: to write and read its status, to get commands. A running agent of this id notices nothing,
/// and what the broker keeps stays as it is: the status is said again as it stands there, or else as `unknown_status` says it,
/// which is not retained; commands are empty, which every agent passes over.
///
/// # Errors
/// What is wrong.
pub async fn try_rights(config: &MqttConfig, agent: &str, unknown_status: Vec<u8>) -> Result<Rights, TrialError> {
    within_limit(config, async {
        let mut client = begin(config, "check", agent).await?;
        let version = client.version();
        let kept = tokio::time::timeout(KEPT_WITHIN, async {
            loop {
                let message = client.next().await?;
                if message.retained && is_status(&message.topic) {
                    return Ok::<_, SimpleClientError>(message.payload);
                }
            }
        });
        let status = match kept.await {
            Ok(kept) => kept.map_err(TrialError::after)?,
            Err(_) => unknown_status,
        };
        echo_status(&mut client, agent, status).await?;
        let topics = AgentTopics::new(&config.root, agent);
        let mut silent = Vec::new();
        for topic in [topics.of_agent(AgentPart::Control), topics.of_machine(NOBODY, MachinePart::ThresholdSet)] {
            let is_there = |found: &Topic, payload: &[u8]| found.below(&config.root) == topic && payload.is_empty();
            match echo(&mut client, &topic, Vec::new(), is_there).await {
                Ok(true) => {}
                Ok(false) => silent.push(topic),
                // Not even its own: that it may not send itself commands is no fault.
                Err(SimpleClientError::Refused { .. }) => {}
                Err(SimpleClientError::Lost { .. }) => return Ok(Rights { version, silent }),
                Err(error) => return Err(TrialError::after(error)),
            }
        }
        client.close().await?;
        Ok(Rights { version, silent })
    })
    .await
}

async fn within_limit<T>(
    config: &MqttConfig,
    trial: impl Future<Output = Result<T, TrialError>>,
) -> Result<T, TrialError> {
    tokio::time::timeout(LIMIT, trial).await.map_err(|_| TrialError::Late { urls: config.url.clone() })?
}

/// Connects, and subscribes to all that the agent does.
async fn begin(config: &MqttConfig, role: &str, agent: &str) -> Result<SimpleClient, TrialError> {
    let mut client = SimpleClient::connect(config, role).await?;
    // mosquitto 2.0.11 sometimes closes the connection on what its rules deny.
    client.subscribe(&AgentTopics::new(&config.root, agent).subscriptions()).await.map_err(TrialError::after)?;
    Ok(client)
}

async fn echo_status(client: &mut SimpleClient, agent: &str, status: Vec<u8>) -> Result<(), TrialError> {
    let topic = AgentTopics::new(client.root(), agent).of_agent(AgentPart::Status);
    let is_own = |found: &Topic, payload: &[u8]| is_status(found) && payload == status;
    match echo(client, &topic, status.clone(), is_own).await.map_err(TrialError::after)? {
        true => Ok(()),
        false => Err(TrialError::NoEcho { url: client.url().to_owned(), topic }),
    }
}

/// Publishes a message that is not retained; whether it comes back.
async fn echo(
    client: &mut SimpleClient,
    topic: &str,
    payload: Vec<u8>,
    is_it: impl Fn(&Topic, &[u8]) -> bool,
) -> Result<bool, SimpleClientError> {
    client.publish(topic, false, payload).await?;
    let back = async {
        loop {
            let message = client.next().await?;
            // Retained is what the agent itself has said there.
            if !message.retained && is_it(&message.topic, &message.payload) {
                return Ok::<_, SimpleClientError>(());
            }
        }
    };
    match tokio::time::timeout(ECHO_WITHIN, back).await {
        Ok(received) => received.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn is_status(topic: &Topic) -> bool {
    matches!(topic, Topic::Agent { part: AgentPart::Status, .. })
}
