//! What `auscult watch` knows of the fleet, from the messages alone: no terminal, no broker, no clock.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::mqtt::payload::{AgentState, AlarmMsg, EventMsg, Info, SettingsMsg, Status, VerdictMsg};
use crate::mqtt::topics::{AgentPart, MachinePart, Topic};
use crate::scoring::alarm::{AlarmState, Kind};
use crate::scoring::{Reason, Verdict};

/// Windows kept of each machine: half an hour of 5 s windows.
const KEEP_WINDOWS: usize = 360;
const KEEP_EVENTS: usize = 50;

/// How a machine stands, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Alarm,
    Wear,
    Deaf,
    Acknowledged,
    /// Nothing comes from its agent.
    Away,
    Shelved,
    Maintenance,
    /// Its windows are not judged, for this reason or because none has come.
    Idle(Option<&'static str>),
    Normal,
}

/// One window in the history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub ts: DateTime<Utc>,
    pub seq: u64,
    pub distance: Option<f64>,
    pub threshold: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Default)]
pub struct WatchedAgent {
    pub status: Option<Status>,
    pub info: Option<Info>,
}

impl WatchedAgent {
    pub fn is_online(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.state == AgentState::Online)
    }
}

#[derive(Debug, Default)]
pub struct WatchedMachine {
    pub verdict: Option<VerdictMsg>,
    pub alarm: Option<AlarmMsg>,
    pub settings: Option<SettingsMsg>,
    pub history: VecDeque<Point>,
    pub events: VecDeque<EventMsg>,
}

/// Agent and machine.
pub type Key = (String, String);

/// Everything that the broker has delivered.
#[derive(Debug, Default)]
pub struct WatchedFleet {
    pub agents: BTreeMap<String, WatchedAgent>,
    pub machines: BTreeMap<Key, WatchedMachine>,
}

/// Order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Sort {
    Urgency,
    Name,
    #[strum(to_string = "distance")]
    Ratio,
    Level,
}

impl Sort {
    pub fn next(self) -> Sort {
        match self {
            Sort::Urgency => Sort::Name,
            Sort::Name => Sort::Ratio,
            Sort::Ratio => Sort::Level,
            Sort::Level => Sort::Urgency,
        }
    }
}

impl WatchedFleet {
    /// Takes one message in. What cannot be read is passed over: a newer agent may say more than we know.
    pub fn take(&mut self, topic: &Topic, payload: &[u8]) {
        match topic {
            Topic::Agent { agent, part } => self.of_agent(agent, *part, payload),
            Topic::Machine { agent, machine, part } => self.of_machine(agent, machine, *part, payload),
            Topic::FleetControl => {}
        }
    }

    fn of_agent(&mut self, id: &str, part: AgentPart, payload: &[u8]) {
        match part {
            // Cleared at the broker: the agent is gone for good.
            AgentPart::Status if payload.is_empty() => {
                self.agents.remove(id);
                self.machines.retain(|(agent, _), _| agent != id);
            }
            AgentPart::Status => {
                if let Some(status) = read(payload) {
                    self.agents.entry(id.to_owned()).or_default().status = Some(status);
                }
            }
            AgentPart::Info => {
                let Some(info) = read::<Info>(payload) else { return };
                // The broker may still keep the topics of machines that are gone.
                self.machines.retain(|(agent, machine), _| agent != id || info.machines.contains(machine));
                for machine in &info.machines {
                    self.machines.entry((id.to_owned(), machine.clone())).or_default();
                }
                self.agents.entry(id.to_owned()).or_default().info = Some(info);
            }
            AgentPart::Health | AgentPart::Event | AgentPart::Reply | AgentPart::Control => {}
        }
    }

