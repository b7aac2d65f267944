//! Webhook: JSON with all that is known, or what the template makes of it.

use serde_json::{Value, json};

use super::http;
use super::target::{SendError, url};
use crate::config::{NotifyConfig, template};
use crate::notify::item::{Item, Message};

pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    let body = match &target.template {
        Some(template) => {
            template::fill(template, target.is_json(), |name| value(name, message)).map_err(SendError::new)?
        }
        None => document(message).to_string(),
    };
    http::post(target, url(target)?, &target.content_type, body.as_bytes())
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

/// What a template's name stands for; `None` for one that it cannot have.
fn value(name: &str, message: &Message) -> Option<String> {
    // Of several: what they have in common, else nothing.
    let common = |of: &dyn Fn(&Item) -> String| {
        let mut values = message.items.iter().map(of);
        let first = values.next().unwrap_or_default();
        if values.all(|value| value == first) { first } else { String::new() }
    };
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    Some(match name {
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
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::item::Priority;

    #[test]
    fn every_name_has_a_value() {
        let message = Message {
            agent: "pi-1".into(),
            title: "a title".into(),
            text: "a text".into(),
            priority: Priority::High,
            url: None,
            items: Vec::new(),
        };
        for name in template::NAMES {
            assert!(value(name, &message).is_some(), "{name}");
        }
        assert_eq!(value("priority", &message).as_deref(), Some("high"));
        assert_eq!(value("nothing", &message), None);
    }
}
