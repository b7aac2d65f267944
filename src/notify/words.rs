//! Titles and sentences for the person who is woken.

use chrono::{DateTime, FixedOffset, Local, TimeDelta, Utc};

use super::item::{Item, Known, Message, Phase, Priority, Standing, Subject};
use crate::clock::Timestamp;
use crate::config::notify::NotifyEvent;
use crate::numbers::counted;

/// Lines of one message; what is beyond is counted.
const LINES: usize = 20;

/// Writes what one agent tells.
#[derive(Debug, Clone)]
pub struct Writer {
    pub agent: String,
    /// Where people reach the page.
    pub page: Option<String>,
    /// The zone that times are told in.
    pub local: fn(DateTime<Utc>) -> DateTime<FixedOffset>,
}

/// The system's zone.
pub fn system_zone(time: DateTime<Utc>) -> DateTime<FixedOffset> {
    time.with_timezone(&Local).fixed_offset()
}

impl Writer {
    /// That something began, or still stands.
    pub fn raised(
        &self,
        (subject, known): (&Subject, &Known),
        standing: &Standing,
        urgent: bool,
        repeated: bool,
        now: DateTime<Utc>,
    ) -> Item {
        let name = &known.name;
        let since = self.moment(standing.since, now);
        let (title, first) = match standing.kind {
            NotifyEvent::Fault => {
                (format!("{name} sounds unusual"), format!("{name} has not sounded as it should since {since}."))
            }
            NotifyEvent::Wear => (
                format!("{name} is changing slowly"),
                format!(
                    "{name} has drifted away from its normal sound; noticed {since}. It is not urgent, but will hardly pass by itself."
                ),
            ),
            NotifyEvent::Deaf => (
                format!("{name} is not heard"),
                format!("{name} has not been heard since {since}: nobody knows how it sounds. Look at its microphone."),
            ),
            NotifyEvent::NoBroker => (
                format!("{name} has no broker"),
                format!(
                    "{name} has not reached its broker since {since}. It goes on listening, and keeps what it has to report."
                ),
            ),
            NotifyEvent::Cleared | NotifyEvent::Restarted => (name.clone(), String::new()),
        };
        let title = if repeated { format!("Still: {title}") } else { title };
        let measured = standing.why.as_ref().map(|why| why.to_string()).filter(|why| !why.is_empty());
        let measured = measured.map(|why| format!("Measured: {why}."));
        let provisional = standing.why.as_ref().is_some_and(|why| why.provisional);
        let provisional = provisional
            .then(|| "Its normal is still being learned, so this may be wrong: listen to it first.".to_owned());
        let windows = (standing.kind == NotifyEvent::Fault && standing.count > 0)
            .then(|| format!("{} so far.", counted(standing.count, "anomalous window")));
        let detail = standing.detail.as_ref().map(|detail| format!("Reason: {detail}."));
        let repeat = repeated.then(|| "Nobody has acknowledged it.".to_owned());
        let text = [Some(first), measured, windows, provisional, detail, repeat]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        Item {
            ts: now.into(),
            event: if repeated { Phase::Repeated } else { Phase::Raised },
            kind: standing.kind,
            machine: subject.clone(),
            name: name.clone(),
            since: standing.since.into(),
            title,
            text,
            urgent,
            why: standing.why.clone().unwrap_or_default(),
            count: standing.count,
        }
    }

