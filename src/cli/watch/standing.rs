//! How a machine stands: what was last said of it, and what keeps us from hearing more.

use crate::mqtt::payload::{AlarmMsg, SettingsMsg, VerdictMsg};
use crate::scoring::Reason;
use crate::scoring::alarm::{AlarmState, Kind};

/// How a machine stands, the most urgent first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Alarm,
    Wear,
    Deaf,
    Acknowledged,
    /// Nothing comes from its agent, or no verdicts do: what was said last says nothing of now.
    #[default]
    Gone,
    Shelved,
    Maintenance,
    /// Its windows are not judged, for this reason or because none has come.
    Idle(Option<&'static str>),
    Normal,
}

/// What keeps an alarm, or anything else that was said, from being the news of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// We have no broker.
    NoBroker,
    /// The broker has lost the agent, or it has stopped.
    Away,
    /// The agent is there, but its verdicts do not come.
    NoVerdict,
    /// The machine cannot be heard.
    Deaf,
}

impl Hindrance {
    fn word(self) -> &'static str {
        match self {
            Hindrance::NoBroker => "no broker",
            Hindrance::Away => "away",
            Hindrance::NoVerdict => "no verdict",
            Hindrance::Deaf => "deaf",
        }
    }
}

/// What is shown of a machine in one word or two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    pub standing: Standing,
    pub hindrance: Option<Hindrance>,
}

impl Look {
    /// An alarm that somebody has to know of stays what it is, whatever else is wrong; everything else is only as good as
    /// the newest verdict.
    pub fn of(
        verdict: Option<&VerdictMsg>,
        alarm: Option<&AlarmMsg>,
        settings: Option<&SettingsMsg>,
        hindrance: Option<Hindrance>,
    ) -> Look {
        let deaf = verdict.and_then(|verdict| verdict.reason).is_some_and(is_deaf);
        let hindrance = hindrance.or(deaf.then_some(Hindrance::Deaf));
        let standing = match (alarm.map(|alarm| alarm.state), alarm.and_then(|alarm| alarm.kind)) {
            (Some(AlarmState::Active), Some(Kind::Deaf)) => Standing::Deaf,
            (Some(AlarmState::Active), Some(Kind::Wear)) => Standing::Wear,
            (Some(AlarmState::Active), _) => Standing::Alarm,
            (Some(AlarmState::Acknowledged), _) => Standing::Acknowledged,
            _ if hindrance.is_some_and(|hindrance| hindrance != Hindrance::Deaf) => Standing::Gone,
            (Some(AlarmState::Shelved), _) => {
                let maintenance = settings.is_some_and(|settings| settings.maintenance);
                if maintenance { Standing::Maintenance } else { Standing::Shelved }
            }
            (Some(AlarmState::Normal) | None, _) => of_window(verdict),
        };
        // A machine that is deaf is not deaf because it is deaf.
        let hindrance = hindrance.filter(|hindrance| standing != Standing::Deaf || *hindrance != Hindrance::Deaf);
        Look { standing, hindrance }
    }

    /// `alarm`, `alarm, deaf`, `no verdict`, `learning`.
    pub fn words(&self) -> String {
        match (self.standing, self.hindrance) {
            (Standing::Gone, hindrance) => hindrance.unwrap_or(Hindrance::Away).word().to_owned(),
            (standing, Some(hindrance)) if standing < Standing::Gone => {
                format!("{}, {}", standing.word(), hindrance.word())
            }
            (standing, _) => standing.word().to_owned(),
        }
    }
}

