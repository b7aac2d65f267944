//! TLS from PEM files: whom to trust, and who we are. The files are read at each connection, so renewed ones take effect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::certificate;
use super::config::MqttConfig;
use crate::numbers::counted;

/// Paths as of `[mqtt]` in the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsFiles {
    /// Authorities that may sign the broker's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// This agent's certificate and those between it and its authority, for mTLS.
    pub cert: Option<PathBuf>,
    /// That certificate's key.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    pub fn from_config(mqtt: &MqttConfig) -> Self {
        TlsFiles { ca: mqtt.ca_file.clone(), cert: mqtt.cert_file.clone(), key: mqtt.key_file.clone() }
    }
}

/// What is wrong with the files; every variant names them, its cause says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{}: expected a certificate as PEM, found none", .0.display())]
    NoCertificate(PathBuf),
    #[error("{}", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("{}: the key in {} belongs to another certificate", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("{} with the key {}", cert.display(), key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the system has no certificate authorities: set mqtt.ca_file")]
    NoAuthorities,
    #[error("mqtt.cert_file is set but mqtt.key_file is not")]
    NoKeyFile,
    #[error("mqtt.key_file is set but mqtt.cert_file is not")]
    NoCertFile,
    #[error("TLS cannot be set up")]
    Versions(#[source] rustls::Error),
}

/// Reads the files.
///
/// # Errors
/// A file that is missing or contains nothing of its kind, a key that does not fit its certificate.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(authorities(files.ca.as_deref())?);
    let config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem { path: key.clone(), source })?;
            builder.with_client_auth_cert(chain, private).map_err(|source| {
                let (cert, key) = (cert.clone(), key.clone());
                match source {
                    rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert, key },
                    source => TlsError::Pair { cert, key, source },
                }
            })?
        }
        (Some(_), None) => return Err(TlsError::NoKeyFile),
        (None, Some(_)) => return Err(TlsError::NoCertFile),
    };
    Ok(Arc::new(config))
}

/// The authorities of a file, or the system's.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

/// People should know so long before a certificate ends.
pub const WARN_DAYS: i64 = 30;

/// The certificate among the agent's own files that ends first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    pub path: PathBuf,
    pub until: DateTime<Utc>,
}

impl Ending {
    /// Of the agent's certificate and of the authority's; files that cannot be read are told of elsewhere.
    pub fn first(files: &TlsFiles) -> Option<Ending> {
        let paths = files.cert.iter().chain(&files.ca);
        let endings = paths.filter_map(|path| {
            let until = certificates(path).ok()?.iter().filter_map(|der| certificate::valid_until(der)).min()?;
            Some(Ending { path: path.clone(), until })
        });
        endings.min_by_key(|ending| ending.until)
    }

    /// For a person, where it is time: it ends within [`WARN_DAYS`], or has ended.
    pub fn warning(&self, now: DateTime<Utc>) -> Option<String> {
        let (path, until) = (self.path.display(), self.until.to_rfc3339_opts(SecondsFormat::Secs, true));
        let left = self.until - now;
        match left.num_days() {
            _ if left < chrono::TimeDelta::zero() => {
                Some(format!("{path}: the certificate has expired: it was valid until {until}"))
            }
            0 => Some(format!("{path}: the certificate expires within a day, at {until}")),
            days if days < WARN_DAYS => {
                Some(format!("{path}: the certificate expires in {}, at {until}", counted(days, "day")))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_said_thirty_days_before() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a time");
        let warning = |days: i64| {
            let until = now + chrono::TimeDelta::days(days);
            Ending { path: "pi-7.pem".into(), until }.warning(now)
        };
        assert_eq!(warning(30), None);
        assert_eq!(
            warning(29).as_deref(),
            Some("pi-7.pem: the certificate expires in 29 days, at 2026-03-30T12:00:00Z")
        );
        assert!(warning(0).is_some_and(|words| words.contains("within a day")));
        assert!(warning(-1).is_some_and(|words| words.contains("has expired")));
    }
}
