//! `auscult replay`: recordings of days through scoring and alarms at full speed, so that settings are chosen before they
//! go live.

mod args;
mod evaluate;
mod sums;
mod timeline;

use std::sync::Arc;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

pub use self::args::Args;
use self::sums::{Raised, Sums};
use self::timeline::{Mark, Point, Timeline};
use super::Failure;
use super::sound::FileQueue;
use crate::bundle::{FittedModel, Learning, Overrides};
use crate::config::Channel;
use crate::encoder::Engine;
use crate::scoring::alarm::{Alarm, AlarmConfig, AlarmState, Kind};
use crate::scoring::baseline::{LearnProgress, LearnSettings, Learner, Origin, check_rate};
use crate::scoring::{Done, Heard, MachineModel, Recent, Scored, ScorerPool, Why};

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let alarm = alarm_config(&args.alarm).map_err(|problem| Failure::usage(anyhow::anyhow!("--alarm {problem}")))?;
    check_rate(args.false_alarm_rate).map_err(Failure::usage)?;
    if let Some(list) = &args.evaluate {
        return evaluate::run(&args, list);
    }
    let recordings = &args.recordings;
    let (bundle, engine) = recordings.open()?;
    let learning = if args.learn.is_some() { Learning::Now } else { Learning::Never };
    let overrides = Overrides { learning, ..args.judging.overrides(&recordings.sound) };
    let FittedModel { model, origin, .. } =
        recordings.model(&bundle, &overrides, "give one with --threshold, or --learn")?;
    let window_s = model.front_end.window_s;
    let hop_s = args.hop_s(window_s)?;
    let mut alarm = Alarm::new(alarm, DateTime::UNIX_EPOCH);
    alarm.calibrate(model.baseline.as_ref().and_then(|baseline| baseline.slow()));
    let mut replay = Replay {
        learner: learner(&args, origin, hop_s)?,
        model: Arc::new(model),
        threshold: args.judging.threshold(),
        alarm,
        timeline: Timeline::new(&recordings.machine, args.fault_at),
        raised: Vec::new(),
        recent: Recent::default(),
    };
    let mut files = recordings.files();
    files.explain_interrupt("no sums were made, and nothing was written");
    let played_s = replay.play(&mut files, recordings.sound.channel, hop_s, engine)?;
    files.bar.finish_and_clear();
    replay.finish(&args, played_s)?;
    files.verdict()
}

/// A learner for --learn.
fn learner(args: &Args, origin: Origin, hop_s: f64) -> Result<Option<Learner>, Failure> {
    let Some(minutes) = args.learn else { return Ok(None) };
    if !(minutes > 0.0 && minutes.is_finite()) {
        return Err(Failure::usage(anyhow::anyhow!("--learn: expected minutes above 0, found {minutes}")));
    }
    let settings = LearnSettings {
        machine: args.recordings.machine.clone(),
        origin,
        hop_s,
        wanted_s: 60.0 * minutes,
        false_alarm_rate: args.false_alarm_rate,
        previous_threshold: None,
    };
    Learner::new(settings, DateTime::UNIX_EPOCH).map(Some).map_err(Failure::usage)
}

/// A machine through its recordings.
struct Replay {
    model: Arc<MachineModel>,
    /// Until the normal is learned.
    learner: Option<Learner>,
    threshold: Option<f64>,
    alarm: Alarm,
    timeline: Timeline,
    raised: Vec<Raised>,
    /// The last windows, which count with the next.
    recent: Recent,
}

