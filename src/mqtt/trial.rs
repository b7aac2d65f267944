//! Would a broker do? Connects, logs in, subscribes as the agent does and looks whether what it publishes comes back.

use std::time::Duration;

use super::address::BrokerUrls;
use super::config::MqttConfig;
use super::simple_client::{SimpleClient, SimpleClientError};
use super::topics::{AgentPart, AgentTopics, Topic};

/// What is published must come back within this time, as the agent will want it.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// The whole takes no longer.
const LIMIT: Duration = Duration::from_secs(25);

/// Why a broker would not do; with its causes a line for a person.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Client(#[from] SimpleClientError),
    #[error("connected and logged in, but then {0}: do the broker's access rules allow this agent to write and read?")]
    Afterwards(SimpleClientError),
    #[error("{urls}: no answer within {} s", LIMIT.as_secs())]
    Late { urls: BrokerUrls },
    #[error(
        "{url}: connected and logged in, but what is published to {topic} does not come back: do the broker's access rules \
         allow this agent to write and read it?"
    )]
    NoEcho { url: String, topic: String },
}

/// Tries the broker of `config` for agent `agent`, whose true status is `status`; its address. What is published is not
/// retained.
///
/// # Errors
/// What is wrong.
pub async fn try_broker(config: &MqttConfig, agent: &str, status: Vec<u8>) -> Result<String, TrialError> {
    let late = |_| TrialError::Late { urls: config.url.clone() };
    tokio::time::timeout(LIMIT, visit(config, agent, status)).await.map_err(late)?
}

async fn visit(config: &MqttConfig, agent: &str, status: Vec<u8>) -> Result<String, TrialError> {
    let topics = AgentTopics::new(&config.root, agent);
    let mut client = SimpleClient::connect(config, "trial").await?;
    // mosquitto 2.0.11 sometimes closes the connection on what its rules deny.
    client.subscribe(&topics.subscriptions()).await.map_err(TrialError::Afterwards)?;
    let topic = topics.of_agent(AgentPart::Status);
    client.publish(&topic, false, status.clone()).await.map_err(TrialError::Afterwards)?;
    let url = client.url().to_owned();
    let echo = async {
        loop {
            let message = client.next().await?;
            let is_own = matches!(&message.topic, Topic::Agent { part: AgentPart::Status, .. });
            // Retained is what the agent itself has said there.
            if is_own && !message.retained && message.payload == status {
                return Ok::<_, SimpleClientError>(());
            }
        }
    };
    match tokio::time::timeout(ECHO_WITHIN, echo).await {
        Ok(received) => received.map_err(TrialError::Afterwards)?,
        Err(_) => return Err(TrialError::NoEcho { url, topic }),
    }
    client.close().await?;
    Ok(url)
}
