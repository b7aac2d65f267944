//! From verdicts to an alarm that people believe: `normal`, `active`, `acknowledged`, `shelved` (ISA-18.2's words).
//!
//! Pure: times come in as arguments, the state can be kept anywhere ([`Alarm::state`], [`Alarm::restore`]) and goes on
//! as if it had never been away. Three kinds of alarm stand side by side and share one state:
//!
//! * `fault`: `k` of the last `n` assessed windows were anomalous;
//! * `wear`: the slow average of the windows' scores has left what the baseline explains;
//! * `deaf`: the machine could not be assessed for `deaf_after_s`.
//!
//! `unknown` windows neither raise nor clear `fault` and `wear`. A new kind on top of an acknowledged one makes the
//! alarm active again: somebody has to look again. Maintenance shows as `shelved`; its windows do not count, and what
//! came before it is forgotten at its end. Shelving hides, but goes on listening.

mod config;
mod evidence;
mod status;

pub use config::AlarmConfig;
pub use evidence::SlowCalibration;
pub use status::{AlarmError, AlarmRecord, AlarmState, AlarmStatus, Kind, Note, StatusChange};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::evidence::Evidence;
use super::verdict::{Assessment, Verdict};
use super::why::Why;

/// Time that one step can count for at most, s: [`Alarm::tick`] at least this often. A clock that jumps (a Pi has no
/// battery for it) or an agent that was off must not make hours of deafness.
pub const LONGEST_STEP_S: f64 = 60.0;

const KINDS: [Kind; 3] = [Kind::Fault, Kind::Wear, Kind::Deaf];

/// One kind of alarm that has been raised and has not cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Standing {
    kind: Kind,
    since: DateTime<Utc>,
    count: u64,
    acknowledged: Option<Note>,
    #[serde(default)]
    acknowledged_at: Option<DateTime<Utc>>,
    #[serde(default)]
    why: Option<Why>,
    /// Of the worst window so far.
    #[serde(default)]
    worst: Option<Why>,
    /// The condition is gone; only latching holds it.
    over: bool,
}

impl Standing {
    fn record(&self, ended: Option<DateTime<Utc>>) -> AlarmRecord {
        let acknowledged = self.acknowledged.clone().zip(self.acknowledged_at);
        let Standing { kind, since, count, .. } = *self;
        let why = self.worst.clone().or(self.why.clone());
        AlarmRecord { kind, since, ended, count, why, acknowledged }
    }
}

/// Everything that must survive a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedAlarm {
    /// At most one of each kind, the most serious first.
    standing: Vec<Standing>,
    shelved: Option<(DateTime<Utc>, Note)>,
    maintenance: Option<(DateTime<Utc>, Note)>,
    evidence: Evidence,
    calibration: Option<SlowCalibration>,
    /// Since when nothing stands, and how many windows the last alarm had.
    calm_since: DateTime<Utc>,
    last_count: u64,
    /// The last of each kind that has ended, for the journal.
    #[serde(default)]
    ended: Vec<AlarmRecord>,
    /// When time last passed.
    seen: DateTime<Utc>,
}

/// The alarm of one machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    config: AlarmConfig,
    state: SavedAlarm,
}

impl Alarm {
    pub fn new(config: AlarmConfig, now: DateTime<Utc>) -> Self {
        let state = SavedAlarm {
            standing: Vec::new(),
            shelved: None,
            maintenance: None,
            evidence: Evidence::new(),
            calibration: None,
            calm_since: now,
            last_count: 0,
            ended: Vec::new(),
            seen: now,
        };
        Alarm { config, state }
    }

    /// Goes on from a state that was kept, under settings that may have changed since.
    pub fn restore(config: AlarmConfig, mut state: SavedAlarm) -> Self {
        state.evidence.fit(&config);
        if let Some((since, note)) = &mut state.shelved {
            // Nothing hides an alarm for longer than these settings let a person hide it.
            let latest = *since + config.longest_shelving();
            note.until = Some(note.until.map_or(latest, |until| until.min(latest)));
        }
        Alarm { config, state }
    }

    /// What to keep: after every change at least, after every verdict to lose nothing.
    pub fn state(&self) -> &SavedAlarm {
        &self.state
    }

    pub fn config(&self) -> &AlarmConfig {
        &self.config
    }

    /// Whether any kind of alarm has been raised and has not cleared, shelved or not.
    pub fn stands(&self) -> bool {
        !self.state.standing.is_empty()
    }

    /// How the baseline scattered; without it the slow lane sleeps.
    pub fn calibrate(&mut self, calibration: Option<SlowCalibration>) {
        self.state.calibration = calibration;
    }

    /// Forgets earlier windows, because it no longer compares: a new threshold, bundle or baseline. What stands, stands
    /// until `n` new windows clear it.
    pub fn forget_evidence(&mut self) {
        // Those of a fault that stands are known for what they are.
        let undecided = if self.has_fault() { 0 } else { self.state.evidence.undecided() };
        self.state.evidence = Evidence::after(undecided);
    }

