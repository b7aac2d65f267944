//! `auscult replay`: recordings of days through scoring and alarms at full speed, so that settings are chosen before they
//! go live.

mod timeline;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args as ClapArgs;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

use self::timeline::{Mark, Point, Timeline};
use super::Failure;
use super::engine::EngineArgs;
use super::sound::{FileQueue, SoundArgs};
use crate::bundle::Bundle;
use crate::config::{Channel, default_false_alarm_rate};
use crate::encoder::Engine;
use crate::scoring::alarm::{Alarm, AlarmConfig, AlarmState, Kind};
use crate::scoring::baseline::{LearnSettings, Learner, check_rate};
use crate::scoring::gate::Gate;
use crate::scoring::{Bank, Done, Judge, MachineModel, Scored, ScorerPool, Verdict};

/// Judges recordings as the agent would have, with its alarms; tells false alarms a day and how late a fault was found.
///
/// The files follow each other in the order of their names as if without a break. With --learn the first minutes are
/// learned, as `baseline = "auto"` does, and judged from then on; else the bundle's bank or what `auscult enroll` made
/// counts. With --fault-at, alarms that are raised before that time are false, and the first one after it found the fault.
#[derive(ClapArgs)]
#[command(after_help = "Examples:
  auscult replay --bundle ./site-fans --machine id_04 --learn 60 --png week.png recordings/
  auscult replay --bundle ./site-fans --machine id_04 --alarm k=3 --alarm n=5 --fault-at 7200 recordings/")]
