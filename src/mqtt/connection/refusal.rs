//! Why a broker of MQTT 5 does not take a message or a subscription.

use std::fmt;

use crate::causes::one_line;

/// What the broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The broker's own words, if it has any.
    pub words: Option<String>,
}

/// The reason codes, as far as they ask for different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NotAuthorized,
    QuotaExceeded,
    TooLarge,
    TopicInvalid,
    PayloadInvalid,
    /// The connection ends without a word.
    Unsaid,
    /// The code, where the protocol has no better word for it.
    Other(u8),
}

/// What a refused message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// It will never be taken: it is given up.
    GiveUp,
    /// Other messages to the same topic will not be taken either, until somebody changes something at the broker.
    HoldTopic,
    /// Nobody knows: it is tried again on the next connection.
    NextConnection,
}

impl Reason {
    pub fn remedy(self) -> Remedy {
        match self {
            Reason::TooLarge | Reason::TopicInvalid | Reason::PayloadInvalid => Remedy::GiveUp,
            Reason::NotAuthorized | Reason::QuotaExceeded | Reason::Unsaid => Remedy::HoldTopic,
            Reason::Other(_) => Remedy::NextConnection,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotAuthorized => f.write_str("not authorised: do its access rules allow it?"),
            Reason::QuotaExceeded => f.write_str("a quota of the broker is exceeded"),
            Reason::TooLarge => f.write_str("it is too large for this broker"),
            Reason::TopicInvalid => f.write_str("the broker does not take this topic"),
            Reason::PayloadInvalid => f.write_str("the broker does not take this payload"),
            Reason::Unsaid => f.write_str("the broker closes the connection without a word"),
            Reason::Other(code) => write!(f, "reason code 0x{code:02x}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        self.words.as_ref().map_or(Ok(()), |words| write!(f, " (the broker says: {words})"))
    }
}

/// What a broker says, as far as it fits into a line of the log.
pub fn printable(words: &str) -> String {
    one_line(words, 200)
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal { reason, words: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_words_are_one_short_line() {
        assert_eq!(printable("no\nWATCHDOG=trigger\u{1b}[0m"), "no WATCHDOG=trigger [0m");
        assert_eq!(printable(&"x".repeat(60_000)).len(), 200);
    }
}
