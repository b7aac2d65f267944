//! How the tools of the command line reach the broker: flags, over a configuration file, over the environment.

use std::future::Future;
use std::path::PathBuf;

use super::Failure;
use crate::config::{Config, MqttConfig};
use crate::mqtt::address::BrokerUrls;

/// The broker, and how to log in; as the agent's own, from its configuration file or from these flags
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BrokerArgs {
    /// Broker: mqtt://HOST[:PORT] or mqtts://HOST[:PORT]; default: the configuration's, else mqtt://localhost:1883
    #[arg(long, value_name = "URL", global = true, help_heading = "Broker")]
    broker: Option<String>,
    /// Configuration file whose [mqtt] table says how to reach the broker; the flags override it
    #[arg(long, value_name = "FILE", global = true, help_heading = "Broker")]
    config: Option<PathBuf>,
    /// First part of every topic; default: auscult
    #[arg(long, value_name = "TOPIC", global = true, help_heading = "Broker")]
    root: Option<String>,
    /// Login name
    #[arg(long, value_name = "NAME", global = true, help_heading = "Broker")]
    username: Option<String>,
    /// File whose first line is the password (or set AUSCULT__MQTT__PASSWORD)
    #[arg(long, value_name = "FILE", global = true, help_heading = "Broker")]
    password_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the broker's certificate; default: the system's
    #[arg(long, value_name = "FILE", global = true, help_heading = "Broker")]
    ca_file: Option<PathBuf>,
    /// PEM file of a client certificate
    #[arg(long, value_name = "FILE", global = true, help_heading = "Broker")]
    cert_file: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", global = true, help_heading = "Broker")]
    key_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// The resulting settings.
    ///
    /// # Errors
    /// Bad configuration, with file and key.
    pub fn mqtt(&self) -> Result<MqttConfig, Failure> {
        let mut mqtt = Config::load_mqtt(self.config.as_deref()).map_err(Failure::config)?;
        let lay = |flag: &Option<PathBuf>, over: &mut Option<PathBuf>| {
            if flag.is_some() {
                over.clone_from(flag);
            }
        };
        lay(&self.password_file, &mut mqtt.password_file);
        lay(&self.ca_file, &mut mqtt.ca_file);
        lay(&self.cert_file, &mut mqtt.cert_file);
        lay(&self.key_file, &mut mqtt.key_file);
        // Parsed here, since the parser of the command line would repeat a wrong one with its password.
        if let Some(url) = &self.broker {
            mqtt.url =
                url.parse::<BrokerUrls>().map_err(|error| Failure::usage(anyhow::anyhow!("--broker: {error}")))?;
        }
        if let Some(root) = &self.root {
            mqtt.root.clone_from(root);
        }
        if let Some(username) = &self.username {
            mqtt.username = Some(username.clone());
        }
        // A wrong flag is wrong usage; the file was checked when it was read.
        mqtt.check().map_err(|problem| Failure::usage(anyhow::Error::msg(problem)))?;
        Ok(mqtt)
    }
}

/// Whose commands these are, for the record: as the flag says, else the user who is logged in, by whatever name the
/// system knows. Never a name of ours: an alarm that `watch` acknowledged was acknowledged by nobody.
pub fn who(flag: Option<String>) -> String {
    who_by(flag, |name| std::env::var(name).ok())
}

fn who_by(flag: Option<String>, environment: impl Fn(&str) -> Option<String>) -> String {
    let named = |name: &str| environment(name).filter(|name| !name.trim().is_empty());
    flag.or_else(|| ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(named)).unwrap_or_else(account)
}

/// The name of the account that runs this process, or its number where it has none.
fn account() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(process) = std::fs::metadata("/proc/self") else { return "somebody".to_owned() };
    let id = process.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut fields = accounts.lines().map(|line| line.split(':'));
    let name = fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1) == Some(id.as_str())).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {id}"))
}

/// Runs a tool's conversation with the broker to its end.
///
/// # Errors
/// The conversation's own.
pub fn converse<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(conversation)
}

#[cfg(test)]
mod tests {
    use super::who_by;

    #[test]
    fn commands_have_a_name_also_where_no_user_is_in_the_environment() {
        assert_eq!(who_by(Some("bob".into()), |_| Some("ana".into())), "bob");
        assert_eq!(who_by(None, |name| (name == "USER").then(|| "ana".into())), "ana");
        let nobody = who_by(None, |_| Some(" ".into()));
        assert!(!nobody.trim().is_empty() && nobody != "watch", "{nobody:?}");
    }
}
