//! What `auscult watch` knows of the fleet, from the messages alone: no terminal, no broker, no clock.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::standing::{Hindrance, Look};
use crate::mqtt::payload::{AgentState, AlarmMsg, EventKind, EventMsg, Info, SettingsMsg, Status, VerdictMsg};
use crate::mqtt::topics::{AgentPart, MachinePart, Topic};
use crate::scoring::alarm::AlarmState;
use crate::scoring::{Reason, Verdict};

/// Windows kept of each machine: half an hour of 5 s windows.
const KEEP_WINDOWS: usize = 360;
const KEEP_EVENTS: usize = 50;
/// A verdict is old when four windows have not come, and never before so long.
const STALE_S: f64 = 30.0;

/// One window in the history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub ts: DateTime<Utc>,
    pub seq: u64,
    pub distance: Option<f64>,
    pub threshold: Option<f64>,
    pub level_dbfs: Option<f64>,
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
    /// When the newest verdict was heard: by our clock where it came while we listened, by its own time where the broker
    /// had kept it.
    pub verdict_at: Option<DateTime<Utc>>,
    pub alarm: Option<AlarmMsg>,
    pub settings: Option<SettingsMsg>,
    pub history: VecDeque<Point>,
    pub events: VecDeque<EventMsg>,
}

/// Agent and machine.
pub type Key = (String, String);