    /// One window's verdict.
    pub fn on_verdict(&mut self, assessment: &Assessment, now: DateTime<Utc>) -> Option<StatusChange> {
        self.step(now, |alarm| {
            if alarm.in_maintenance() {
                return;
            }
            alarm.state.evidence.take(assessment, &alarm.config);
            for kind in KINDS {
                if kind == Kind::Deaf || assessment.verdict != Verdict::Unknown {
                    let vote = alarm.state.evidence.vote(kind, &alarm.config, alarm.state.calibration);
                    alarm.weigh(kind, vote, assessment, now);
                }
            }
        })
    }

    /// Time passes: shelving and maintenance end, deafness becomes an alarm. At least every [`LONGEST_STEP_S`].
    pub fn tick(&mut self, now: DateTime<Utc>) -> Option<StatusChange> {
        self.step(now, |alarm| {
            let vote = alarm.state.evidence.vote(Kind::Deaf, &alarm.config, None);
            if vote == Some(true) && alarm.state.maintenance.is_none() && alarm.standing(Kind::Deaf).is_none() {
                alarm.raise(Kind::Deaf, 1, None, now);
            }
        })
    }

    /// Somebody takes care of everything that stands.
    ///
    /// # Errors
    /// Where nothing stands, or all of it is acknowledged already.
    pub fn acknowledge<'a>(
        &mut self,
        by: impl Into<Option<&'a str>>,
        comment: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Option<StatusChange>, AlarmError> {
        let by = by.into();
        let standing = &self.state.standing;
        if let (Some(first), true) = (standing.first(), standing.iter().all(|one| one.acknowledged.is_some())) {
            let who = first.acknowledged.as_ref().and_then(|note| note.by.clone()).unwrap_or("somebody".into());
            return Err(AlarmError::AlreadyAcknowledged(who));
        }
        if standing.is_empty() {
            return Err(AlarmError::NothingToAcknowledge);
        }
        Ok(self.step(now, |alarm| {
            let note = Note { by: by.map(Into::into), comment: comment.map(Into::into), until: None, at: Some(now) };
            for one in alarm.state.standing.iter_mut().filter(|one| one.acknowledged.is_none()) {
                one.acknowledged = Some(note.clone());
                one.acknowledged_at = Some(now);
            }
            for kind in KINDS {
                if alarm.standing(kind).is_some_and(|one| one.over) {
                    alarm.clear(kind, now);
                }
            }
        }))
    }

    /// Hides the alarm until `until`; listening goes on beneath.
    ///
    /// # Errors
    /// Where `until` is past or further away than `shelve_max_s`.
    pub fn shelve<'a>(
        &mut self,
        by: impl Into<Option<&'a str>>,
        comment: Option<&str>,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<StatusChange>, AlarmError> {
        if until <= now || until.signed_duration_since(now) > self.config.longest_shelving() {
            return Err(AlarmError::BadEnd(self.config.shelve_max_s, until.to_rfc3339()));
        }
        let (by, comment) = (by.into().map(Into::into), comment.map(Into::into));
        let note = Note { by, comment, until: Some(until), at: Some(now) };
        Ok(self.step(now, |alarm| alarm.state.shelved = Some((now, note))))
    }

    /// Ends the shelving before its time.
    ///
    /// # Errors
    /// Where it is not shelved.
    pub fn unshelve(&mut self, now: DateTime<Utc>) -> Result<Option<StatusChange>, AlarmError> {
        if self.state.shelved.is_none() {
            return Err(AlarmError::NotShelved);
        }
        Ok(self.step(now, |alarm| alarm.state.shelved = None))
    }

    /// Begins maintenance (with who, why, until when) or ends it (`None`).
    pub fn set_maintenance(&mut self, note: Option<Note>, now: DateTime<Utc>) -> Option<StatusChange> {
        self.step(now, |alarm| match note {
            Some(note) => alarm.state.maintenance = Some((now, note)),
            None => alarm.end_maintenance(),
        })
    }

    /// Windows are not to be judged now.
    pub fn in_maintenance(&self) -> bool {
        self.state.maintenance.is_some()
    }

    /// What stands beneath shelving and maintenance, the most serious first, with its beginning.
    pub fn standing_kinds(&self) -> Vec<(Kind, DateTime<Utc>)> {
        self.state.standing.iter().map(|one| (one.kind, one.since)).collect()
    }

    /// Whether windows speak for a fault now, shown or hidden. One that only latching holds does not count.
    pub fn has_fault(&self) -> bool {
        self.standing(Kind::Fault).is_some_and(|one| !one.over)
    }

    /// How many of the last assessed windows, this one included, may belong to a fault that was told just now or is not told
    /// yet: those that are looked at, and as many more as it had to wait for.
    pub fn undecided_windows(&self) -> u64 {
        self.state.evidence.undecided() as u64
    }

