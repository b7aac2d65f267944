//! What was retuned remotely, per machine, as plain data: an override of the threshold, and maintenance.
//!
//! Only rules: no I/O, and the time is given. What counts at a time is a function of that time, so an override that ends
//! needs nobody to end it: [`MachineSettings::threshold`] stops giving it from its `until` on, and
//! [`MachineSettings::expire`] tidies up afterwards, so that the change can be stored and published.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::scoring::alarm::Note;
use crate::scoring::threshold::ThresholdSource;

/// A threshold in effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effective {
    pub threshold: f64,
    pub source: ThresholdSource,
}

/// A threshold that was set remotely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub threshold: f64,
    /// It counts before this time and not from it on; `None`: until it is reset.
    pub until: Option<DateTime<Utc>>,
    pub set_at: DateTime<Utc>,
    /// Label of the bundle that ran when it was set: a distance means something else under another encoder.
    pub bundle: Option<String>,
}

/// Somebody works on the machine: its windows are `unknown`, `maintenance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// It counts before this time and not from it on; `None`: until it is switched off.
    pub until: Option<DateTime<Utc>>,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub set_at: DateTime<Utc>,
}

impl Maintenance {
    /// As the alarm shows it.
    pub fn note(&self) -> Note {
        Note { by: self.by.clone(), comment: self.reason.clone(), until: self.until, at: Some(self.set_at) }
    }
}

/// Who changed a machine's threshold last, why and when; no name where an override came to its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    pub by: Option<String>,
    pub reason: Option<String>,
    pub at: DateTime<Utc>,
}

/// Everything that was set remotely for one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSettings {
    pub threshold: Option<Override>,
    /// Share of normal windows that all lanes together may call anomalous, in place of the baseline's own.
    pub false_alarm_rate: Option<f64>,
    pub maintenance: Option<Maintenance>,
    /// Counts the changes of this machine's settings, so that the newer of two messages is recognised.
    pub revision: u32,
    /// The last change of the threshold or the rate.
    pub changed: Option<Changed>,
}

/// What [`MachineSettings::expire`] found to have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    pub threshold: bool,
    pub maintenance: bool,
}

impl Ended {
    pub fn any(self) -> bool {
        self.threshold || self.maintenance
    }
}

/// Does something that lasts until `until` still count at `now`?
fn counts(until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    until.is_none_or(|until| now < until)
}

impl MachineSettings {
    /// The rule: an override while it lasts, else that of a baseline in use, else what the configuration says, else the
    /// bundle's. A baseline has its own bank, which the configuration's threshold was not made for.
    pub fn threshold(
        &self,
        now: DateTime<Utc>,
        learned: Option<f64>,
        configured: Option<f64>,
        bundle: Option<f64>,
    ) -> Option<Effective> {
        let valid = self.threshold.as_ref().filter(|over| counts(over.until, now));
        let overridden = valid.map(|over| Effective { threshold: over.threshold, source: ThresholdSource::Override });
        let learned = learned.map(|threshold| Effective { threshold, source: ThresholdSource::Baseline });
        let configured = configured.map(|threshold| Effective { threshold, source: ThresholdSource::Config });
        let bundled = bundle.map(|threshold| Effective { threshold, source: ThresholdSource::Bundle });
        overridden.or(learned).or(configured).or(bundled)
    }

    /// Maintenance while it lasts.
    pub fn maintenance(&self, now: DateTime<Utc>) -> Option<&Maintenance> {
        self.maintenance.as_ref().filter(|maintenance| counts(maintenance.until, now))
    }

    /// The label of the bundle that an override was made for, where another one runs now.
    pub fn made_for_another(&self, running: Option<&str>) -> Option<&str> {
        self.threshold.as_ref()?.bundle.as_deref().filter(|label| Some(*label) != running)
    }

    /// Sets an override.
    pub fn set_threshold(&mut self, over: Override, changed: Changed) {
        self.threshold = Some(over);
        self.changed = Some(changed);
        self.revision = self.revision.saturating_add(1);
    }

    /// Lets all lanes decide together, with another false alarm rate; an override of the threshold, which would decide
    /// alone, ends.
    pub fn set_rate(&mut self, rate: f64, changed: Changed) {
        self.threshold = None;
        self.false_alarm_rate = Some(rate);
        self.changed = Some(changed);
        self.revision = self.revision.saturating_add(1);
    }

