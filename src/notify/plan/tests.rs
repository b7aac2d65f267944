//! Plans in a world whose time is made.

use super::*;
use crate::notify::item::Priority;
use crate::scoring::{BandDifference, Lane, Why};
use chrono::FixedOffset;

/// A target in a world whose time is ours.
struct World {
    plan: Plan,
    writer: Writer,
    situation: Situation,
    begin: Instant,
    seconds: i64,
}

fn utc(time: DateTime<Utc>) -> DateTime<FixedOffset> {
    time.fixed_offset()
}

fn at(seconds: i64) -> DateTime<Utc> {
    // Saturday, 2026-11-28, 12:00.
    DateTime::from_timestamp(1_795_867_200 + seconds, 0).expect("a time")
}

impl World {
    fn new(settings: &str) -> World {
        let text = format!("kind = \"ntfy\"\nurl = \"https://ntfy.sh/a\"\n{settings}");
        let config: NotifyConfig = toml::from_str(&text).expect("a target");
        config.check("notify[0]").expect("a good target");
        let begin = Instant::now();
        let writer = Writer { agent: "pi-7".into(), page: None, local: utc };
        World {
            plan: Plan::new(config, PlanState::default(), begin),
            writer,
            situation: Situation::new(),
            begin,
            seconds: 0,
        }
    }

    fn set(&mut self, machine: &str, now: Now) {
        self.situation.insert(Some(machine.into()), Known { name: machine.into(), now });
    }

    fn fault(&mut self, machine: &str) {
        self.set(machine, Now::Standing(standing(NotifyEvent::Fault, at(self.seconds))));
    }

    fn calm(&mut self, machine: &str) {
        self.set(machine, Now::Calm { since: at(self.seconds) });
    }

    /// Lets time pass; what is sent then, taken by the server.
    fn pass(&mut self, seconds: i64) -> Vec<Message> {
        self.pass_with(seconds, &Ok(()))
    }

    fn pass_with(&mut self, seconds: i64, outcome: &Result<(), SendError>) -> Vec<Message> {
        let mut sent = Vec::new();
        for _ in 0..seconds {
            self.seconds += 1;
            let now = self.begin + Duration::from_secs(self.seconds as u64);
            self.plan.look(&self.situation, &self.writer, at(self.seconds));
            if let Some(message) = self.plan.next(&self.writer, at(self.seconds), now) {
                self.plan.sent(outcome, now);
                sent.push(message);
            }
        }
        sent
    }

    /// As after a power cut.
    fn restart(&mut self) {
        let state = serde_json::to_string(self.plan.state()).expect("serializable");
        let state = serde_json::from_str(&state).expect("the same");
        assert_eq!(state, *self.plan.state());
        self.plan = Plan::new(self.plan.config.clone(), state, self.begin);
    }
}

fn standing(kind: NotifyEvent, since: DateTime<Utc>) -> Standing {
    let bands = vec![BandDifference { from_hz: 2142.0, to_hz: 2302.0, difference_db: 7.6 }];
    let why = Why { ratio: Some(2.3), lane: Some(Lane::Burst), bands, ..Why::default() };
    Standing { kind, since, acknowledged: false, why: Some(why), count: 5, detail: None, lasted: None }
}

fn titles(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.title.as_str()).collect()
}

#[test]
fn an_alarm_and_its_end_are_told_once() {
    let mut world = World::new("");
    world.calm("fan");
    assert!(world.pass(5).is_empty());
    world.fault("fan");
    let sent = world.pass(600);
    assert_eq!(titles(&sent), ["fan sounds unusual"]);
    assert_eq!(
        sent[0].text,
        "fan has not sounded as it should since 12:00. Measured: burst, 2.3 x threshold, 2142-2302 Hz +7.6 dB. \
         5 anomalous windows so far."
    );
    world.restart();
    assert!(world.pass(600).is_empty(), "a restart is no news");
    world.calm("fan");
    let sent = world.pass(600);
    assert_eq!(titles(&sent), ["fan sounds normal again"]);
    assert_eq!(sent[0].text, "fan sounds as it should again since 12:20. The alarm began 12:00 and lasted 20 minutes.");
    world.restart();
    assert!(world.pass(600).is_empty());
    world.fault("fan");
    assert_eq!(world.pass(600).len(), 1, "a new one is news");
}