    fn of_machine(&mut self, agent: &str, id: &str, part: MachinePart, payload: &[u8]) {
        let key = (agent.to_owned(), id.to_owned());
        if payload.is_empty() {
            self.machines.remove(&key);
            return;
        }
        let info = self.agents.entry(agent.to_owned()).or_default().info.as_ref();
        if info.is_some_and(|info| !info.machines.iter().any(|machine| machine == id)) {
            return;
        }
        let machine = self.machines.entry(key).or_default();
        match part {
            MachinePart::Verdict => {
                if let Some(verdict) = read(payload) {
                    machine.window(verdict);
                }
            }
            MachinePart::Alarm => {
                if let Some(alarm) = read::<AlarmMsg>(payload)
                    && machine.alarm.as_ref().is_none_or(|known| !alarm.late || known.ts <= alarm.ts)
                {
                    machine.alarm = Some(alarm);
                }
            }
            MachinePart::Settings => machine.settings = read(payload).or(machine.settings.take()),
            MachinePart::Event => {
                if let Some(event) = read(payload) {
                    machine.events.push_front(event);
                    machine.events.truncate(KEEP_EVENTS);
                }
            }
            MachinePart::Evidence | MachinePart::ThresholdSet => {}
        }
    }

    /// How a machine stands.
    pub fn standing(&self, key: &Key) -> Standing {
        let Some(machine) = self.machines.get(key) else { return Standing::Away };
        if !self.agents.get(&key.0).is_some_and(WatchedAgent::is_online) {
            return Standing::Away;
        }
        let alarm = machine.alarm.as_ref();
        match (alarm.map(|alarm| alarm.state), alarm.and_then(|alarm| alarm.kind)) {
            (Some(AlarmState::Active), Some(Kind::Deaf)) => return Standing::Deaf,
            (Some(AlarmState::Active), Some(Kind::Wear)) => return Standing::Wear,
            (Some(AlarmState::Active), _) => return Standing::Alarm,
            (Some(AlarmState::Acknowledged), _) => return Standing::Acknowledged,
            (Some(AlarmState::Shelved), _) => {
                let maintenance = machine.settings.as_ref().is_some_and(|settings| settings.maintenance);
                return if maintenance { Standing::Maintenance } else { Standing::Shelved };
            }
            (Some(AlarmState::Normal) | None, _) => {}
        }
        let Some(verdict) = &machine.verdict else { return Standing::Idle(None) };
        match verdict.reason {
            None => Standing::Normal,
            Some(Reason::Learning) => Standing::Idle(Some("learning")),
            Some(Reason::MachineOff) => Standing::Idle(Some("off")),
            Some(Reason::NoBundle) => Standing::Idle(Some("no bundle")),
            Some(Reason::Overload) => Standing::Idle(Some("overload")),
            Some(Reason::Maintenance) => Standing::Maintenance,
            Some(_) => Standing::Deaf,
        }
    }

    /// The machines that `filter` leaves, in order. A filter is words that must all occur in agent, machine, tag or state.
    pub fn rows(&self, sort: Sort, filter: &str) -> Vec<(Key, Standing)> {
        let filter = filter.to_lowercase();
        let words: Vec<&str> = filter.split_whitespace().collect();
        let mut rows: Vec<_> = self
            .machines
            .keys()
            .map(|key| (key.clone(), self.standing(key)))
            .filter(|(key, standing)| {
                let tags =
                    self.agents.get(&key.0).and_then(|agent| agent.info.as_ref()).map(|info| info.tags.join(" "));
                let text =
                    format!("{}/{} {} {}", key.0, key.1, standing.word(), tags.unwrap_or_default()).to_lowercase();
                words.iter().all(|word| text.contains(word))
            })
            .collect();
        let number = |key: &Key, of: fn(&VerdictMsg) -> Option<f64>| {
            self.machines[key].verdict.as_ref().and_then(of).unwrap_or(f64::NEG_INFINITY)
        };
        match sort {
            Sort::Name => {}
            Sort::Urgency => rows.sort_by_key(|(_, standing)| *standing),
            Sort::Ratio => rows.sort_by(|a, b| number(&b.0, |v| v.ratio).total_cmp(&number(&a.0, |v| v.ratio))),
            Sort::Level => {
                rows.sort_by(|a, b| {
                    number(&b.0, |v| Some(v.level_dbfs)).total_cmp(&number(&a.0, |v| Some(v.level_dbfs)))
                });
            }
        }
        rows
    }
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Standing::Alarm => "alarm",
            Standing::Wear => "wear",
            Standing::Deaf => "deaf",
            Standing::Acknowledged => "acknowledged",
            Standing::Away => "away",
            Standing::Shelved => "shelved",
            Standing::Maintenance => "maintenance",
            Standing::Idle(reason) => reason.unwrap_or("waiting"),
            Standing::Normal => "normal",
        }
    }
}

