//! TLS of the page: certificate and key from PEM files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with the files; one line.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}", file.display())]
    Pem { file: PathBuf, source: pem::Error },
    #[error("{}", file.display())]
    Files { file: PathBuf, source: tokio_rustls::rustls::Error },
}

/// The certificate in use, and when its files were changed last.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    changed: (Option<SystemTime>, Option<SystemTime>),
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that is missing or holds nothing of its kind, a key that does not fit its certificate.
    pub fn open(cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let changed = (changed(cert), changed(key));
        Ok(Tls { cert: cert.to_owned(), key: key.to_owned(), changed, acceptor: load(cert, key)? })
    }

    /// The certificate for the next connection: renewed ones count; a broken one does not end the page.
    pub fn acceptor(&mut self) -> TlsAcceptor {
        let now = (changed(&self.cert), changed(&self.key));
        if now != self.changed {
            self.changed = now;
            match load(&self.cert, &self.key) {
                Ok(acceptor) => self.acceptor = acceptor,
                Err(error) => {
                    tracing::warn!("the page's new certificate is not used: {:#}", anyhow::Error::from(error));
                }
            }
        }
        self.acceptor.clone()
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|about| about.modified()).ok()
}

fn load(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let broken = |file: &Path| {
        let file = file.to_owned();
        move |source| TlsError::Pem { file, source }
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(broken(cert))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(broken(key))?;
    let unfit = |source| TlsError::Files { file: cert.to_owned(), source };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
