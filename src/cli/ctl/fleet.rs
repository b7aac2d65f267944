//! Who is there, by what the broker keeps of each agent; and the conversation with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::rights::{self, Rights};
use crate::cli::{Failure, announce};
use crate::config::MqttConfig;
use crate::mqtt::payload::{AgentState, Info, Reply, Status};
use crate::mqtt::simple_client::{Message, SimpleClient, SimpleClientError};
use crate::mqtt::topics::{AgentPart, AgentTopics, Topic};

/// The broker has sent all that it keeps when nothing comes for this long.
const QUIET: Duration = Duration::from_millis(500);
/// What it keeps of one agent is there within this time.
const KEPT: Duration = Duration::from_secs(1);
/// An agent that is asked who it is answers within this time; the others within this time after it.
const PATIENCE: Duration = Duration::from_secs(3);
/// A fleet whose broker keeps nothing publishes its state within this time, in seconds.
const ANNOUNCED_WITHIN_S: f64 = 3.0;
/// Somebody has answered a command by then; otherwise it is worth a look why not.
const ANSWERED: Duration = Duration::from_secs(3);
/// Who has not answered by then gets the command again, to itself and with the same id, so that it is done once: there are
/// brokers that lose messages (docs/fleet.md).
const REPEATED_AFTER: Duration = Duration::from_secs(2);
/// The pauses between repetitions double up to this: some commands take minutes.
const REPEATED_EVERY: Duration = Duration::from_secs(30);

/// Whom a command is for.
pub enum Addressee {
    Agent(String),
    Fleet { tag: Option<String> },
}

/// What the broker keeps of one agent.
#[derive(Default)]
struct Known {
    state: Option<AgentState>,
    tags: Option<Vec<String>>,
}

/// The agents that are addressed.
pub struct FleetClient {
    mqtt: MqttConfig,
    addressee: Addressee,
    known: BTreeMap<String, Known>,
    left_out: BTreeSet<String>,
}

/// A reply, and its bytes.
pub struct Answer {
    pub reply: Reply,
    pub payload: Vec<u8>,
}

/// What came of asking.
pub struct Answers {
    /// By agent.
    pub replies: Vec<Answer>,
    /// Who was asked and did not answer.
    pub silent: Vec<String>,
}

impl FleetClient {
    /// Subscribes, and learns who is online.
    ///
    /// # Errors
    /// A broken connection; nobody who is addressed is online.
    pub async fn find(
        client: &mut SimpleClient,
        mqtt: MqttConfig,
        addressee: Addressee,
    ) -> Result<FleetClient, Failure> {
        let one = match &addressee {
            Addressee::Agent(agent) => agent.as_str(),
            Addressee::Fleet { .. } => "+",
        };
        let topics = AgentTopics::new(client.root(), one);
        let filters = [AgentPart::Reply, AgentPart::Status, AgentPart::Info].map(|part| topics.of_agent(part));
        client.subscribe(&filters).await?;
        let mut fleet = FleetClient { mqtt, addressee, known: BTreeMap::new(), left_out: BTreeSet::new() };
        let end = Instant::now() + KEPT;
        let mut any_kept = false;
        loop {
            let message = match fleet.addressee {
                Addressee::Agent(_) if fleet.known.values().any(|known| known.state.is_some()) => break,
                Addressee::Agent(_) => timeout_at(end, client.next()).await,
                Addressee::Fleet { .. } => timeout(QUIET, client.next()).await,
            };
            let Ok(message) = message else { break };
            let message = match message {
                Ok(message) => message,
                Err(problem) => return Err(fleet.explain(problem).await),
            };
            any_kept |= message.retained;
            fleet.note(&message);
        }
        // Some brokers give nothing of what they keep, or something that is old; who has just come is not all of a fleet.
        if fleet.asked().is_empty() || !any_kept {
            fleet.call(client).await?;
        }
        if fleet.asked().is_empty() {
            let nobody = fleet.nobody(client);
            return Err(match fleet.rights().await {
                Rights::Known => anyhow::anyhow!(nobody),
                Rights::Doubted(why) => anyhow::anyhow!("{nobody}; {why}"),
            }
            .into());
        }
        Ok(fleet)
    }