    /// How many of them were forgotten with the evidence since this was last asked.
    pub fn take_forgotten_windows(&mut self) -> u64 {
        self.state.evidence.take_forgotten() as u64
    }

    /// What stands, and the last of each kind that has ended: what the journal is made of.
    pub fn records(&self) -> Vec<AlarmRecord> {
        let standing = self.state.standing.iter().map(|one| one.record(None));
        standing.chain(self.state.ended.iter().cloned()).collect()
    }

    /// What the `alarm` topic shows now.
    pub fn status(&self) -> AlarmStatus {
        let standing = &self.state.standing;
        let shown = standing.iter().find(|one| one.acknowledged.is_none()).or(standing.first());
        let (kind, count) = (shown.map(|one| one.kind), shown.map_or(self.state.last_count, |one| one.count));
        let hidden = self.state.maintenance.as_ref().or(self.state.shelved.as_ref());
        let maintenance = self.state.maintenance.is_some();
        let (state, since, note) = match (hidden, shown) {
            (Some((since, note)), _) => (AlarmState::Shelved, *since, note.clone()),
            (None, None) => (AlarmState::Normal, self.state.calm_since, Note::default()),
            (None, Some(Standing { acknowledged: Some(note), since, .. })) => {
                (AlarmState::Acknowledged, *since, note.clone())
            }
            (None, Some(Standing { since, .. })) => (AlarmState::Active, *since, Note::default()),
        };
        let why = shown.and_then(|one| one.why.clone());
        let raised = shown.map(|one| one.since);
        AlarmStatus { state, kind, since, raised, count, why, note, maintenance }
    }

    /// Lets time pass, does `act`, and reports what changed; a count alone is no change.
    fn step(&mut self, now: DateTime<Utc>, act: impl FnOnce(&mut Self)) -> Option<StatusChange> {
        let from = self.status();
        let passed_s = now.signed_duration_since(self.state.seen).as_seconds_f64().clamp(0.0, LONGEST_STEP_S);
        self.state.seen = now;
        let ended = |hidden: &Option<(DateTime<Utc>, Note)>| {
            hidden.as_ref().and_then(|(_, note)| note.until).is_some_and(|until| until <= now)
        };
        if ended(&self.state.shelved) {
            self.state.shelved = None;
        }
        if ended(&self.state.maintenance) {
            self.end_maintenance();
        }
        if self.state.maintenance.is_none() {
            self.state.evidence.pass(passed_s, &self.config);
        }
        act(self);
        let to = self.status();
        let changed = AlarmStatus { count: from.count, ..to.clone() } != from;
        changed.then_some(StatusChange { from, to })
    }

    fn end_maintenance(&mut self) {
        if self.state.maintenance.take().is_some() {
            self.forget_evidence();
        }
    }

    fn standing(&self, kind: Kind) -> Option<&Standing> {
        self.state.standing.iter().find(|one| one.kind == kind)
    }

    fn weigh(&mut self, kind: Kind, vote: Option<bool>, assessment: &Assessment, now: DateTime<Utc>) {
        let Some(one) = self.state.standing.iter_mut().find(|one| one.kind == kind) else {
            if vote == Some(true) {
                let first = if kind == Kind::Fault { self.state.evidence.anomalous() as u64 } else { 1 };
                self.raise(kind, first, assessment.why.clone(), now);
            }
            return;
        };
        one.count += u64::from(match kind {
            Kind::Fault => assessment.is_anomalous_by_itself(),
            Kind::Wear => vote == Some(true),
            Kind::Deaf => assessment.verdict == Verdict::Unknown,
        });
        if kind != Kind::Deaf && assessment.why.as_ref().is_some_and(|why| why.is_worse_than(one.worst.as_ref())) {
            one.worst.clone_from(&assessment.why);
        }
        match vote {
            Some(true) => one.over = false,
            Some(false) if self.config.latching && one.acknowledged.is_none() => one.over = true,
            Some(false) => self.clear(kind, now),
            None => {}
        }
    }

    fn raise(&mut self, kind: Kind, count: u64, why: Option<Why>, now: DateTime<Utc>) {
        let (worst, since) = (why.clone(), now);
        let (acknowledged, acknowledged_at, over) = (None, None, false);
        self.state.standing.push(Standing { kind, since, count, acknowledged, acknowledged_at, why, worst, over });
        self.state.standing.sort_by_key(|one| one.kind);
    }

    fn clear(&mut self, kind: Kind, now: DateTime<Utc>) {
        if let Some(number) = self.state.standing.iter().position(|one| one.kind == kind) {
            let over = self.state.standing.remove(number);
            self.state.last_count = over.count;
            self.state.ended.retain(|record| record.kind != kind);
            self.state.ended.push(over.record(Some(now)));
            self.state.calm_since = now;
        }
    }
}
