//! What recurs daily (people by day, frost by night) is let into what is normal, where that is switched on: in hours of the
//! day, of UTC, that were beyond the asked false alarm rate on most days, the tail of all lanes together is made wider.
//!
//! It is slow, by [`STEP`] a day, and bounded: no tail gets wider than [`WIDEST`] times. What it goes by is always how windows
//! are judged by the learned baseline alone, so that it cannot feed on itself. It goes by what differs between the hours of a
//! day: where most hours are as bad, the machine itself has changed, and nothing of it recurs daily. While an alarm
//! stands nothing moves; an alarm that came and went by itself, each night, is what is to be let in, and its windows count:
//! without them hours with false alarms would look as calm as all others. An alarm that was a fault bars all of it for
//! [`DAYS`]. The slow lane of the alarm goes on without any of this.
//!
//! ```text
//! Adaptation::begin(holds_for)              a baseline and a false alarm rate; another one begins anew
//!   .widening(at)                           for the window that is judged
//!   .note(at, needed)                       after it was
//!   .pass(now, alarm_stands)                moves once a day; whether it did
//!   .forget(), .bar(now)                    as learned again; and so for two weeks
//! ```
//!
//! Pure: no clock, no I/O. The state can be written at any time (serde).

mod hour;

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::hour::{Hour, OpenHour};

/// No tail gets wider than so many times: a strong fault stays one in any hour.
pub const WIDEST: f64 = 2.0;
/// A tail gets so much wider or narrower a day, at most.
pub const STEP: f64 = 0.15;
/// Days that are remembered.
pub const DAYS: usize = 14;
/// Days on which an hour was beyond what was asked, at least; and they are most of those known.
const BEYOND_LEAST: usize = 3;
/// Less than this is not worth a move.
const MOVE_LEAST: f64 = 0.05;
/// A clock that is not set yet says 1970 or when the system was made.
const FIRST_YEAR: i32 = 2026;
const HOURS: usize = 24;

/// What was found holds for one baseline and one false alarm rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldsFor {
    /// When it was learned.
    pub baseline: String,
    pub false_alarm_rate: f64,
}

/// An hour of the day whose tail is wider.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WidenedHour {
    /// 0 to 23, of UTC.
    pub hour: u32,
    /// So many times as wide the tail of all lanes together is.
    pub times: f64,
}

/// What a machine was found to do daily.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adaptation {
    holds_for: HoldsFor,
    /// The hours of earlier days that enough was heard of.
    days: BTreeMap<NaiveDate, BTreeMap<u32, Hour>>,
    /// For each hour of the day; 1 is as learned.
    widening: [f64; HOURS],
    /// The day on which they last were moved.
    moved: Option<NaiveDate>,
    open: Option<OpenHour>,
    /// Until this day nothing is let in: an alarm was a fault.
    #[serde(default)]
    barred_until: Option<NaiveDate>,
    /// Something is to be written.
    #[serde(skip)]
    changed: bool,
    /// Hours are as learned again, and nobody was told yet.
    #[serde(skip)]
    is_untold: bool,
}

impl Default for Adaptation {
    fn default() -> Self {
        Adaptation {
            holds_for: HoldsFor::default(),
            days: BTreeMap::new(),
            widening: [1.0; HOURS],
            moved: None,
            open: None,
            barred_until: None,
            changed: false,
            is_untold: false,
        }
    }
}

