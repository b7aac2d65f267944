//! The replies to `log.get` and `config.get`: the lines themselves, which a person reads and a file takes.

use serde_json::Value;

use super::table;
use crate::mqtt::payload::Reply;

/// The lines of those who have answered with some; `None` where anybody has answered something else.
pub fn of(replies: &[Reply]) -> Option<String> {
    Some(table::of_all(replies, |reply| lines_of(reply, replies.len() > 1))?.join("\n"))
}

/// What is not of the agent itself is a comment, so that a configuration stays one.
fn lines_of(reply: &Reply, is_one_of_several: bool) -> Option<String> {
    let (data, agent) = (reply.data.as_ref()?, &reply.agent);
    if let Some(toml) = data.get("toml").and_then(Value::as_str) {
        let broker_from = data["broker_from"].as_str().unwrap_or_default();
        return Some(format!("# {agent}, as it is set now; its broker comes from: {broker_from}\n\n{toml}"));
    }
    let lines = data.get("lines")?.as_array()?.iter().filter_map(Value::as_str);
    let head = if is_one_of_several { format!("# {agent}\n") } else { String::new() };
    Some(head + &lines.map(|line| format!("{line}\n")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctl::table::reply;
    use serde_json::json;

    #[test]
    fn a_configuration_is_toml_and_a_log_is_its_lines() {
        let config = reply("config.get", &json!({ "toml": "[agent]\nid = \"pi-7\"\n", "broker_from": "file" }));
        let text = of(std::slice::from_ref(&config)).expect("lines");
        assert!(text.starts_with("# pi-7, as it is set now; its broker comes from: file\n\n[agent]\nid"), "{text}");
        assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
        let log = reply("log.get", &json!({ "lines": ["INFO one", "WARN two"] }));
        assert_eq!(of(std::slice::from_ref(&log)).as_deref(), Some("INFO one\nWARN two\n"));
        let both = of(&[log.clone(), log]).expect("lines");
        assert_eq!(both, "# pi-7\nINFO one\nWARN two\n\n# pi-7\nINFO one\nWARN two\n");
        assert_eq!(of(&[config, reply("ping", &json!({ "version": "1" }))]), None);
    }
}
