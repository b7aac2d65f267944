//! Versions of MQTT: what is configured, what is tried, and what a broker has shown that it speaks.

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::address::BrokerUrl;

/// A version of the protocol, by the number that goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V4,
    /// 5.0
    V5,
}

impl Version {
    /// Its number on the wire, as `mqtt.version` and `health` have it.
    pub fn number(self) -> u8 {
        match self {
            Version::V4 => 4,
            Version::V5 => 5,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V4 => "MQTT 3.1.1",
            Version::V5 => "MQTT 5",
        })
    }
}

/// `mqtt.version`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawVersion", into = "RawVersion")]
pub enum VersionSetting {
    /// 5 where the broker speaks it, or else 3.1.1.
    #[default]
    Auto,
    Only(Version),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\", 5 or 4")]
enum RawVersion {
    Number(i64),
    Text(String),
}

impl TryFrom<RawVersion> for VersionSetting {
    type Error = String;

    fn try_from(raw: RawVersion) -> Result<Self, String> {
        // Environment variables are text.
        let text = match raw {
            RawVersion::Number(number) => number.to_string(),
            RawVersion::Text(text) => text,
        };
        match text.as_str() {
            "auto" => Ok(VersionSetting::Auto),
            "5" => Ok(VersionSetting::Only(Version::V5)),
            "4" => Ok(VersionSetting::Only(Version::V4)),
            _ => Err(format!("expected \"auto\", 5 or 4 (which is MQTT 3.1.1), found {text:?}")),
        }
    }
}

impl From<VersionSetting> for RawVersion {
    fn from(setting: VersionSetting) -> Self {
        match setting {
            VersionSetting::Auto => RawVersion::Text("auto".into()),
            VersionSetting::Only(version) => RawVersion::Number(version.number().into()),
        }
    }
}

/// The best version that each broker has accepted since this process began.
static ACCEPTED: Mutex<Option<HashMap<BrokerUrl, Version>>> = Mutex::new(None);

impl VersionSetting {
    /// What an attempt to connect begins with.
    pub fn first(self, url: &BrokerUrl) -> Version {
        match self {
            VersionSetting::Only(version) => version,
            VersionSetting::Auto => {
                let accepted = ACCEPTED.lock();
                accepted.as_ref().and_then(|accepted| accepted.get(url).copied()).unwrap_or(Version::V5)
            }
        }
    }

    /// Whether a broker has accepted any version since this process began.
    pub fn is_known(self, url: &BrokerUrl) -> bool {
        ACCEPTED.lock().as_ref().is_some_and(|accepted| accepted.contains_key(url))
    }

    /// What is tried at once where the broker did not take the first.
    pub fn second(self, tried: Version) -> Option<Version> {
        (self == VersionSetting::Auto && tried == Version::V5).then_some(Version::V4)
    }

    /// Remembers what a broker has accepted. One that has ever spoken 5 is asked for it first ever after: that it once closed a
    /// connection at the wrong moment says nothing of it.
    pub fn accepted(self, url: &BrokerUrl, version: Version) {
        if self != VersionSetting::Auto {
            return;
        }
        let mut accepted = ACCEPTED.lock();
        let accepted = accepted.get_or_insert_default();
        match version {
            Version::V5 => drop(accepted.insert(url.clone(), version)),
            Version::V4 => drop(accepted.entry(url.clone()).or_insert(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_a_number_or_a_word() {
        for (json, setting) in [
            ("\"auto\"", VersionSetting::Auto),
            ("5", VersionSetting::Only(Version::V5)),
            ("\"5\"", VersionSetting::Only(Version::V5)),
            ("4", VersionSetting::Only(Version::V4)),
        ] {
            assert_eq!(serde_json::from_str::<VersionSetting>(json).expect(json), setting);
        }
        let error = serde_json::from_str::<VersionSetting>("3").expect_err("no such version").to_string();
        assert!(error.contains("\"auto\", 5 or 4"), "{error}");
        let error = serde_json::from_str::<VersionSetting>("true").expect_err("no version").to_string();
        assert!(error.contains("\"auto\", 5 or 4"), "{error}");
    }

    #[test]
    fn a_broker_is_asked_first_for_the_best_that_it_has_accepted() {
        let url: BrokerUrl = "mqtt://versions.test".parse().expect("a URL");
        let auto = VersionSetting::Auto;
        assert_eq!(auto.first(&url), Version::V5);
        assert_eq!(auto.second(Version::V5), Some(Version::V4));
        assert_eq!(auto.second(Version::V4), None);
        assert!(!auto.is_known(&url));
        auto.accepted(&url, Version::V4);
        assert!(auto.is_known(&url));
        assert_eq!(auto.first(&url), Version::V4);
        auto.accepted(&url, Version::V5);
        auto.accepted(&url, Version::V4);
        assert_eq!(auto.first(&url), Version::V5);
        let only = VersionSetting::Only(Version::V4);
        assert_eq!((only.first(&url), only.second(Version::V4)), (Version::V4, None));
        assert_eq!(VersionSetting::Only(Version::V5).second(Version::V5), None);
    }
}
