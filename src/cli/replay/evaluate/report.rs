//! What an evaluation found: a table of the lanes and one of the faults, or both as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::evaluation::{Evaluation, Judged, Unknown};
use super::manifest::NORMAL;
use super::measures::{Areas, Blocks, Measured, areas, share};
use crate::cli::terminal::fit;
use crate::numbers::counted;
use crate::scoring::{Lane, Verdict};

/// How one way to judge did.
struct LaneResult {
    /// `all` is what decides; the others are single lanes.
    name: String,
    areas: Option<Areas>,
    false_alarms: Option<Measured>,
    found: Option<Measured>,
}

/// How one fault fared.
struct FaultResult {
    label: String,
    recordings: usize,
    windows: usize,
    /// Windows that could not be assessed, by the reason.
    unknown: BTreeMap<String, usize>,
    areas: Option<Areas>,
    found: Option<Measured>,
    /// Recordings in which a window was anomalous, and the median time until then, s.
    recordings_found: usize,
    found_after_s: Option<f64>,
}

pub(super) struct Report<'a> {
    evaluation: &'a Evaluation,
    lanes: Vec<LaneResult>,
    faults: Vec<FaultResult>,
}

/// What a window scores in one way, where it does; larger is less normal.
type Scoring = Box<dyn Fn(&Judged) -> Option<f64>>;