impl Adaptation {
    /// Reads what was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Adaptation, String> {
        let mut read: Adaptation = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read.drop_old_days();
        let hours = read.days.values().flatten();
        let valid = read.widening.iter().all(|times| (1.0..=WIDEST).contains(times))
            && read.open.as_ref().is_none_or(OpenHour::is_valid)
            && hours.clone().all(|(hour, found)| (*hour as usize) < HOURS && found.is_valid());
        if valid { Ok(read) } else { Err("expected what recurs daily, found numbers that do not fit".into()) }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers are finite, keys are text")
    }

    /// What comes is judged by this; what was found under anything else is forgotten.
    pub fn begin(&mut self, holds_for: HoldsFor) {
        if self.holds_for != holds_for {
            let is_untold = self.is_untold || !self.hours().is_empty();
            let barred_until = self.barred_until;
            *self = Adaptation { holds_for, barred_until, is_untold, changed: true, ..Adaptation::default() };
        }
    }

    /// Forgets all that was found: every hour is as learned again. An alarm that was a fault goes on barring.
    pub fn forget(&mut self) {
        let (holds_for, barred_until) = (self.holds_for.clone(), self.barred_until);
        *self = Adaptation { holds_for, barred_until, changed: true, ..Adaptation::default() };
    }

    /// Whether hours are as learned again, because something else was learned, and nobody was told yet.
    pub fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.is_untold)
    }

    /// Forgets all, and lets nothing in for two weeks: an alarm was a fault, and nobody knows since when it was there.
    pub fn bar(&mut self, now: DateTime<Utc>) {
        self.forget();
        self.barred_until = Some(now.date_naive() + TimeDelta::days(DAYS as i64));
    }

    /// How many times as wide the tail is for a window that ends at `at`.
    pub fn widening(&self, at: DateTime<Utc>) -> f64 {
        self.widening[at.hour() as usize]
    }

    /// Takes one assessed window in: how many times as wide the tail of the learned baseline would have to be for the window
    /// to be as rare as the asked rate.
    pub fn note(&mut self, at: DateTime<Utc>, needed: f64) {
        let (date, hour) = (at.date_naive(), at.hour());
        if date.year() < FIRST_YEAR || self.barred_until.is_some_and(|until| date < until) {
            return;
        }
        if self.open.as_ref().is_some_and(|open| !open.is_of(date, hour)) {
            self.close();
        }
        self.open.get_or_insert_with(|| OpenHour::new(date, hour)).count(needed);
    }

    /// Remembers the hour that is over.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(hour) = open.found(self.holds_for.false_alarm_rate) {
            self.days.entry(open.date()).or_default().insert(open.hour(), hour);
            self.drop_old_days();
        }
        self.changed = true;
    }

    /// While an alarm stands nothing moves, and days that are too old would stay.
    fn drop_old_days(&mut self) {
        while self.days.len() > DAYS + 1 {
            self.days.pop_first();
        }
    }

    /// Time passes: once a day, as soon as no alarm stands, the hours move towards what they were found to need. Whether any
    /// did.
    pub fn pass(&mut self, now: DateTime<Utc>, alarm_stands: bool) -> bool {
        let today = now.date_naive();
        if alarm_stands || today.year() < FIRST_YEAR || self.moved == Some(today) {
            return false;
        }
        let Some(began) = self.moved.replace(today).filter(|began| *began <= today) else { return false };
        if self.open.as_ref().is_some_and(|open| open.date() != today) {
            self.close();
        }
        let first = today - TimeDelta::days(DAYS as i64);
        // A clock that ran ahead leaves days behind that have not been.
        self.days.retain(|date, _| (first..=today).contains(date));
        self.changed = true;
        let before = self.widening;
        // After weeks without this agent nobody knows what recurs now.
        if began < first {
            self.widening = [1.0; HOURS];
        }
        for hour in 0..HOURS as u32 {
            let wanted = self.wanted(hour);
            let own = &mut self.widening[hour as usize];
            if wanted == 1.0 || (wanted - *own).abs() >= MOVE_LEAST {
                let moved = *own + (wanted - *own).clamp(-STEP, STEP);
                *own = (100.0 * moved).round() / 100.0;
            }
        }
        before != self.widening
    }

    /// What an hour of the day would need, by the days that are known.
    fn wanted(&self, hour: u32) -> f64 {
        let known = self.days.values().filter_map(|hours| Some((hours, hours.get(&hour)?)));
        let rate = self.holds_for.false_alarm_rate;
        let is_meant = |(hours, found): &(&BTreeMap<u32, Hour>, &Hour)| found.is_beyond(hours.values(), rate);
        let mut beyond: Vec<f64> = known.clone().filter(is_meant).map(|(_, found)| found.needed).collect();
        if beyond.len() < BEYOND_LEAST || 2 * beyond.len() <= known.count() {
            return 1.0;
        }
        beyond.sort_by(f64::total_cmp);
        beyond[beyond.len() / 2].clamp(1.0, WIDEST)
    }

    /// Hours whose tail is wider, in their order.
    pub fn hours(&self) -> Vec<WidenedHour> {
        let hours = self.widening.iter().enumerate().filter(|(_, times)| **times > 1.0);
        hours.map(|(hour, &times)| WidenedHour { hour: hour as u32, times }).collect()
    }

    /// Days that something is known of.
    pub fn days(&self) -> usize {
        self.days.len()
    }

    /// Whether something is to be written; it is not any more then. With `all` also what an hour that is not over has.
    pub fn take_changed(&mut self, all: bool) -> bool {
        std::mem::take(&mut self.changed) || all && self.open.is_some()
    }

    /// What was to be written could not be.
    pub fn set_changed(&mut self) {
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: f64 = 0.01;

    fn at(day: i64, hour: i64, number: i64) -> DateTime<Utc> {
        let begin = DateTime::from_timestamp(1_800_000_000 / 86_400 * 86_400, 0).expect("a valid time");
        begin + TimeDelta::days(day) + TimeDelta::hours(hour) + TimeDelta::seconds(30 * number)
    }

    fn adaptation() -> Adaptation {
        let mut adaptation = Adaptation::default();
        adaptation.begin(HoldsFor { baseline: "2026-03-01T12:00:00Z".into(), false_alarm_rate: RATE });
        adaptation
    }

    /// A day of windows; in the hours that `is_loud` names, one in ten needs 1.58 times the tail.
    fn day(adaptation: &mut Adaptation, day: i64, is_loud: impl Fn(i64) -> bool) -> bool {
        let moved = adaptation.pass(at(day, 0, 0), false);
        for (hour, number) in (0..24).flat_map(|hour| (0..120).map(move |number| (hour, number))) {
            let needed = if is_loud(hour) && number % 10 == 5 { 1.58 } else { 0.5 };
            adaptation.note(at(day, hour, number), needed);
        }
        moved
    }

    #[test]
    fn an_hour_that_is_beyond_day_after_day_is_widened_slowly_as_far_as_it_needs() {
        let mut adaptation = adaptation();
        let is_loud = |hour: i64| hour < 5;
        let moved: Vec<bool> = (0..10).map(|number| day(&mut adaptation, number, is_loud)).collect();
        // Three days have to be known; then 0.15 a day.
        assert_eq!(moved, [false, false, false, true, true, true, true, false, false, false]);
        let hours = adaptation.hours();
        assert_eq!(hours.iter().map(|one| one.hour).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(hours.iter().all(|one| one.times == 1.6), "{hours:?}");
        assert_eq!((adaptation.widening(at(20, 3, 5)), adaptation.widening(at(20, 12, 0))), (1.6, 1.0));
        // What no longer recurs goes as slowly as it came.
        let quiet: Vec<bool> = (10..28).map(|number| day(&mut adaptation, number, |_| false)).collect();
        assert!(quiet.iter().filter(|moved| **moved).count() == 4 && adaptation.hours().is_empty(), "{quiet:?}");
    }

    #[test]
    fn what_is_so_all_day_and_what_is_so_now_and_then_is_not_let_in() {
        let mut all_day = adaptation();
        assert!(!(0..20).any(|number| day(&mut all_day, number, |hour| hour < 13)));
        let mut seldom = adaptation();
        assert!(!(0..20).any(|number| day(&mut seldom, number, |hour| hour == 5 && number % 3 == 0)));
        let mut faint = adaptation();
        for number in 0..10 {
            faint.pass(at(number, 0, 0), false);
            // One in 100 was asked: a window more or less is chance.
            (0..120).for_each(|one| faint.note(at(number, 5, one), if one < 2 { 3.0 } else { 0.0 }));
        }
        assert!(faint.hours().is_empty());
    }

    #[test]
    fn nothing_moves_while_an_alarm_stands_and_a_fault_bars_it_for_two_weeks() {
        let mut adaptation = adaptation();
        let night = |hour: i64| hour < 5;
        for number in 0..5 {
            day(&mut adaptation, number, night);
        }
        assert_eq!(adaptation.widening(at(5, 1, 0)), 1.3);
        let stands: Vec<bool> = (0..24).map(|hour| adaptation.pass(at(5, hour, 0), true)).collect();
        assert!(!stands.contains(&true) && adaptation.widening(at(5, 1, 0)) == 1.3);
        assert!(adaptation.pass(at(5, 23, 5), false) && adaptation.widening(at(5, 1, 0)) == 1.45);
        adaptation.bar(at(6, 12, 0));
        let barred: Vec<bool> = (7..30).map(|number| day(&mut adaptation, number, night)).collect();
        assert_eq!(barred.iter().position(|moved| *moved), Some(16), "two weeks, then three days");
    }

    #[test]
    fn what_recurred_long_ago_does_not_count_after_weeks_off() {
        let mut adaptation = adaptation();
        for number in 0..10 {
            day(&mut adaptation, number, |hour| hour < 5);
        }
        let mut soon = adaptation.clone();
        soon.pass(at(20, 0, 0), false);
        assert_eq!(soon.hours().len(), 5);
        assert!(adaptation.pass(at(200, 0, 0), false) && adaptation.hours().is_empty());
        assert_eq!((adaptation.widening(at(200, 3, 5)), adaptation.days()), (1.0, 0));
    }

    #[test]
    fn it_holds_for_one_baseline_and_goes_on_after_a_restart() {
        let mut adaptation = adaptation();
        for number in 0..6 {
            day(&mut adaptation, number, |hour| hour == 5);
        }
        assert!(adaptation.take_changed(false) && !adaptation.take_changed(false) && adaptation.take_changed(true));
        let mut read = Adaptation::from_json(&adaptation.to_json()).expect("its own text");
        assert_eq!((read.hours(), read.days(), &read.open), (adaptation.hours(), adaptation.days(), &adaptation.open));
        let holds_for = read.holds_for.clone();
        read.begin(holds_for);
        assert_eq!(read.hours().len(), 1);
        read.begin(HoldsFor { baseline: "another".into(), false_alarm_rate: RATE });
        assert!(read.hours().is_empty() && read.days() == 0 && read.take_changed(false));
        adaptation.forget();
        assert!(adaptation.hours().is_empty() && adaptation.days() == 0);
        let wide = adaptation.to_json().replacen("1.0", "3.0", 1);
        assert!(Adaptation::from_json(&wide).is_err(), "{wide}");
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_within_its_bounds(windows in prop::collection::vec((0..40i64, 0..24i64, 0.0..9.0f64), 0..400)) {
            let mut adaptation = adaptation();
            let mut before = adaptation.widening;
            for (day, hour, needed) in windows {
                (0..40).for_each(|number| adaptation.note(at(day, hour, number), needed));
                adaptation.pass(at(day, hour, 59), false);
                let steps = before.iter().zip(&adaptation.widening).map(|(before, now)| (now - before).abs());
                prop_assert!(steps.fold(0.0, f64::max) <= STEP + 0.01);
                prop_assert!(adaptation.widening.iter().all(|times| (1.0..=WIDEST).contains(times)));
                prop_assert!(Adaptation::from_json(&adaptation.to_json()).is_ok());
                before = adaptation.widening;
            }
        }
    }
}
