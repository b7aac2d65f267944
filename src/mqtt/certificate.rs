//! What a certificate says of itself: the few fields that a person should know in time. Its signature is rustls' business.

use chrono::{DateTime, NaiveDateTime, Utc};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Until when a certificate (DER) is valid; `None` where it cannot be read.
pub fn valid_until(der: &[u8]) -> Option<DateTime<Utc>> {
    let (certificate, _) = read(der, SEQUENCE)?;
    let (mut fields, _) = read(certificate, SEQUENCE)?;
    if let Some((_, rest)) = read(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature's algorithm, issuer.
    for _ in 0..3 {
        fields = take(fields)?.2;
    }
    let (validity, _) = read(fields, SEQUENCE)?;
    let (_, _, not_after) = take(validity)?;
    let (tag, text, _) = take(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// RFC 5280: both forms in seconds and UTC; two digits of a year are of 1950 to 2049.
fn time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let text = match tag {
        UTC_TIME => {
            let year: u16 = text.get(..2)?.parse().ok()?;
            format!("{}{text}", if year < 50 { "20" } else { "19" })
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc())
}

/// The content of the first element, which must have this tag, and what follows it.
fn read(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = take(der)?;
    (tag == expected).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn take(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // So many bytes of length follow; more than four no certificate has.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let expected = |text: &str| Some(text.parse::<DateTime<Utc>>().expect("a time"));
        assert_eq!(time(UTC_TIME, "290302173936Z"), expected("2029-03-02T17:39:36Z"));
        assert_eq!(time(UTC_TIME, "991231235959Z"), expected("1999-12-31T23:59:59Z"));
        assert_eq!(time(GENERALIZED_TIME, "20631231235959Z"), expected("2063-12-31T23:59:59Z"));
        assert_eq!(time(GENERALIZED_TIME, "2063"), None);
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_is_refused() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x85, 1, 2, 3, 4, 5],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 3, 0x30, 1, 0],
        ] {
            assert_eq!(valid_until(der), None, "{der:?}");
        }
    }
}