impl<'a> Report<'a> {
    pub fn new(evaluation: &'a Evaluation) -> Report<'a> {
        let limit = -evaluation.limit.log10();
        let by_distance = evaluation.threshold.is_some();
        let all: Scoring = Box::new(move |judged| judged.score.filter(|_| !by_distance).or(Some(judged.distance)));
        let mut lanes = vec![evaluation.result("all".into(), &all, &|judged| judged.verdict == Verdict::Anomalous)];
        let present: BTreeSet<Lane> =
            evaluation.judged.iter().flat_map(|judged| judged.lanes.iter().map(|(lane, _)| *lane)).collect();
        for lane in present {
            let surprise = move |judged: &Judged| {
                let (_, p_value) = judged.lanes.iter().find(|(own, _)| *own == lane)?;
                Some(-p_value.max(f64::MIN_POSITIVE).log10())
            };
            let scoring: Scoring = Box::new(surprise);
            let speaks = move |judged: &Judged| surprise(judged).is_some_and(|surprise| surprise > limit);
            lanes.push(evaluation.result(lane.to_string(), &scoring, &speaks));
        }
        let judged = evaluation.judged.iter().map(|judged| judged.label.as_str());
        let unknown = evaluation.unknown.iter().map(|unknown| unknown.label.as_str());
        let labels: BTreeSet<&str> = judged.chain(unknown).collect();
        let faults = labels.into_iter().filter(|label| *label != NORMAL);
        let faults = faults.map(|label| evaluation.fault(label, &all)).collect();
        Report { evaluation, lanes, faults }
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let evaluation = self.evaluation;
        let projected = &evaluation.baseline.projected;
        let normal = evaluation.judged.iter().filter(Evaluation::is_normal).count();
        writeln!(out, "machine   {}", evaluation.machine)?;
        writeln!(
            out,
            "learned   {:.0} s of {}, {}",
            projected.heard_s,
            counted(evaluation.recordings, "recording"),
            counted(projected.windows, "window")
        )?;
        let faulty = evaluation.judged.len() - normal;
        writeln!(out, "judged    {}, {faulty} with a fault", counted(normal, "normal window"))?;
        if !evaluation.unknown.is_empty() {
            writeln!(out, "unknown   {}", listed(&reasons(evaluation.unknown.iter())))?;
        }
        match evaluation.threshold {
            Some(threshold) => writeln!(out, "asked     what is farther than {threshold}")?,
            None => writeln!(out, "asked     {} false alarms", percent(evaluation.limit))?,
        }
        writeln!(out)?;
        let mut table = table(&["lane", "AUC", "9 in 10", "to 0.1", "false alarms", "found"]);
        for lane in &self.lanes {
            let (auc, interval, partial) = area_cells(lane.areas.as_ref());
            table.add_row([
                lane.name.clone(),
                auc,
                interval,
                partial,
                share_cell(lane.false_alarms),
                share_cell(lane.found),
            ]);
        }
        writeln!(out, "{}", finished(table))?;
        let lacking = [(normal, "normal windows: no false alarms"), (faulty, "windows with a fault: nothing to find")];
        for (_, what) in lacking.iter().filter(|(windows, _)| *windows == 0) {
            writeln!(out, "no {what}, and no AUC")?;
        }
        if !self.faults.is_empty() {
            writeln!(out)?;
            let mut table = self::table(&["fault", "AUC", "9 in 10", "windows found", "recordings", "after"]);
            for fault in &self.faults {
                let (auc, interval, _) = area_cells(fault.areas.as_ref());
                let recordings = format!("{} of {}", fault.recordings_found, fault.recordings);
                let after = fault.found_after_s.map_or("-".into(), |after_s| format!("{after_s:.0} s"));
                table.add_row([fault.label.clone(), auc, interval, share_cell(fault.found), recordings, after]);
            }
            writeln!(out, "{}", finished(table))?;
            for fault in self.faults.iter().filter(|fault| !fault.unknown.is_empty()) {
                writeln!(out, "{}: unknown {}", fault.label, listed(&fault.unknown))?;
            }
        }
        writeln!(out)
    }

    pub fn print_json(&self, out: &mut impl Write) -> io::Result<()> {
        let evaluation = self.evaluation;
        let projected = &evaluation.baseline.projected;
        let lanes: Vec<Value> = self.lanes.iter().map(LaneResult::json).collect();
        let faults: Vec<Value> = self.faults.iter().map(FaultResult::json).collect();
        let normal = evaluation.judged.iter().filter(Evaluation::is_normal).count();
        let row = json!({
            "machine": evaluation.machine, "recordings": evaluation.recordings, "learned_s": projected.heard_s,
            "learned_windows": projected.windows, "normal_windows": normal,
            "faulty_windows": evaluation.judged.len() - normal, "unknown": evaluation.unknown.len(),
            "false_alarm_rate": evaluation.limit, "threshold": evaluation.threshold, "lanes": lanes, "faults": faults,
        });
        writeln!(out, "{row}")
    }
}

impl Evaluation {
    fn result(&self, name: String, scoring: &Scoring, anomalous: &dyn Fn(&Judged) -> bool) -> LaneResult {
        let normal = |judged: &Judged| judged.label == NORMAL;
        let counted = |judged: &Judged| Some(f64::from(u8::from(anomalous(judged))));
        let (of_normal, of_faulty) = (self.blocks(&normal, &counted), self.blocks(&|judged| !normal(judged), &counted));
        LaneResult {
            name,
            areas: areas(&self.blocks(&normal, scoring), &self.blocks(&|judged| !normal(judged), scoring)),
            false_alarms: share(&of_normal, |counted| counted > 0.5),
            found: share(&of_faulty, |counted| counted > 0.5),
        }
    }

    fn fault(&self, label: &str, scoring: &Scoring) -> FaultResult {
        let own = |judged: &Judged| judged.label == label;
        let anomalous = |judged: &Judged| judged.verdict == Verdict::Anomalous;
        let counted = |judged: &Judged| Some(f64::from(u8::from(anomalous(judged))));
        let mut first: BTreeMap<_, Option<f64>> = BTreeMap::new();
        for judged in self.judged.iter().filter(|judged| own(judged)) {
            let found = first.entry(&judged.file).or_default();
            if found.is_none() && anomalous(judged) {
                *found = Some(judged.end_s);
            }
        }
        let unknown: Vec<_> = self.unknown.iter().filter(|unknown| unknown.label == label).collect();
        for unknown in &unknown {
            first.entry(&unknown.file).or_default();
        }
        let mut delays: Vec<f64> = first.values().copied().flatten().collect();
        delays.sort_by(f64::total_cmp);
        FaultResult {
            label: label.to_owned(),
            recordings: first.len(),
            windows: self.judged.iter().filter(|judged| own(judged)).count(),
            unknown: reasons(unknown.into_iter()),
            areas: areas(&self.blocks(&|judged| judged.label == NORMAL, scoring), &self.blocks(&own, scoring)),
            found: share(&self.blocks(&own, &counted), |counted| counted > 0.5),
            recordings_found: delays.len(),
            found_after_s: delays.get(delays.len() / 2).copied(),
        }
    }

