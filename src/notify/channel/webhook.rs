//! Webhook: JSON with all that is known, or what the template makes of it.

use serde_json::{Value, json};

use super::http;
use super::target::{SendError, url};
use crate::config::NotifyConfig;
use crate::notify::item::{Item, Message, Priority};

pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    let body = match &target.template {
        Some(template) => fill(template, message, is_json(target)).map_err(SendError::new)?,
        None => document(message).to_string(),
    };
    http::post(target, url(target)?, &target.content_type, body.as_bytes())
}

/// Whether the template can be filled, and makes JSON where it says so.
pub fn check(target: &NotifyConfig) -> Result<(), SendError> {
    let Some(template) = &target.template else { return Ok(()) };
    let sample = Message {
        agent: "pi-1".into(),
        title: "a \"title\"".into(),
        text: "two\nlines".into(),
        priority: Priority::Normal,
        url: None,
        items: Vec::new(),
    };
    let filled = fill(template, &sample, is_json(target)).map_err(SendError::new)?;
    if is_json(target)
        && let Err(error) = serde_json::from_str::<Value>(&filled)
    {
        return Err(SendError::new(format!("template: expected JSON once it is filled: {error}")));
    }
    Ok(())
}

fn is_json(target: &NotifyConfig) -> bool {
    target.content_type.contains("json")
}

fn document(message: &Message) -> Value {
    json!({
        "schema": 1,
        "agent": message.agent,
        "title": message.title,
        "text": message.text,
        "priority": message.priority,
        "url": message.url,
        "events": message.items,
    })
}

/// Puts values in place of `{{name}}`. In JSON they are escaped for use inside a string.
fn fill(template: &str, message: &Message, json: bool) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len() + message.text.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled += before;
        let (name, after) = after.split_once("}}").ok_or("template: expected }} after {{, found none")?;
        let value = value(name.trim(), message)?;
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

fn value(name: &str, message: &Message) -> Result<String, String> {
    // Of several: what they have in common, else nothing.
    let common = |of: &dyn Fn(&Item) -> String| {
        let mut values = message.items.iter().map(of);
        let first = values.next().unwrap_or_default();
        if values.all(|value| value == first) { first } else { String::new() }
    };
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    Ok(match name {
        "title" => message.title.clone(),
        "text" => message.text.clone(),
        "agent" => message.agent.clone(),
        "priority" => message.priority.to_string(),
        "url" => message.url.clone().unwrap_or_default(),
        "machine" => common(&|item| item.machine.clone().unwrap_or_default()),
        "name" => common(&|item| item.name.clone()),
        "event" => common(&|item| word(json!(item.event))),
        "kind" => common(&|item| item.kind.to_string()),
        "since" => common(&|item| item.since.to_string()),
        "why" => common(&|item| item.why.to_string()),
        _ => {
            let known = "title, text, agent, priority, url, machine, name, event, kind, since, why";
            return Err(format!("template: expected one of {known} in {{{{ }}}}, found {name:?}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_escaped() {
        let message = Message {
            agent: "pi-1".into(),
            title: "a \"title\"".into(),
            text: "two\nlines {{agent}}".into(),
            priority: Priority::High,
            url: None,
            items: Vec::new(),
        };
        let filled = fill("{\"text\":\"{{title}}: {{ text }}\"}", &message, true).expect("filled");
        let read: Value = serde_json::from_str(&filled).expect("JSON");
        assert_eq!(read["text"], "a \"title\": two\nlines {{agent}}", "what was filled in is not filled again");
        assert_eq!(fill("{{priority}}/{{url}}{", &message, false), Ok("high/{".into()));
        assert!(fill("{{nothing}}", &message, true).expect_err("unknown").contains("found \"nothing\""));
        assert!(fill("{{title", &message, true).is_err());
    }
}
