//! ntfy: a message as JSON to the server's root, as its documentation has it ("Publish as JSON").

use serde_json::json;
use ureq::http::Uri;

use super::http;
use super::target::{SendError, url};
use crate::config::NotifyConfig;
use crate::notify::item::{Message, Priority};

pub fn send(target: &NotifyConfig, message: &Message) -> Result<(), SendError> {
    let address = url(target)?;
    let topic = address.path().trim_matches('/').to_owned();
    let (scheme, authority) = (address.scheme_str().unwrap_or("https"), address.authority());
    let root = format!("{scheme}://{}/", authority.map_or("", |authority| authority.as_str()));
    let root: Uri = root.parse().map_err(|_| SendError::new("url: expected a server's name"))?;
    let (priority, tag) = match message.priority {
        Priority::Low => (2, "white_check_mark"),
        Priority::Normal => (3, "warning"),
        Priority::High => (4, "warning"),
        Priority::Urgent => (5, "rotating_light"),
    };
    let tags: &[&str] = if message.items.is_empty() { &[] } else { &[tag] };
    let mut body = json!({
        "topic": topic, "title": message.title, "message": message.text, "priority": priority, "tags": tags,
    });
    if let Some(url) = &message.url {
        body["click"] = json!(url);
    }
    http::post(target, root, "application/json", body.to_string().as_bytes())
}
