//! What every request must have and every answer gets: whose page asks, and what the browser may do with the answer.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Nothing from other hosts, nothing inline; pictures and sound that came over the stream are `blob:` and `data:`.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Adds what keeps browsers strict.
pub fn harden(headers: &mut HeaderMap) {
    let all = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The host that the browser believes to talk to, as it wrote it.
pub fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether the page that asks came from here. Browsers name the origin of every POST and every WebSocket.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let authority = origin.and_then(|origin| origin.strip_prefix("http://").or(origin.strip_prefix("https://")));
    match (authority, host(headers)) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Whether `host` names this computer's loopback or one of `others`: another site's name that was bent to this address
/// (DNS rebinding) does not.
pub fn is_loopback_host(host: &str, others: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        || others.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The password of HTTP's basic authentication, as Prometheus sends it; the name does not matter.
pub fn basic_password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, coded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(coded.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_this_page_is_of_the_same_origin() {
        for (origin, host, same) in [
            ("http://localhost:8477", "localhost:8477", true),
            ("https://pi-7.local", "pi-7.local", true),
            ("http://localhost:8478", "localhost:8477", false),
            ("http://evil.example", "localhost:8477", false),
            ("http://localhost:8477.evil.example", "localhost:8477", false),
            ("null", "localhost:8477", false),
            ("file://", "localhost:8477", false),
        ] {
            assert_eq!(is_same_origin(&headers(&[(header::ORIGIN, origin), (header::HOST, host)])), same, "{origin}");
        }
        assert!(!is_same_origin(&headers(&[(header::HOST, "localhost:8477")])));
        assert!(!is_same_origin(&HeaderMap::new()));
    }

    #[test]
    fn names_that_were_bent_to_loopback_are_known() {
        let others = ["page.plant.example".to_owned()];
        for (host, good) in [
            ("localhost:8477", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8477", true),
            ("127.1.2.3", true),
            ("[::1]:8477", true),
            ("page.plant.example:80", true),
            ("evil.example:8477", false),
            ("localhost.evil.example", false),
            ("10.0.0.1:8477", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(host, &others), good, "{host}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = headers(&[(header::COOKIE, "a=b; auscult_8477=token; c=d=e")]);
        assert_eq!(cookie(&headers, "auscult_8477"), Some("token"));
        assert_eq!((cookie(&headers, "c"), cookie(&headers, "auscult")), (Some("d=e"), None));
    }
}
