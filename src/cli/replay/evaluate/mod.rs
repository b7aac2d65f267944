//! `auscult replay --evaluate`: how well a machine's faults would be told from its normal running, from recordings that
//! somebody has labelled. What is learned and what is judged are different recordings.

mod evaluation;
mod manifest;
mod measures;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::evaluation::{Evaluation, Judged, Unknown};
use self::manifest::{NORMAL, Role, Row};
use self::report::Report;
use super::args::Args;
use crate::bundle::{FittedModel, Learning, Overrides};
use crate::cli::normal_running::NormalRunning;
use crate::cli::sound::FileQueue;
use crate::cli::{EXIT_DATA, Failure};
use crate::scoring::baseline::{LearnSettings, Origin, propose};
use crate::scoring::{Done, Heard, MachineModel, Recent, ScorerPool};

/// Learns and judges each machine of the list, and prints what came of it.
pub fn run(args: &Args, list: &Path) -> Result<(), Failure> {
    let rows = manifest::read(list).map_err(|problem| Failure::data(anyhow::anyhow!(problem)))?;
    let recordings = &args.recordings;
    let (bundle, engine) = recordings.open()?;
    let overrides = Overrides { learning: Learning::Now, ..args.judging.overrides(&recordings.sound) };
    let FittedModel { model, origin, .. } = recordings.model(&bundle, &overrides, "")?;
    let mut pools = Pools { learn: ScorerPool::new(engine.share()?)?, judge: ScorerPool::hearing(engine)? };
    let mut machines: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        machines.entry(&row.machine).or_default().push(row);
    }
    let mut all_read = true;
    for (machine, rows) in machines {
        let name = if machine.is_empty() { &recordings.machine } else { machine };
        for block in both(&rows) {
            eprintln!("warning: {name}: block {block} is learned and tested: it is no other day, and flatters");
        }
        let (evaluation, readable) = evaluate(args, name, &rows, &model, &origin, &mut pools)?;
        all_read &= readable;
        let report = Report::new(&evaluation);
        let mut out = std::io::stdout().lock();
        if args.json { report.print_json(&mut out)? } else { report.print(&mut out)? }
    }
    if all_read { Ok(()) } else { Err(Failure::reported(EXIT_DATA)) }
}

/// Blocks of which some is learned and some tested as normal.
fn both<'a>(rows: &[&'a Row]) -> BTreeSet<&'a str> {
    let of = |role: Role| {
        let blocks = rows.iter().filter(move |row| row.role == role && row.label == NORMAL).map(|row| &*row.block);
        blocks.collect::<BTreeSet<_>>()
    };
    &of(Role::Learn) & &of(Role::Test)
}

/// The windows before one of the same recording.
#[derive(Default)]
struct Before {
    /// Those that count with the next one.
    judged: Recent,
    /// All of them, for what a lane sees by itself.
    all: Recent,
}

struct Pools {
    learn: ScorerPool<crate::cli::normal_running::Place>,
    judge: ScorerPool<(usize, f64), Heard>,
}

/// One machine, and whether all its files could be read.
fn evaluate(
    args: &Args,
    machine: &str,
    rows: &[&Row],
    model: &MachineModel,
    origin: &Origin,
    pools: &mut Pools,
) -> Result<(Evaluation, bool), Failure> {
    let of = |role: Role| rows.iter().copied().filter(move |row| row.role == role);
    let mut blocks: Vec<&str> = of(Role::Learn).map(|row| row.block.as_str()).collect();
    blocks.dedup();
    let number = |file: &Path| {
        let row = of(Role::Learn).find(|row| row.file == file)?;
        blocks.iter().position(|block| *block == row.block)?.try_into().ok()
    };
    let mut files = queue(of(Role::Learn));
    let channel = args.recordings.sound.channel;
    let heard = NormalRunning::hear(&mut files, number, channel, &Arc::new(model.clone()), &mut pools.learn)?;
    files.bar.finish_and_clear();
    let readable = files.verdict().is_ok();
    let settings = LearnSettings {
        machine: machine.to_owned(),
        origin: origin.clone(),
        hop_s: heard.hop_s,
        wanted_s: 0.0,
        false_alarm_rate: args.false_alarm_rate,
        previous_threshold: None,
    };
    let baseline = Arc::new(propose(&heard.samples, &settings).map_err(|error| {
        let error = anyhow::Error::from(error).context(format!("{machine}: nothing can be learned"));
        Failure::data(error)
    })?);
    let mut model = model.clone().with_baseline(baseline.clone(), model.judge);
    let threshold = args.judging.threshold();
    model.threshold = threshold.unwrap_or(model.threshold);

    let tested: Vec<&Row> = of(Role::Test).collect();
    let limit = args.false_alarm_rate;
    let recordings = heard.recordings;
    let mut evaluation = Evaluation {
        machine: machine.to_owned(),
        baseline,
        recordings,
        judged: Vec::new(),
        unknown: Vec::new(),
        limit,
        threshold,
    };
    let readable = evaluation.judge(&tested, args, Arc::new(model), &mut pools.judge)? && readable;
    Ok((evaluation, readable))
}

