//! From the faults of single windows to events. Of the signal with hysteresis: one knock against the microphone is no
//! event, and a fault that flickers is one. Of overload at once and then seldom.

use std::time::Duration;

use crate::window::Reason;

/// So many windows in a row until a fault is reported, and as many without it until its end is.
const WINDOWS: u32 = 3;

/// What is to be reported about one machine's signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalChange {
    Began(Reason),
    Ended(Reason),
}

/// Debounces the faults of one machine's windows. Pure.
#[derive(Debug, Default)]
pub struct SignalDebounce {
    /// The fault that was reported.
    reported: Option<Reason>,
    /// What the latest windows say instead, and how many of them in a row.
    other: Option<Reason>,
    count: u32,
}

impl SignalDebounce {
    /// The next window has this fault, or none. Faults that are not the signal's (`gap`, `no_signal`, `overload`, ...)
    /// say nothing about it and are passed over.
    pub fn observe(&mut self, fault: Option<Reason>) -> Vec<SignalChange> {
        use Reason::{Clipped, DcOffset, Flat, Noise, NotFinite, Silent};
        if fault.is_some_and(|fault| !matches!(fault, Silent | Flat | Clipped | DcOffset | Noise | NotFinite)) {
            return Vec::new();
        }
        if fault == self.reported {
            self.count = 0;
            return Vec::new();
        }
        self.count = if fault == self.other || self.count == 0 { self.count + 1 } else { 1 };
        self.other = fault;
        if self.count < WINDOWS {
            return Vec::new();
        }
        self.count = 0;
        let ended = std::mem::replace(&mut self.reported, fault).map(SignalChange::Ended);
        ended.into_iter().chain(fault.map(SignalChange::Began)).collect()
    }

    /// The fault that lasts.
    pub fn fault(&self) -> Option<Reason> {
        self.reported
    }
}

/// Overload is reported no more often than this.
const OVERLOAD_EVERY: Duration = Duration::from_secs(60);

/// Counts how many of one machine's windows are given up because scoring is too slow. Pure.
#[derive(Debug, Default)]
pub struct OverloadDebounce {
    unreported: u64,
    reported: Option<Duration>,
}

impl OverloadDebounce {
    /// A window was scored or given up at `now` (of any monotonic clock): how many were given up, where that is to be
    /// reported.
    pub fn observe(&mut self, given_up: bool, now: Duration) -> Option<u64> {
        self.unreported += u64::from(given_up);
        let due = self.reported.is_none_or(|reported| now.saturating_sub(reported) >= OVERLOAD_EVERY);
        if self.unreported == 0 || !due {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::SignalChange::{Began, Ended};
    use super::*;

    #[test]
    fn only_what_lasts_is_reported_and_once() {
        let (good, silent, clipped) = (None, Some(Reason::Silent), Some(Reason::Clipped));
        let mut watch = SignalDebounce::default();
        let mut changes = Vec::new();
        for (window, fault) in [
            good,
            silent,
            good,
            silent,
            silent,
            good, // flickers: nothing
            silent,
            silent,
            silent, // 8: began
            silent,
            good,
            good,
            silent,
            good,
            Some(Reason::Gap),
            good,
            silent, // never three good ones
            clipped,
            silent,
            clipped,
            clipped,
            clipped, // 21: another fault
            clipped,
            good,
            Some(Reason::NoSignal),
            good,
            good, // 26: over
        ]
        .into_iter()
        .enumerate()
        {
            changes.extend(watch.observe(fault).into_iter().map(|change| (window, change)));
        }
        let (silent, clipped) = (Reason::Silent, Reason::Clipped);
        assert_eq!(changes, [(8, Began(silent)), (21, Ended(silent)), (21, Began(clipped)), (26, Ended(clipped))]);
        assert_eq!(watch.fault(), None);
    }

    #[test]
    fn overload_is_reported_at_once_then_seldom_and_each_window_once() {
        let mut watch = OverloadDebounce::default();
        let changes: Vec<_> = (0..200)
            .filter_map(|second| Some((second, watch.observe(second % 2 == 1, Duration::from_secs(second))?)))
            .collect();
        assert_eq!(changes, [(1, 1), (61, 30), (121, 30), (181, 30)]);
    }
}
