//! A machine beside which it gets louder every night: its false alarms at night become fewer, slowly and within bounds; faults
//! are found at night all the same, and wear as if nothing had been let in.

use auscult::audio::synth::{Fault, FaultPlan, Kind, SynthMachine};
use auscult::scoring::adaptation::{Adaptation, HoldsFor, WIDEST};
use auscult::scoring::alarm::{Alarm, AlarmConfig, Kind as AlarmKind};
use auscult::scoring::lanes::Features;
use auscult::scoring::{Adapted, Assessment, Baseline, Verdict, judge};
use chrono::{DateTime, TimeDelta, Utc};

use crate::bench::Bench;

const WINDOW: usize = 80_000;
const RATE: f64 = 0.01;
/// Seconds from window to window: ten days of 5 s would be 170 000 windows.
const HOP_S: i64 = 30;
const NIGHT: std::ops::Range<i64> = 0..6;

/// What a window is judged by.
struct Heard {
    distance: f64,
    features: Features,
    level_dbfs: f64,
}

/// Windows of the machine `snr_db` above what is around it.
fn windows(snr_db: f64, take: u64, fault: FaultPlan, count: usize) -> Vec<Vec<f32>> {
    let mut machine = SynthMachine::with_fault(Kind::Fan, 7, take, fault).with_snr_db(snr_db);
    let window = |_| {
        let mut window = vec![0.0; WINDOW];
        machine.fill(&mut window);
        window
    };
    (0..count).map(window).collect()
}

struct Machine<'a> {
    baseline: &'a Baseline,
    alarm: Alarm,
    /// `None`: nothing is let in.
    adaptation: Option<Adaptation>,
    now: DateTime<Utc>,
    /// Kind and beginning of each alarm that was raised.
    raised: Vec<(AlarmKind, DateTime<Utc>)>,
    /// Windows and anomalous ones at night, by the day.
    nights: Vec<(usize, usize)>,
}

impl Machine<'_> {
    fn new(baseline: &Baseline, adapts: bool) -> Machine<'_> {
        let now = DateTime::from_timestamp(1_800_000_000 / 86_400 * 86_400, 0).expect("a valid time");
        let mut alarm = Alarm::new(AlarmConfig::default(), now);
        alarm.calibrate(baseline.slow());
        let mut adaptation = Adaptation::default();
        adaptation.begin(HoldsFor { baseline: baseline.learned.clone(), false_alarm_rate: RATE });
        let adaptation = adapts.then_some(adaptation);
        Machine { baseline, alarm, adaptation, now, raised: Vec::new(), nights: Vec::new() }
    }

    /// As the agent judges it.
    fn assess(&self, heard: &Heard) -> Assessment {
        let widening = self.adaptation.as_ref().map_or(1.0, |adaptation| adaptation.widening(self.now));
        let judged = self.baseline.judged(heard.distance, &heard.features).expect("lanes");
        let found = judged.widened(widening, RATE).expect("lanes that apply");
        let (learned_p_value, needed) = (found.learned.p_value, found.needed);
        let is_anomalous = found.widened.p_value < RATE;
        Assessment {
            verdict: if is_anomalous { Verdict::Anomalous } else { Verdict::Normal },
            p_value: Some(found.widened.p_value),
            adapted: self.adaptation.as_ref().map(|_| Adapted { widening, learned_p_value, needed }),
            ..judge(heard.distance, self.baseline.threshold, heard.level_dbfs)
        }
    }

    fn window(&mut self, heard: &Heard) -> Assessment {
        self.now += TimeDelta::seconds(HOP_S);
        let assessment = self.assess(heard);
        let (now, before) = (self.now, self.alarm.status().kind);
        let _ = self.alarm.on_verdict(&assessment, now);
        let kind = self.alarm.status().kind;
        if let Some(kind) = kind.filter(|_| kind != before) {
            self.raised.push((kind, now));
        }
        if let (Some(adaptation), Some(adapted)) = (&mut self.adaptation, assessment.adapted) {
            adaptation.pass(now, self.alarm.stands());
            adaptation.note(now, adapted.needed);
        }
        assessment
    }

    /// A day of windows, each of what `heard` says for the hour and the number of the window in it.
    fn day<'b>(&mut self, mut heard: impl FnMut(i64, usize) -> &'b Heard) {
        let (mut all, mut anomalous) = (0, 0);
        for hour in 0..24 {
            for number in 0..3600 / HOP_S as usize {
                let assessment = self.window(heard(hour, number));
                if NIGHT.contains(&hour) {
                    all += 1;
                    anomalous += usize::from(assessment.verdict == Verdict::Anomalous);
                }
            }
        }
        self.nights.push((all, anomalous));
    }

    /// Alarms of a kind that began at night, on these days.
    fn at_night(&self, kind: AlarmKind, days: std::ops::Range<i64>) -> usize {
        let began = DateTime::from_timestamp(1_800_000_000 / 86_400 * 86_400, 0).expect("a valid time");
        let is_meant = |(raised, at): &&(AlarmKind, DateTime<Utc>)| {
            let passed = *at - began;
            *raised == kind && days.contains(&passed.num_days()) && NIGHT.contains(&(passed.num_hours() % 24))
        };
        self.raised.iter().filter(is_meant).count()
    }
}