    /// Goes back to the configuration's or the bundle's threshold, and to the baseline's false alarm rate.
    pub fn reset_threshold(&mut self, changed: Changed) {
        self.threshold = None;
        self.false_alarm_rate = None;
        self.changed = Some(changed);
        self.revision = self.revision.saturating_add(1);
    }

    /// Begins maintenance, or ends it (`None`).
    pub fn set_maintenance(&mut self, maintenance: Option<Maintenance>) {
        self.maintenance = maintenance;
        self.revision = self.revision.saturating_add(1);
    }

    /// Drops what has ended by `now`; one revision for all of it.
    pub fn expire(&mut self, now: DateTime<Utc>) -> Ended {
        let mut ended = Ended::default();
        if let Some(until) = self.threshold.as_ref().and_then(|over| over.until)
            && until <= now
        {
            self.threshold = None;
            self.changed = Some(Changed { by: None, reason: Some("the override has ended".into()), at: until });
            ended.threshold = true;
        }
        if self.maintenance.is_some() && self.maintenance(now).is_none() {
            self.maintenance = None;
            ended.maintenance = true;
        }
        self.revision = self.revision.saturating_add(u32::from(ended.any()));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
    }

    fn over(threshold: f64, until: Option<DateTime<Utc>>) -> Override {
        Override { threshold, until, set_at: at(0), bundle: Some("fan@1".into()) }
    }

    #[test]
    fn override_before_configuration_before_bundle() {
        let mut settings = MachineSettings::default();
        let effective = |settings: &MachineSettings, configured, bundle| {
            settings.threshold(at(0), None, configured, bundle).map(|found| (found.threshold, found.source))
        };
        assert_eq!(effective(&settings, None, None), None);
        assert_eq!(effective(&settings, None, Some(0.1)), Some((0.1, ThresholdSource::Bundle)));
        assert_eq!(effective(&settings, Some(0.2), Some(0.1)), Some((0.2, ThresholdSource::Config)));
        settings.set_threshold(over(0.3, None), Changed::default());
        assert_eq!(effective(&settings, Some(0.2), Some(0.1)), Some((0.3, ThresholdSource::Override)));
        settings.reset_threshold(Changed::default());
        assert_eq!(effective(&settings, Some(0.2), Some(0.1)), Some((0.2, ThresholdSource::Config)));
        let learned = settings.threshold(at(0), Some(0.15), Some(0.2), Some(0.1));
        assert_eq!(learned, Some(Effective { threshold: 0.15, source: ThresholdSource::Baseline }));
        assert_eq!(settings.revision, 2);
    }

    #[test]
    fn an_override_counts_before_its_end_and_not_from_it_on() {
        let mut settings = MachineSettings::default();
        settings.set_threshold(over(0.3, Some(at(60))), Changed::default());
        let threshold = |now| settings.threshold(now, None, None, Some(0.1)).map(|found| found.threshold);
        assert_eq!((threshold(at(59)), threshold(at(60)), threshold(at(61))), (Some(0.3), Some(0.1), Some(0.1)));

        assert!(!settings.expire(at(59)).any());
        assert_eq!(settings.expire(at(60)), Ended { threshold: true, maintenance: false });
        assert!(!settings.expire(at(60)).any());
        assert_eq!((settings.threshold, settings.revision), (None, 2));
    }

    #[test]
    fn maintenance_ends_too() {
        let mut settings = MachineSettings::default();
        let until = Some(at(10));
        settings.set_maintenance(Some(Maintenance { until, by: None, reason: None, set_at: at(0) }));
        assert!(settings.maintenance(at(9)).is_some());
        assert!(settings.maintenance(at(10)).is_none());
        assert_eq!(settings.expire(at(11)), Ended { threshold: false, maintenance: true });
    }

    #[test]
    fn an_override_made_for_another_bundle_names_it() {
        let mut settings = MachineSettings::default();
        assert_eq!(settings.made_for_another(Some("fan@1")), None);
        settings.set_threshold(over(0.3, None), Changed::default());
        assert_eq!(settings.made_for_another(Some("fan@1")), None);
        assert_eq!(settings.made_for_another(Some("fan@2")), Some("fan@1"));
        assert_eq!(settings.made_for_another(None), Some("fan@1"));
    }
}
