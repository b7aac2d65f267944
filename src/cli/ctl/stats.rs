//! The reply to `alarm.stats` in words, within 80 columns.

use serde_json::Value;

use super::table;
use crate::cli::terminal;
use crate::mqtt::payload::Reply;
use crate::numbers::{self, counted, significant};

/// The figures of those who have answered with some; `None` where anybody has answered something else.
pub fn of(replies: &[Reply], width: usize) -> Option<String> {
    Some(table::of_all(replies, |reply| words_of(reply, width))?.concat())
}

fn words_of(reply: &Reply, width: usize) -> Option<String> {
    let data = reply.data.as_ref()?;
    data.get("acknowledged_share")?;
    let count = |name: &str| data[name].as_u64().unwrap_or_default();
    let per_day = data["per_day"].as_f64().filter(|_| count("alarms") > 0);
    let days = data["days"].as_f64().unwrap_or_default().round().max(1.0);
    let span = if days < 2.0 { "day".to_owned() } else { counted(days, "day") };
    let mut text = format!("{}, the last {span}: {}", reply.agent, counted(count("alarms"), "alarm"));
    text += &per_day.map_or("\n".into(), |per_day| format!(", {} a day\n", significant(per_day, 2)));
    let mut line = |name: &str, parts: Vec<String>| {
        if !parts.is_empty() {
            text += &terminal::hang(&format!("  {name:<12}  "), &parts.join(", "), Some(width));
        }
    };
    let kinds = data["kinds"].as_object().into_iter().flatten();
    line("kinds", kinds.map(|(kind, count)| format!("{count} {kind}")).collect());
    if count("standing") > 0 {
        let stale = count("stale");
        let stale = (stale > 0).then(|| format!("of them {stale} for more than a day"));
        line("stand now", std::iter::once(count("standing").to_string()).chain(stale).collect());
    }
    let share = |name: &str| data[name].as_f64().map(|share| format!(" ({:.0} %)", 100.0 * share)).unwrap_or_default();
    let after = |name: &str, what: &str| {
        data[name].as_f64().map(|seconds| format!("{what} within {}", numbers::span(seconds.round() as i64)))
    };
    if count("alarms") > 0 {
        let acknowledged = format!("{}{}", count("acknowledged"), share("acknowledged_share"));
        let waits = [after("acknowledge_median_s", "half of them"), after("acknowledge_p90_s", "9 in 10")];
        line("acknowledged", std::iter::once(acknowledged).chain(waits.into_iter().flatten()).collect());
        let of = |name: &str, what: &str| Some(count(name)).filter(|n| *n > 0).map(|n| counted(n, what));
        let normal = Some(count("normal")).filter(|n| *n > 0).map(|n| format!("{n} normal"));
        let answers = [of("faults", "fault"), normal, of("disturbances", "disturbance")].into_iter().flatten();
        line("answered", std::iter::once(count("answered").to_string()).chain(answers).collect());
    }
    let machines = data["machines"].as_array().into_iter().flatten();
    let of_machine = |one: &Value| Some(format!("{} {}", one["machine"].as_str()?, one["alarms"].as_u64()?));
    line("machines", machines.filter_map(of_machine).collect());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctl::table::reply;
    use serde_json::json;

    #[test]
    fn the_figures_are_words_within_eighty_columns() {
        let machines: Vec<_> = (0..10).map(|n| json!({ "machine": format!("ventilator-{n}"), "alarms": 9 })).collect();
        let stats = json!({
            "days": 29.97, "alarms": 12, "per_day": 0.4004, "kinds": { "deaf": 2, "fault": 10 }, "standing": 2, "stale": 1,
            "acknowledged": 9, "acknowledged_share": 0.75, "acknowledge_median_s": 240.0, "acknowledge_p90_s": 7300.0,
            "answered": 3, "faults": 1, "normal": 0, "disturbances": 2, "fault_share": 0.33, "machines": machines,
        });
        let text = of(&[reply("alarm.stats", &stats)], 80).expect("words");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for words in [
            "pi-7, the last 30 days: 12 alarms, 0.4 a day\n",
            "2 deaf, 10 fault\n",
            "2, of them 1 for more than a day\n",
            "9 (75 %), half of them within 4 min, 9 in 10 within 2 h\n",
            "3, 1 fault, 2 disturbances\n",
            "ventilator-9 9\n",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let none = json!({ "days": 1.0, "alarms": 0, "per_day": 0.0, "kinds": {}, "acknowledged_share": null });
        assert_eq!(of(&[reply("alarm.stats", &none)], 80).as_deref(), Some("pi-7, the last day: 0 alarms\n"));
        assert_eq!(of(&[reply("ping", &json!({ "version": "1" }))], 80), None);
    }
}
