//! Numbers for people: as many digits as mean something, and counts before their nouns.

use std::fmt::Display;

/// Largest count of windows or revisions that is taken from outside: one more a second for a lifetime does not overflow what they are kept in.
pub const LARGEST_COUNT: u64 = 1 << 31;

/// Four significant digits, without trailing zeros: `0.3142`, `12.5`, `1530`, `1.234e-5`.
pub fn short(value: f64) -> String {
    significant(value, 4)
}

/// `digits` significant digits, without trailing zeros.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if magnitude < -4 {
        return format!("{value:.*e}", (digits - 1).max(0) as usize);
    }
    let places = digits - 1 - magnitude;
    let text = format!("{value:.*}", places.clamp(0, 17) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A count before its noun: `1 window`, `12 windows`, `2 hashes`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = match noun {
        _ if count == N::from(1) => "",
        noun if noun.ends_with(['s', 'x']) || noun.ends_with("sh") || noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// A time in one unit: `95 s`, `12 min`, `7 h`, `3 d`.
pub fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..100 => format!("{s} s"),
        s @ 100..6000 => format!("{} min", s / 60),
        s @ 6000..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_say_enough() {
        for (value, text) in [
            (0.314_159_265_358_979_3, "0.3142"),
            (0.3, "0.3"),
            (12.504, "12.5"),
            (1530.4, "1530"),
            (99_999.7, "100000"),
            (0.000_012_345_6, "1.235e-5"),
            (-31.54, "-31.54"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(significant(3.7e-16, 2), "3.7e-16");
    }

    #[test]
    fn one_is_singular_and_all_else_plural() {
        assert_eq!(counted(1u64, "window"), "1 window");
        assert_eq!(counted(0usize, "window"), "0 windows");
        assert_eq!(counted(12i64, "anomalous window"), "12 anomalous windows");
        assert_eq!((counted(1u32, "hash"), counted(2u32, "hash")), ("1 hash".into(), "2 hashes".into()));
        assert_eq!((counted(1.0, "minute"), counted(0.5, "minute")), ("1 minute".into(), "0.5 minutes".into()));
    }
}