    /// That what began at `since` is over from `until` on.
    pub fn cleared(
        &self,
        (subject, name): (&Subject, &str),
        kind: NotifyEvent,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> Item {
        let (title, first) = match kind {
            NotifyEvent::Deaf => (format!("{name} is heard again"), format!("{name} is heard again")),
            NotifyEvent::NoBroker => (format!("{name} has its broker again"), format!("{name} has its broker again")),
            _ => (format!("{name} sounds normal again"), format!("{name} sounds as it should again")),
        };
        let lasted = span(until - since);
        let text = format!(
            "{first} since {}. The alarm began {} and lasted {lasted}.",
            self.moment(until, now),
            self.moment(since, now)
        );
        Item {
            ts: now.into(),
            event: Phase::Cleared,
            kind,
            machine: subject.clone(),
            name: name.to_owned(),
            since: since.into(),
            title,
            text,
            urgent: false,
            why: Default::default(),
            count: 0,
        }
    }

    /// That the agent runs again after an end that nobody wanted.
    pub fn restarted(&self, urgent: bool, now: DateTime<Utc>) -> Item {
        let name = &self.agent;
        Item {
            ts: now.into(),
            event: Phase::Restarted,
            kind: NotifyEvent::Restarted,
            machine: None,
            name: name.clone(),
            since: now.into(),
            title: format!("{name} has started again"),
            text: format!(
                "{name} runs since {}. It had not been stopped before: power was lost, or it failed. While it was away nobody listened.",
                self.moment(now, now)
            ),
            urgent,
            why: Default::default(),
            count: 0,
        }
    }

    /// What proves that a target is reached.
    pub fn test(&self, target: &str) -> Message {
        Message {
            agent: self.agent.clone(),
            title: format!("Test message of {}", self.agent),
            text: format!("{} reaches you here ({target}). This is a test: nothing is wrong.", self.agent),
            priority: Priority::Normal,
            url: self.link(None),
            items: Vec::new(),
        }
    }

    /// One message of all `items`, of which there is at least one; `dropped` earlier ones were lost.
    pub fn message(&self, items: Vec<Item>, dropped: u64) -> Message {
        let lost = (dropped > 0).then(|| format!("{} could not be kept.", counted(dropped, "earlier message")));
        let (title, text, of_one) = match items.as_slice() {
            [one] => (one.title.clone(), one.text.clone(), one.machine.as_deref()),
            several => (self.count(several), self.list(several), None),
        };
        Message {
            agent: self.agent.clone(),
            title,
            text: [Some(text), lost].into_iter().flatten().collect::<Vec<_>>().join("\n"),
            priority: items.iter().map(Item::priority).max().unwrap_or(Priority::Normal),
            url: self.link(of_one),
            items,
        }
    }

    /// `pi-7: 3 alarms, 1 cleared`.
    fn count(&self, items: &[Item]) -> String {
        let cleared = items.iter().filter(|item| item.event == Phase::Cleared).count();
        let alarms = items.len() - cleared;
        let alarms = (alarms > 0).then(|| counted(alarms, "alarm"));
        let cleared = (cleared > 0).then(|| format!("{cleared} cleared"));
        format!("{}: {}", self.agent, [alarms, cleared].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// One line for each, the most pressing first.
    fn list(&self, items: &[Item]) -> String {
        let mut sorted: Vec<&Item> = items.iter().collect();
        sorted.sort_by_key(|item| std::cmp::Reverse(item.priority()));
        let urgent = |item: &Item| if item.priority() == Priority::Urgent { "URGENT: " } else { "" };
        let mut lines: Vec<_> =
            sorted.iter().take(LINES).map(|item| format!("- {}{}", urgent(item), item.text)).collect();
        if items.len() > LINES {
            lines.push(format!("- and {} more", items.len() - LINES));
        }
        lines.join("\n")
    }

    fn link(&self, machine: Option<&str>) -> Option<String> {
        let page = self.page.as_deref()?.trim_end_matches('/');
        Some(match machine {
            Some(machine) => format!("{page}/#/machine/{}/{machine}", self.agent),
            None => format!("{page}/"),
        })
    }

    /// A moment as a person reads it: the time alone where it is today.
    fn moment(&self, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
        let (time, now) = ((self.local)(Timestamp::from(time).utc()), (self.local)(now));
        if time.date_naive() == now.date_naive() {
            time.format("%H:%M").to_string()
        } else {
            time.format("%H:%M on %A %-d %B").to_string()
        }
    }
}

/// A span in the unit that fits.
fn span(span: TimeDelta) -> String {
    let minutes = span.num_minutes().max(0);
    match minutes {
        0 => "less than a minute".into(),
        1..=119 => counted(minutes, "minute"),
        120..=2879 => counted(minutes / 60, "hour"),
        _ => counted(minutes / 1440, "day"),
    }
}
