//! MQTT: topics and payloads as types, the outbox on disk, the client that sends from it.
//!
//! ```text
//! agent -> Mqtt -> outbox (disk) -> client's driver -> connection (rumqttc) -> broker
//! agent <- Incoming <- - - - - - - - - - - driver <- connection
//! ```
//! [`Mqtt`] is the agent's handle: cheap to clone, its methods return at once and may be called from any thread.

pub mod address;
pub mod broker;
pub mod certificate;
mod client;
pub mod config;
pub(crate) mod connection;
pub mod diagnose;
pub mod discovery;
mod handle;
mod incoming;
pub mod mdns;
mod options;
pub mod outbox;
pub mod payload;
mod shared;
pub mod simple_client;
pub mod tls;
pub mod topics;
pub mod trial;
pub mod version;

pub use self::client::stop::StopReport;
pub use self::connection::MAX_CONTROL_BYTES;
pub use self::handle::Mqtt;
pub use self::incoming::{Incoming, IncomingReceiver, Origin};
pub use self::options::MqttOptions;
pub use self::shared::Tap;
