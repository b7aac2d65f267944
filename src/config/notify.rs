//! `[[notify]]`: who is told of an alarm, of what, and when.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::NaiveTime;
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator as _;

use super::template;
use crate::secret::Secret;
use crate::validate::{check_range, one_of};

/// Targets that one agent can have: each has a thread of its own.
const TARGETS: usize = 16;
/// Addresses that one e-mail can go to.
const ADDRESSES: usize = 50;
const TEMPLATE_BYTES: usize = 8 * 1024;

/// One place where people are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// What the log, `notify.test` and the page call it; default: its kind.
    #[serde(default)]
    pub name: Option<String>,
    /// `"ntfy"`, `"webhook"` or `"email"`.
    #[serde(deserialize_with = "one_of")]
    pub kind: TargetKind,
    /// ntfy: `https://SERVER/TOPIC`; webhook: any `https://` or `http://`; e-mail: `smtps://HOST` (TLS from the start) or
    /// `smtp://HOST` (STARTTLS). Whoever knows a topic or a webhook may use it, so that it counts as a secret.
    #[serde(default)]
    pub url: Option<Secret>,
    /// File whose first line is the URL; default: none.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Login name; default: none.
    #[serde(default)]
    pub username: Option<String>,
    /// File whose first line is the password; default: none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// ntfy, webhook: file whose first line is an access token, sent as `Authorization: Bearer`; default: none.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the server's certificate; default: the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// E-mail: the sender's address.
    #[serde(default)]
    pub from: Option<String>,
    /// E-mail: the addresses that it goes to.
    #[serde(default)]
    pub to: Vec<String>,
    /// Webhook: what is sent, with `{{title}}`, `{{text}}` and others in place of values; default: JSON with all of them.
    #[serde(default)]
    pub template: Option<String>,
    /// Webhook: what the template makes; in JSON the values are escaped. Default `application/json`.
    #[serde(default = "default_content_type")]
    pub content_type: String,
    /// What is told: `fault`, `wear`, `deaf`, `no_broker`, `cleared`, `restarted`; default: all but the last.
    #[serde(default = "default_events")]
    pub events: Vec<NotifyEvent>,
    /// Machines that it is told of; default: all.
    #[serde(default)]
    pub machines: Vec<String>,
    /// From when until when nothing is told, local time: `"22:00-06:00"`. What still stands at its end is told then.
    /// Default: never.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// Events that are told in quiet hours too, with the highest priority at all times; default: none.
    #[serde(default)]
    pub urgent: Vec<NotifyEvent>,
    /// Minutes after which an alarm that nobody has acknowledged is told again; 0: never. Default 0.
    #[serde(default)]
    pub repeat_min: f64,
    /// Messages an hour in the long run; what comes faster waits and goes in one message. Default 12.
    #[serde(default = "default_max_per_hour")]
    pub max_per_hour: f64,
    /// Minutes that the broker has to be away before it is told; default 10.
    #[serde(default = "default_no_broker_after_min")]
    pub no_broker_after_min: f64,
}

fn default_content_type() -> String {
    "application/json".into()
}

fn default_events() -> Vec<NotifyEvent> {
    NotifyEvent::iter().filter(|event| *event != NotifyEvent::Restarted).collect()
}

fn default_max_per_hour() -> f64 {
    12.0
}

fn default_no_broker_after_min() -> f64 {
    10.0
}

/// How a target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum TargetKind {
    Ntfy,
    Webhook,
    Email,
}

/// What can be told.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::EnumIter, strum::Display,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum NotifyEvent {
    /// An alarm of this kind is active.
    Fault,
    Wear,
    Deaf,
    /// The agent has had no broker for `no_broker_after_min`.
    NoBroker,
    /// What was told is over.
    Cleared,
    /// The agent runs again after it had ended without being stopped.
    Restarted,
}

