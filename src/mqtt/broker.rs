//! The broker that is in use: as configured, or as it was chosen on the agent's page, which may change it while the agent
//! runs. What was chosen lies in the state directory and is for this user's eyes only.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::address::BrokerUrls;
use super::config::{BrokerOrigin, MqttConfig};
use crate::secret::Secret;
use crate::state_files::{Lost, StateFiles};

const FILE: &str = "broker.json";

/// Where brokers are and how to log in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BrokerSettings {
    pub urls: BrokerUrls,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Read at each connection; its first line goes before `password`.
    pub password_file: Option<PathBuf>,
    pub origin: BrokerOrigin,
}

impl BrokerSettings {
    pub fn of(config: &MqttConfig) -> BrokerSettings {
        BrokerSettings {
            urls: config.url.clone(),
            username: config.username.clone(),
            password: config.password.clone(),
            password_file: config.password_file.clone(),
            origin: config.origin,
        }
    }

    /// These in place of those of `config`, whose certificates stay.
    pub fn lay_over(&self, config: &mut MqttConfig) {
        let BrokerSettings { urls, username, password, password_file, origin } = self.clone();
        (config.url, config.username, config.password) = (urls, username, password);
        (config.password_file, config.origin) = (password_file, origin);
    }
}

/// What is in use now, and the way to change it.
#[derive(Debug)]
pub struct BrokerLink {
    current: Mutex<BrokerSettings>,
    changes: mpsc::UnboundedSender<BrokerSettings>,
}

impl BrokerLink {
    /// Changes come out of the receiver.
    pub fn new(settings: BrokerSettings) -> (BrokerLink, mpsc::UnboundedReceiver<BrokerSettings>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (BrokerLink { current: Mutex::new(settings), changes }, receiver)
    }

    pub fn current(&self) -> BrokerSettings {
        self.current.lock().clone()
    }

    /// Uses another broker from now on; messages that the one before had not acknowledged go there.
    pub fn change(&self, settings: BrokerSettings) {
        *self.current.lock() = settings.clone();
        // Nobody listens any more while the agent stops.
        let _ = self.changes.send(settings);
    }
}

/// The file of [`save`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    url: BrokerUrls,
    username: Option<String>,
    password: Option<Secret>,
}

/// The broker that was chosen on the page; `None` where none was.
///
/// # Errors
/// A file that cannot be read, with its name.
pub fn saved(state_dir: &Path) -> Result<Option<BrokerSettings>, String> {
    // Whoever only looks at the configuration reads it too: a damaged file stays where it is.
    let files = StateFiles::read_only(state_dir);
    let Some(text) = files.read(FILE).map_err(|Lost(problem)| problem)? else { return Ok(None) };
    // serde's own words may quote what the file holds.
    let unfit =
        |_| format!("{}: expected what was chosen on the page, found something else", files.path(FILE).display());
    let Saved { url, username, password } = serde_json::from_str(&text).map_err(unfit)?;
    Ok(Some(BrokerSettings { urls: url, username, password, password_file: None, origin: BrokerOrigin::Page }))
}

/// Keeps what was chosen on the page, or drops it.
///
/// # Errors
/// The disk's; what was kept before is then unchanged.
pub fn save(state_dir: &Path, settings: Option<&BrokerSettings>) -> io::Result<()> {
    let files = StateFiles::new(state_dir);
    let Some(BrokerSettings { urls, username, password, .. }) = settings else { return files.remove(FILE) };
    let password = password.as_ref().map(Secret::expose);
    let content = json!({ "url": urls, "username": username, "password": password });
    files.write(FILE, &content.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_was_chosen_is_kept_for_this_user_alone_and_goes_before_the_defaults() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(saved(dir.path()), Ok(None));
        let chosen = BrokerSettings {
            urls: "mqtts://broker".parse().expect("an address"),
            username: Some("pi-7".into()),
            password: Some("s3cret".into()),
            password_file: None,
            origin: BrokerOrigin::Page,
        };
        save(dir.path(), Some(&chosen)).expect("written");
        let file = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(saved(dir.path()), Ok(Some(chosen.clone())));
        let text = std::fs::read_to_string(&file).expect("a file");
        std::fs::write(&file, text.replace("mqtts://broker", "mqtts://brokes")).expect("written");
        let problem = saved(dir.path()).expect_err("another host");
        assert!(problem.contains("broker.json") && problem.contains("check sum"), "{problem}");
        std::fs::write(&file, text).expect("written");
        let mut config = MqttConfig { ca_file: Some("ca.pem".into()), ..MqttConfig::default() };
        chosen.lay_over(&mut config);
        assert_eq!((config.url.to_string().as_str(), config.ca_file.is_some()), ("mqtts://broker:8883", true));
        assert_eq!(BrokerSettings::of(&config), chosen);
        save(dir.path(), None).expect("removed");
        assert_eq!(saved(dir.path()), Ok(None));
    }

    #[test]
    fn a_file_that_is_something_else_is_not_quoted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(FILE), r#"{"url": "s3cret", "password": 7"#).expect("written");
        let problem = saved(dir.path()).expect_err("no choice");
        assert!(problem.contains("broker.json") && !problem.contains("s3cret"), "{problem}");
    }
}
