//! A webhook's template: `{{name}}` stands for a value.

use serde_json::Value;

/// What a template can name.
pub const NAMES: [&str; 11] =
    ["title", "text", "agent", "priority", "url", "machine", "name", "event", "kind", "since", "why"];

/// Puts values in place of `{{name}}`. In JSON they are escaped for use inside a string.
///
/// # Errors
/// A name that has no value; one that does not end.
pub fn fill(template: &str, json: bool, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled += before;
        let (name, after) = after.split_once("}}").ok_or("expected }} after {{, found none")?;
        let name = name.trim();
        let value =
            value(name).ok_or_else(|| format!("expected one of {} in {{{{ }}}}, found {name:?}", NAMES.join(", ")))?;
        if json {
            let quoted = Value::from(value).to_string();
            filled += &quoted[1..quoted.len() - 1];
        } else {
            filled += &value;
        }
        rest = after;
    }
    Ok(filled + rest)
}

/// Whether it can be filled, and makes JSON where it is to.
///
/// # Errors
/// What was expected.
pub fn check(template: &str, json: bool) -> Result<(), String> {
    let filled = fill(template, json, |name| NAMES.contains(&name).then(|| "two\n\"lines\"".to_owned()))?;
    if json && let Err(error) = serde_json::from_str::<Value>(&filled) {
        return Err(format!("expected JSON once it is filled: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_escaped() {
        let value = |name: &str| match name {
            "title" => Some("a \"title\"".to_owned()),
            "text" => Some("two\nlines {{agent}}".to_owned()),
            _ => None,
        };
        let filled = fill("{\"text\":\"{{title}}: {{ text }}\"}", true, value).expect("filled");
        let read: Value = serde_json::from_str(&filled).expect("JSON");
        assert_eq!(read["text"], "a \"title\": two\nlines {{agent}}", "what was filled in is not filled again");
        assert_eq!(fill("{{title}}{", false, value), Ok("a \"title\"{".into()));
        assert!(fill("{{nothing}}", true, value).expect_err("unknown").contains("found \"nothing\""));
        assert!(fill("{{title", true, value).is_err());
    }

    #[test]
    fn what_makes_no_json_is_told_before_it_is_sent() {
        assert_eq!(check("{\"a\": \"{{title}}\", \"b\": \"{{why}}\"}", true), Ok(()));
        assert!(check("{\"a\": {{title}}}", true).expect_err("no quotes").contains("expected JSON"));
        assert_eq!(check("{\"a\": {{title}}}", false), Ok(()));
        assert!(check("{{titel}}", false).is_err());
    }
}
