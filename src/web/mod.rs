//! The page: HTTP and one WebSocket over what is published anyway.
//!
//! ```text
//! agent or console -> Hub -> stream -> browser        the payloads of the contract, beginning with the retained state
//! agent or console <- Home <- stream <- browser       the commands of the contract; replies come back as messages
//! ```
//! The page has no language of its own: topics, payloads and commands are those of MQTT. [`Home`] is what stands behind
//! it: one agent, or a whole fleet behind a broker. A slow or hostile browser costs its own connection and nothing else:
//! every queue, body, header, frame and wait here has a limit.

mod access;
mod assets;
mod attempts;
mod headers;
pub mod home;
pub mod hub;
mod metrics;
mod password;
mod server;
mod sessions;
mod stream;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::home::{About, Home, HomeKind, Refusal};
pub use self::hub::{Hub, Keep, Message};
pub use self::server::{Page, bind, check};
pub use self::stream::{Request, Watched};

/// Where the page answers, and who may use it.
#[derive(Debug, Clone)]
pub struct PageOptions {
    pub listen: SocketAddr,
    /// The password of operators, or its argon2 hash, in the first line; read at each login.
    pub password_file: Option<PathBuf>,
    /// The password of viewers, who see everything and command nothing.
    pub viewer_password_file: Option<PathBuf>,
    /// Where a password that is set on the page is kept, as an argon2 hash; `None`: none can be set there.
    pub state_dir: Option<PathBuf>,
    /// PEM files of the certificate and its key; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Names that the page is also reached by where it has no password; `localhost` and loopback addresses always are.
    pub hosts: Vec<String>,
    /// Serves the page's files from this directory instead of the program, to work on them.
    pub assets_from: Option<PathBuf>,
}

/// Why the page cannot be served; one line.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("the page cannot listen on {listen}")]
    Listen { listen: SocketAddr, source: std::io::Error },
    #[error("the page's password")]
    Password(#[from] password::PasswordError),
    #[error("the page's certificate")]
    Tls(#[from] tls::TlsError),
    #[error("expected a password for operators beside the one for viewers, found none")]
    ViewerAlone,
    #[error("{listen} is reachable from other computers: the page needs a password file to listen there")]
    NoPassword { listen: SocketAddr },
}