impl WatchedMachine {
    /// One window: to where its time belongs, once.
    fn window(&mut self, verdict: VerdictMsg) {
        let point = Point {
            ts: verdict.ts.utc(),
            seq: verdict.seq,
            distance: verdict.distance,
            threshold: verdict.threshold,
            verdict: verdict.verdict,
        };
        let place = self.history.partition_point(|known| (known.ts, known.seq) < (point.ts, point.seq));
        if self.history.get(place).is_none_or(|known| (known.ts, known.seq) != (point.ts, point.seq)) {
            self.history.insert(place, point);
        }
        while self.history.len() > KEEP_WINDOWS {
            self.history.pop_front();
        }
        if self.verdict.as_ref().is_none_or(|known| known.ts <= verdict.ts) {
            self.verdict = Some(verdict);
        }
    }

    /// What was before the first window that was seen here, oldest first.
    pub fn fill(&mut self, past: Vec<Point>) {
        let first = self.history.front().map(|point| point.ts);
        let before = past.into_iter().filter(|point| first.is_none_or(|first| point.ts < first));
        let room = KEEP_WINDOWS.saturating_sub(self.history.len());
        for point in before.collect::<Vec<_>>().into_iter().rev().take(room) {
            self.history.push_front(point);
        }
    }

    /// The limit in force.
    pub fn threshold(&self) -> Option<f64> {
        let set = self.settings.as_ref().and_then(|settings| settings.threshold);
        set.or(self.verdict.as_ref().and_then(|verdict| verdict.threshold))
    }

