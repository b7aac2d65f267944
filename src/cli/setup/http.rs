//! Requests to the page on this computer, plain or behind TLS. What the page shows must then be the very certificate of
//! its configuration: names and authorities do not matter, this is the same computer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    StreamOwned,
};

/// An answer of the page's comes within this time.
const WITHIN: Duration = Duration::from_secs(10);
/// More than any answer that is read here.
const LONGEST_ANSWER: u64 = 256 << 10;

/// Where the page is, and how it is reached.
#[derive(Clone)]
pub struct Site {
    pub address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// Nobody answers there.
#[derive(Debug, thiserror::Error)]
#[error("nobody answers")]
pub struct Nobody(#[from] io::Error);

/// What the page answered.
pub struct Answer {
    pub status: u16,
    pub cookie: Option<String>,
    pub body: String,
}

impl Site {
    /// `cert_file` is that of the page, where it is behind TLS.
    ///
    /// # Errors
    /// A file that holds no certificate.
    pub fn new(address: SocketAddr, cert_file: Option<&Path>) -> anyhow::Result<Site> {
        let config = |file: &Path| {
            let expected = CertificateDer::from_pem_file(file)?;
            let provider = Arc::new(ring::default_provider());
            let verifier = Arc::new(VeryCertificate { expected, provider: provider.clone() });
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
            Ok::<_, anyhow::Error>(Arc::new(config))
        };
        let tls = cert_file.map(|file| config(file).with_context(|| format!("web.cert_file {}", file.display())));
        Ok(Site { address, tls: tls.transpose()? })
    }

    /// `http://127.0.0.1:8477`.
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where the stream is.
    pub fn stream_url(&self) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/stream", self.address)
    }

    /// # Errors
    /// [`Nobody`] where nobody listens; another certificate.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let tcp = TcpStream::connect_timeout(&self.address, WITHIN).map_err(Nobody)?;
        tcp.set_read_timeout(Some(WITHIN)).and_then(|()| tcp.set_write_timeout(Some(WITHIN)))?;
        let Some(config) = &self.tls else { return Ok(Connection::Plain(tcp)) };
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut stream = StreamOwned::new(ClientConnection::new(config.clone(), name)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).with_context(|| format!("{}: no TLS", self.origin()))?;
        }
        Ok(Connection::Tls(Box::new(stream)))
    }

    /// # Errors
    /// As of [`Site::connect`]; what is no answer of a web server.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.request("GET", path, "")
    }

    /// # Errors
    /// As of [`Site::get`].
    pub fn post(&self, path: &str, json: &str) -> anyhow::Result<Answer> {
        self.request("POST", path, json)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let mut connection = self.connect()?;
        let (address, origin, length) = (self.address, self.origin(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(head.as_bytes()).and_then(|()| connection.flush())?;
        let mut bytes = Vec::new();
        match connection.take(LONGEST_ANSWER).read_to_end(&mut bytes) {
            // A page that closes without the last word has said all.
            Err(error) if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return Err(error.into());
            }
            _ => {}
        }
        self.read(&String::from_utf8_lossy(&bytes))
    }

    fn read(&self, text: &str) -> anyhow::Result<Answer> {
        let no_answer = || match self.tls {
            None => anyhow!("{}: no answer; is the page behind TLS? Then --config has to name its file", self.origin()),
            Some(_) => anyhow!("{}: no answer", self.origin()),
        };
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(no_answer)?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let header =
            |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        if header("transfer-encoding").is_some() {
            bail!("{}: an answer in chunks, which no agent's page gives", self.origin());
        }
        let cookie =
            header("set-cookie").and_then(|cookie| cookie.split(';').next()).map(|text| text.trim().to_owned());
        Ok(Answer { status: status.ok_or_else(no_answer)?, cookie, body: body.to_owned() })
    }
}

/// An open connection.
pub enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// # Errors
    /// The system's.
    pub fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        let tcp = match self {
            Connection::Plain(tcp) => tcp,
            Connection::Tls(stream) => &stream.sock,
        };
        tcp.set_read_timeout(Some(limit))
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(tcp) => tcp.read(buffer),
            Connection::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(tcp) => tcp.write(bytes),
            Connection::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Plain(tcp) => tcp.flush(),
            Connection::Tls(stream) => stream.flush(),
        }
    }
}

/// Takes one certificate and no other.
#[derive(Debug)]
struct VeryCertificate {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for VeryCertificate {
    fn verify_server_cert(
        &self,
        found: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match *found == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
