//! The layers of the configuration: a TOML file, and the environment's variables on top.

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::describe;
use crate::mqtt::config::{BROKER_KEYS, BrokerOrigin};

/// Reads `file`, where there is one, under the environment; and where the broker comes from.
///
/// # Errors
/// The first thing that is wrong, with file or variable and key.
pub(super) fn read<T: DeserializeOwned>(file: Option<&Path>) -> Result<(T, BrokerOrigin), String> {
    let variables: HashMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok())).collect();
    layers(file, &variables).map_err(|error| in_words::<T>(file, &variables, &error))
}

/// The file with the environment's `variables` laid over it.
fn layers<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: &HashMap<String, String>,
) -> Result<(T, BrokerOrigin), LayerError> {
    let mut layers = config::Config::builder();
    if let Some(file) = file {
        if file.is_dir() {
            return Err(LayerError::File("expected a file, found a directory"));
        }
        if !file.is_file() {
            return Err(LayerError::File("no such file"));
        }
        layers = layers.add_source(config::File::from(file).format(config::FileFormat::Toml));
    }
    let environment = config::Environment::with_prefix("AUSCULT").prefix_separator("__").separator("__");
    let layers = layers.add_source(environment.source(Some(variables.clone())));
    let layers = layers.build().map_err(LayerError::Content)?;
    let names_broker = BROKER_KEYS.iter().any(|key| layers.get::<config::Value>(&format!("mqtt.{key}")).is_ok());
    let origin = if names_broker { BrokerOrigin::File } else { BrokerOrigin::Default };
    Ok((layers.try_deserialize().map_err(LayerError::Content)?, origin))
}

/// The environment's variables that would be keys of `T` with double underscores, each with what was meant.
pub(super) fn misspelt_variables<T: DeserializeOwned>() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut found: Vec<String> = names.filter_map(|name| misspelt::<T>(&name)).collect();
    found.sort();
    found
}

fn misspelt<T: DeserializeOwned>(name: &str) -> Option<String> {
    let (section, key) = name.strip_prefix("AUSCULT_")?.split_once('_').filter(|(section, _)| !section.is_empty())?;
    let meant = format!("AUSCULT__{section}__{key}");
    let known = match layers::<T>(None, &HashMap::from([(meant.clone(), String::new())])) {
        Err(LayerError::Content(error)) => !error.to_string().contains("unknown field"),
        _ => true,
    };
    known.then(|| format!("{name} is not read: did you mean {meant}?"))
}

/// Why the layers are no configuration.
#[derive(Debug)]
enum LayerError {
    File(&'static str),
    Content(config::ConfigError),
}

/// The error in one line that begins with where the mistake stands: the variable, where the file alone is good, else the
/// file.
fn in_words<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: &HashMap<String, String>,
    error: &LayerError,
) -> String {
    let name = file.map_or("the environment".into(), |file| file.display().to_string());
    let error = match error {
        LayerError::File(problem) => return format!("{name}: {problem}"),
        LayerError::Content(error) => error,
    };
    let culprit = || {
        layers::<T>(file, &HashMap::new()).ok()?;
        let mut ours: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with("AUSCULT__")).collect();
        ours.sort();
        ours.into_iter().find_map(|(name, value)| {
            match layers::<T>(file, &HashMap::from([(name.clone(), value.clone())])) {
                Err(LayerError::Content(error)) => Some((name, error)),
                _ => None,
            }
        })
    };
    match culprit() {
        Some((variable, error)) => describe(variable, &error.to_string()),
        None => describe(&name, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_variable_with_single_underscores_is_told() {
        let meant = |name| misspelt::<Config>(name).and_then(|line| line.split("mean ").nth(1).map(str::to_owned));
        assert_eq!(meant("AUSCULT_MQTT_URL").as_deref(), Some("AUSCULT__MQTT__URL?"));
        assert_eq!(meant("AUSCULT_AGENT_STATE_DIR").as_deref(), Some("AUSCULT__AGENT__STATE_DIR?"));
        for other in ["AUSCULT__MQTT__URL", "AUSCULT_HOME_DIR", "AUSCULT_DEBUG", "AUSCULT_MQTT_COLOUR", "MQTT_URL"] {
            assert_eq!(meant(other), None, "{other}");
        }
    }

    #[test]
    fn a_mistake_in_the_environment_names_the_variable() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "").expect("a writable file");
        let problem_of = |file: &Path, name: &str, value: &str| {
            let variables = HashMap::from([(name.to_owned(), value.to_owned()), ("HOME".into(), "/".into())]);
            let error = layers::<Config>(Some(file), &variables).expect_err("a mistake");
            in_words::<Config>(Some(file), &variables, &error)
        };
        let wrong_type = problem_of(&file, "AUSCULT__MQTT__KEEP_ALIVE_S", "often");
        assert!(wrong_type.starts_with("AUSCULT__MQTT__KEEP_ALIVE_S: "), "{wrong_type}");
        assert!(!wrong_type.contains("agent.toml"), "{wrong_type}");
        let unknown = problem_of(&file, "AUSCULT__MQTT__URLL", "mqtt://broker");
        assert!(unknown.starts_with("AUSCULT__MQTT__URLL: ") && unknown.contains("did you mean `url`?"), "{unknown}");
        // Where the file is wrong already, the file is named.
        std::fs::write(&file, "[mqtt]\nurll = \"x\"\n").expect("a writable file");
        let of_file = problem_of(&file, "AUSCULT__MQTT__ROOT", "plant");
        assert!(of_file.contains("agent.toml"), "{of_file}");
    }
}