impl Bench {
    fn heard(&mut self, baseline: &Baseline, windows: &[Vec<f32>]) -> Vec<Heard> {
        let bank = baseline.bank();
        let samples = self.samples(windows, 0.0).into_iter();
        let heard = samples.map(|sample| {
            let (_, distance) = bank.nearest(&sample.embedding).expect("a bank");
            Heard { distance, features: sample.features, level_dbfs: sample.level_dbfs }
        });
        heard.collect()
    }
}

/// Everything that the machine is heard in.
struct Sound {
    baseline: Baseline,
    day: Vec<Heard>,
    night: Vec<Heard>,
}

const BY_DAY_DB: f64 = 18.0;
/// What is around the machine gets 2.5 dB louder.
const BY_NIGHT_DB: f64 = 15.5;
const HEALTHY: FaultPlan = FaultPlan { fault: None, strength: 0.0, after_s: 0.0, grow_s: 0.0 };

/// Four recordings of each, of five minutes.
fn sound(bench: &mut Bench) -> Sound {
    let takes = |snr_db: f64, first: u64| -> Vec<_> {
        (first..first + 4).flat_map(|take| windows(snr_db, take, HEALTHY, 60)).collect()
    };
    let learned = bench.samples(&takes(BY_DAY_DB, 0), 0.0);
    let baseline = bench.baseline(&learned, 5.0);
    let (day, night) = (takes(BY_DAY_DB, 10), takes(BY_NIGHT_DB, 20));
    Sound { day: bench.heard(&baseline, &day), night: bench.heard(&baseline, &night), baseline }
}

impl Sound {
    /// Lets the machine run for some days.
    fn run(&self, machine: &mut Machine, days: usize) {
        let mut turn = machine.nights.len() * 37;
        for _ in 0..days {
            machine.day(|hour, _| {
                turn += 1;
                let heard = if NIGHT.contains(&hour) { &self.night } else { &self.day };
                &heard[turn % heard.len()]
            });
        }
    }
}

