//! Asks a fleet to say again what the broker keeps: some brokers give a subscription with wildcards nothing of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::broker::who;
use crate::control::commands::{Announce, Command};
use crate::control::envelope::Envelope;
use crate::control::request::Request;
use crate::control::values::ShortText;
use crate::mqtt::simple_client::{Message, SimpleClient, SimpleClientError};
use crate::mqtt::topics::AgentTopics;

/// What a broker keeps is there within this time after the subscription.
const MOMENT: Duration = Duration::from_secs(2);
/// In a fleet each agent answers at a moment within this time.
const WITHIN_S: f64 = 3.0;
/// A connection that ends within this time after the question has ended because of it.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// The command, with an id of its own; for those with the tag, where there is one.
pub fn command(within_s: f64, tag: Option<&str>) -> Request {
    let text = |text: String| text.parse::<ShortText<128>>().ok();
    let envelope = Envelope {
        id: text(format!("{:016x}", rand::random::<u64>())),
        tag: tag.and_then(|tag| tag.parse().ok()),
        by: who(None).parse().ok(),
        ..Envelope::default()
    };
    Request { envelope, command: Command::Announce(Announce { within_s: Some(within_s) }) }
}

/// Asks once on each connection on which the broker gives nothing that it kept.
#[derive(Debug, Default)]
pub struct Asking {
    due: Option<Instant>,
    asked: Option<Instant>,
    /// The broker has ended the connection because of the question.
    refused: bool,
}

impl Asking {
    /// A connection is there, and its subscriptions.
    pub fn connected(&mut self) {
        self.due = (!self.refused).then(|| Instant::now() + MOMENT);
        self.asked = None;
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.refused |= self.asked.is_some_and(|asked| asked.elapsed() < REFUSED_WITHIN);
        (self.due, self.asked) = (None, None);
    }

    /// A message has come.
    pub fn received(&mut self, message: &Message) {
        if message.retained {
            self.due = None;
        }
    }

    /// Resolves when it is time to ask. Safe to cancel.
    pub async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Asks the whole fleet.
    ///
    /// # Errors
    /// A connection that breaks.
    pub async fn ask(&mut self, client: &mut SimpleClient) -> Result<(), SimpleClientError> {
        (self.due, self.asked) = (None, Some(Instant::now()));
        let topic = AgentTopics::new(client.root(), "fleet").fleet_control();
        tracing::debug!("the broker gives nothing that it keeps: the fleet is asked to say it again");
        client.publish_command(&topic, command(WITHIN_S, None).to_json().to_string().into_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topics::Topic;

    fn message(retained: bool) -> Message {
        let topic = Topic::parse("auscult", "auscult/pi-7/status").expect("a topic");
        Message { topic, payload: Vec::new(), retained }
    }

    #[test]
    fn a_fleet_is_asked_only_where_the_broker_gives_nothing() {
        let mut asking = Asking::default();
        assert_eq!(asking.due, None, "there is no connection");
        asking.connected();
        asking.received(&message(false));
        assert!(asking.due.is_some(), "what comes from agents is not what the broker keeps");
        asking.received(&message(true));
        assert_eq!(asking.due, None);
        asking.disconnected();
        asking.connected();
        assert!(asking.due.is_some(), "on each connection");
    }

    #[test]
    fn a_question_that_ends_the_connection_is_not_repeated() {
        let mut asking = Asking { asked: Some(Instant::now()), ..Asking::default() };
        asking.disconnected();
        asking.connected();
        assert_eq!(asking.due, None);
    }
}