    /// Asks those who are addressed to say who they are; whoever answers is there.
    async fn call(&mut self, client: &mut SimpleClient) -> Result<(), Failure> {
        let (within_s, tag) = match &self.addressee {
            Addressee::Agent(_) => (0.0, None),
            Addressee::Fleet { tag } => (ANNOUNCED_WITHIN_S, tag.as_deref()),
        };
        let request = announce::command(within_s, tag);
        let id = request.envelope.id.as_ref().map(|id| id.as_str().to_owned());
        self.send(client, &request.to_json()).await?;
        let mut end = Instant::now() + PATIENCE;
        while matches!(self.addressee, Addressee::Fleet { .. }) || self.asked().is_empty() {
            let Some(Answer { reply, .. }) = self.next_reply(client, end, |_| {}).await? else { break };
            // One of an older version refuses the command: it is there as well.
            if reply.id == id {
                let tags = match &self.addressee {
                    Addressee::Fleet { tag: Some(tag) } => Some(vec![tag.clone()]),
                    _ => None,
                };
                let known = self.known.entry(reply.agent).or_default();
                known.state = Some(AgentState::Online);
                known.tags = known.tags.take().or(tags);
                end = Instant::now() + PATIENCE;
            }
        }
        Ok(())
    }

    /// What broke the connection, and whether this login's rights did: some brokers end it on a command that they deny.
    async fn explain(&self, problem: SimpleClientError) -> Failure {
        // A broker of MQTT 5 says so itself.
        if matches!(problem, SimpleClientError::Refused { .. }) {
            return problem.into();
        }
        match (&problem, self.rights().await) {
            (SimpleClientError::Lost { .. }, Rights::Doubted(why)) => anyhow::anyhow!("{problem}: {why}").into(),
            _ => problem.into(),
        }
    }

    /// Whether a command gets through to the broker at all.
    async fn rights(&self) -> Rights {
        let topics = match &self.addressee {
            Addressee::Agent(agent) => AgentTopics::new(&self.mqtt.root, agent).of_agent(AgentPart::Control),
            Addressee::Fleet { .. } => AgentTopics::new(&self.mqtt.root, "fleet").fleet_control(),
        };
        rights::to_command(&self.mqtt, &topics).await
    }

    fn nobody(&self, client: &SimpleClient) -> String {
        let (url, root) = (client.url(), client.root());
        match &self.addressee {
            Addressee::Agent(agent) => match self.known.get(agent).and_then(|known| known.state) {
                Some(state) => format!("{agent} is {}: nothing was sent", word(state)),
                None => format!("{url} knows no agent {agent:?} below {root:?}: nothing was sent"),
            },
            Addressee::Fleet { tag: Some(tag) } => format!("no agent with the tag {tag:?} is online at {url}"),
            Addressee::Fleet { tag: None } => format!("no agent is online at {url} below {root:?}"),
        }
    }

    /// Takes in a status or an info; false for anything else.
    fn note(&mut self, message: &Message) -> bool {
        let Topic::Agent { agent, part } = &message.topic else { return false };
        match part {
            AgentPart::Status => {
                let status = serde_json::from_slice::<Status>(&message.payload);
                self.known.entry(agent.clone()).or_default().state = status.ok().map(|status| status.state);
            }
            AgentPart::Info => {
                let info = serde_json::from_slice::<Info>(&message.payload);
                self.known.entry(agent.clone()).or_default().tags = info.ok().map(|info| info.tags);
            }
            _ => return false,
        }
        true
    }

    fn is_addressed(&self, known: &Known) -> bool {
        match &self.addressee {
            Addressee::Agent(_) | Addressee::Fleet { tag: None } => true,
            Addressee::Fleet { tag: Some(tag) } => known.tags.as_ref().is_some_and(|tags| tags.contains(tag)),
        }
    }

    /// The agents that are addressed and online.
    pub fn asked(&self) -> Vec<String> {
        let online =
            self.known.iter().filter(|(_, known)| known.state == Some(AgentState::Online) && self.is_addressed(known));
        online.map(|(agent, _)| agent.clone()).filter(|agent| !self.left_out.contains(agent)).collect()
    }

