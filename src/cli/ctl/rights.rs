//! Whether this login may command at all: MQTT 3.1.1 does not say when a message is denied, and 5 says so where the broker does.

use std::time::Duration;

use tokio::time::timeout;

use crate::config::MqttConfig;
use crate::mqtt::simple_client::{SimpleClient, SimpleClientError};

/// A message comes back from the broker within this time.
const ECHO_WITHIN: Duration = Duration::from_secs(2);
/// The whole takes no longer.
const LIMIT: Duration = Duration::from_secs(4);

/// What was found out.
#[derive(Debug, PartialEq)]
pub enum Rights {
    /// Commands reach the broker, or it cannot be found out.
    Known,
    /// They probably do not: why, for a person.
    Doubted(String),
}

/// Publishes an empty message to a control topic, which asks nothing of an agent, and looks whether the broker returns it.
/// On a connection of its own, since some brokers end it on what their rules deny.
pub async fn to_command(mqtt: &MqttConfig, topic: &str) -> Rights {
    timeout(LIMIT, probe(mqtt, topic)).await.unwrap_or(Rights::Known)
}

async fn probe(mqtt: &MqttConfig, topic: &str) -> Rights {
    let Ok(mut client) = SimpleClient::connect(mqtt, "ctl-rights").await else { return Rights::Known };
    // Who may not read it may still write it: of a broker that ends the connection for the one it is found out by the other.
    if client.subscribe_once(&[topic.to_owned()]).await.is_err() {
        let Ok(mut client) = SimpleClient::connect(mqtt, "ctl-rights").await else { return Rights::Known };
        let published = async {
            client.publish(topic, false, Vec::new()).await?;
            client.flush().await
        };
        return match published.await {
            Ok(()) => Rights::Known,
            Err(refused @ SimpleClientError::Refused { .. }) => Rights::Doubted(refused.to_string()),
            Err(_) => ended(topic),
        };
    }
    let echo = async {
        client.publish(topic, false, Vec::new()).await?;
        loop {
            let message = client.next().await?;
            if !message.retained && message.topic.below(&mqtt.root) == topic {
                return Ok::<_, SimpleClientError>(());
            }
        }
    };
    match timeout(ECHO_WITHIN, echo).await {
        Ok(Ok(())) => {
            let _ = client.close().await;
            Rights::Known
        }
        Ok(Err(SimpleClientError::Lost { .. })) => ended(topic),
        Ok(Err(refused @ SimpleClientError::Refused { .. })) => Rights::Doubted(refused.to_string()),
        Ok(Err(_)) => Rights::Known,
        Err(_) => Rights::Doubted(format!(
            "what this login publishes to {topic} does not come back from the broker: its access rules probably do not let it \
             command, or not see what it publishes"
        )),
    }
}

fn ended(topic: &str) -> Rights {
    Rights::Doubted(format!(
        "the broker ends the connection when this login publishes to {topic}: its access rules do not let it command"
    ))
}
