//! The demo's broker, inside the process: rumqttd on the loopback network, everything in memory.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};

/// MQTT's own port, taken where it is free.
const USUAL_PORT: u16 = 1883;

/// A port to listen on: the one asked for, else the usual one, else any that is free.
///
/// # Errors
/// The port asked for is taken.
pub fn port(asked: Option<u16>) -> anyhow::Result<u16> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let address = match asked {
        Some(port) => free(port).map_err(|error| anyhow::anyhow!("--port {port}: {error}"))?,
        None if is_first() => free(USUAL_PORT).or_else(|_| free(0))?,
        None => free(0)?,
    };
    Ok(address.port())
}

/// Whether no other demo of this computer runs. Two that begin at once would both find the usual port free, and then the
/// agents of both would be with the one broker, under the same names.
fn is_first() -> bool {
    let taken = UnixAddr::from_abstract_name("auscult-demo").and_then(|name| UnixListener::bind_addr(&name));
    // Kept until the process ends.
    taken.map(std::mem::forget).is_ok()
}

/// Starts the broker. Its threads end with the process: rumqttd knows no stop.
///
/// # Errors
/// The thread cannot be started.
pub fn start(port: u16) -> std::io::Result<()> {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5000,
        max_payload_size: 1 << 20,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        // Without it, topics that nobody has subscribed to yet are refused.
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "broker".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 1000,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("loopback".to_owned(), server)])),
        ..Config::default()
    };
    let run = move || {
        if let Err(error) = rumqttd::Broker::new(config).start() {
            tracing::error!(%error, "the demo's broker has ended");
        }
    };
    std::thread::Builder::new().name("broker".into()).spawn(run).map(drop)
}
