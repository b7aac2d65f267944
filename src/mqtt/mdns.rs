//! Brokers that announce themselves in the local network (`_mqtt._tcp`, `_secure-mqtt._tcp`), asked for once by multicast
//! DNS (RFC 6762, section 6.7): the question goes out from any port, and whoever has an answer sends it back there.
//! No service of the system is needed, and nothing is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

/// Where every responder listens.
pub const EVERYBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
/// What is asked for, and whether it speaks TLS.
const SERVICES: [(&str, bool); 2] = [("_mqtt._tcp.local", false), ("_secure-mqtt._tcp.local", true)];
/// What is still unknown is asked for so often, with so long for the answers.
const ROUNDS: [Duration; 3] = [Duration::from_millis(400), Duration::from_millis(400), Duration::from_millis(700)];
/// Brokers, hosts and names that are kept; a network that has more is hostile.
const MOST: usize = 64;
/// Longest packet that is looked at: what Ethernet carries, with room for jumbo frames.
const PACKET_BYTES: usize = 9000;
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const SRV: u16 = 33;
/// The class `IN`; in a question with the wish for an answer to us alone.
const IN: u16 = 1;
const UNICAST: u16 = 0x8000;

/// A broker that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBroker {
    /// What it calls itself.
    pub name: String,
    /// `mqtt://host:port` or `mqtts://host:port`.
    pub url: String,
}

