//! The connection to the broker, or the attempt at one.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::cli::announce::Asking;
use crate::config::MqttConfig;
use crate::mqtt::simple_client::{Message, SimpleClient, SimpleClientError};
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart};

const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(2);

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<SimpleClient, SimpleClientError>> + 'a>>;

/// Connects, and again after each loss that [`Link::lost`] is told of.
pub struct Link<'a> {
    mqtt: &'a MqttConfig,
    client: Option<SimpleClient>,
    connecting: Connecting<'a>,
    asking: Asking,
}

/// What has come.
pub enum News {
    Message(Message),
    /// To this broker.
    Connected(String),
    /// The fleet was asked to announce itself.
    Asked,
    /// The broker does not take something that was sent: why.
    Refused(String),
}

impl Link<'_> {
    pub fn new(mqtt: &MqttConfig) -> Link<'_> {
        let connecting = Box::pin(connect_at(mqtt, Instant::now()));
        Link { mqtt, client: None, connecting, asking: Asking::default() }
    }

    /// The next news. Safe to cancel.
    ///
    /// # Errors
    /// A connection that breaks, or is not made.
    pub async fn next(&mut self) -> Result<News, SimpleClientError> {
        let Some(client) = &mut self.client else {
            let client = (&mut self.connecting).await?;
            let url = client.url().to_owned();
            self.asking.connected();
            self.client = Some(client);
            return Ok(News::Connected(url));
        };
        tokio::select! {
            message = client.next() => {
                let message = match message {
                    Err(problem @ SimpleClientError::Refused { .. }) => return Ok(News::Refused(problem.to_string())),
                    message => message?,
                };
                self.asking.received(&message);
                Ok(News::Message(message))
            }
            () = self.asking.due() => self.asking.ask(client).await.map(|()| News::Asked),
        }
    }

    /// There is no connection any more; another attempt begins in a moment.
    pub fn lost(&mut self) {
        self.client = None;
        self.asking.disconnected();
        self.connecting = Box::pin(connect_at(self.mqtt, Instant::now() + CONNECT_AGAIN_AFTER));
    }

    /// Sends a command to an agent; false where there is no connection.
    ///
    /// # Errors
    /// A connection that breaks.
    pub async fn send(&mut self, agent: &str, command: &Value) -> Result<bool, SimpleClientError> {
        let Some(client) = &mut self.client else { return Ok(false) };
        let topic = AgentTopics::new(&self.mqtt.root, agent).of_agent(AgentPart::Control);
        client.publish_command(&topic, command.to_string().into_bytes()).await.map(|()| true)
    }
}

/// Everything of the fleet that is worth a picture.
fn filters(root: &str) -> Vec<String> {
    let topics = AgentTopics::new(root, "+");
    let agents = [AgentPart::Status, AgentPart::Info, AgentPart::Reply].map(|part| topics.of_agent(part));
    let machines = [MachinePart::Verdict, MachinePart::Alarm, MachinePart::Settings, MachinePart::Event]
        .map(|part| topics.of_machine("+", part));
    agents.into_iter().chain(machines).collect()
}

/// A client that has subscribed.
///
/// # Errors
/// A connection that is not made, a subscription that is denied.
pub async fn connect(mqtt: &MqttConfig) -> Result<SimpleClient, SimpleClientError> {
    let mut client = SimpleClient::connect(mqtt, "watch").await?;
    client.subscribe(&filters(&mqtt.root)).await?;
    Ok(client)
}

async fn connect_at(mqtt: &MqttConfig, at: Instant) -> Result<SimpleClient, SimpleClientError> {
    sleep_until(at).await;
    connect(mqtt).await
}
