//! Home Assistant finds agents and machines by itself: retained descriptions in its MQTT discovery's device form.
//!
//! One device for the agent, `<prefix>/device/auscult-<agent>/config`, and one for each machine,
//! `<prefix>/device/auscult-<agent>/<machine>/config`. What an entity shows comes from auscult's own topics, so nothing is
//! said twice. Field names are those of <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery> (2024.11 on).
//!
//! What is sent late, after an outage, is history and must not be shown as news: a template that gives nothing leaves an
//! entity as it is.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::HomeAssistantConfig;
use super::handle::Mqtt;
use super::topics::{AgentPart, AgentTopics, MachinePart};
use crate::state_files::StateFiles;

/// Which descriptions this agent has ever published, in the state directory: those of machines that are configured no
/// more are taken back.
const ANNOUNCED: &str = "homeassistant.json";

/// A machine as its description names it.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    pub id: &'a str,
    /// What people call it, where that is something else.
    pub name: Option<&'a str>,
    pub model: &'a str,
}

/// Publishes the descriptions that the configuration asks for, and takes back all others that were published before.
pub fn announce(config: &HomeAssistantConfig, machines: &[Described<'_>], state_dir: &Path, mqtt: &Mqtt) {
    let files = StateFiles::new(state_dir);
    let mut known = announced(&files);
    let wanted = if config.discovery { descriptions(config, machines, mqtt.topics()) } else { Vec::new() };
    let shown = machines.iter().filter(|_| config.shows_pictures());
    let pictures = shown.map(|machine| mqtt.topics().of_machine(machine.id, MachinePart::Picture));
    let topics: BTreeSet<String> = wanted.iter().map(|(topic, _)| topic.clone()).chain(pictures).collect();
    let gone = known.difference(&topics).filter(|topic| !mqtt.is_cleared(topic));
    gone.for_each(|topic| mqtt.retained(topic.clone(), Vec::new()));
    let before = known.len();
    known.extend(topics);
    if known.len() > before
        && let Err(error) = files.write(ANNOUNCED, &json!({ "topics": known }).to_string())
    {
        tracing::warn!(file = %files.path(ANNOUNCED).display(), %error, "Home Assistant will not forget machines that are removed");
    }
    for (topic, description) in wanted {
        mqtt.retained(topic, description.to_string().into_bytes());
    }
}

/// Topic and description of the agent and of each of its machines.
fn descriptions(
    config: &HomeAssistantConfig,
    machines: &[Described<'_>],
    topics: &AgentTopics,
) -> Vec<(String, Value)> {
    let ids = machines.iter().map(|machine| machine.id);
    let devices =
        std::iter::once(agent_device(topics)).chain(machines.iter().map(|one| machine_device(config, topics, one)));
    topics_of(&config.prefix, topics.agent(), ids).into_iter().zip(devices).collect()
}

/// Where an agent and its machines are described: first the agent, then each machine.
pub fn topics_of<'a>(prefix: &str, agent: &str, machines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let base = format!("{prefix}/device/{}", node_id(agent));
    let machines = machines.into_iter().map(|machine| format!("{base}/{machine}/config"));
    std::iter::once(format!("{base}/config")).chain(machines).collect()
}

/// Home Assistant takes `[a-zA-Z0-9_-]` in a topic; agents may also have dots.
fn node_id(agent: &str) -> String {
    format!("auscult-{}", agent.replace('.', "_"))
}

fn agent_device(topics: &AgentTopics) -> Value {
    let agent = topics.agent();
    let id = format!("auscult/{agent}");
    let topic = |part| topics.of_agent(part);
    let mut entities = Entities::new(&id, &format!("auscult {agent}"));
    entities.add(
        "connectivity",
        "binary_sensor",
        json!({
            "name": "Connected", "device_class": "connectivity", "entity_category": "diagnostic",
            "state_topic": topic(AgentPart::Status),
            "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            "json_attributes_topic": topic(AgentPart::Status),
            // It shows that the agent is gone, so it must not go with it.
            "availability": [],
        }),
    );
    // The agent knows no other bundle than its own: what is newer, its owner knows.
    entities.add(
        "bundle",
        "update",
        json!({
            "name": "Bundle", "entity_category": "diagnostic", "state_topic": topic(AgentPart::Info),
            "value_template": "{{ {'installed_version': value_json.bundle or 'none', \
                               'latest_version': value_json.bundle or 'none'} | tojson }}",
        }),
    );
    entities.add(
        "reload",
        "button",
        json!({
            "name": "Reload bundle", "entity_category": "config", "icon": "mdi:reload", "qos": 1,
            "command_topic": topic(AgentPart::Control), "command_template": command("bundle.reload", None),
        }),
    );
    entities.add(
        "waiting",
        "sensor",
        json!({
            "name": "Messages waiting", "entity_category": "diagnostic", "state_class": "measurement",
            "state_topic": topic(AgentPart::Health), "value_template": "{{ value_json.outbox_depth }}",
        }),
    );
    entities.add(
        "temperature",
        "sensor",
        json!({
            "name": "Processor temperature", "entity_category": "diagnostic", "device_class": "temperature",
            "unit_of_measurement": "°C", "state_class": "measurement",
            "state_topic": topic(AgentPart::Health), "value_template": "{{ value_json.cpu_temp_c }}",
        }),
    );
    device(
        json!({
            "identifiers": [id], "name": format!("auscult {agent}"), "manufacturer": "auscult", "model": "agent",
            "sw_version": env!("CARGO_PKG_VERSION"),
        }),
        json!([online(topics)]),
        entities,
    )
}

fn machine_device(config: &HomeAssistantConfig, topics: &AgentTopics, described: &Described) -> Value {
    let Described { id: machine, name, model } = *described;
    let agent = topics.agent();
    let id = format!("auscult/{agent}/{machine}");
    let topic = |part| topics.of_machine(machine, part);
    let mut entities = Entities::new(&id, &format!("{agent} {machine}"));
    entities.add(
        "problem",
        "binary_sensor",
        json!({
            // From the verdict, which also shows whether there is anything to be sure of: off is shown as "OK".
            "name": "Alarm", "device_class": "problem", "state_topic": topic(MachinePart::Verdict),
            "value_template": news(
                "'ON' if value_json.alarm in ['active', 'acknowledged'] \
                 else 'None' if value_json.verdict == 'unknown' else 'OFF'",
            ),
            "json_attributes_topic": topic(MachinePart::Alarm),
            // No attribute may be called `state`.
            "json_attributes_template": "{{ dict(value_json, alarm=value_json.state) | tojson }}",
        }),
    );
    entities.add(
        "verdict",
        "sensor",
        json!({
            "name": "Verdict", "device_class": "enum", "options": ["normal", "anomalous", "unknown"],
            "state_topic": topic(MachinePart::Verdict),
            // An empty word is not among the options.
            "value_template": "{{ this.state | replace('unavailable', 'None') if value_json.late else value_json.verdict }}",
            "json_attributes_topic": topic(MachinePart::Verdict),
        }),
    );
    add_machine_readings(&mut entities, topics, machine);
    if config.shows_pictures() {
        entities.add(
            "picture",
            "image",
            json!({
                "name": "Last alarm", "icon": "mdi:waveform", "content_type": "image/png",
                "image_topic": topic(MachinePart::Picture),
            }),
        );
    }
    add_machine_controls(&mut entities, topics, machine);
    device(
        json!({
            "identifiers": [id], "name": name.unwrap_or(machine), "manufacturer": "auscult", "model": model,
            "via_device": format!("auscult/{agent}"),
        }),
        json!([online(topics)]),
        entities,
    )
}

/// What is measured on a machine.
fn add_machine_readings(entities: &mut Entities, topics: &AgentTopics, machine: &str) {
    let topic = |part| topics.of_machine(machine, part);
    // What a window could not answer is not shown as if it had.
    let assessed = json!({
        "topic": topic(MachinePart::Verdict),
        "value_template": news("'offline' if value_json.verdict == 'unknown' else 'online'"),
    });
    entities.add(
        "distance",
        "sensor",
        json!({
            "name": "Distance", "state_class": "measurement", "suggested_display_precision": 3, "icon": "mdi:waveform",
            "state_topic": topic(MachinePart::Verdict), "value_template": news("value_json.distance"),
            "availability": [online(topics), assessed], "availability_mode": "all",
        }),
    );
    entities.add(
        "level",
        "sensor",
        json!({
            "name": "Level", "unit_of_measurement": "dBFS", "state_class": "measurement",
            "suggested_display_precision": 1, "icon": "mdi:volume-medium",
            "state_topic": topic(MachinePart::Verdict), "value_template": news("value_json.level_dbfs"),
        }),
    );
    entities.add(
        "running",
        "sensor",
        json!({
            "name": "Running time", "device_class": "duration", "unit_of_measurement": "h",
            "state_class": "total_increasing", "suggested_display_precision": 1, "entity_category": "diagnostic",
            "state_topic": topics.of_agent(AgentPart::Health),
            // Nothing while the agent does not know it: the sensor stays as it is.
            "value_template": format!(
                "{{{{ value_json.machines | selectattr('machine', 'eq', '{machine}') | map(attribute='running_h') \
                 | select('number') | first | default('') }}}}"
            ),
        }),
    );
}

/// What can be set on a machine, and pressed.
fn add_machine_controls(entities: &mut Entities, topics: &AgentTopics, machine: &str) {
    let topic = |part| topics.of_machine(machine, part);
    entities.add(
        "threshold",
        "number",
        json!({
            "name": "Threshold", "entity_category": "config", "icon": "mdi:tune-vertical", "mode": "box",
            "min": 0.001, "max": 999.999, "step": 0.001, "qos": 1,
            "state_topic": topic(MachinePart::Settings), "value_template": "{{ value_json.threshold }}",
            "json_attributes_topic": topic(MachinePart::Settings),
            "command_topic": topic(MachinePart::ThresholdSet),
        }),
    );
    entities.add(
        "acknowledge",
        "button",
        json!({
            "name": "Acknowledge alarm", "icon": "mdi:check", "qos": 1,
            "command_topic": topics.of_agent(AgentPart::Control),
            "command_template": command("alarm.acknowledge", Some(machine)),
        }),
    );
    entities.add(
        "answer",
        "select",
        json!({
            "name": "The alarm was", "icon": "mdi:comment-question-outline", "qos": 1, "options": ANSWERS,
            // An answer is given, it does not stay: each alarm has its own.
            "state_topic": topic(MachinePart::Alarm), "value_template": "None",
            "command_topic": topics.of_agent(AgentPart::Control), "command_template": answer(machine),
        }),
    );
}

/// What an alarm can be answered with in Home Assistant: what is no fault, then common names of faults.
const ANSWERS: [&str; 11] = [
    "normal",
    "disturbance",
    "bearing",
    "belt",
    "blade",
    "clogging",
    "imbalance",
    "leak",
    "loose part",
    "misalignment",
    "rub",
];

/// The command that answers a machine's newest alarm with the chosen word.
fn answer(machine: &str) -> String {
    let no_fault = "value in ['normal', 'disturbance']";
    let outcome = format!(r#""outcome":"{{{{ value if {no_fault} else 'fault' }}}}","#);
    let name = format!(r#"{{{{ '' if {no_fault} else '"name":"' ~ value ~ '",' }}}}"#);
    command_with("alarm.confirm", Some(machine), &(outcome + &name))
}

/// Availability from the agent's status: whatever is not `online` is offline, `stopped` too.
fn online(topics: &AgentTopics) -> Value {
    json!({
        "topic": topics.of_agent(AgentPart::Status),
        "value_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
    })
}

/// A template that gives the expression, or nothing for what is sent late.
fn news(expression: &str) -> String {
    format!("{{{{ '' if value_json.late else {expression} }}}}")
}

/// A command as a template: each press needs its own id, and none may be done an hour later.
fn command(command: &str, machine: Option<&str>) -> String {
    command_with(command, machine, "")
}

/// The same with more `fields`, each with a comma behind it.
fn command_with(command: &str, machine: Option<&str>, fields: &str) -> String {
    let machine = machine.map(|machine| format!(r#""machine":"{machine}","#)).unwrap_or_default();
    format!(
        r#"{{"id":"ha-{{{{ (now().timestamp() * 1000) | int }}}}","command":"{command}",{machine}{fields}"by":"Home Assistant","expires":"{{{{ (utcnow() + timedelta(minutes=1)).isoformat() }}}}"}}"#
    )
}

/// A whole description.
fn device(device: Value, availability: Value, entities: Entities) -> Value {
    json!({
        "device": device,
        "origin": { "name": "auscult", "sw_version": env!("CARGO_PKG_VERSION") },
        "availability": availability,
        "components": entities.all,
    })
}

/// The entities of one device, by their short names.
struct Entities {
    device: String,
    slug: String,
    all: Map<String, Value>,
}

impl Entities {
    fn new(device: &str, name: &str) -> Entities {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        Entities { device: device.to_owned(), slug: name.chars().map(plain).collect(), all: Map::new() }
    }

    fn add(&mut self, name: &str, platform: &str, mut fields: Value) {
        fields["platform"] = platform.into();
        fields["unique_id"] = format!("{}/{name}", self.device).into();
        fields["default_entity_id"] = format!("{platform}.{}_{name}", self.slug).into();
        self.all.insert(name.to_owned(), fields);
    }
}

/// The file's content: an object, or the list alone, as version 0.1 wrote it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Announced {
    Object { topics: BTreeSet<String> },
    List(BTreeSet<String>),
}

fn announced(files: &StateFiles) -> BTreeSet<String> {
    match files.read_json(ANNOUNCED) {
        Ok(Some(Announced::Object { topics } | Announced::List(topics))) => topics,
        Ok(None) => BTreeSet::new(),
        Err(lost) => {
            tracing::warn!("Home Assistant will not forget machines that are configured no more: {lost}");
            BTreeSet::new()
        }
    }
}
