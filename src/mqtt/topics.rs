//! Topics as types: every topic that auscult writes or reads is built and taken apart here, nowhere else.

use std::fmt;

/// Where a message belongs, without the first part (`mqtt.root`) of its topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `<agent>/<part>`
    Agent { agent: String, part: AgentPart },
    /// `<agent>/<machine>/<part>`
    Machine { agent: String, machine: String, part: MachinePart },
    /// `fleet/control`
    FleetControl,
}

/// Last part of an agent's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentPart {
    Status,
    Info,
    Health,
    /// What happened to the agent as a whole (its clock, its outbox).
    Event,
    Reply,
    Control,
}

/// Last part of a machine's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MachinePart {
    Verdict,
    Alarm,
    Settings,
    Event,
    /// Sound and picture of a window that was asked for.
    Evidence,
    /// The picture of the newest alarm, for Home Assistant: a PNG.
    Picture,
    /// `threshold/set`
    ThresholdSet,
}

impl AgentPart {
    pub const ALL: [AgentPart; 6] =
        [AgentPart::Status, AgentPart::Info, AgentPart::Health, AgentPart::Event, AgentPart::Reply, AgentPart::Control];

    pub fn as_str(self) -> &'static str {
        match self {
            AgentPart::Status => "status",
            AgentPart::Info => "info",
            AgentPart::Health => "health",
            AgentPart::Event => "event",
            AgentPart::Reply => "reply",
            AgentPart::Control => "control",
        }
    }
}

impl MachinePart {
    pub const ALL: [MachinePart; 7] = [
        MachinePart::Verdict,
        MachinePart::Alarm,
        MachinePart::Settings,
        MachinePart::Event,
        MachinePart::Evidence,
        MachinePart::Picture,
        MachinePart::ThresholdSet,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            MachinePart::Verdict => "verdict",
            MachinePart::Alarm => "alarm",
            MachinePart::Settings => "settings",
            MachinePart::Event => "event",
            MachinePart::Evidence => "evidence",
            MachinePart::Picture => "picture",
            MachinePart::ThresholdSet => "threshold/set",
        }
    }
}

impl Topic {
    /// Takes a topic below `root` apart; `None` for whatever is not one of auscult's.
    pub fn parse(root: &str, topic: &str) -> Option<Topic> {
        let rest = topic.strip_prefix(root)?.strip_prefix('/')?;
        if rest == "fleet/control" {
            return Some(Topic::FleetControl);
        }
        let (agent, rest) = rest.split_once('/')?;
        if agent.is_empty() || agent == "fleet" {
            return None;
        }
        let agent = agent.to_owned();
        if let Some(part) = AgentPart::ALL.into_iter().find(|part| part.as_str() == rest) {
            return Some(Topic::Agent { agent, part });
        }
        let (machine, rest) = rest.split_once('/')?;
        let part = MachinePart::ALL.into_iter().find(|part| part.as_str() == rest)?;
        (!machine.is_empty()).then(|| Topic::Machine { agent, machine: machine.to_owned(), part })
    }

    /// The whole topic, below `root`.
    pub fn below(&self, root: &str) -> String {
        format!("{root}/{self}")
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Agent { agent, part } => write!(f, "{agent}/{}", part.as_str()),
            Topic::Machine { agent, machine, part } => write!(f, "{agent}/{machine}/{}", part.as_str()),
            Topic::FleetControl => f.write_str("fleet/control"),
        }
    }
}

/// What some brokers do not carry in the topics of this agent, for a person.
pub fn awkward(root: &str, agent: &str) -> Option<String> {
    let (what, found) = match (agent.contains('.'), root.contains(['.', '*', '>', ' '])) {
        (true, _) => ("agent.id", agent),
        (_, true) => ("mqtt.root", root),
        _ => return None,
    };
    Some(format!(
        "{what}: expected letters, digits, _ and - alone where the broker is NATS or RabbitMQ, found {found:?}: they take a '.' in a \
         topic for a '/' or refuse it, and messages do not arrive; other brokers carry it"
    ))
}

/// The topics of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTopics {
    root: String,
    agent: String,
}

