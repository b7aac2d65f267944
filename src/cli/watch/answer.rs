//! What somebody types to say what an alarm was: `fault bearing`, `normal`, `disturbance`, each with `: comment` behind it.

use serde_json::{Value, json};

/// The arguments of `alarm.confirm` but for the alarm.
///
/// # Errors
/// What was expected.
pub fn read(text: &str) -> Result<Value, String> {
    let (said, comment) = text.split_once(':').unwrap_or((text, ""));
    let (outcome, name) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
    let mut answer = match (outcome, name.trim()) {
        ("fault" | "f", name) if !name.is_empty() => json!({ "outcome": "fault", "name": name }),
        ("normal" | "n", "") => json!({ "outcome": "normal" }),
        ("disturbance" | "d", "") => json!({ "outcome": "disturbance" }),
        _ => return Err(format!("expected `fault NAME`, `normal` or `disturbance`, found {text:?}")),
    };
    if !comment.trim().is_empty() {
        answer["comment"] = comment.trim().into();
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_word_with_what_belongs_to_it() {
        let bearing = json!({ "outcome": "fault", "name": "inner ring", "comment": "spalled" });
        assert_eq!(read("fault inner ring: spalled"), Ok(bearing));
        assert_eq!(read(" n "), Ok(json!({ "outcome": "normal" })));
        assert_eq!(read("disturbance: hammer"), Ok(json!({ "outcome": "disturbance", "comment": "hammer" })));
        for text in ["", "fault", "normal bearing", "yes"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