/// Asks whoever listens at `whom` and waits for answers, about 1.5 s in all.
///
/// # Errors
/// The network's: no route to the local network.
pub fn find_brokers(whom: SocketAddr) -> io::Result<Vec<FoundBroker>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut known = Known::default();
    let mut packet = [0; PACKET_BYTES];
    for wait in ROUNDS {
        for (name, kind) in known.questions() {
            match socket.send_to(&question(&name, kind), whom) {
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => return Err(error),
                // As where a port on this computer is closed.
                Ok(_) | Err(_) => {}
            }
        }
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv_from(&mut packet) {
                Ok((length, _)) => known.learn(&packet[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(known.brokers(|host, port| (host, port).to_socket_addrs().is_ok()))
}

/// The brokers that one packet of answers tells of, whose hosts' names cannot be looked up.
pub fn brokers_of(packet: &[u8]) -> Vec<FoundBroker> {
    let mut known = Known::default();
    known.learn(packet);
    known.brokers(|_, _| false)
}

/// What answers have said so far; names in lower case.
#[derive(Debug, Default)]
struct Known {
    /// Instances, and whether they speak TLS.
    instances: BTreeMap<Name, bool>,
    /// Of each instance, host and port.
    places: BTreeMap<String, (String, u16)>,
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// An instance's name as it is to be read and as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    key: String,
    shown: String,
}

impl Known {
    /// What is still unknown.
    fn questions(&self) -> Vec<(String, u16)> {
        let services = SERVICES.iter().map(|(name, _)| ((*name).to_owned(), PTR));
        let places = self.instances.keys().filter(|name| !self.places.contains_key(&name.key));
        let hosts = self.places.values().filter(|(host, _)| !self.addresses.contains_key(host));
        services
            .chain(places.map(|name| (name.key.clone(), SRV)))
            .chain(hosts.map(|(host, _)| (host.clone(), A)))
            .collect()
    }

    /// Takes what can be read of a packet.
    fn learn(&mut self, packet: &[u8]) {
        for record in records(packet).unwrap_or_default() {
            let owner = record.name.to_lowercase();
            match record.data {
                Data::Pointer(instance) => {
                    let service = SERVICES.iter().find(|(service, _)| *service == owner);
                    if let (Some((service, tls)), true) = (service, self.instances.len() < MOST) {
                        let shown = instance.strip_suffix(&format!(".{service}")).unwrap_or(&instance).to_owned();
                        self.instances.insert(Name { key: instance.to_lowercase(), shown }, *tls);
                    }
                }
                Data::Service { host, port } if self.places.len() < MOST => {
                    self.places.insert(owner, (host.to_lowercase(), port));
                }
                Data::Address(address) if self.addresses.len() < MOST => {
                    let addresses = self.addresses.entry(owner).or_default();
                    if addresses.len() < MOST {
                        addresses.insert(address);
                    }
                }
                _ => {}
            }
        }
    }

    /// The brokers whose place is known. A host's name is kept where `resolves` says that this computer can look it up
    /// and where TLS will want it; else its address stands.
    fn brokers(&self, resolves: impl Fn(&str, u16) -> bool) -> Vec<FoundBroker> {
        let found = self.instances.iter().filter_map(|(name, &tls)| {
            let (host, port) = self.places.get(&name.key)?;
            let address = self.addresses.get(host).and_then(|addresses| addresses.first());
            let host = match address {
                Some(address) if !tls && !resolves(host, *port) => *address,
                _ => return Some((name, url(tls, host, *port))),
            };
            let host = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
            Some((name, url(tls, &host, *port)))
        });
        found.map(|(name, url)| FoundBroker { name: name.shown.clone(), url }).collect()
    }
}

fn url(tls: bool, host: &str, port: u16) -> String {
    format!("{}://{host}:{port}", if tls { "mqtts" } else { "mqtt" })
}

/// A packet with one question.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        packet.push(label.len() as u8);
        packet.extend(label);
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend((IN | UNICAST).to_be_bytes());
    packet
}

#[derive(Debug, PartialEq)]
struct Record {
    name: String,
    data: Data,
}

#[derive(Debug, PartialEq)]
enum Data {
    Pointer(String),
    Service { host: String, port: u16 },
    Address(IpAddr),
    Other,
}

/// The records of an answer; `None` for what is none.
fn records(packet: &[u8]) -> Option<Vec<Record>> {
    let mut at = 0;
    let mut number = || {
        let bytes = packet.get(at..at + 2)?;
        at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (_, flags, questions, answers, authorities, additional) =
        (number()?, number()?, number()?, number()?, number()?, number()?);
    if flags & 0x8000 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..questions {
        at = name_at(packet, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        // Records that were cut off end the packet.
        let Some((record, next)) = record_at(packet, at) else { break };
        found.push(record);
        at = next;
    }
    Some(found)
}

/// A record, and where the next one begins.
fn record_at(packet: &[u8], at: usize) -> Option<(Record, usize)> {
    let (name, at) = name_at(packet, at)?;
    let head = packet.get(at..at + 10)?;
    let (kind, length) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[8], head[9]]));
    let at = at + 10;
    let next = at + usize::from(length);
    let bytes = packet.get(at..next)?;
    let data = match kind {
        PTR => Data::Pointer(name_at(packet, at)?.0),
        SRV if length > 6 => {
            Data::Service { host: name_at(packet, at + 6)?.0, port: u16::from_be_bytes([bytes[4], bytes[5]]) }
        }
        A => <[u8; 4]>::try_from(bytes).map_or(Data::Other, |bytes| Data::Address(Ipv4Addr::from(bytes).into())),
        AAAA => <[u8; 16]>::try_from(bytes).map_or(Data::Other, |bytes| Data::Address(Ipv6Addr::from(bytes).into())),
        _ => Data::Other,
    };
    Some((Record { name, data }, next))
}

/// A name, and where what follows it begins. Pointers lead backwards only, so that it ends.
fn name_at(packet: &[u8], at: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut end, mut earliest) = (String::new(), at, None, at);
    loop {
        let length = usize::from(*packet.get(at)?);
        match length & 0xc0 {
            0 if length == 0 => return Some((name, end.unwrap_or(at + 1))),
            0 => {
                let label = packet.get(at + 1..at + 1 + length)?;
                if name.len() + length > 255 {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                // Control characters have no place in what a person reads.
                name.extend(String::from_utf8_lossy(label).chars().filter(|letter| !letter.is_control()));
                at += 1 + length;
            }
            0xc0 => {
                let to = (length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                end.get_or_insert(at + 2);
                if to >= earliest {
                    return None;
                }
                (at, earliest) = (to, to);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Vec<u8> {
        let labels = text.split('.').flat_map(|label| [vec![label.len() as u8], label.as_bytes().to_vec()].concat());
        labels.chain([0]).collect()
    }

    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let kind = kind.to_be_bytes();
        [owner, &kind, &[0x80, 1, 0, 0, 0, 120], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn answer(records: &[Vec<u8>]) -> Vec<u8> {
        [vec![0, 0, 0x84, 0, 0, 0, 0, records.len() as u8, 0, 0, 0, 0], records.concat()].concat()
    }

    /// As avahi answers for mosquitto: the pointer, and what is needed beside it.
    fn of_plant() -> Vec<u8> {
        let service = name("_mqtt._tcp.local");
        let instance = [vec![14], b"Broker, hall 2".to_vec(), vec![0xc0, 12]].concat();
        let place = [&[0, 0, 0, 0, 7, 0x5b], name("Broker.local").as_slice()].concat();
        answer(&[
            record(&service, PTR, &instance),
            record(&[[14].as_slice(), b"Broker, hall 2", &service].concat(), SRV, &place),
            record(&name("broker.local"), A, &[192, 168, 1, 5]),
        ])
    }

    #[test]
    fn a_broker_is_found_by_its_pointer_its_place_and_its_address() {
        let mut known = Known::default();
        known.learn(&of_plant());
        let of = |resolves| known.brokers(move |_, _| resolves).pop().expect("a broker");
        assert_eq!((of(true).name, of(true).url), ("Broker, hall 2".into(), "mqtt://broker.local:1883".into()));
        assert_eq!(of(false).url, "mqtt://192.168.1.5:1883");
        assert_eq!(known.questions(), SERVICES.map(|(name, _)| (name.to_owned(), PTR)));
    }

    #[test]
    fn what_an_answer_leaves_out_is_asked_for() {
        let mut known = Known::default();
        let service = name("_secure-mqtt._tcp.local");
        known.learn(&answer(&[record(&service, PTR, &[[2].as_slice(), b"b1", &[0xc0, 12]].concat())]));
        assert_eq!(known.brokers(|_, _| true), []);
        assert_eq!(known.questions()[2], ("b1._secure-mqtt._tcp.local".into(), SRV));
        let place = [&[0, 0, 0, 0, 0x22, 0xb3], name("b1.local").as_slice()].concat();
        known.learn(&answer(&[record(&name("b1._secure-mqtt._tcp.local"), SRV, &place)]));
        assert_eq!(known.questions()[2], ("b1.local".into(), A));
        // A certificate is for a name.
        assert_eq!(known.brokers(|_, _| false)[0].url, "mqtts://b1.local:8883");
    }

    #[test]
    fn whatever_comes_is_read_without_harm() {
        let good = of_plant();
        for length in 0..good.len() {
            Known::default().learn(&good[..length]);
        }
        for at in 0..good.len() {
            for bits in [0x01, 0x40, 0x80, 0xc0, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= bits;
                Known::default().learn(&bad);
            }
        }
        // Pointers in a circle, and to themselves.
        for to in [12, 14, 13, 0] {
            Known::default().learn(&answer(&[[vec![0xc0, to, 0xc0, 12], vec![0; 12]].concat()]));
        }
        assert_eq!(records(&question("_mqtt._tcp.local", PTR)), None, "a question of somebody else's");
    }

    #[test]
    fn one_who_answers_is_heard() {
        let responder = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let at = responder.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 512];
            let (length, from) = responder.recv_from(&mut packet).expect("a question");
            assert!(packet[..length].windows(5).any(|bytes| bytes == b"_mqtt"), "the question");
            responder.send_to(&of_plant(), from).expect("sent");
        });
        let found = find_brokers(at).expect("a network");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].name, "Broker, hall 2");
        thread.join().expect("the responder");
    }
}
