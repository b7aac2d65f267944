//! What another baseline would have made of the alarms whose clips are there.

use super::{ClipKey, Clips, readable};
use crate::monitor::heard::HeardWindow;
use crate::scoring::alarm::{AlarmConfig, Kind};
use crate::scoring::baseline::Changes;
use crate::scoring::{Bank, Baseline, Judge, Verdict};

/// What decides over a machine's windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub judge: Judge,
    pub alarm: AlarmConfig,
}

/// Judges the windows of the machine's clips anew; `number` finds an alarm in the journal.
pub fn review(clips: &Clips, baseline: &Baseline, rules: &Rules, number: impl Fn(&ClipKey) -> Option<i64>) -> Changes {
    let mut changes = baseline.changes.clone().unwrap_or_default();
    let bank = baseline.bank();
    // What leads to `wear` takes days, and is not in a clip.
    let own = |key: &ClipKey| key.machine == baseline.machine && key.kind == Kind::Fault;
    for (key, clip) in clips.all().into_iter().filter(|(key, _)| own(key)) {
        let Some(number) = number(&key) else { continue };
        let fits = |origin: &crate::scoring::baseline::Origin| baseline.check_origin(origin).is_ok();
        let about = readable(clips.clip(&key)).and_then(|about| about.origin);
        let Some(windows) = about.filter(fits).and_then(|_| readable(clips.windows(&key))) else { continue };
        let Some(comes) = comes(&windows, baseline, &bank, rules) else { continue };
        let list = match (clip.fault.is_some(), comes) {
            (true, true) => &mut changes.found,
            (true, false) => &mut changes.missed,
            (false, true) => &mut changes.still,
            (false, false) => &mut changes.gone,
        };
        list.push(number);
    }
    changes
}

/// Whether the alarm would have come; `None` where its windows do not say.
fn comes(windows: &[HeardWindow], baseline: &Baseline, bank: &Bank, rules: &Rules) -> Option<bool> {
    let judged: Vec<(bool, bool)> = windows
        .iter()
        .filter(|window| window.verdict != Verdict::Unknown)
        .filter_map(|window| {
            let sample = window.sample.as_ref()?;
            let (_, distance) = bank.nearest(&sample.embedding)?;
            let lanes = baseline.lane_score(distance, &sample.features).filter(|_| rules.judge == Judge::Combined);
            let by_lanes = |lanes: crate::scoring::baseline::LaneScore| lanes.p_value < baseline.false_alarm_rate;
            let anomalous = lanes.map_or(distance > baseline.threshold, by_lanes);
            Some((window.verdict == Verdict::Anomalous && !window.lingering, anomalous))
        })
        .collect();
    // Where windows are long, not all that raised it are in the clip.
    let was = judged.iter().filter(|(was, _)| *was).count();
    let needed = rules.alarm.k.min(was);
    if needed == 0 {
        return None;
    }
    let enough = |part: &[(bool, bool)]| part.iter().filter(|(_, anomalous)| *anomalous).count() >= needed;
    let span = rules.alarm.n.min(judged.len());
    Some(judged.windows(span).any(enough))
}