fn queue<'a>(rows: impl Iterator<Item = &'a Row>) -> FileQueue {
    let paths: Vec<PathBuf> = rows.map(|row| row.file.clone()).collect();
    let files = FileQueue::new(&paths);
    files.explain_interrupt("nothing was evaluated");
    files
}

impl Evaluation {
    /// Judges the windows of these recordings; answers whether all could be read.
    fn judge(
        &mut self,
        rows: &[&Row],
        args: &Args,
        model: Arc<MachineModel>,
        pool: &mut ScorerPool<(usize, f64), Heard>,
    ) -> Result<bool, Failure> {
        let window_s = model.front_end.window_s;
        let hop_s = args.hop_s(window_s)?;
        let mut files = queue(rows.iter().copied());
        let mut before = Before::default();
        while let Some(file) = files.next() {
            let Some(row) = rows.iter().position(|row| row.file == file) else { continue };
            let Some(mut windows) = files.open(&file, args.recordings.sound.channel, &model.front_end) else {
                continue;
            };
            windows.step(hop_s);
            let mut number = 0u32;
            while let Some(window) = files.next_window(&mut windows) {
                let end_s = f64::from(number) * hop_s + window_s;
                number += 1;
                if let Some(done) = pool.push((row, end_s), &model, window)? {
                    self.take(rows, done, &model, &mut before)?;
                }
            }
        }
        while let Some(done) = pool.oldest()? {
            self.take(rows, done, &model, &mut before)?;
        }
        files.bar.finish_and_clear();
        Ok(files.verdict().is_ok())
    }

    fn take(
        &mut self,
        rows: &[&Row],
        done: Done<(usize, f64), Heard>,
        model: &MachineModel,
        before: &mut Before,
    ) -> Result<(), Failure> {
        let (row, end_s) = done.tag;
        if end_s <= model.front_end.window_s {
            *before = Before::default();
        }
        let scored = model.judge_next(done.scored?, &mut before.judged, end_s);
        let (row, assessment) = (rows[row], &scored.assessment);
        let (Some(distance), Some(features)) = (assessment.distance, &scored.features) else {
            let (label, file) = (row.label.clone(), row.file.clone());
            self.unknown.extend(assessment.reason.map(|reason| Unknown { label, file, reason }));
            return Ok(());
        };
        before.all.note(end_s, model.front_end.window_s, &features.spectrum);
        let alone = self.baseline.judged(distance, features);
        let lanes = alone.map(|alone| alone.clone().with_those_before(&before.all).unwrap_or(alone).p_values());
        self.judged.push(Judged {
            label: row.label.clone(),
            block: row.block.clone(),
            file: row.file.clone(),
            end_s,
            distance,
            verdict: assessment.verdict,
            score: assessment.score,
            lanes: lanes.unwrap_or_default(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_learned_and_tested_is_known() {
        let row = |block: &str, label: &str, role: Role| {
            let (block, label) = (block.to_owned(), label.to_owned());
            Row { file: PathBuf::new(), machine: String::new(), label, block, role }
        };
        let rows = [
            row("day-1", NORMAL, Role::Learn),
            row("day-1", NORMAL, Role::Test),
            row("day-2", NORMAL, Role::Learn),
            row("day-2", "rub", Role::Test),
            row("day-3", NORMAL, Role::Test),
        ];
        assert_eq!(both(&rows.iter().collect::<Vec<_>>()), BTreeSet::from(["day-1"]));
    }
}
