//! Downloading an archive over http or https: from the hosts that the configuration names, redirects included, within
//! limits of size and time. Blocking: call it from its own thread.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::archive::ARCHIVE_LIMIT;
use super::config::BundleConfig;
use super::store::InstallError;

/// Longest time that a download may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Longest time until a server is connected, and until it says the next thing.
const PATIENCE: Duration = Duration::from_secs(20);
const REDIRECT_LIMIT: usize = 5;

/// Downloads `url` to a file in `dir` that is removed when it is dropped. Its sha256 is checked by whoever unpacks it.
///
/// # Errors
/// `Argument` for a URL that is not allowed, at any step; `Archive` for one that is too large; `Io` for what the network
/// or the server says.
pub fn download(
    url: &str,
    dir: &Path,
    config: &BundleConfig,
    time_limit: Duration,
) -> Result<NamedTempFile, InstallError> {
    let end = Instant::now() + time_limit;
    let roots = config.ca_file.as_deref().map(authorities).transpose()?;
    let mut uri = allowed(url, config)?;
    for _ in 0..=REDIRECT_LIMIT {
        let mut tls = TlsConfig::builder();
        if let Some(roots) = &roots {
            tls = tls.root_certs(RootCerts::new_with_certs(roots));
        }
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_global(Some(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))))
            .user_agent(concat!("auscult/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build()
            .new_agent();
        let failed = |error: ureq::Error| InstallError::io(format!("downloading {uri}"))(error.into_io());
        let response = agent.get(uri.clone()).call().map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| {
                InstallError::Argument(format!("url: expected a redirect to somewhere, found {status} of {uri}"))
            })?;
            let next = allowed(&absolute(&uri, location), config)?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(InstallError::Argument(format!(
                    "url: expected https all the way, found a redirect to {next}"
                )));
            }
            uri = next;
            continue;
        }
        if status != StatusCode::OK {
            return Err(InstallError::Argument(format!("url: expected the archive at {uri}, found {status}")));
        }
        return save(response, dir);
    }
    Err(InstallError::Argument(format!("url: expected at most {REDIRECT_LIMIT} redirects, found more, to {uri}")))
}

fn save(response: ureq::http::Response<ureq::Body>, dir: &Path) -> Result<NamedTempFile, InstallError> {
    let mut body = response.into_body();
    let too_large = |found: &str| {
        InstallError::Archive(format!("expected an archive of at most {ARCHIVE_LIMIT} bytes, found {found}"))
    };
    if let Some(length) = body.content_length().filter(|length| *length > ARCHIVE_LIMIT) {
        return Err(too_large(&length.to_string()));
    }
    let mut file = tempfile::Builder::new()
        .prefix(".staging-")
        .tempfile_in(dir)
        .map_err(InstallError::io(dir.display().to_string()))?;
    let mut reader = body.as_reader().take(ARCHIVE_LIMIT + 1);
    let written = io::copy(&mut reader, &mut file).map_err(InstallError::io("downloading the archive"))?;
    if written > ARCHIVE_LIMIT {
        return Err(too_large("more"));
    }
    file.flush().map_err(InstallError::io(dir.display().to_string()))?;
    Ok(file)
}

/// The URL, if its scheme and host are allowed.
fn allowed(url: &str, config: &BundleConfig) -> Result<Uri, InstallError> {
    let shown: String = url.chars().take(200).collect();
    let refuse = |problem: String| InstallError::Argument(format!("url: {problem}"));
    let uri: Uri = url.parse().map_err(|_| refuse(format!("expected http:// or https://, found {shown:?}")))?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(refuse(format!("expected http:// or https://, found {shown:?}"))),
    };
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if authority.contains('@') {
        return Err(refuse("expected no login in it, found one".into()));
    }
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let found_port = uri.port_u16().unwrap_or(port);
    let with_port = format!("{host}:{found_port}");
    let matches = |entry: &String| {
        let entry = entry.to_ascii_lowercase();
        entry == with_port || (entry == host && found_port == port)
    };
    if host.is_empty() || !config.allow_from.iter().any(matches) {
        let known = if config.allow_from.is_empty() { "none".to_owned() } else { config.allow_from.join(", ") };
        let host = if found_port == port { host } else { with_port };
        return Err(refuse(format!("expected a host of bundle.allow_from ({known}), found {host:?}")));
    }
    Ok(uri)
}

/// Where a redirect leads: absolute, from the root, or beside the page that it came from.
fn absolute(from: &Uri, location: &str) -> String {
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate<'static>>, InstallError> {
    let pem = fs::read(file).map_err(InstallError::io(format!("bundle.ca_file {}", file.display())))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let shown = file.display();
        return Err(InstallError::Argument(format!("bundle.ca_file {shown}: expected PEM certificates, found none")));
    }
    Ok(certificates)
}
