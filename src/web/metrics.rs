//! `GET /metrics`: the newest state and health of each agent and machine, for Prometheus.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::hub::Message;

pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MachineLabels {
    agent: String,
    machine: String,
}

/// A word that is one of several: the one that holds now is 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WordLabels {
    agent: String,
    machine: String,
    state: String,
}

type Number = Gauge<f64, AtomicU64>;
type OfAgent = Family<AgentLabels, Number>;
type OfMachine = Family<MachineLabels, Number>;
type Words = Family<WordLabels, Number>;

/// Field of a payload, name and help of its gauge.
type Field = (&'static str, &'static str, &'static str);

const HEALTH: &[Field] = &[
    ("uptime_s", "auscult_uptime_seconds", "Seconds since the agent started"),
    ("memory_mb", "auscult_memory_mebibytes", "Resident memory of the agent"),
    ("cpu_temp_c", "auscult_cpu_temperature_celsius", "Temperature of the agent's processor"),
    ("disk_free_mb", "auscult_disk_free_mebibytes", "Free room on the disk of the agent's state"),
    ("outbox_depth", "auscult_outbox_messages", "Messages that wait for the broker"),
    ("outbox_bytes", "auscult_outbox_bytes", "Bytes of the outbox on disk"),
    ("dropped", "auscult_dropped_messages", "Messages that were given up unsent since the outbox was made"),
    ("alarms", "auscult_alarms", "Alarms of the last 30 days"),
    ("alarms_per_day", "auscult_alarms_per_day", "The same a day"),
    ("acknowledge_median_s", "auscult_acknowledge_median_seconds", "Until half of those acknowledged were"),
    ("alarm_fault_share", "auscult_alarm_fault_ratio", "Share of faults among the alarms that were answered"),
    ("reconnects", "auscult_reconnects", "Connections to the broker after the first since the agent started"),
];

const MACHINE_HEALTH: &[Field] = &[
    ("assessed", "auscult_assessed_ratio", "Share of the newest windows that could be assessed"),
    ("xruns", "auscult_xruns", "Times that the capture lost samples since the agent started"),
    ("lost_s", "auscult_lost_seconds", "Seconds of sound lost so"),
    ("losses", "auscult_source_losses", "Times that the source was lost since the agent started"),
    ("overload", "auscult_overload_windows", "Windows that could not be scored in time since the agent started"),
    ("last_frame_age_s", "auscult_last_frame_age_seconds", "Seconds since sound last came"),
];

const VERDICT: &[Field] = &[
    ("distance", "auscult_distance", "Distance of the newest window to normal running"),
    ("threshold", "auscult_threshold", "Limit of the distance"),
    ("ratio", "auscult_ratio", "Distance of the newest window divided by its threshold"),
    ("score", "auscult_score", "How unlike the learned baseline the newest window is: -log10 of its p-value"),
    ("level_dbfs", "auscult_level_dbfs", "Level of the newest window, dB of full scale"),
    ("seq", "auscult_window_number", "Number of the newest window, counted from 0 across restarts"),
];

const STATES: &[&str] = &["normal", "active", "acknowledged", "shelved"];
const VERDICTS: &[&str] = &["normal", "anomalous", "unknown"];

/// All metrics as text.
///
/// # Errors
/// None that is known: it writes to memory.
pub fn text(snapshot: &[Message]) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let up = OfAgent::default();
    registry.register("auscult_up", "1 while the agent is online", up.clone());
    let broker = Number::default();
    registry.register("auscult_broker_connected", "1 while there is a connection to the broker", broker.clone());
    let agents = families(&mut registry, HEALTH);
    let of_health: Vec<(_, OfMachine)> = families(&mut registry, MACHINE_HEALTH);
    let of_verdict: Vec<(_, OfMachine)> = families(&mut registry, VERDICT);
    let verdict = Words::default();
    registry.register("auscult_verdict", "1 for the verdict of the newest window", verdict.clone());
    let alarm = Words::default();
    registry.register("auscult_alarm", "1 for the state that the machine's alarm is in", alarm.clone());

    for message in snapshot {
        if &*message.topic == "$home" {
            let connected = message.payload.as_deref().is_some_and(|state| state.contains("\"broker\":\"connected\""));
            broker.set(f64::from(u8::from(connected)));
            continue;
        }
        let part = message.topic.rsplit('/').next().unwrap_or_default();
        if !matches!(part, "status" | "health" | "verdict" | "alarm") {
            continue;
        }
        let Some(payload) = message.payload.as_deref() else { continue };
        let Ok(payload) = serde_json::from_str::<Value>(payload) else { continue };
        let Some(agent) = agent_of(&message.topic, &payload) else { continue };
        let machine = || payload["machine"].as_str().map(str::to_owned);
        match (part, machine()) {
            ("status", _) => {
                let online = payload["state"] == "online";
                up.get_or_create(&AgentLabels { agent }).set(f64::from(u8::from(online)));
            }
            ("health", _) => {
                set(&agents, &AgentLabels { agent: agent.clone() }, &payload);
                for health in payload["machines"].as_array().into_iter().flatten() {
                    let Some(machine) = health["machine"].as_str() else { continue };
                    let labels = MachineLabels { agent: agent.clone(), machine: machine.to_owned() };
                    set(&of_health, &labels, health);
                }
            }
            ("verdict", Some(machine)) => {
                set_word(&verdict, &agent, &machine, VERDICTS, payload["verdict"].as_str());
                set(&of_verdict, &MachineLabels { agent, machine }, &payload);
            }
            ("alarm", Some(machine)) => set_word(&alarm, &agent, &machine, STATES, payload["state"].as_str()),
            _ => {}
        }
    }
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Status messages do not name their agent: the topic does.
fn agent_of(topic: &str, payload: &Value) -> Option<String> {
    let named = payload["agent"].as_str();
    named.or_else(|| topic.rsplit('/').nth(1)).map(str::to_owned)
}

fn families<L>(registry: &mut Registry, fields: &'static [Field]) -> Vec<(&'static str, Family<L, Number>)>
where
    L: Clone + std::hash::Hash + Eq + fmt::Debug + EncodeLabelSet + Send + Sync + 'static,
{
    let registered = fields.iter().map(|(field, name, help)| {
        let family = Family::<L, Number>::default();
        registry.register(*name, *help, family.clone());
        (*field, family)
    });
    registered.collect()
}

fn set<L: Clone + std::hash::Hash + Eq>(families: &[(&str, Family<L, Number>)], labels: &L, payload: &Value) {
    for (field, family) in families {
        if let Some(value) = payload[*field].as_f64() {
            family.get_or_create(labels).set(value);
        }
    }
}

fn set_word(family: &Words, agent: &str, machine: &str, words: &[&str], now: Option<&str>) {
    for word in words {
        let labels = WordLabels { agent: agent.to_owned(), machine: machine.to_owned(), state: (*word).to_owned() };
        family.get_or_create(&labels).set(f64::from(u8::from(now == Some(word))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_becomes_gauges() {
        let message =
            |topic: &str, payload: &str| Message { topic: topic.into(), payload: Some(payload.into()), retained: true };
        let text = text(&[
            message("$home", r#"{"broker":"connected"}"#),
            message("plant/hall/pi-7/status", r#"{"schema":1,"state":"online"}"#),
            message(
                "plant/hall/pi-7/health",
                r#"{"agent":"pi-7","uptime_s":60,"memory_mb":31.5,"cpu_temp_c":null,"machines":[{"machine":"fan-1","assessed":0.5}]}"#,
            ),
            message(
                "plant/hall/pi-7/fan-1/verdict",
                r#"{"agent":"pi-7","machine":"fan-1","verdict":"anomalous","distance":0.4,"threshold":0.2,"ratio":2.0,"seq":8}"#,
            ),
            message("plant/hall/pi-7/fan-1/alarm", r#"{"agent":"pi-7","machine":"fan-1","state":"active"}"#),
            message("plant/hall/pi-7/fan-2/verdict", "no JSON"),
        ])
        .expect("text");
        for line in [
            "auscult_broker_connected 1.0",
            "auscult_up{agent=\"pi-7\"} 1.0",
            "auscult_memory_mebibytes{agent=\"pi-7\"} 31.5",
            "auscult_assessed_ratio{agent=\"pi-7\",machine=\"fan-1\"} 0.5",
            "auscult_ratio{agent=\"pi-7\",machine=\"fan-1\"} 2.0",
            "auscult_verdict{agent=\"pi-7\",machine=\"fan-1\",state=\"anomalous\"} 1.0",
            "auscult_verdict{agent=\"pi-7\",machine=\"fan-1\",state=\"normal\"} 0.0",
            "auscult_alarm{agent=\"pi-7\",machine=\"fan-1\",state=\"active\"} 1.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("cpu_temperature_celsius{") && !text.contains("fan-2"));
    }
}