impl Replay {
    /// All windows of all files, scored on all cores and judged one after the other; answers how many seconds they are.
    fn play(
        &mut self,
        files: &mut FileQueue,
        channel: Channel,
        hop_s: f64,
        engine: Box<dyn Engine>,
    ) -> Result<f64, Failure> {
        let mut pool = ScorerPool::hearing(engine)?;
        let window_s = self.model.front_end.window_s;
        let mut played_s = 0.0;
        while let Some(file) = files.next() {
            let Some(mut windows) = files.open(&file, channel, &self.model.front_end) else { continue };
            windows.step(hop_s);
            let begun_s = played_s;
            let mut number = 0u32;
            while let Some(window) = files.next_window(&mut windows) {
                played_s = begun_s + f64::from(number) * hop_s + window_s;
                number += 1;
                if let Some(done) = pool.push(played_s, &self.model, window)? {
                    self.take(done)?;
                }
            }
        }
        while let Some(done) = pool.oldest()? {
            self.take(done)?;
        }
        Ok(played_s)
    }

    /// What was on its way while the normal was learned is judged by what was learned.
    fn take(&mut self, done: Done<f64, Heard>) -> Result<(), Failure> {
        let scored = self.model.judge_next(done.scored?, &mut self.recent, done.tag);
        self.judge(done.tag, &scored)
    }

    fn judge(&mut self, end_s: f64, scored: &Scored) -> Result<(), Failure> {
        let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds((1000.0 * end_s) as i64);
        let change = self.alarm.on_verdict(&scored.assessment, at);
        self.timeline.add(Point::new(end_s, &self.model, &scored.assessment, self.alarm.status().state));
        if let Some(change) = change {
            match (change.from.state, change.to.state) {
                (_, AlarmState::Active) => {
                    let why = change.to.why.as_ref().map(Why::to_string).unwrap_or_default();
                    let kind = change.to.kind.unwrap_or(Kind::Fault);
                    self.raised.push(Raised { kind, at_s: end_s, cleared_s: None, windows: 0, why });
                    self.timeline.mark(Mark { at_s: end_s, kind });
                }
                (AlarmState::Active, _) => {
                    if let Some(last) = self.raised.last_mut() {
                        (last.cleared_s, last.windows) = (Some(end_s), change.to.count);
                    }
                }
                _ => {}
            }
        }
        let Some(learning) = &mut self.learner else { return Ok(()) };
        if !learning.on_window(scored, at).complete {
            return Ok(());
        }
        let baseline = Arc::new(learning.propose().map_err(Failure::data)?);
        self.alarm.calibrate(baseline.slow());
        self.alarm.forget_evidence();
        let mut model = self.model.as_ref().clone().with_baseline(baseline, self.model.judge);
        model.threshold = self.threshold.unwrap_or(model.threshold);
        self.model = Arc::new(model);
        self.timeline.learned_s = Some(end_s);
        self.learner = None;
        Ok(())
    }

    /// Draws and prints what the recordings gave.
    fn finish(mut self, args: &Args, played_s: f64) -> Result<(), Failure> {
        if let Some(learning) = &self.learner {
            let LearnProgress { wanted_s, heard_s, .. } = learning.progress();
            return Err(Failure::data(anyhow::anyhow!(
                "--learn: expected {wanted_s:.0} s of normal running, the recordings have {heard_s:.0} s"
            )));
        }
        if let Some(last) = self.raised.last_mut().filter(|last| last.cleared_s.is_none()) {
            last.windows = self.alarm.status().count;
        }
        if let Some(png) = &args.png {
            let picture = self.timeline.to_png().with_context(|| png.display().to_string())?;
            crate::fs::write_output(png, &picture).with_context(|| png.display().to_string())?;
        }
        let sums = Sums::new(&self.timeline, &self.raised, args.fault_at, played_s);
        let mut out = std::io::stdout().lock();
        if args.json {
            sums.print_json(&self.raised, &mut out)?;
        } else {
            sums.print(&self.raised, self.alarm.config(), &mut out)?;
        }
        Ok(())
    }
}

fn alarm_config(settings: &[String]) -> Result<AlarmConfig, String> {
    let mut over = Map::new();
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| format!("{setting}: expected KEY=VALUE"))?;
        let value: Value =
            serde_json::from_str(value).map_err(|_| format!("{key}: expected a number, true or false"))?;
        over.insert(key.to_owned(), value);
    }
    AlarmConfig::default().with(&over)
}
