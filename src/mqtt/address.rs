//! Where brokers are: `mqtt://host:1883`, `mqtts://host:8883`, `mqtt://[::1]:1883`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    pub tls: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            |what: &str| format!("expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], found {text:?}: {what}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| expected("no scheme"))?;
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            other => return Err(expected(&format!("scheme {other:?}"))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("a login in a broker's URL: expected username and password_file, found '@'".into());
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| expected("no ]"))?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| expected("no IPv6 address between [ and ]"))?;
                if !port.is_empty() && !port.starts_with(':') {
                    return Err(expected("no : after ]"));
                }
                (host, port.strip_prefix(':'))
            }
            None if rest.matches(':').count() > 1 => return Err(expected("an IPv6 address needs [ ]")),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() || host.contains(['/', '?', '#']) || host.chars().any(char::is_whitespace) {
            return Err(expected(&format!("host {host:?}")));
        }
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(expected(&format!("port {port:?}"))),
            },
        };
        Ok(BrokerUrl { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// What stands for an agent without a broker.
const NONE: &str = "none";

/// One broker or several that are tried in turn: a string, or a list of strings; or `"none"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawUrls", into = "RawUrls")]
pub struct BrokerUrls(Vec<BrokerUrl>);

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a URL or a list of URLs")]
enum RawUrls {
    One(String),
    Many(Vec<String>),
}

impl BrokerUrls {
    /// None where the agent has no broker.
    pub fn all(&self) -> &[BrokerUrl] {
        &self.0
    }
}

impl From<BrokerUrl> for BrokerUrls {
    fn from(url: BrokerUrl) -> Self {
        BrokerUrls(vec![url])
    }
}

impl Default for BrokerUrls {
    fn default() -> Self {
        BrokerUrls(vec![BrokerUrl { tls: false, host: "localhost".into(), port: 1883 }])
    }
}

impl FromStr for BrokerUrls {
    type Err = String;

    /// Several are separated by commas, as in an environment variable.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(BrokerUrls(Vec::new()));
        }
        Ok(BrokerUrls(text.split(',').map(|url| url.trim().parse()).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(NONE);
        }
        let urls: Vec<_> = self.0.iter().map(BrokerUrl::to_string).collect();
        f.write_str(&urls.join(", "))
    }
}

impl TryFrom<RawUrls> for BrokerUrls {
    type Error = String;

    fn try_from(raw: RawUrls) -> Result<Self, String> {
        match raw {
            RawUrls::One(text) => text.parse(),
            RawUrls::Many(texts) if texts.is_empty() => Err("expected at least one broker, found none".into()),
            RawUrls::Many(texts) => Ok(BrokerUrls(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)),
        }
    }
}

impl From<BrokerUrls> for RawUrls {
    fn from(urls: BrokerUrls) -> Self {
        match urls.0.as_slice() {
            [] => RawUrls::One(NONE.into()),
            [one] => RawUrls::One(one.to_string()),
            many => RawUrls::Many(many.iter().map(BrokerUrl::to_string).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, tls, host, port, shown) in [
            ("mqtt://broker", false, "broker", 1883, "mqtt://broker:1883"),
            ("mqtts://broker", true, "broker", 8883, "mqtts://broker:8883"),
            ("mqtt://10.0.0.1:11883/", false, "10.0.0.1", 11883, "mqtt://10.0.0.1:11883"),
            ("mqtts://[fe80::1]", true, "fe80::1", 8883, "mqtts://[fe80::1]:8883"),
            ("mqtt://[::1]:1884", false, "::1", 1884, "mqtt://[::1]:1884"),
        ] {
            let url: BrokerUrl = text.parse().expect(text);
            assert_eq!(url, BrokerUrl { tls, host: host.into(), port });
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_broker_is_refused_with_a_reason() {
        for (text, words) in [
            ("broker:1883", "no scheme"),
            ("http://broker", "scheme \"http\""),
            ("mqtt://", "host \"\""),
            ("mqtt://broker:0", "port \"0\""),
            ("mqtt://broker:99999", "port \"99999\""),
            ("mqtt://::1", "IPv6 address needs [ ]"),
            ("mqtt://[broker]", "no IPv6 address"),
            ("mqtt://[::1", "no ]"),
            ("mqtt://[::1]1883", "no : after ]"),
            ("mqtt://user:secret@broker", "password_file"),
            ("mqtt://broker/path", "host \"broker/path\""),
        ] {
            let error = text.parse::<BrokerUrl>().expect_err(text);
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn one_or_several() {
        let one: BrokerUrls = serde_json::from_str(r#""mqtt://a""#).expect("one");
        assert_eq!(one.all().len(), 1);
        let two: BrokerUrls = serde_json::from_str(r#"["mqtt://a", "mqtts://b"]"#).expect("two");
        assert_eq!(two, "mqtt://a, mqtts://b".parse().expect("two"));
        let written = serde_json::to_string(&two).expect("written");
        assert_eq!(serde_json::from_str::<BrokerUrls>(&written).expect("read again"), two);
        assert!(serde_json::from_str::<BrokerUrls>("[]").is_err());
        let none: BrokerUrls = serde_json::from_str("\"none\"").expect("no broker");
        assert!(none.all().is_empty());
        assert_eq!(serde_json::to_string(&none).expect("written"), "\"none\"");
    }
}
