//! A network between a client and a broker: it can be cut, and it knows what the broker has acknowledged.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::broker::{Broker, Message};
use super::wait::pace;

/// The whole answer to a request, head and all.
pub fn http_get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Topic and payload.
type Published = (String, Vec<u8>);

// Kinds of MQTT packets.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// A network between a client and a broker that can be cut without a word, held up, and mended.
pub struct Network {
    port: u16,
    state: Arc<NetworkState>,
}

struct NetworkState {
    target: u16,
    /// Packets are swallowed and no connection is refused or closed.
    cut: AtomicBool,
    /// New connections are closed at once.
    shut: AtomicBool,
    ending: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// What the broker has acknowledged, in that order.
    acknowledged: Mutex<Vec<Published>>,
}

impl Network {
    pub fn to(broker: &Broker) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(NetworkState {
            target: broker.port(),
            cut: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            streams: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for stream in listener.incoming() {
                    if state.ending.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(client) = stream
                        && !state.shut.load(Ordering::SeqCst)
                    {
                        let state = Arc::clone(&state);
                        thread::spawn(move || carry(&state, client));
                    }
                }
            }
        });
        Network { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Swallows every packet, both ways, without a FIN. Connections of before stay dead when it is mended.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// New connections get through again.
    pub fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }

    /// Lets new connections through, or closes them at once; those that are there stay.
    pub fn let_in(&self, open: bool) {
        self.state.shut.store(!open, Ordering::SeqCst);
    }

    /// The messages at QoS 1 that went through here and that the broker has acknowledged: read off the wire, so neither
    /// the client's word nor what the broker does with a message afterwards counts.
    pub fn acknowledged(&self) -> Vec<Message> {
        let message =
            |(topic, payload): &Published| Message { topic: topic.clone(), payload: payload.clone(), retained: false };
        self.state.acknowledged.lock().expect("no panic").iter().map(message).collect()
    }

    /// Closes all connections, as a router that restarts.
    pub fn close_all(&self) {
        for stream in self.state.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::SeqCst);
        self.close_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn carry(state: &Arc<NetworkState>, client: TcpStream) {
    let keep = |stream: &TcpStream| {
        let copy = stream.try_clone().expect("a socket");
        state.streams.lock().expect("no panic").push(copy);
    };
    keep(&client);
    // While cut, a new connection hangs: nobody answers.
    while state.cut.load(Ordering::SeqCst) && !state.ending.load(Ordering::SeqCst) {
        pace(Duration::from_millis(10));
    }
    let Ok(broker) = TcpStream::connect(("127.0.0.1", state.target)) else {
        let _ = client.shutdown(Shutdown::Both);
        return;
    };
    keep(&broker);
    let swallowed = Arc::new(AtomicBool::new(false));
    let copies = (client.try_clone().expect("a socket"), broker.try_clone().expect("a socket"));
    let (state_up, swallowed_up) = (Arc::clone(state), Arc::clone(&swallowed));
    let pending = Arc::new(Mutex::new(HashMap::new()));
    let mut published = Publishes { packets: Packets::default(), version: 4, pending: Arc::clone(&pending) };
    let up = thread::spawn(move || {
        carry_one_way(&state_up, &swallowed_up, (copies.0, copies.1), |bytes| published.read(bytes));
    });
    let mut packets = Packets::default();
    carry_one_way(state, &swallowed, (broker, client), |bytes| {
        for (kind, body) in packets.read(bytes) {
            if kind >> 4 == PUBACK
                && let Some(message) = pending.lock().expect("no panic").remove(&[body[0], body[1]])
                // What MQTT 5 refuses, it says so with.
                && body.get(2).is_none_or(|reason| *reason < 0x80)
            {
                state.acknowledged.lock().expect("no panic").push(message);
            }
        }
    });
    let _ = up.join();
}

/// `note` sees what is passed on, just before it is.
fn carry_one_way(
    state: &NetworkState,
    swallowed: &AtomicBool,
    (mut from, mut to): (TcpStream, TcpStream),
    mut note: impl FnMut(&[u8]),
) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if state.cut.load(Ordering::SeqCst) {
            swallowed.store(true, Ordering::SeqCst);
        }
        let dead = swallowed.load(Ordering::SeqCst);
        if read == 0 {
            if !dead {
                let _ = to.shutdown(Shutdown::Write);
            }
            return;
        }
        if !dead {
            note(&buffer[..read]);
        }
        if !dead && to.write_all(&buffer[..read]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Takes a stream of bytes apart into MQTT packets: first byte and body of each.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    fn read(&mut self, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.0.extend_from_slice(bytes);
        let mut packets = Vec::new();
        while let Some((head, length)) = remaining_length(&self.0)
            && self.0.len() >= head + length
        {
            packets.push((self.0[0], self.0[head..head + length].to_vec()));
            self.0.drain(..head + length);
        }
        packets
    }
}

/// The length of a packet's fixed header and of what follows it, once the header is there.
fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    variable_length(bytes.get(1..)?).map(|(bytes, length)| (bytes + 1, length))
}

/// A length as MQTT writes it: the bytes that it takes, and the length.
fn variable_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((place + 1, length));
        }
    }
    None
}

/// What a client has published and the broker has not yet acknowledged, by packet identifier.
struct Publishes {
    packets: Packets,
    /// Of MQTT, as the client has said in its CONNECT.
    version: u8,
    pending: Arc<Mutex<HashMap<[u8; 2], Published>>>,
}

impl Publishes {
    fn read(&mut self, bytes: &[u8]) {
        for (kind, body) in self.packets.read(bytes) {
            if kind >> 4 == CONNECT {
                self.version = body[6];
            }
            if kind >> 4 != PUBLISH || kind & 0b110 != 0b010 {
                continue;
            }
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let (topic, rest) = body[2..].split_at(topic);
            let (id, mut payload) = ([rest[0], rest[1]], &rest[2..]);
            if self.version == 5 {
                let (head, properties) = variable_length(payload).expect("properties");
                payload = &payload[head + properties..];
            }
            let message = (String::from_utf8_lossy(topic).into_owned(), payload.to_vec());
            self.pending.lock().expect("no panic").insert(id, message);
        }
    }
}