impl AgentTopics {
    /// `root` is `mqtt.root`, `agent` is `agent.id`.
    pub fn new(root: &str, agent: &str) -> Self {
        AgentTopics { root: root.to_owned(), agent: agent.to_owned() }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn agent(&self) -> &str {
        &self.agent
    }

    pub fn of_agent(&self, part: AgentPart) -> String {
        Topic::Agent { agent: self.agent.clone(), part }.below(&self.root)
    }

    pub fn of_machine(&self, machine: &str, part: MachinePart) -> String {
        Topic::Machine { agent: self.agent.clone(), machine: machine.to_owned(), part }.below(&self.root)
    }

    pub fn fleet_control(&self) -> String {
        Topic::FleetControl.below(&self.root)
    }

    /// What the agent subscribes to: its control topics, the fleet's, and its own status (an old will must not stand).
    pub fn subscriptions(&self) -> Vec<String> {
        vec![
            self.of_agent(AgentPart::Control),
            self.fleet_control(),
            self.of_machine("+", MachinePart::ThresholdSet),
            self.of_agent(AgentPart::Status),
        ]
    }

    /// Whether commands come by a filter of [`AgentTopics::subscriptions`]: those that are retained must be known for it.
    pub fn is_of_commands(filter: &str) -> bool {
        [AgentPart::Control.as_str(), MachinePart::ThresholdSet.as_str()]
            .iter()
            .any(|part| filter.strip_suffix(part).is_some_and(|before| before.ends_with('/')))
    }

    /// Takes an incoming topic apart; `None` for whatever is not for this agent.
    pub fn parse(&self, topic: &str) -> Option<Topic> {
        let parsed = Topic::parse(&self.root, topic)?;
        match &parsed {
            Topic::FleetControl => Some(parsed),
            Topic::Agent { agent, .. } | Topic::Machine { agent, .. } => (*agent == self.agent).then_some(parsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_subscribed_to_but_the_own_status_is_of_commands() {
        let topics = AgentTopics::new("plant/hall-2", "pi-7");
        let others: Vec<String> =
            topics.subscriptions().into_iter().filter(|filter| !AgentTopics::is_of_commands(filter)).collect();
        assert_eq!(others, ["plant/hall-2/pi-7/status"]);
        assert!(!AgentTopics::is_of_commands("homeassistant/status"));
    }

    #[test]
    fn what_is_built_is_taken_apart_again() {
        for root in ["auscult", "plant/hall-2"] {
            let topics = AgentTopics::new(root, "pi-7");
            for part in AgentPart::ALL {
                let topic = topics.of_agent(part);
                assert_eq!(topic, format!("{root}/pi-7/{}", part.as_str()));
                assert_eq!(topics.parse(&topic), Some(Topic::Agent { agent: "pi-7".into(), part }));
            }
            for part in MachinePart::ALL {
                // A machine may be called like one of the agent's topics.
                for machine in ["blower-1", "event"] {
                    let expected = Topic::Machine { agent: "pi-7".into(), machine: machine.into(), part };
                    assert_eq!(topics.parse(&topics.of_machine(machine, part)), Some(expected));
                }
            }
            assert_eq!(topics.parse(&topics.fleet_control()), Some(Topic::FleetControl));
        }
    }

    #[test]
    fn what_a_broker_cannot_carry_is_named() {
        assert_eq!(awkward("plant/hall-2", "pi-7"), None);
        assert!(awkward("auscult", "pi.7").is_some_and(|words| words.contains("agent.id") && words.contains("pi.7")));
        assert!(awkward("plant.north", "pi-7").is_some_and(|words| words.contains("mqtt.root")));
    }

    #[test]
    fn other_topics_are_not_ours() {
        let topics = AgentTopics::new("auscult", "pi-7");
        for topic in [
            "",
            "auscult",
            "auscult/",
            "auscult/pi-7",
            "auscult/pi-7/",
            "auscult//status",
            "auscult/pi-8/control",
            "auscult/fleet/status",
            "auscult/pi-7//verdict",
            "auscult/pi-7/blower-1/verdict/more",
            "auscult/pi-7/blower-1/threshold",
            "auscultpi-7/control",
            "other/pi-7/control",
        ] {
            assert_eq!(topics.parse(topic), None, "{topic:?}");
        }
    }
}
