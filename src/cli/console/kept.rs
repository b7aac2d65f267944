//! What the broker keeps of an agent, so that one that is gone can be forgotten.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::config::{HomeAssistantConfig, check_id};
use crate::mqtt::discovery;
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart, Topic};
use crate::web::{Hub, Message, Refusal};

/// The topics that the broker keeps of an agent; the status is the last, so that one that is half forgotten is still
/// seen and can be forgotten again.
///
/// # Errors
/// An agent that nobody knows, or that is there.
pub(super) fn topics_of(hub: &Hub, root: &str, agent: &str) -> Result<Vec<String>, Refusal> {
    let is_status = |topic: &Topic| matches!(topic, Topic::Agent { part: AgentPart::Status, .. });
    let (mut topics, mut named) = (Vec::new(), Vec::new());
    for Message { topic, payload, .. } in hub.snapshot() {
        let Some(parsed) = Topic::parse(root, &topic) else { continue };
        let (Topic::Agent { agent: of, .. } | Topic::Machine { agent: of, .. }) = &parsed else { continue };
        if of != agent {
            continue;
        }
        let state = payload.and_then(|payload| serde_json::from_str::<Value>(&payload).ok());
        if is_status(&parsed) && state.as_ref().is_some_and(|status| status["state"] == "online") {
            return Err(Refusal(format!("{agent} is online: an agent that is there is not forgotten")));
        }
        if matches!(parsed, Topic::Agent { part: AgentPart::Info, .. }) {
            let ids = state.as_ref().and_then(|info| info["machines"].as_array()).into_iter().flatten();
            named.extend(ids.filter_map(Value::as_str).filter(|id| check_id("id", id).is_ok()).map(str::to_owned));
        }
        topics.push(parsed);
    }
    if topics.is_empty() {
        return Err(Refusal(format!("nothing is known of {agent}")));
    }
    topics.sort_by_key(is_status);
    let machines: BTreeSet<&str> =
        topics.iter().filter_map(machine_of).chain(named.iter().map(String::as_str)).collect();
    // Home Assistant too, where it listens under its own name.
    let agent_topics = AgentTopics::new(root, agent);
    let pictures: Vec<_> =
        machines.iter().map(|machine| agent_topics.of_machine(machine, MachinePart::Picture)).collect();
    let described = discovery::topics_of(&HomeAssistantConfig::default().prefix, agent, machines);
    Ok(described.into_iter().chain(pictures).chain(topics.iter().map(|topic| topic.below(root))).collect())
}

fn machine_of(topic: &Topic) -> Option<&str> {
    match topic {
        Topic::Machine { machine, .. } => Some(machine),
        _ => None,
    }
}