#[test]
#[ignore = "heavy: two fortnights"]
fn hours_that_get_louder_every_night_alarm_less_and_faults_in_them_are_found() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    let sound = sound(&mut bench);
    let (mut learned, mut adapted) = (Machine::new(&sound.baseline, false), Machine::new(&sound.baseline, true));
    sound.run(&mut learned, 14);
    sound.run(&mut adapted, 14);
    for (name, machine) in [("as learned", &learned), ("adapted", &adapted)] {
        let share = |(all, anomalous): &(usize, usize)| format!("{:.0}", 100.0 * *anomalous as f64 / *all as f64);
        println!(
            "{name}: {} % of the windows anomalous, night by night; {} false alarms in the first 4 nights, {} in the last 4; \
             by day {}",
            machine.nights.iter().map(share).collect::<Vec<_>>().join(" "),
            machine.at_night(AlarmKind::Fault, 0..4),
            machine.at_night(AlarmKind::Fault, 10..14),
            machine.raised.len() - machine.at_night(AlarmKind::Fault, 0..14),
        );
    }
    let hours = adapted.adaptation.as_ref().map(Adaptation::hours).unwrap_or_default();
    println!("{hours:?}");
    assert!(hours.len() == NIGHT.count() && hours.iter().all(|one| NIGHT.contains(&i64::from(one.hour))), "{hours:?}");
    assert!(hours.iter().all(|one| one.times <= WIDEST), "{hours:?}");
    assert_eq!(learned.at_night(AlarmKind::Fault, 0..3), adapted.at_night(AlarmKind::Fault, 0..3), "it comes slowly");
    assert!(adapted.at_night(AlarmKind::Fault, 0..14) <= learned.at_night(AlarmKind::Fault, 0..14));
    let late = |machine: &Machine| machine.nights[10..].iter().map(|(_, anomalous)| anomalous).sum::<usize>();
    assert!(late(&learned) >= 100 && 2 * late(&adapted) < late(&learned), "{} -> {}", late(&learned), late(&adapted));

    // At one in the morning.
    adapted.now += TimeDelta::hours(1);
    for fault in Kind::Fan.faults() {
        let faulty = bench.heard(&sound.baseline, &windows(BY_NIGHT_DB, 30, FaultPlan::now(fault, 0.6), 40));
        let anomalous = |machine: &Machine| {
            faulty.iter().filter(|heard| machine.assess(heard).verdict == Verdict::Anomalous).count()
        };
        let (was, is) = (anomalous(&learned), anomalous(&adapted));
        println!("{fault} of strength 0.6 at night: {was} of 40 windows anomalous as learned, {is} adapted");
        // Five of eight raise an alarm.
        assert!(is >= 30 || is + 4 >= was, "{fault}: {was} -> {is}");
    }
}

#[test]
#[ignore = "heavy: two fortnights"]
fn wear_that_grows_in_every_hour_is_told_as_if_nothing_had_been_let_in() {
    let Some(shared) = crate::common::shared() else { return };
    let mut bench = Bench::new(&shared.join("escoita-bundle"));
    let sound = sound(&mut bench);
    // A bearing that wears, a little more each day, over what gets louder every night.
    let mut worn = |snr_db: f64| -> Vec<Vec<Heard>> {
        let of = |strength: f64| windows(snr_db, 40, FaultPlan::now(Fault::Bearing, strength), 30);
        (1..=8).map(|day| bench.heard(&sound.baseline, &of(0.04 * f64::from(day)))).collect()
    };
    let (by_day, by_night) = (worn(BY_DAY_DB), worn(BY_NIGHT_DB));
    let told = |adapts: bool| {
        let mut machine = Machine::new(&sound.baseline, adapts);
        sound.run(&mut machine, 8);
        let widened = machine.adaptation.as_ref().map_or(0, |adaptation| adaptation.hours().len());
        let has_wear = |machine: &Machine| {
            let state = serde_json::to_value(machine.alarm.state()).expect("it can be written");
            state["standing"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one["kind"] == "wear"))
        };
        for (by_day, by_night) in by_day.iter().zip(&by_night) {
            for window in 0..24 * 3600 / HOP_S as usize {
                let hour = window as i64 * HOP_S / 3600;
                let heard = if NIGHT.contains(&hour) { by_night } else { by_day };
                machine.window(&heard[window % heard.len()]);
                if window % 10 == 0 && has_wear(&machine) {
                    let hours = machine.adaptation.as_ref().map(Adaptation::hours).unwrap_or_default();
                    return Some((machine.now, widened, hours));
                }
            }
        }
        None
    };
    let (learned, adapted) = (told(false).expect("wear"), told(true).expect("wear all the same"));
    println!("wear is told at {} as learned, at {} adapted: {:?}", learned.0, adapted.0, adapted.2);
    assert_eq!(adapted.1, NIGHT.count(), "the nights were let in before");
    assert_eq!(learned.0, adapted.0);
    assert!(adapted.2.iter().all(|one| NIGHT.contains(&i64::from(one.hour))), "{:?}", adapted.2);
}