    /// The scores of the windows that `wanted` accepts, block by block.
    fn blocks(&self, wanted: &dyn Fn(&Judged) -> bool, scoring: &dyn Fn(&Judged) -> Option<f64>) -> Blocks {
        let mut blocks: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for judged in self.judged.iter().filter(|judged| wanted(judged)) {
            if let Some(score) = scoring(judged) {
                blocks.entry((&judged.label, &judged.block)).or_default().push(score);
            }
        }
        blocks.into_values().collect()
    }
}

impl LaneResult {
    fn json(&self) -> Value {
        json!({ "lane": self.name, "auc": auc_json(self.areas.as_ref()), "partial_auc": self.areas.map(|areas| rounded(areas.partial)),
                "false_alarms": share_json(self.false_alarms), "found": share_json(self.found) })
    }
}

impl FaultResult {
    fn json(&self) -> Value {
        json!({ "fault": self.label, "recordings": self.recordings, "windows": self.windows, "unknown": self.unknown,
                "auc": auc_json(self.areas.as_ref()), "partial_auc": self.areas.map(|areas| rounded(areas.partial)),
                "found": share_json(self.found), "recordings_found": self.recordings_found,
                "found_after_s": self.found_after_s })
    }
}

fn reasons<'a>(unknown: impl Iterator<Item = &'a Unknown>) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for unknown in unknown {
        *reasons.entry(unknown.reason.to_string()).or_default() += 1;
    }
    reasons
}

/// `14 windows: machine_off 8, silent 6`
fn listed(reasons: &BTreeMap<String, usize>) -> String {
    let each: Vec<String> = reasons.iter().map(|(reason, windows)| format!("{reason} {windows}")).collect();
    format!("{}: {}", counted(reasons.values().sum::<usize>(), "window"), each.join(", "))
}

fn auc_json(areas: Option<&Areas>) -> Value {
    let json = |areas: &Areas| {
        let (from, to) = areas.interval.unzip();
        json!({ "value": rounded(areas.auc), "from": from.map(rounded), "to": to.map(rounded) })
    };
    areas.map_or(Value::Null, json)
}

/// What is beyond this is the rounding of sums.
fn rounded(share: f64) -> f64 {
    (share * 1e9).round() / 1e9
}

/// A value with its interval.
fn share_json(measured: Option<Measured>) -> Value {
    measured.map_or(Value::Null, |Measured { value, interval }| {
        let (from, to) = interval.unzip();
        json!({ "value": rounded(value), "from": from.map(rounded), "to": to.map(rounded) })
    })
}

fn area_cells(areas: Option<&Areas>) -> (String, String, String) {
    let Some(Areas { auc, interval, partial }) = areas else { return ("-".into(), "-".into(), "-".into()) };
    let interval = interval.map_or("-".into(), |(from, to)| format!("{from:.2} to {to:.2}"));
    (format!("{auc:.3}"), interval, format!("{partial:.3}"))
}

fn share_cell(measured: Option<Measured>) -> String {
    let Some(Measured { value, interval }) = measured else { return "-".into() };
    let interval = interval.map_or("-".into(), |(from, to)| format!("{:.0} to {:.0}", 100.0 * from, 100.0 * to));
    format!("{} ({interval})", percent(value))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn finished(mut table: Table) -> String {
    for column in 1..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    fit(&mut table);
    table.trim_fmt()
}