    /// Since when the alarm stands; `None` when none does.
    pub fn alarm_since(&self) -> Option<DateTime<Utc>> {
        let alarm = self.alarm.as_ref().filter(|alarm| alarm.state != AlarmState::Normal)?;
        Some(alarm.since.utc())
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TS: &str = "2026-03-01T12:00:00.000Z";

    /// Takes a message in as it would come.
    pub fn receive(fleet: &mut WatchedFleet, topic: &str, payload: &Value) {
        let topic = Topic::parse("auscult", &format!("auscult/{topic}")).expect("a topic");
        fleet.take(&topic, payload.to_string().as_bytes());
    }

    pub fn verdict(seq: u64, distance: Option<f64>, reason: Option<&str>) -> Value {
        let verdict = match (distance, reason) {
            (_, Some(_)) | (None, _) => "unknown",
            (Some(distance), _) if distance > 0.3 => "anomalous",
            _ => "normal",
        };
        json!({
            "schema": 1, "ts": format!("2026-03-01T12:{:02}:{:02}.000Z", seq / 60, seq % 60), "seq": seq, "agent": "pi-1",
            "machine": "fan-1", "verdict": verdict, "reason": reason, "distance": distance, "threshold": 0.3,
            "ratio": distance.map(|distance| distance / 0.3), "score": null, "p_value": null, "lane": null, "level_dbfs": -31.5,
            "bundle": "demo@1", "late": false,
        })
    }

    pub fn alarm(state: &str, kind: Option<&str>) -> Value {
        json!({
            "schema": 1, "ts": TS, "agent": "pi-1", "machine": "fan-1", "state": state, "kind": kind, "since": TS, "count": 5,
            "ratio": null, "percentile": null, "lane": null, "bands": [], "by": null, "comment": null, "until": null, "late": false,
        })
    }

    pub fn agent(fleet: &mut WatchedFleet, id: &str, machines: &[&str], state: &str) {
        let info = json!({
            "schema": 1, "ts": TS, "agent": id, "version": "0.1.0", "boot": "1", "bundle": "demo@1", "machines": machines,
            "tags": ["north"], "commands": ["ping", "trend.get"],
        });
        receive(fleet, &format!("{id}/status"), &json!({ "schema": 1, "state": state, "boot": "1", "ts": TS }));
        receive(fleet, &format!("{id}/info"), &info);
    }

    fn key() -> Key {
        ("pi-1".into(), "fan-1".into())
    }

    #[test]
    fn a_machine_stands_as_alarm_agent_and_window_say() {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1"], "online");
        assert_eq!(fleet.standing(&key()), Standing::Idle(None));
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(0, Some(0.5), None));
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("normal", None));
        // One window over the threshold is no alarm.
        assert_eq!(fleet.standing(&key()), Standing::Normal);
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(1, None, Some("no_signal")));
        assert_eq!(fleet.standing(&key()), Standing::Deaf);
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(2, None, Some("machine_off")));
        assert_eq!(fleet.standing(&key()), Standing::Idle(Some("off")));
        for (state, kind, expected) in [
            ("active", Some("fault"), Standing::Alarm),
            ("active", Some("deaf"), Standing::Deaf),
            ("active", Some("wear"), Standing::Wear),
            ("acknowledged", Some("fault"), Standing::Acknowledged),
            ("shelved", None, Standing::Shelved),
        ] {
            receive(&mut fleet, "pi-1/fan-1/alarm", &alarm(state, kind));
            assert_eq!(fleet.standing(&key()), expected);
        }
        agent(&mut fleet, "pi-1", &["fan-1"], "offline");
        assert_eq!(fleet.standing(&key()), Standing::Away);
    }

    #[test]
    fn late_and_repeated_windows_go_where_they_belong() {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1"], "online");
        for seq in [0, 1, 4, 5, 5, 2, 3, 3] {
            receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(seq, Some(0.1), None));
        }
        let machine = &fleet.machines[&key()];
        let seqs: Vec<_> = machine.history.iter().map(|point| point.seq).collect();
        assert_eq!(seqs, [0, 1, 2, 3, 4, 5]);
        assert_eq!(machine.verdict.as_ref().map(|verdict| verdict.seq), Some(5));
        for seq in 6..1000 {
            receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(seq, Some(0.1), None));
        }
        assert_eq!(fleet.machines[&key()].history.len(), KEEP_WINDOWS);
    }

    #[test]
    fn machines_that_are_gone_go_and_do_not_come_back_by_what_the_broker_keeps() {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1", "fan-2"], "online");
        assert_eq!(fleet.machines.len(), 2);
        agent(&mut fleet, "pi-1", &["fan-2"], "online");
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("active", Some("fault")));
        assert_eq!(fleet.machines.keys().map(|key| key.1.as_str()).collect::<Vec<_>>(), ["fan-2"]);
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1", "fan-2", "pump-1"], "online");
        agent(&mut fleet, "pi-2", &["fan-1"], "offline");
        for (machine, distance) in [("fan-1", 0.1), ("fan-2", 0.2), ("pump-1", 0.9)] {
            receive(&mut fleet, &format!("pi-1/{machine}/verdict"), &verdict(0, Some(distance), None));
        }
        receive(&mut fleet, "pi-1/fan-2/alarm", &alarm("active", Some("fault")));
        let names = |sort, filter: &str| -> Vec<String> {
            fleet.rows(sort, filter).into_iter().map(|(key, _)| format!("{}/{}", key.0, key.1)).collect()
        };
        assert_eq!(names(Sort::Urgency, ""), ["pi-1/fan-2", "pi-2/fan-1", "pi-1/fan-1", "pi-1/pump-1"]);
        assert_eq!(names(Sort::Ratio, ""), ["pi-1/pump-1", "pi-1/fan-2", "pi-1/fan-1", "pi-2/fan-1"]);
        assert_eq!(names(Sort::Name, "fan NORTH"), ["pi-1/fan-1", "pi-1/fan-2", "pi-2/fan-1"]);
        assert_eq!(names(Sort::Name, "alarm"), ["pi-1/fan-2"]);
        assert_eq!(names(Sort::Name, "nothing"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let mut fleet = WatchedFleet::default();
        for payload in ["", "{", "[]", "{\"schema\":2}", "null"] {
            for topic in ["pi-1/status", "pi-1/info", "pi-1/fan-1/verdict", "pi-1/fan-1/alarm", "pi-1/fan-1/settings"] {
                let topic = Topic::parse("auscult", &format!("auscult/{topic}")).expect("a topic");
                fleet.take(&topic, payload.as_bytes());
            }
        }
        assert!(fleet.machines.values().all(|machine| machine.verdict.is_none()));
    }
}
