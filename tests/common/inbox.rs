//! Servers that people are told through: HTTP and SMTP on this computer, each takes what it is sent or refuses it.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::program::done;

/// One request that was taken.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A web server that answers everything alike; ends with the test's process.
pub struct HttpInbox {
    pub address: SocketAddr,
    shared: Arc<HttpShared>,
}

struct HttpShared {
    status: AtomicU16,
    attempts: AtomicUsize,
    taken: Mutex<Vec<Request>>,
}

impl HttpInbox {
    pub fn start() -> HttpInbox {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(HttpShared { status: 200.into(), attempts: 0.into(), taken: Mutex::default() });
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_thread.clone();
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        HttpInbox { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub fn attempts(&self) -> usize {
        self.shared.attempts.load(Ordering::SeqCst)
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<Request> {
        self.shared.taken.lock().clone()
    }
}

impl HttpShared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        // Somebody only looks whether there is a server.
        let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut request = Request { path, headers, body: String::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        let status = self.status.load(Ordering::SeqCst);
        if status == 200 {
            self.taken.lock().push(request);
        }
        self.attempts.fetch_add(1, Ordering::SeqCst);
        write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }
}

/// A letter that was taken: whom it is for, and its text.
#[derive(Debug, Clone, Default)]
pub struct Letter {
    pub to: Vec<String>,
    pub text: String,
    /// The login that was given, as it was sent.
    pub login: Option<String>,
}

/// A mail server, in the clear or under TLS from the start; ends with the test's process.
pub struct SmtpInbox {
    pub port: u16,
    letters: Arc<Mutex<Vec<Letter>>>,
}

impl SmtpInbox {
    pub fn start() -> SmtpInbox {
        SmtpInbox::serve(None)
    }

    /// Under TLS, with a certificate for `localhost` whose authority is `ca.pem` in `certs`.
    pub fn start_tls(certs: &Path) -> SmtpInbox {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/mosquitto/certificates.sh");
        done(Command::new(&script).arg("ca").env("CERTS", certs));
        done(Command::new(&script).args(["broker", "localhost"]).env("CERTS", certs));
        let certificate = CertificateDer::from_pem_file(certs.join("broker.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(certs.join("broker.key")).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        SmtpInbox::serve(Some(Arc::new(config)))
    }

    fn serve(tls: Option<Arc<ServerConfig>>) -> SmtpInbox {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let letters: Arc<Mutex<Vec<Letter>>> = Arc::default();
        let of_thread = letters.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (letters, tls) = (of_thread.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => drop(converse(stream, &letters)),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a configuration");
                        drop(converse(StreamOwned::new(connection, stream), &letters));
                    }
                });
            }
        });
        SmtpInbox { port, letters }
    }

    pub fn letters(&self) -> Vec<Letter> {
        self.letters.lock().clone()
    }
}

fn converse(stream: impl Read + Write, letters: &Mutex<Vec<Letter>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut letter = Letter::default();
    stream.get_mut().write_all(b"220 inbox\r\n")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim();
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => "250-inbox\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                letter.login = Some(line.to_owned());
                "235 welcome\r\n"
            }
            "RCPT" => {
                letter.to.push(line.to_owned());
                "250 ok\r\n"
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n")?;
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line)?;
                    if line.trim_end() == "." {
                        break;
                    }
                    letter.text += &line;
                }
                letters.lock().push(std::mem::take(&mut letter));
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.get_mut().write_all(b"221 bye\r\n")?;
                return stream.get_mut().flush();
            }
            _ => "250 ok\r\n",
        };
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
}
