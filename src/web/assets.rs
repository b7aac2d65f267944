//! The page's files, inside the program: compressed once, known by what they hold.

use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use crate::sha256::check_sum;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode, header};

/// A file of `src/web/assets/`.
struct Asset {
    name: &'static str,
    content: &'static [u8],
}

/// Each file that is served, by its path below `src/web/assets/`.
macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(Asset { name: $name, content: include_bytes!(concat!("assets/", $name)) }),*]
    };
}

static ASSETS: &[Asset] = assets![
    "app.js",
    "base.css",
    "icon.svg",
    "index.html",
    "lib/commands.js",
    "lib/download.js",
    "lib/first-start.js",
    "lib/format.js",
    "lib/history.js",
    "lib/journal.js",
    "lib/look.js",
    "lib/past.js",
    "lib/route.js",
    "lib/sha256.js",
    "lib/store.js",
    "lib/stream.js",
    "lib/track.js",
    "lib/upload.js",
    "lib/who.js",
    "screens.css",
    "screens/agents.js",
    "screens/alarm.js",
    "screens/alarm/answers.js",
    "screens/alarm/curves.js",
    "screens/alarms.js",
    "screens/bundles.js",
    "screens/history.js",
    "screens/inside.js",
    "screens/keeping.js",
    "screens/login.js",
    "screens/machine.js",
    "screens/machine/learning.js",
    "screens/machine/over.js",
    "screens/machine/settings-form.js",
    "screens/machine/settings.js",
    "screens/machine/threshold.js",
    "screens/machine/windows.js",
    "screens/machines.js",
    "screens/setup-links.js",
    "screens/setup.js",
    "theme.js",
    "ui/acts.js",
    "ui/chart.js",
    "ui/html.js",
    "ui/icons.js",
    "ui/list.js",
    "ui/listen.js",
    "ui/notes.js",
    "ui/paint.js",
    "ui/parts.js",
    "ui/spark.js",
    "vendor/htm-preact.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
];

struct Served {
    name: &'static str,
    plain: Bytes,
    gzip: Bytes,
    tag: String,
}

static SERVED: LazyLock<Vec<Served>> = LazyLock::new(|| {
    let served = ASSETS.iter().map(|asset| Served {
        name: asset.name,
        plain: Bytes::from_static(asset.content),
        gzip: gzip(asset.content),
        tag: tag(asset.content),
    });
    served.collect()
});

/// Writing to memory cannot fail; an empty result would only be served uncompressed.
fn gzip(content: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

fn tag(content: &[u8]) -> String {
    format!("\"{}\"", check_sum(content))
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

/// Answers with a file; `from` is a directory to read it from instead, to work on it. Only names of the table are
/// looked up, so no path leads elsewhere.
pub fn serve(name: &str, request: &HeaderMap, from: Option<&Path>) -> Response<Body> {
    let Some(served) = SERVED.iter().find(|served| served.name == name) else {
        return answer(StatusCode::NOT_FOUND, Body::empty());
    };
    if let Some(dir) = from {
        return match std::fs::read(dir.join(served.name)) {
            Ok(content) => typed(served.name, answer(StatusCode::OK, content.into()), "no-store"),
            Err(_) => answer(StatusCode::NOT_FOUND, Body::empty()),
        };
    }
    let text = |name| request.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == served.tag);
    let packed = text(header::ACCEPT_ENCODING).split(',').any(|coding| {
        let mut parts = coding.split(';');
        parts.next().is_some_and(|name| name.trim() == "gzip") && parts.all(|part| part.trim() != "q=0")
    });
    let packed = packed && !served.gzip.is_empty() && served.gzip.len() < served.plain.len();
    let mut response = match (is_known, packed) {
        (true, _) => answer(StatusCode::NOT_MODIFIED, Body::empty()),
        (false, true) => answer(StatusCode::OK, served.gzip.clone().into()),
        (false, false) => answer(StatusCode::OK, served.plain.clone().into()),
    };
    let headers = response.headers_mut();
    if packed && !is_known {
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = served.tag.parse() {
        headers.insert(header::ETAG, tag);
    }
    typed(served.name, response, "no-cache")
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn typed(name: &str, mut response: Response<Body>, cache: &'static str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type(name)));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(cache));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_directory_is_served() {
        fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.push(path.strip_prefix(root).expect("below it").to_string_lossy().into_owned());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/assets");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.retain(|name| !name.ends_with(".md"));
        found.sort();
        let mut listed: Vec<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        listed.sort();
        assert_eq!(found, listed, "src/web/assets.rs lists the files of src/web/assets/");
    }

    #[test]
    fn a_file_is_compressed_and_sent_once() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, "br, gzip".parse().expect("a value"));
        let response = serve("index.html", &headers, None);
        let tag = response.headers()[header::ETAG].clone();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        headers.insert(header::IF_NONE_MATCH, tag);
        assert_eq!(serve("index.html", &headers, None).status(), StatusCode::NOT_MODIFIED);
        headers.insert(header::ACCEPT_ENCODING, "gzip;q=0".parse().expect("a value"));
        headers.remove(header::IF_NONE_MATCH);
        assert!(!serve("index.html", &headers, None).headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn the_page_stays_light() {
        let bytes: usize = SERVED.iter().map(|served| served.gzip.len().min(served.plain.len())).sum();
        assert!(bytes < 150_000, "{bytes} bytes compressed");
    }
}
