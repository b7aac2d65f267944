//! What recordings come out as: windows, alarms, false alarms a day, how late a fault was found.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::timeline::{self, Point, Timeline};
use crate::cli::terminal;
use crate::numbers::counted;
use crate::scoring::Verdict;
use crate::scoring::alarm::{AlarmConfig, Kind};

/// One alarm, from its raising to its end.
pub struct Raised {
    pub kind: Kind,
    pub at_s: f64,
    pub cleared_s: Option<f64>,
    pub windows: u64,
    pub why: String,
}

/// The sums over all recordings.
pub struct Sums {
    windows: usize,
    unknown: usize,
    anomalous: usize,
    hours: f64,
    /// Alarms raised while nothing was wrong, and in a day of assessed windows.
    false_alarms: usize,
    false_alarms_per_day: Option<f64>,
    /// From the fault's beginning to the alarm, s; `None` where it was not found or none is known.
    delay_s: Option<f64>,
    fault_at_s: Option<f64>,
    /// Anomalous windows after it, and all that were assessed.
    in_fault: (usize, usize),
}

impl Sums {
    pub fn new(timeline: &Timeline, raised: &[Raised], fault_at_s: Option<f64>, played_s: f64) -> Sums {
        let count = |verdict: Verdict| timeline.points().iter().filter(|point| point.verdict == verdict).count();
        let healthy_until = fault_at_s.unwrap_or(f64::INFINITY);
        let before = |raised: &&Raised| raised.at_s < healthy_until && raised.kind != Kind::Deaf;
        let false_alarms = raised.iter().filter(before).count();
        let from_s = timeline.learned_s.unwrap_or(0.0);
        let healthy_days = (healthy_until.min(played_s) - from_s) / 86_400.0;
        // An alarm that stands already when the fault comes has not found it.
        let found = raised.iter().find(|raised| raised.at_s >= healthy_until && raised.kind != Kind::Deaf);
        let after = |point: &&Point| point.end_s > healthy_until && point.verdict != Verdict::Unknown;
        let in_fault = timeline.points().iter().filter(after);
        let anomalous = in_fault.clone().filter(|point| point.verdict == Verdict::Anomalous).count();
        Sums {
            in_fault: (anomalous, in_fault.count()),
            windows: timeline.points().len(),
            unknown: count(Verdict::Unknown),
            anomalous: count(Verdict::Anomalous),
            hours: played_s / 3600.0,
            false_alarms,
            false_alarms_per_day: (healthy_days > 0.0).then(|| false_alarms as f64 / healthy_days),
            delay_s: fault_at_s.and_then(|fault_at_s| Some(found?.at_s - fault_at_s)),
            fault_at_s,
        }
    }

    pub fn print_json(&self, raised: &[Raised], out: &mut impl Write) -> io::Result<()> {
        for alarm in raised {
            let Raised { kind, at_s, cleared_s, windows, why } = alarm;
            let false_alarm = self.is_false(alarm);
            writeln!(
                out,
                "{}",
                json!({ "alarm": kind, "raised_s": at_s, "cleared_s": cleared_s, "windows": windows, "why": why,
                        "false_alarm": false_alarm })
            )?;
        }
        let Sums {
            windows, unknown, anomalous, hours, false_alarms, false_alarms_per_day, delay_s, fault_at_s, ..
        } = self;
        writeln!(
            out,
            "{}",
            json!({ "windows": windows, "unknown": unknown, "anomalous": anomalous, "hours": hours,
                    "alarms": raised.len(), "false_alarms": fault_at_s.map(|_| false_alarms),
                    "false_alarms_per_day": fault_at_s.and(*false_alarms_per_day), "fault_at_s": fault_at_s,
                    "detection_delay_s": delay_s })
        )
    }

    fn is_false(&self, alarm: &Raised) -> Option<bool> {
        self.fault_at_s.map(|fault_at_s| alarm.at_s < fault_at_s)
    }

    pub fn print(&self, raised: &[Raised], config: &AlarmConfig, out: &mut impl Write) -> io::Result<()> {
        if !raised.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["alarm", "raised", "cleared", "lasted", "windows", "why"]);
            // The last column breaks between words; the others fit any terminal.
            terminal::fit(&mut table);
            for alarm in raised {
                let kind = json!(alarm.kind);
                let wrong = if self.is_false(alarm) == Some(true) { " (false)" } else { "" };
                table.add_row([
                    format!("{}{wrong}", kind.as_str().unwrap_or_default()),
                    timeline::clock(alarm.at_s),
                    alarm.cleared_s.map_or("stands".into(), timeline::clock),
                    alarm.cleared_s.map_or("-".into(), |end_s| timeline::clock(end_s - alarm.at_s)),
                    alarm.windows.to_string(),
                    alarm.why.clone(),
                ]);
            }
            for column in 1..5 {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            writeln!(out, "{table}\n")?;
        }
        let assessed = self.windows - self.unknown;
        let share = match assessed {
            0 => String::new(),
            assessed => {
                format!(", {:.1} % of the {assessed} assessed", 100.0 * self.anomalous as f64 / assessed as f64)
            }
        };
        writeln!(
            out,
            "heard        {:.2} h, {}, {} unknown",
            self.hours,
            counted(self.windows, "window"),
            self.unknown
        )?;
        writeln!(out, "anomalous    {}{share}", counted(self.anomalous, "window"))?;
        writeln!(out, "alarms       {}, {} of {} windows raise one", raised.len(), config.k, config.n)?;
        // From less than an hour, "a day" would be a number out of nothing.
        let per_day = self.false_alarms_per_day.filter(|_| self.hours >= 1.0);
        let per_day = per_day.map_or(String::new(), |per_day| format!(", {per_day:.2} a day"));
        let which = if self.fault_at_s.is_some() { "false alarms" } else { "if healthy" };
        writeln!(out, "{which:12} {}{per_day}", counted(self.false_alarms, "onset"))?;
        match (self.fault_at_s, self.delay_s) {
            (Some(_), Some(delay_s)) => writeln!(out, "fault found  after {delay_s:.0} s"),
            (Some(at_s), None) if at_s >= 3600.0 * self.hours => {
                writeln!(out, "fault        not heard: it begins at {at_s:.0} s, after the end of the recordings")
            }
            (Some(_), None) => {
                let (anomalous, windows) = self.in_fault;
                let windows = counted(windows, "window");
                writeln!(
                    out,
                    "fault        not found: of {windows} after it {anomalous} anomalous, and no alarm until the end"
                )
            }
            (None, _) => Ok(()),
        }
    }
}