fn of_window(verdict: Option<&VerdictMsg>) -> Standing {
    let Some(verdict) = verdict else { return Standing::Idle(None) };
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

/// The window could not be judged because of what the microphone delivers.
fn is_deaf(reason: Reason) -> bool {
    match reason {
        Reason::Learning | Reason::MachineOff | Reason::NoBundle | Reason::Overload | Reason::Maintenance => false,
        Reason::Silent
        | Reason::Flat
        | Reason::Clipped
        | Reason::DcOffset
        | Reason::Noise
        | Reason::Gap
        | Reason::NoSignal
        | Reason::NotFinite => true,
    }
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Standing::Alarm => "alarm",
            Standing::Wear => "wear",
            Standing::Deaf => "deaf",
            Standing::Acknowledged => "acknowledged",
            Standing::Gone => "away",
            Standing::Shelved => "shelved",
            Standing::Maintenance => "maintenance",
            Standing::Idle(reason) => reason.unwrap_or("waiting"),
            Standing::Normal => "normal",
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::super::fleet::tests::{agent, alarm, key, now, receive, verdict};
    use super::super::fleet::{Heard, WatchedFleet};
    use super::*;
    use crate::mqtt::topics::Topic;

    fn fleet() -> WatchedFleet {
        let mut fleet = WatchedFleet::default();
        agent(&mut fleet, "pi-1", &["fan-1"], "online");
        fleet
    }

    fn words(fleet: &WatchedFleet) -> String {
        fleet.look(&key(), now(), true).words()
    }

    #[test]
    fn a_machine_stands_as_alarm_agent_and_window_say() {
        let mut fleet = fleet();
        assert_eq!(words(&fleet), "waiting");
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(0, Some(0.5), None));
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("normal", None));
        // One window over the threshold is no alarm.
        assert_eq!(words(&fleet), "normal");
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(1, None, Some("no_signal")));
        assert_eq!(words(&fleet), "deaf");
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(2, None, Some("machine_off")));
        assert_eq!(words(&fleet), "off");
        for (state, kind, expected) in [
            ("active", Some("fault"), Standing::Alarm),
            ("active", Some("deaf"), Standing::Deaf),
            ("active", Some("wear"), Standing::Wear),
            ("acknowledged", Some("fault"), Standing::Acknowledged),
            ("shelved", None, Standing::Shelved),
        ] {
            receive(&mut fleet, "pi-1/fan-1/alarm", &alarm(state, kind));
            assert_eq!(fleet.look(&key(), now(), true).standing, expected);
        }
        agent(&mut fleet, "pi-1", &["fan-1"], "offline");
        assert_eq!(words(&fleet), "away");
    }

    #[test]
    fn an_alarm_stays_one_when_its_microphone_its_agent_or_the_broker_is_gone_and_says_so() {
        let mut fleet = fleet();
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("active", Some("fault")));
        receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(1, None, Some("no_signal")));
        assert_eq!(words(&fleet), "alarm, deaf");
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("acknowledged", Some("fault")));
        assert_eq!(words(&fleet), "acknowledged, deaf");
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("active", Some("deaf")));
        assert_eq!(words(&fleet), "deaf");
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("active", Some("fault")));
        agent(&mut fleet, "pi-1", &["fan-1"], "offline");
        assert_eq!(words(&fleet), "alarm, away");
        assert_eq!(fleet.look(&key(), now(), false).words(), "alarm, no broker");
    }

    #[test]
    fn what_was_normal_is_not_normal_when_verdicts_stop() {
        let mut fleet = fleet();
        for seq in 0..5 {
            receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(seq, Some(0.1), None));
        }
        let at = |fleet: &WatchedFleet, seconds| fleet.look(&key(), now() + TimeDelta::seconds(seconds), true).words();
        assert_eq!((at(&fleet, 29).as_str(), at(&fleet, 31).as_str()), ("normal", "no verdict"));
        assert_eq!(fleet.look(&key(), now(), false).words(), "no broker");
        receive(&mut fleet, "pi-1/fan-1/alarm", &alarm("active", Some("fault")));
        assert_eq!(at(&fleet, 31), "alarm, no verdict");
    }

    /// Windows of 20 s are late after 80 s; one that the broker had kept is as old as it says.
    #[test]
    fn a_verdict_is_as_old_as_its_machine_is_slow_and_a_kept_one_as_its_time() {
        let mut fleet = fleet();
        for seq in 0..5 {
            receive(&mut fleet, "pi-1/fan-1/verdict", &verdict(20 * seq, Some(0.1), None));
        }
        let after = |seconds| now() + TimeDelta::seconds(seconds);
        assert_eq!(fleet.look(&key(), after(79), true).words(), "normal");
        assert_eq!(fleet.look(&key(), after(81), true).words(), "no verdict");

        let mut fleet = self::fleet();
        let topic = Topic::parse("auscult", "auscult/pi-1/fan-1/verdict").expect("a topic");
        let kept = json!(verdict(300, Some(0.1), None)).to_string();
        fleet.take(&topic, kept.as_bytes(), Heard { at: now(), retained: true });
        assert_eq!(words(&fleet), "no verdict");
        fleet.take(&topic, kept.as_bytes(), Heard { at: now(), retained: false });
        assert_eq!(words(&fleet), "normal");
    }
}