#[test]
fn what_somebody_takes_care_of_or_hides_is_not_told() {
    let mut world = World::new("repeat_min = 10");
    world.set("fan", Now::Standing(Standing { acknowledged: true, ..standing(NotifyEvent::Fault, at(0)) }));
    assert!(world.pass(3600).is_empty());
    world.set("fan", Now::Hidden);
    assert!(world.pass(3600).is_empty());
    world.set("fan", Now::Standing(standing(NotifyEvent::Fault, at(0))));
    assert_eq!(
        titles(&world.pass(1700)),
        ["fan sounds unusual", "Still: fan sounds unusual", "Still: fan sounds unusual"]
    );
    world.set("fan", Now::Hidden);
    assert!(world.pass(3600).is_empty());
    world.calm("fan");
    assert_eq!(titles(&world.pass(60)), ["fan sounds normal again"], "its end is news to those who were told");
}

#[test]
fn at_the_end_of_quiet_hours_is_told_what_still_stands() {
    let mut world = World::new("quiet_hours = \"12:10-13:00\"\nurgent = [\"deaf\"]");
    world.fault("told");
    assert_eq!(world.pass(600).len(), 1);
    // 12:10.
    world.calm("told");
    world.fault("stays");
    world.fault("passes");
    assert!(world.pass(600).is_empty());
    world.calm("passes");
    world.set("deaf", Now::Standing(standing(NotifyEvent::Deaf, at(1200))));
    let sent = world.pass(600);
    assert_eq!((titles(&sent), sent[0].priority), (vec!["deaf is not heard"], Priority::Urgent));
    assert!(world.pass(1750).is_empty());
    let sent = world.pass(600);
    assert_eq!(titles(&sent), ["pi-7: 1 alarm, 1 cleared"]);
    assert!(sent[0].text.starts_with("- stays has not sounded as it should since 12:10."), "{}", sent[0].text);
    assert!(!sent[0].text.contains("passes"));
}

#[test]
fn many_at_once_are_one_message_and_a_flood_is_slowed() {
    let mut world = World::new("max_per_hour = 6");
    for number in 0..30 {
        world.fault(&format!("fan-{number}"));
    }
    let sent = world.pass(10);
    assert_eq!((titles(&sent), sent[0].items.len()), (vec!["pi-7: 30 alarms"], 30));
    assert!(sent[0].text.ends_with("\n- and 10 more"), "{}", sent[0].text);
    let mut messages = 0;
    for second in 0..3600 {
        if second % 2 == 0 {
            world.calm("fan-1")
        } else {
            world.fault("fan-1")
        }
        messages += world.pass(1).len();
    }
    assert!((6..=8).contains(&messages), "{messages}");
    assert!(world.plan.waiting() <= WAITING);
}

#[test]
fn what_cannot_be_sent_waits_within_bounds() {
    let mut world = World::new("");
    let away = Err(SendError { problem: "away".into(), refused: false, retry_after: None });
    world.fault("fan");
    let attempts = world.pass_with(3600, &away).len();
    assert!((8..=14).contains(&attempts), "{attempts}");
    world.calm("fan");
    world.pass_with(1000, &away);
    world.restart();
    let sent = world.pass(2000);
    assert_eq!(titles(&sent), ["pi-7: 1 alarm, 1 cleared"], "what was over meanwhile is told all the same");

    // A message that the server never takes does not stop the others.
    world.fault("fan");
    let refused = Err(SendError { problem: "no".into(), refused: true, retry_after: None });
    assert_eq!(world.pass_with(3600, &refused).len(), REFUSALS as usize);
    world.fault("pump");
    let sent = world.pass(3600);
    assert_eq!(titles(&sent), ["pump sounds unusual"]);
    assert!(sent[0].text.ends_with("1 earlier message could not be kept."), "{}", sent[0].text);
}

#[test]
fn a_broker_is_missed_after_a_time_and_only_for_those_who_want_it() {
    let mut world = World::new("machines = [\"fan\"]");
    world.fault("pump");
    let away = |seconds| Standing {
        lasted: Some(Duration::from_secs(seconds)),
        why: None,
        ..standing(NotifyEvent::NoBroker, at(0))
    };
    let agent = |world: &mut World, now| drop(world.situation.insert(None, Known { name: "pi-7".into(), now }));
    agent(&mut world, Now::Standing(away(599)));
    assert!(world.pass(10).is_empty(), "the pump is not its own");
    agent(&mut world, Now::Standing(away(600)));
    assert_eq!(titles(&world.pass(10)), ["pi-7 has no broker"]);
    world.restart();
    agent(&mut world, Now::Standing(Standing { since: at(5), ..away(700) }));
    assert!(world.pass(10).is_empty(), "it is the same absence");
    agent(&mut world, Now::Calm { since: at(20) });
    assert_eq!(titles(&world.pass(10)), ["pi-7 has its broker again"]);
}