pub struct Args {
    /// WAV files, and directories to be searched for them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Directory of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Which of the bundle's machines it is; with --learn it may be one that the bundle does not have
    #[arg(long, value_name = "NAME")]
    machine: String,
    /// Learn the normal in the first so many minutes
    #[arg(long, value_name = "MINUTES")]
    learn: Option<f64>,
    /// Wanted share of normal windows that a learned baseline calls anomalous
    #[arg(long, value_name = "P", default_value_t = default_false_alarm_rate())]
    false_alarm_rate: f64,
    /// Limit of the distance [default: the baseline's, else the bundle's]
    #[arg(long, value_name = "X")]
    threshold: Option<f64>,
    /// What decides: distance or combined [default: combined with a baseline, distance with --threshold]
    #[arg(long, value_name = "WHAT", value_parser = super::score::judge)]
    judge: Option<Judge>,
    /// A setting of [alarm], as in the configuration: k=3, clear_after_s=0, latching=true
    #[arg(long = "alarm", value_name = "KEY=VALUE")]
    alarm: Vec<String>,
    /// Seconds from window to window [default: the window's length]
    #[arg(long, value_name = "SECONDS")]
    hop: Option<f64>,
    /// When a fault is known to begin, seconds from the start of the recordings
    #[arg(long, value_name = "SECONDS", value_parser = super::synth::seconds, allow_negative_numbers = true)]
    fault_at: Option<f64>,
    /// Write the timeline as a picture
    #[arg(long, value_name = "OUT.png")]
    png: Option<PathBuf>,
    #[command(flatten)]
    sound: SoundArgs,
    /// One JSON object for each alarm, and one with the sums at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// One alarm, from its raising to its end.
struct Raised {
    kind: Kind,
    at_s: f64,
    cleared_s: Option<f64>,
    windows: u64,
    why: String,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let alarm = alarm_config(&args.alarm).map_err(|problem| Failure::usage(anyhow::anyhow!("--alarm {problem}")))?;
    check_rate(args.false_alarm_rate).map_err(Failure::usage)?;
    let (bundle, engine) = Bundle::open(&args.bundle, &args.engine.config()).map_err(Failure::data)?;
    let model = model(&bundle, &args)?;
    let window_s = model.front_end.window_s;
    let hop_s = args.hop.unwrap_or(window_s);
    if !(0.1..=window_s).contains(&hop_s) {
        return Err(Failure::usage(anyhow::anyhow!("--hop: expected 0.1 to {window_s} s, found {hop_s}")));
    }
    let mut files = FileQueue::new(&args.paths);
    let mut alarm = Alarm::new(alarm, DateTime::UNIX_EPOCH);
    alarm.calibrate(model.baseline.as_ref().and_then(|baseline| baseline.slow()));
    let mut replay = Replay {
        learner: learner(&bundle, &model, &args, hop_s)?,
        model: Arc::new(model),
        threshold: args.threshold,
        alarm,
        timeline: Timeline::new(&args.machine, args.fault_at),
        raised: Vec::new(),
    };
    let played_s = replay.play(&mut files, args.sound.channel, hop_s, engine)?;
    let Replay { learner, alarm, timeline, mut raised, .. } = replay;
    files.bar.finish_and_clear();
    if let Some(learning) = &learner {
        let progress = learning.progress();
        let message = format!(
            "--learn: expected {:.0} s of normal running, the recordings have {:.0} s",
            progress.wanted_s, progress.heard_s
        );
        return Err(Failure::data(anyhow::anyhow!(message)));
    }
    if let Some(last) = raised.last_mut().filter(|last| last.cleared_s.is_none()) {
        last.windows = alarm.status().count;
    }
    if let Some(png) = &args.png {
        let picture = timeline.to_png().map_err(|problem| anyhow::anyhow!("{}: {problem}", png.display()))?;
        crate::fs::write_output(png, &picture).map_err(|error| anyhow::anyhow!("{}: {error}", png.display()))?;
    }
    let sums = Sums::new(&timeline, &raised, args.fault_at, played_s);
    if args.json {
        sums.print_json(&raised)
    } else {
        sums.print(&raised, alarm.config())
    }
    files.verdict()
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
        let mut pool = ScorerPool::new(engine)?;
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
                    self.take(done, &mut pool)?;
                }
            }
        }
        while let Some(done) = pool.oldest()? {
            self.take(done, &mut pool)?;
        }
        Ok(played_s)
    }

    fn take(&mut self, done: Done<f64>, pool: &mut ScorerPool<f64>) -> Result<(), Failure> {
        if !self.judge(done.tag, &done.scored?)? {
            return Ok(());
        }
        // What was on its way while the normal was learned is scored again, by what was learned.
        let mut under_way = Vec::new();
        while let Some(done) = pool.oldest()? {
            under_way.push(done);
        }
        for Done { tag, window, .. } in under_way {
            if let Some(done) = pool.push(tag, &self.model, window)? {
                self.judge(done.tag, &done.scored?)?;
            }
        }
        Ok(())
    }

    /// Whether with this window the normal is learned.
    fn judge(&mut self, end_s: f64, scored: &Scored) -> Result<bool, Failure> {
        let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds((1000.0 * end_s) as i64);
        let change = self.alarm.on_verdict(&scored.assessment, at);
        self.timeline.add(Point::new(end_s, &self.model, &scored.assessment, self.alarm.status().state));
        if let Some(change) = change {
            match (change.from.state, change.to.state) {
                (_, AlarmState::Active) => {
                    let why = change.to.why.as_ref().map(timeline::in_words).unwrap_or_default();
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
        let Some(learning) = &mut self.learner else { return Ok(false) };
        if !learning.on_window(scored, at).complete {
            return Ok(false);
        }
        let baseline = Arc::new(learning.propose().map_err(Failure::data)?);
        self.alarm.calibrate(baseline.slow());
        self.alarm.forget_evidence();
        let mut model = self.model.as_ref().clone().with_baseline(baseline, self.model.judge);
        model.threshold = self.threshold.unwrap_or(model.threshold);
        self.model = Arc::new(model);
        self.timeline.learned_s = Some(end_s);
        self.learner = None;
        Ok(true)
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

/// The machine as the bundle has it; without a bank where it is to be learned.
fn model(bundle: &Bundle, args: &Args) -> Result<MachineModel, Failure> {
    let known = match bundle.machine(&args.machine) {
        Ok(known) => Some(known),
        Err(_) if args.learn.is_some() => None,
        Err(error) => return Err(Failure::data(error)),
    };
    let (index, front_end) =
        known.map_or_else(|| bundle.default_conditioning(), |known| (known.index, known.front_end.clone()));
    let front_end = args.sound.front_end(&front_end)?;
    let origin = bundle.origin(index, front_end.clone());
    let known = known.filter(|_| args.learn.is_none());
    let bank = known.map_or_else(|| Bank::empty(bundle.machines[0].bank.width()), |known| known.bank.clone());
    let threshold = args.threshold.or(known.and_then(|known| known.threshold));
    if threshold.is_none() && known.is_some() {
        let message = format!("no threshold for {:?}: give one with --threshold, or --learn", args.machine);
        return Err(Failure::data(anyhow::anyhow!(message)));
    }
    let mut model = MachineModel::new(index, bank, threshold.unwrap_or(f64::INFINITY), front_end, Gate::default());
    let enrolled = known.and_then(|known| known.baseline.clone());
    model.baseline = enrolled.filter(|baseline| baseline.check_origin(&origin).is_ok());
    model.judge = args.judge.unwrap_or(if args.threshold.is_some() { Judge::Distance } else { Judge::Combined });
    Ok(model)
}

fn learner(bundle: &Bundle, model: &MachineModel, args: &Args, hop_s: f64) -> Result<Option<Learner>, Failure> {
    let Some(minutes) = args.learn else { return Ok(None) };
    if !(minutes > 0.0 && minutes.is_finite()) {
        return Err(Failure::usage(anyhow::anyhow!("--learn: expected minutes above 0, found {minutes}")));
    }
    let settings = LearnSettings {
        machine: args.machine.clone(),
        origin: bundle.origin(model.index, model.front_end.clone()),
        hop_s,
        wanted_s: 60.0 * minutes,
        false_alarm_rate: args.false_alarm_rate,
        previous_threshold: None,
    };
    Learner::new(settings, DateTime::UNIX_EPOCH).map(Some).map_err(Failure::usage)
}

/// What it comes to.
struct Sums {
    windows: usize,
    unknown: usize,
    anomalous: usize,
    hours: f64,
    /// Alarms raised while nothing was wrong, and in a day of assessed windows.
    false_alarms: usize,
    false_alarms_per_day: Option<f64>,
    /// From the fault's beginning to the alarm, s; `None` where it was not found or none was told of.
    delay_s: Option<f64>,
    fault_at_s: Option<f64>,
}

impl Sums {
    fn new(timeline: &Timeline, raised: &[Raised], fault_at_s: Option<f64>, played_s: f64) -> Sums {
        let count = |verdict: Verdict| timeline.points().iter().filter(|point| point.verdict == verdict).count();
        let healthy_until = fault_at_s.unwrap_or(f64::INFINITY);
        let before = |raised: &&Raised| raised.at_s < healthy_until && raised.kind != Kind::Deaf;
        let false_alarms = raised.iter().filter(before).count();
        let from_s = timeline.learned_s.unwrap_or(0.0);
        let healthy_days = (healthy_until.min(played_s) - from_s) / 86_400.0;
        // An alarm that stands already when the fault comes has not found it.
        let found = raised.iter().find(|raised| raised.at_s >= healthy_until && raised.kind != Kind::Deaf);
        Sums {
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

    fn print_json(&self, raised: &[Raised]) {
        for alarm in raised {
            let Raised { kind, at_s, cleared_s, windows, why } = alarm;
            let false_alarm = self.is_false(alarm);
            println!(
                "{}",
                json!({ "alarm": kind, "raised_s": at_s, "cleared_s": cleared_s, "windows": windows, "why": why,
                        "false_alarm": false_alarm })
            );
        }
        let Sums { windows, unknown, anomalous, hours, false_alarms, false_alarms_per_day, delay_s, fault_at_s } = self;
        println!(
            "{}",
            json!({ "windows": windows, "unknown": unknown, "anomalous": anomalous, "hours": hours,
                    "alarms": raised.len(), "false_alarms": fault_at_s.map(|_| false_alarms),
                    "false_alarms_per_day": fault_at_s.and(*false_alarms_per_day), "fault_at_s": fault_at_s,
                    "detection_delay_s": delay_s })
        );
    }

    fn is_false(&self, alarm: &Raised) -> Option<bool> {
        self.fault_at_s.map(|fault_at_s| alarm.at_s < fault_at_s)
    }

    fn print(&self, raised: &[Raised], config: &AlarmConfig) {
        if !raised.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["alarm", "raised", "cleared", "lasted", "windows", "why"]);
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
            println!("{table}\n");
        }
        let assessed = self.windows - self.unknown;
        let share = match assessed {
            0 => String::new(),
            assessed => {
                format!(", {:.1} % of the {assessed} assessed", 100.0 * self.anomalous as f64 / assessed as f64)
            }
        };
        println!("heard        {:.2} h, {} windows, {} unknown", self.hours, self.windows, self.unknown);
        println!("anomalous    {} windows{share}", self.anomalous);
        println!("alarms       {}, {} of {} windows raise one", raised.len(), config.k, config.n);
        let per_day = self.false_alarms_per_day.map_or(String::new(), |per_day| format!(", {per_day:.2} a day"));
        let which = if self.fault_at_s.is_some() { "false alarms" } else { "if healthy" };
        println!("{which:12} {} onsets{per_day}", self.false_alarms);
        match (self.fault_at_s, self.delay_s) {
            (Some(_), Some(delay_s)) => println!("fault found  after {delay_s:.0} s"),
            (Some(_), None) => println!("fault        not found"),
            (None, _) => {}
        }
    }
}
