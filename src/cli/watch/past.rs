//! The last hour of the machines, asked of their agents: a watch that has just begun is not empty.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::fleet::{Key, Point, WatchedFleet};
use crate::mqtt::payload::{Reply, ReplyStatus};
use crate::scoring::Verdict;

const COMMAND: &str = "trend.get";
/// Questions under way at once, so that a large fleet is asked without a flood.
const AT_ONCE: usize = 4;
/// An agent that has not answered by then is not waited for.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);

/// Where nobody is left to be asked, it is looked again this much later.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// Which machines were asked for, and which answers are awaited.
#[derive(Debug, Default)]
pub struct Past {
    /// Nobody was left to be asked then.
    looked: Option<DateTime<Utc>>,
    asked: BTreeSet<Key>,
    under_way: BTreeMap<String, (Key, DateTime<Utc>)>,
}

impl Past {
    /// The next question and whom to ask; `None` while there is none, or enough are under way.
    pub fn question(&mut self, fleet: &WatchedFleet, now: DateTime<Utc>) -> Option<(String, Value)> {
        self.under_way.retain(|_, (_, at)| now - *at < PATIENCE);
        if self.under_way.len() >= AT_ONCE || self.looked.is_some_and(|at| now - at < LOOK_AGAIN) {
            return None;
        }
        let answers = |agent: &String| {
            let known = fleet.agents.get(agent);
            known
                .filter(|agent| agent.is_online())
                .and_then(|agent| agent.info.as_ref())
                .is_some_and(|info| info.commands.iter().any(|command| command == COMMAND))
        };
        let found = fleet.machines.keys().find(|key| !self.asked.contains(key) && answers(&key.0));
        self.looked = found.is_none().then_some(now);
        let key = found?.clone();
        self.asked.insert(key.clone());
        let (agent, machine) = key.clone();
        let id = format!("watch-past-{:016x}", rand::random::<u64>());
        self.under_way.insert(id.clone(), (key, now));
        let text = |time: DateTime<Utc>| time.to_rfc3339();
        let (from, expires) = (text(now - TimeDelta::hours(1)), text(now + TimeDelta::minutes(1)));
        Some((agent, json!({ "id": id, "command": COMMAND, "machine": machine, "from": from, "expires": expires })))
    }

    /// A reply to something: taken in where we asked.
    pub fn take(&mut self, reply: &Reply, fleet: &mut WatchedFleet) {
        let Some((key, _)) = reply.id.as_ref().and_then(|id| self.under_way.remove(id)) else { return };
        let (ReplyStatus::Ok, Some(data)) = (reply.status, &reply.data) else { return };
        if let Some(machine) = fleet.machines.get_mut(&key) {
            machine.fill(points(data));
        }
    }
}

/// Steps as points in their middle, with the middle distance; oldest first.
fn points(data: &Value) -> Vec<Point> {
    let list = |name: &str| data[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = list("fields");
    let half = TimeDelta::milliseconds(500 * data["step_s"].as_i64().unwrap_or_default());
    let point = |row: &Value| {
        let value = |name: &str| row.get(names.iter().position(|known| known == name)?);
        let number = |name: &str| value(name).and_then(Value::as_f64);
        let at: DateTime<Utc> = value("at")?.as_str()?.parse().ok()?;
        let (assessed, anomalous) = (number("assessed")?, number("anomalous")?);
        let verdict = match assessed {
            0.0 => Verdict::Unknown,
            assessed if 2.0 * anomalous >= assessed => Verdict::Anomalous,
            _ => Verdict::Normal,
        };
        let (distance, threshold) = (number("distance_median"), number("threshold"));
        let level_dbfs = number("level_median");
        Some(Point { ts: at + half, seq: 0, distance, threshold, level_dbfs, verdict })
    };
    list("points").iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fleet::tests::{agent, receive, verdict};
    use super::*;

    #[test]
    fn the_last_hour_comes_before_what_was_seen() {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1", "fan-2"], "online");
        agent(&mut fleet, "pi-2", &["fan-1"], "offline");
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(0, Some(0.1), None));
        let mut past = Past::default();
        let now = "2026-03-01T12:10:00Z".parse().expect("a time");
        let (to, question) = past.question(&fleet, now).expect("a question");
        assert_eq!(
            (to.as_str(), &question["machine"], &question["command"]),
            ("pi-1", &"fan-1".into(), &"trend.get".into())
        );
        assert!(past.question(&fleet, now).is_some_and(|(_, question)| question["machine"] == "fan-2"));
        assert_eq!(past.question(&fleet, now), None, "the other one is away");
        let reply = json!({
            "schema": 1, "ts": "2026-03-01T12:00:00.000Z", "agent": "pi-1", "id": question["id"], "command": "trend.get",
            "status": "ok", "error": null, "late": false, "data": {
                "step_s": 60, "fields": ["at", "assessed", "anomalous", "distance_median", "threshold"],
                "points": [
                    ["2026-03-01T11:30:00.000Z", 12, 0, 0.2, 0.3], ["2026-03-01T11:31:00.000Z", 12, 6, 0.4, 0.3],
                    ["2026-03-01T11:32:00.000Z", 0, 0, null, null], ["2026-03-01T12:01:00.000Z", 12, 0, 0.2, 0.3],
                ],
            },
        });
        past.take(&serde_json::from_value(reply).expect("a reply"), &mut fleet);
        let history = &fleet.machines[&("pi-1".to_owned(), "fan-1".to_owned())].history;
        let shown: Vec<_> = history.iter().map(|point| (point.distance, point.verdict)).collect();
        let (normal, odd, unknown) = (Verdict::Normal, Verdict::Anomalous, Verdict::Unknown);
        assert_eq!(shown, [(Some(0.2), normal), (Some(0.4), odd), (None, unknown), (Some(0.1), normal)]);
    }
}