    /// No more replies are awaited from these.
    pub fn leave_out<'a>(&mut self, agents: impl Iterator<Item = &'a String>) {
        self.left_out.extend(agents.cloned());
    }

    /// The agents that are addressed and not online, with their state.
    pub fn away(&self) -> Vec<(&str, &'static str)> {
        let away = self.known.iter().filter(|(_, known)| self.is_addressed(known));
        away.filter_map(|(agent, known)| match known.state {
            Some(AgentState::Online) | None => None,
            Some(state) => Some((agent.as_str(), word(state))),
        })
        .collect()
    }

    /// Where commands to those that are addressed go.
    fn topic(&self, client: &SimpleClient) -> String {
        match &self.addressee {
            Addressee::Agent(agent) => AgentTopics::new(client.root(), agent).of_agent(AgentPart::Control),
            Addressee::Fleet { .. } => AgentTopics::new(client.root(), "fleet").fleet_control(),
        }
    }

    /// Sends a command to those who are addressed.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn send(&self, client: &mut SimpleClient, command: &Value) -> Result<(), Failure> {
        client.publish_command(&self.topic(client), command.to_string().into_bytes()).await?;
        Ok(())
    }

    /// Sends a command again to one agent alone, whomever it was sent to before.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn repeat(&self, client: &mut SimpleClient, agent: &str, command: &Value) -> Result<(), Failure> {
        let id = command["id"].as_str();
        tracing::debug!(agent, id, "no reply yet: the command is sent again");
        let topic = AgentTopics::new(client.root(), agent).of_agent(AgentPart::Control);
        client.publish_command(&topic, command.to_string().into_bytes()).await?;
        Ok(())
    }

    /// The next reply of anyone to anything; `None` when none came until `end`. What is no reply goes to `other`.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn next_reply(
        &mut self,
        client: &mut SimpleClient,
        end: Instant,
        mut other: impl FnMut(&Message),
    ) -> Result<Option<Answer>, Failure> {
        loop {
            let Ok(message) = timeout_at(end, client.next()).await else { return Ok(None) };
            let message = match message {
                Ok(message) => message,
                Err(problem) => return Err(self.explain(problem).await),
            };
            // One that comes online while we wait gets the command too, and is waited for.
            if self.note(&message) {
                continue;
            }
            // No agent answers for another.
            if let Topic::Agent { agent, part: AgentPart::Reply } = &message.topic
                && let Ok(value) = serde_json::from_slice(&message.payload)
                && let Ok(reply) = serde_json::from_value::<Reply>(harmless(value))
                && reply.agent == *agent
            {
                return Ok(Some(Answer { reply, payload: message.payload }));
            }
            other(&message);
        }
    }

    /// Sends a command and waits until all who were asked have answered; those who do not are sent it again. `came` is called
    /// with each reply, `other` with whatever else comes.
    ///
    /// # Errors
    /// A broken connection, or what `came` says.
    pub async fn ask(
        &mut self,
        client: &mut SimpleClient,
        command: &Value,
        patience: Duration,
        mut came: impl FnMut(&Answer) -> Result<(), Failure>,
        mut other: impl FnMut(&Message),
    ) -> Result<Answers, Failure> {
        self.send(client, command).await?;
        let begin = Instant::now();
        let end = begin + patience;
        let mut repetition = Repetition::new(begin);
        let mut look_at = Some(begin + ANSWERED);
        let mut replies = BTreeMap::new();
        let silent = |fleet: &FleetClient, replies: &BTreeMap<String, Answer>| -> Vec<String> {
            fleet.asked().into_iter().filter(|agent| !replies.contains_key(agent)).collect()
        };
        while !silent(self, &replies).is_empty() {
            let until = look_at.unwrap_or(end).min(repetition.due()).min(end);
            if let Some(answer) = self.next_reply(client, until, &mut other).await? {
                let is_ours = answer.reply.id.as_deref() == command["id"].as_str();
                if is_ours && !replies.contains_key(&answer.reply.agent) {
                    came(&answer)?;
                    replies.insert(answer.reply.agent.clone(), answer);
                }
                continue;
            }
            if until >= end {
                break;
            }
            if repetition.is_due() {
                for agent in silent(self, &replies) {
                    self.repeat(client, &agent, command).await?;
                }
            }
            if look_at.take_if(|at| *at <= until).is_some()
                && replies.is_empty()
                && let Rights::Doubted(why) = self.rights().await
            {
                eprintln!("no reply yet: {why}");
            }
        }
        let silent = silent(self, &replies);
        Ok(Answers { replies: replies.into_values().collect(), silent })
    }
}

/// When what was not answered is sent again.
pub struct Repetition {
    pause: Duration,
    due: Instant,
}

impl Repetition {
    /// `sent`: when it was sent for the first time.
    pub fn new(sent: Instant) -> Repetition {
        Repetition { pause: REPEATED_AFTER, due: sent + REPEATED_AFTER }
    }

    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether its time has come; the next pause is then longer.
    pub fn is_due(&mut self) -> bool {
        let is_due = Instant::now() >= self.due;
        if is_due {
            self.pause = (2 * self.pause).min(REPEATED_EVERY);
            self.answered();
        }
        is_due
    }

    /// Silence counts from now on.
    pub fn answered(&mut self) {
        self.due = Instant::now() + self.pause;
    }
}

/// What agents say, without what a terminal would obey.
fn harmless(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) => {
            *text = text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect();
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = harmless(value.take())),
        Value::Object(fields) => fields.values_mut().for_each(|value| *value = harmless(value.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    value
}

fn word(state: AgentState) -> &'static str {
    match state {
        AgentState::Online => "online",
        AgentState::Stopped => "stopped",
        AgentState::Offline => "offline",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_obeys_no_agent() {
        let said = json!({ "error": { "message": "a\u{1b}[2Jb\u{7}\nc" }, "data": [{ "by": "x\ry" }, 1.5, null] });
        let shown = json!({ "error": { "message": "a [2Jb \nc" }, "data": [{ "by": "x y" }, 1.5, null] });
        assert_eq!(harmless(said), shown);
    }
}