impl NotifyConfig {
    /// What it is called where it has no name of its own.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.kind.to_string())
    }

    pub fn wants(&self, event: NotifyEvent) -> bool {
        self.events.contains(&event)
    }

    /// Whether it is told of `machine`.
    pub fn covers(&self, machine: &str) -> bool {
        self.machines.is_empty() || self.machines.iter().any(|id| id == machine)
    }

    /// Whether its template makes JSON.
    pub fn is_json(&self) -> bool {
        self.content_type.contains("json")
    }

    /// Checks what the types cannot express; `key` is where it stands.
    ///
    /// # Errors
    /// The first value that is wrong, with its key; no secret is in it.
    pub fn check(&self, key: &str) -> Result<(), String> {
        let name = self.name();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(format!("{key}.name: expected 1 to 64 characters, found {name:?}"));
        }
        if self.url.is_some() == self.url_file.is_some() {
            return Err(format!(
                "{key}: expected url or url_file, found {}",
                if self.url.is_some() { "both" } else { "neither" }
            ));
        }
        if let Some(url) = &self.url {
            check_url(self.kind, url.expose()).map_err(|problem| format!("{key}.url: {problem}"))?;
        }
        if self.password_file.is_some() != self.username.is_some() {
            return Err(format!("{key}: expected username and password_file together, found one of them"));
        }
        self.check_kind(key)?;
        if self.events.is_empty() {
            return Err(format!("{key}.events: expected at least one, found none"));
        }
        if let Some(event) = self.urgent.iter().find(|event| !self.wants(**event)) {
            return Err(format!("{key}.urgent: expected some of its events, found {event}"));
        }
        check_range(&format!("{key}.repeat_min"), self.repeat_min, 0.0, 100_000.0)?;
        check_range(&format!("{key}.max_per_hour"), self.max_per_hour, 1.0, 3600.0)?;
        check_range(&format!("{key}.no_broker_after_min"), self.no_broker_after_min, 0.0, 100_000.0)
    }

    /// What is needed for one kind only, and belongs to it only.
    fn check_kind(&self, key: &str) -> Result<(), String> {
        let email = self.kind == TargetKind::Email;
        if email != self.from.is_some() || email == self.to.is_empty() || self.to.len() > ADDRESSES {
            let expected =
                if email { "from, and 1 to 50 addresses in to" } else { "from and to with kind = \"email\" only" };
            return Err(format!("{key}: expected {expected}"));
        }
        if email && self.token_file.is_some() {
            return Err(format!("{key}.token_file: expected username and password_file for e-mail"));
        }
        if self.token_file.is_some() && self.username.is_some() {
            return Err(format!("{key}: expected token_file or username, found both"));
        }
        let Some(template) = &self.template else { return Ok(()) };
        if self.kind != TargetKind::Webhook {
            return Err(format!("{key}.template: expected with kind = \"webhook\" only"));
        }
        if template.len() > TEMPLATE_BYTES {
            return Err(format!("{key}.template: expected at most {TEMPLATE_BYTES} bytes, found {}", template.len()));
        }
        template::check(template, self.is_json()).map_err(|problem| format!("{key}.template: {problem}"))
    }
}

/// Checks all targets.
///
/// # Errors
/// The first value that is wrong, with its key.
pub(super) fn check(targets: &[NotifyConfig]) -> Result<(), String> {
    if targets.len() > TARGETS {
        return Err(format!("notify: expected at most {TARGETS} targets, found {}", targets.len()));
    }
    for (number, target) in targets.iter().enumerate() {
        let key = format!("notify[{number}]");
        target.check(&key)?;
        if targets[..number].iter().any(|earlier| earlier.name() == target.name()) {
            return Err(format!("{key}.name: {:?} is used twice", target.name()));
        }
    }
    Ok(())
}

/// Whether a target of this kind can have this URL. What is wrong is said without the URL, which may be a secret.
///
/// # Errors
/// What is expected.
pub fn check_url(kind: TargetKind, url: &str) -> Result<(), String> {
    let expected = match kind {
        TargetKind::Ntfy => "https://SERVER/TOPIC",
        TargetKind::Webhook => "a URL that begins with https:// or http://",
        TargetKind::Email => "smtps://HOST[:PORT] or smtp://HOST[:PORT]",
    };
    let uri: ureq::http::Uri = url.parse().map_err(|_| format!("expected {expected}, found something else"))?;
    let schemes: &[&str] = if kind == TargetKind::Email { &["smtps", "smtp"] } else { &["https", "http"] };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("expected username and password_file for a login, found it in the URL".into());
    }
    let path = uri.path().trim_matches('/');
    let valid = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
        && uri.host().is_some_and(|host| !host.is_empty())
        && match kind {
            TargetKind::Ntfy => !path.is_empty() && !path.contains('/') && uri.query().is_none(),
            TargetKind::Webhook => true,
            TargetKind::Email => path.is_empty() && uri.query().is_none(),
        };
    if valid { Ok(()) } else { Err(format!("expected {expected}, found something else")) }
}

