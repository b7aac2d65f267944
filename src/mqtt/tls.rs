//! TLS from PEM files: whom to trust, and who we are. The files are read at each connection, so renewed ones count.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::config::MqttConfig;

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

/// One line that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// Reads the files.
///
/// # Errors
/// A file that is missing or holds nothing of its kind, a key that does not fit its certificate.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| fault(path, error))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                return Err(TlsError("the system has no certificate authorities: set mqtt.ca_file".into()));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default versions")
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| TlsError(format!("{} with the key {}: {error}", cert.display(), key.display())))?
        }
        (Some(_), None) => return Err(TlsError("mqtt.cert_file is set but mqtt.key_file is not".into())),
        (None, Some(_)) => return Err(TlsError("mqtt.key_file is set but mqtt.cert_file is not".into())),
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| fault(path, error))? {
        none if none.is_empty() => {
            Err(TlsError(format!("{}: expected a certificate as PEM, found none", path.display())))
        }
        found => Ok(found),
    }
}

fn fault(path: &Path, error: impl std::fmt::Display) -> TlsError {
    TlsError(format!("{}: {error}", path.display()))
}
