//! `[web]`: the page.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::validate::words;

/// The page: where it answers, and who may use it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Address and port, or `"none"`; default `127.0.0.1:8477`. An address that other computers reach needs a password:
    /// until there is one, the page takes only the set-up code of the log.
    pub listen: Listen,
    /// File whose first line is the operators' password or its argon2 hash; default: the password that was set on the
    /// page, if any.
    pub password_file: Option<PathBuf>,
    /// The same for viewers, who see everything and command nothing; default: none.
    pub viewer_password_file: Option<PathBuf>,
    /// PEM file of the page's certificate; default: none, plain HTTP.
    pub cert_file: Option<PathBuf>,
    /// PEM file of that certificate's key; default: none.
    pub key_file: Option<PathBuf>,
    /// Names that the page is reached by, besides `localhost`, where it has no password; default: none.
    #[serde(deserialize_with = "words")]
    pub hosts: Vec<String>,
    /// Where people reach the page, such as `http://pi-7.local:8477`; notifications link to it. Default: none.
    pub url: Option<String>,
}

impl WebConfig {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    pub fn check(&self) -> Result<(), String> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("web: expected cert_file and key_file together, found one of them".into());
        }
        if let Some(url) = &self.url
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            return Err(format!("web.url: expected http:// or https://, found {url:?}"));
        }
        Ok(())
    }
}

/// Where the page answers: an address and port, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen(pub Option<SocketAddr>);

impl Default for Listen {
    fn default() -> Self {
        Listen(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8477))))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Listen(None));
        }
        let address = text.parse().map_err(|_| format!("expected ADDRESS:PORT or \"none\", found {text:?}"))?;
        Ok(Listen(Some(address)))
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("none"),
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> String {
        listen.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_there_is_none() {
        for (text, address) in [("127.0.0.1:80", true), ("[::]:8477", true), ("none", false)] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!((listen.0.is_some(), listen.to_string().as_str()), (address, text));
        }
        for text in ["", "8477", "localhost:8477", "127.0.0.1", "off"] {
            assert!(text.parse::<Listen>().is_err_and(|error| error.contains("ADDRESS:PORT")), "{text}");
        }
    }
}