/// When a message was heard, and whether the broker had kept it from before.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub at: DateTime<Utc>,
    pub retained: bool,
}

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
    pub fn take(&mut self, topic: &Topic, payload: &[u8], heard: Heard) {
        match topic {
            Topic::Agent { agent, part } => self.of_agent(agent, *part, payload),
            Topic::Machine { agent, machine, part } => self.of_machine(agent, machine, *part, payload, heard),
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

    fn of_machine(&mut self, agent: &str, id: &str, part: MachinePart, payload: &[u8], heard: Heard) {
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
                    machine.window(verdict, heard);
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
            MachinePart::Evidence | MachinePart::Picture | MachinePart::ThresholdSet => {}
        }
    }

    /// How a machine stands at `now`; `connected`: there is a broker, so that silence means something.
    pub fn look(&self, key: &Key, now: DateTime<Utc>, connected: bool) -> Look {
        let Some(machine) = self.machines.get(key) else { return Look::default() };
        let online = self.agents.get(&key.0).is_some_and(WatchedAgent::is_online);
        let hindrance = if !connected {
            Some(Hindrance::NoBroker)
        } else if !online {
            Some(Hindrance::Away)
        } else {
            machine.is_stale(now).then_some(Hindrance::NoVerdict)
        };
        Look::of(machine.verdict.as_ref(), machine.alarm.as_ref(), machine.settings.as_ref(), hindrance)
    }

    /// The machines that `filter` leaves, in order. A filter is words that must all occur in agent, machine, tag or state.
    pub fn rows(&self, sort: Sort, filter: &str, now: DateTime<Utc>, connected: bool) -> Vec<(Key, Look)> {
        let filter = filter.to_lowercase();
        let words: Vec<&str> = filter.split_whitespace().collect();
        let mut rows: Vec<_> = self
            .machines
            .keys()
            .map(|key| (key.clone(), self.look(key, now, connected)))
            .filter(|(key, look)| {
                let tags =
                    self.agents.get(&key.0).and_then(|agent| agent.info.as_ref()).map(|info| info.tags.join(" "));
                let text = format!("{}/{} {} {}", key.0, key.1, look.words(), tags.unwrap_or_default()).to_lowercase();
                words.iter().all(|word| text.contains(word))
            })
            .collect();
        let number = |key: &Key, of: fn(&VerdictMsg) -> Option<f64>| {
            self.machines[key].verdict.as_ref().and_then(of).unwrap_or(f64::NEG_INFINITY)
        };
        match sort {
            Sort::Name => {}
            Sort::Urgency => rows.sort_by_key(|(_, look)| look.standing),
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

impl WatchedMachine {
    /// One window: to where its time belongs, once.
    fn window(&mut self, verdict: VerdictMsg, heard: Heard) {
        let point = Point {
            ts: verdict.ts.utc(),
            seq: verdict.seq,
            distance: verdict.distance,
            threshold: verdict.threshold,
            level_dbfs: Some(verdict.level_dbfs),
            verdict: verdict.verdict,
        };
        let place = self.history.partition_point(|known| (known.ts, known.seq) < (point.ts, point.seq));
        if self.history.get(place).is_none_or(|known| (known.ts, known.seq) != (point.ts, point.seq)) {
            self.history.insert(place, point);
        }
        while self.history.len() > KEEP_WINDOWS {
            self.history.pop_front();
        }
        // By its number after the agent's clock was set back, by its time where the agent counts anew.
        if self.verdict.as_ref().is_none_or(|known| known.seq < verdict.seq || known.ts <= verdict.ts) {
            if !verdict.late {
                let at = if heard.retained { verdict.ts.utc().min(heard.at) } else { heard.at };
                self.verdict_at = self.verdict_at.max(Some(at));
            }
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

    /// The agent is there and judges no window any more, or nobody may read its verdicts.
    fn is_stale(&self, now: DateTime<Utc>) -> bool {
        let Some(at) = self.verdict_at else { return false };
        (now - at).as_seconds_f64() > STALE_S.max(4.0 * self.pace_s())
    }

    /// Time between windows, s: the median of the last ones, so that a pause does not count.
    fn pace_s(&self) -> f64 {
        let points = || self.history.iter().rev().take(16);
        // What was asked of the past has no numbers, and longer steps.
        let pairs = points().zip(points().skip(1)).filter(|(to, from)| to.seq != from.seq);
        let mut steps: Vec<_> = pairs.map(|(to, from)| (to.ts - from.ts).as_seconds_f64()).collect();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied().unwrap_or(0.0)
    }

    /// The limit in force.
    pub fn threshold(&self) -> Option<f64> {
        let set = self.settings.as_ref().and_then(|settings| settings.threshold);
        set.or(self.verdict.as_ref().and_then(|verdict| verdict.threshold))
    }

    /// What a person should know of it, in a line: of its alarm, else of its last window.
    pub fn sentence(&self) -> Option<&str> {
        let of_window = self.verdict.as_ref().and_then(|verdict| verdict.text.as_deref());
        of_window.or(self.alarm.as_ref().and_then(|alarm| alarm.text.as_deref()))
    }

    /// Windows that speak for the alarm by now; those of the last change where the agent does not say so.
    pub fn alarm_windows(&self) -> Option<u64> {
        let now = self.verdict.as_ref().and_then(|verdict| verdict.alarm_windows);
        now.or(self.alarm.as_ref().map(|alarm| alarm.count))
    }

    /// Since when the alarm stands; `None` when none does.
    pub fn alarm_since(&self) -> Option<DateTime<Utc>> {
        let alarm = self.alarm.as_ref().filter(|alarm| alarm.state != AlarmState::Normal)?;
        // Version 0.1 does not say when a shelved one was raised.
        Some(alarm.raised.unwrap_or(alarm.since).utc())
    }

    /// How much of the machine's normal has been heard, 0..1, while it is being learned.
    pub fn learning_share(&self) -> Option<f64> {
        let verdict = self.verdict.as_ref()?;
        if verdict.learning_share.is_some() {
            return verdict.learning_share;
        }
        // Version 0.1 says it in events alone.
        verdict.reason.filter(|reason| *reason == Reason::Learning)?;
        let event = self.events.iter().find(|event| event.event == EventKind::BaselineLearning)?;
        event.facts.get("share")?.as_f64()
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
        fleet.take(&topic, payload.to_string().as_bytes(), Heard { at: now(), retained: false });
    }

    /// Ten minutes after the first window.
    pub fn now() -> DateTime<Utc> {
        "2026-03-01T12:10:00Z".parse().expect("a time")
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

    /// Of pi-1/fan-2, with a baseline.
    pub fn settings(source: &str, judge: &str) -> Value {
        json!({
            "schema": 1, "ts": TS, "agent": "pi-1", "machine": "fan-2", "threshold": 0.3, "source": source, "judge": judge,
            "false_alarm_rate": if judge == "combined" { Some(0.01) } else { None }, "baseline": TS, "revision": 1,
            "by": "ana", "reason": null, "until": null, "bundle": "demo@1", "made_for": null, "maintenance": false,
            "maintenance_until": null,
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

    pub fn key() -> Key {
        ("pi-1".into(), "fan-1".into())
    }

    #[test]
    fn an_agent_whose_clock_is_set_back_is_followed() {
        let mut fleet = WatchedFleet::default();
        let shown = |fleet: &WatchedFleet| fleet.machines.values().next().and_then(|machine| machine.verdict.clone());
        let mut early = verdict(11, Some(0.1), None);
        early["ts"] = json!("2026-03-01T13:00:00.000Z");
        receive(&mut fleet, "pi-1/fan-1/verdict", &early);
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(12, Some(0.9), None));
        assert_eq!(shown(&fleet).expect("a verdict").seq, 12, "its number says that it is newer");
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(3, Some(0.1), None));
        assert_eq!(shown(&fleet).expect("a verdict").seq, 12, "what comes late is not");
        let mut anew = verdict(1, Some(0.1), None);
        anew["ts"] = json!("2026-03-02T12:00:00.000Z");
        receive(&mut fleet, "pi-1/fan-1/verdict", &anew);
        assert_eq!(shown(&fleet).expect("a verdict").seq, 1, "an agent that lost its state counts anew");
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
            fleet.rows(sort, filter, now(), true).into_iter().map(|(key, _)| format!("{}/{}", key.0, key.1)).collect()
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
                fleet.take(&topic, payload.as_bytes(), Heard { at: now(), retained: true });
            }
        }
        assert!(fleet.machines.values().all(|machine| machine.verdict.is_none()));
    }
}