/// A part of the day, local time. It may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    from: NaiveTime,
    until: NaiveTime,
}

impl QuietHours {
    pub fn contains(&self, time: NaiveTime) -> bool {
        if self.from <= self.until {
            (self.from..self.until).contains(&time)
        } else {
            time >= self.from || time < self.until
        }
    }
}

impl FromStr for QuietHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |part: &str| NaiveTime::parse_from_str(part.trim(), "%H:%M").ok();
        let ends = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
        match ends {
            Some((from, until)) if from != until => Ok(QuietHours { from, until }),
            _ => Err(format!("expected HH:MM-HH:MM, found {text:?}")),
        }
    }
}

impl TryFrom<String> for QuietHours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.format("%H:%M"), self.until.format("%H:%M"))
    }
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> String {
        hours.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NotifyConfig, String> {
        let config: NotifyConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check("notify[0]").map(|()| config)
    }

    #[test]
    fn a_target_needs_what_its_kind_needs() {
        let config = read("kind = \"ntfy\"\nurl = \"https://ntfy.sh/secret-topic\"").expect("a target");
        assert_eq!((config.name(), config.max_per_hour, config.events.len()), ("ntfy".into(), 12.0, 5));
        let shown = format!("{config:?} {}", serde_json::to_string(&config).expect("serializable"));
        assert!(!shown.contains("secret-topic"), "{shown}");
        read("kind = \"webhook\"\nurl_file = \"/run/url\"\ntemplate = '{\"a\":\"{{text}}\"}'").expect("a target");
        read("kind = \"email\"\nurl = \"smtp://localhost:25\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]").expect("a target");
        for (text, problem) in [
            ("kind = \"ntfy\"", "url or url_file"),
            ("kind = \"sms\"\nurl = \"https://a/b\"", "unknown variant `sms`"),
            ("kind = \"ntfy\"\nurl = \"https://ntfy.sh/\"", "https://SERVER/TOPIC"),
            ("kind = \"ntfy\"\nurl = \"ftp://ntfy.sh/secret\"", "https://SERVER/TOPIC"),
            ("kind = \"ntfy\"\nurl = \"https://ann:secret@ntfy.sh/a\"", "password_file"),
            ("kind = \"webhook\"\nurl = \"https://a/b\"\nusername = \"ann\"", "together"),
            ("kind = \"email\"\nurl = \"smtp://a\"\nfrom = \"a@b.c\"", "addresses in to"),
            ("kind = \"ntfy\"\nurl = \"https://a/b\"\ntemplate = \"x\"", "webhook"),
            ("kind = \"ntfy\"\nurl = \"https://a/b\"\nquiet_hours = \"22-6\"", "HH:MM-HH:MM"),
            ("kind = \"ntfy\"\nurl = \"https://a/b\"\nurgent = [\"restarted\"]", "some of its events"),
            ("kind = \"ntfy\"\nurl = \"https://a/b\"\nmax_per_hour = 0", "1 to 3600"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(problem) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn quiet_hours_go_over_midnight() {
        let at = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").expect("a time");
        let night: QuietHours = "22:00-06:00".parse().expect("hours");
        let noon: QuietHours = "12:00-13:30".parse().expect("hours");
        let told = |hours: QuietHours, times: [&str; 4]| times.map(|time| hours.contains(at(time)));
        assert_eq!(told(night, ["21:59", "22:00", "05:59", "06:00"]), [false, true, true, false]);
        assert_eq!(told(noon, ["11:59", "12:00", "13:29", "13:30"]), [false, true, true, false]);
        assert_eq!(night.to_string(), "22:00-06:00");
        assert!("06:00-06:00".parse::<QuietHours>().is_err() && "night".parse::<QuietHours>().is_err());
    }
}
