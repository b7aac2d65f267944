//! A broker of MQTT 5 that refuses what a test wants it to refuse, since none that can be installed does all of it. It knows one
//! client, subscribes it to its own status, and writes down what comes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::broker::Message;
use crate::common::wait::{pace, wait_until};

/// What the broker does with a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// PUBACK with this reason code.
    Ack(u8),
    /// DISCONNECT with this reason code, and no PUBACK.
    Disconnect(u8),
    /// The same in its short form, without the length of its properties.
    ShortDisconnect(u8),
    /// Nothing yet.
    Wait,
}

pub const TAKEN: Answer = Answer::Ack(0);

/// What the broker makes of a CONNECT.
#[derive(Debug, Clone)]
pub enum Welcome {
    /// CONNACK with these properties.
    Accept(Vec<u8>),
    /// CONNACK of MQTT 5 with this reason code.
    Refuse(u8),
    /// What a broker that speaks only 3.1.1 answers.
    OtherVersion,
    /// The connection is closed without a word.
    Close,
    /// There is no answer, and the connection stays.
    Silence,
}

/// A CONNECT as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Connect {
    pub version: u8,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub client_id: String,
    pub session_s: Option<u32>,
    pub will_delay_s: Option<u32>,
    pub will_content_type: Option<String>,
    pub will: Option<Message>,
}

/// A PUBLISH as it came.
#[derive(Debug, Clone)]
pub struct Publish {
    pub message: Message,
    pub id: u16,
    pub content_type: Option<String>,
    pub expiry_s: Option<u32>,
    pub answer: Answer,
}

type Rule = Box<dyn FnMut(&Publish) -> Answer + Send>;
type Greeter = Box<dyn FnMut(u8) -> Welcome + Send>;

pub struct ScriptedBroker {
    port: u16,
    state: Arc<State>,
}

struct State {
    rule: Mutex<Rule>,
    greeter: Mutex<Greeter>,
    connects: Mutex<Vec<Connect>>,
    published: Mutex<Vec<Publish>>,
    most_in_flight: Mutex<usize>,
    /// SUBACK's reason codes.
    subscribed: Mutex<u8>,
    /// PUBACKs are held back, and sent in the wrong order, so many at a time.
    shuffle: Mutex<usize>,
    stream: Mutex<Option<TcpStream>>,
    ending: AtomicBool,
}

impl ScriptedBroker {
    pub fn start(rule: impl FnMut(&Publish) -> Answer + Send + 'static) -> ScriptedBroker {
        ScriptedBroker::greeting(|_| Welcome::Accept(Vec::new()), rule)
    }

    /// `greeter` gets the number of the version that the client asks for.
    pub fn greeting(
        greeter: impl FnMut(u8) -> Welcome + Send + 'static,
        rule: impl FnMut(&Publish) -> Answer + Send + 'static,
    ) -> ScriptedBroker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            rule: Mutex::new(Box::new(rule)),
            greeter: Mutex::new(Box::new(greeter)),
            connects: Mutex::default(),
            published: Mutex::default(),
            most_in_flight: Mutex::default(),
            subscribed: Mutex::new(1),
            shuffle: Mutex::new(1),
            stream: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ending.load(Ordering::SeqCst) {
                    return;
                }
                *serving.stream.lock().expect("no panic") = stream.try_clone().ok();
                // One after the other: it has one client.
                let _ = stream.try_clone().and_then(|stream| serve(&serving, stream));
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        ScriptedBroker { port, state }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Subscriptions get this reason code from now on.
    pub fn answer_subscriptions(&self, code: u8) {
        *self.state.subscribed.lock().expect("no panic") = code;
    }

    /// From now on PUBACKs go out so many at a time, the last one first.
    pub fn shuffle(&self, together: usize) {
        *self.state.shuffle.lock().expect("no panic") = together;
    }

    /// Breaks the connection.
    pub fn break_off(&self) {
        if let Some(stream) = self.state.stream.lock().expect("no panic").take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// A message whose topic gets a number for later ones, which the client has not allowed.
    pub fn use_alias(&self) {
        let topic = "auscult/pi-7/control";
        let length = u16::try_from(topic.len()).expect("a short topic").to_be_bytes();
        let body = [&length[..], topic.as_bytes(), &[3, 0x23, 0, 1], b"{}"].concat();
        let mut stream = self.state.stream.lock().expect("no panic");
        write_packet(stream.as_mut().expect("a connection"), 0x30, &body).expect("sent");
    }

    pub fn connects(&self) -> Vec<Connect> {
        self.state.connects.lock().expect("no panic").clone()
    }

    pub fn published(&self) -> Vec<Publish> {
        self.state.published.lock().expect("no panic").clone()
    }

    /// The messages that it took, in that order.
    pub fn taken(&self) -> Vec<Message> {
        let published = self.published();
        let taken = published.into_iter().filter(|publish| matches!(publish.answer, Answer::Ack(code) if code < 0x80));
        taken.map(|publish| publish.message).collect()
    }

    pub fn most_in_flight(&self) -> usize {
        *self.state.most_in_flight.lock().expect("no panic")
    }

    /// Waits until it took a message that `is` accepts.
    pub fn wait_taken(&self, what: &str, is: impl Fn(&Message) -> bool) -> Message {
        wait_until(what, || self.taken().iter().any(&is));
        self.taken().into_iter().find(is).expect("it came")
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::SeqCst);
        self.break_off();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(state: &State, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (head, body) = read_packet(&mut stream)?;
    assert_eq!(head, 0x10, "CONNECT comes first");
    let connect = Connect::read(&body);
    let version = connect.version;
    state.connects.lock().expect("no panic").push(connect);
    let welcome = (state.greeter.lock().expect("no panic"))(version);
    match welcome {
        Welcome::Accept(_) if version == 4 => stream.write_all(&[0x20, 2, 0, 0])?,
        Welcome::Accept(properties) => write_connack(&mut stream, 0, &properties)?,
        Welcome::Refuse(code) => return write_connack(&mut stream, code, &[]),
        Welcome::OtherVersion => return stream.write_all(&[0x20, 2, 0, 1]),
        Welcome::Close => return Ok(()),
        Welcome::Silence => {
            while read_packet(&mut stream).is_ok() {}
            return Ok(());
        }
    }
    let mut in_flight = 0;
    let mut held = Vec::new();
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    loop {
        let (head, body) = match read_packet(&mut stream) {
            Ok(packet) => packet,
            // What is held back does not wait for ever: there may be nothing more to come.
            Err(error) if is_timeout(&error) => {
                release(&mut stream, &mut held, &mut in_flight)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        match head >> 4 {
            3 => {
                let mut publish = Publish::read(head, &body, version);
                in_flight += 1;
                let mut most = state.most_in_flight.lock().expect("no panic");
                *most = (*most).max(in_flight);
                drop(most);
                let answer = (state.rule.lock().expect("no panic"))(&publish);
                publish.answer = answer;
                let (id, message) = (publish.id, publish.message.clone());
                state.published.lock().expect("no panic").push(publish);
                match answer {
                    Answer::Ack(code) => {
                        if code < 0x80 && message.topic.ends_with("/status") && !message.payload.is_empty() {
                            echo(&mut stream, &message, version)?;
                        }
                        held.push((id, code));
                        if held.len() >= *state.shuffle.lock().expect("no panic") {
                            release(&mut stream, &mut held, &mut in_flight)?;
                        }
                    }
                    Answer::Disconnect(code) | Answer::ShortDisconnect(code) => {
                        // The length of properties may be left out, as mosquitto does: rumqttc cannot read it then.
                        match answer {
                            // 3.1.1 has no such packet.
                            Answer::ShortDisconnect(_) if version == 4 => {}
                            Answer::ShortDisconnect(_) => stream.write_all(&[0xe0, 1, code])?,
                            _ => stream.write_all(&[0xe0, 2, code, 0])?,
                        }
                        // Until the client has read it: what was sent to a closed socket would be answered with a reset.
                        let _ = stream.shutdown(Shutdown::Write);
                        while read_packet(&mut stream).is_ok() {}
                        return Ok(());
                    }
                    Answer::Wait => {}
                }
            }
            8 => {
                let code = *state.subscribed.lock().expect("no panic");
                let codes = vec![code; filters(&body, version)];
                let properties: &[u8] = if version == 5 { &[0] } else { &[] };
                let ack = [&body[..2], properties, &codes].concat();
                write_packet(&mut stream, 0x90, &ack)?;
            }
            12 => stream.write_all(&[0xd0, 0])?,
            14 => return Ok(()),
            _ => {}
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// The last first.
fn release(stream: &mut TcpStream, held: &mut Vec<(u16, u8)>, in_flight: &mut usize) -> std::io::Result<()> {
    while let Some((id, code)) = held.pop() {
        *in_flight -= 1;
        let id = id.to_be_bytes();
        match code {
            0 => stream.write_all(&[0x40, 2, id[0], id[1]])?,
            code => stream.write_all(&[0x40, 3, id[0], id[1], code])?,
        }
    }
    Ok(())
}

/// The client has subscribed to its own status.
fn echo(stream: &mut TcpStream, message: &Message, version: u8) -> std::io::Result<()> {
    let mut body = u16::try_from(message.topic.len()).expect("a short topic").to_be_bytes().to_vec();
    body.extend_from_slice(message.topic.as_bytes());
    if version == 5 {
        body.push(0);
    }
    body.extend_from_slice(&message.payload);
    write_packet(stream, 0x30, &body)
}

fn write_connack(stream: &mut TcpStream, code: u8, properties: &[u8]) -> std::io::Result<()> {
    let length = u8::try_from(properties.len()).expect("few properties");
    write_packet(stream, 0x20, &[&[0, code, length], properties].concat())
}

fn write_packet(stream: &mut TcpStream, head: u8, body: &[u8]) -> std::io::Result<()> {
    let mut packet = vec![head];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    stream.write_all(&packet)
}

/// A time-out comes before the first byte alone.
fn read_packet(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0];
    stream.read_exact(&mut head)?;
    let whole = |stream: &mut TcpStream, buffer: &mut [u8]| {
        let mut filled = 0;
        while filled < buffer.len() {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if is_timeout(&error) => pace(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        whole(stream, &mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    whole(stream, &mut body)?;
    Ok((head[0], body))
}

/// Takes a packet apart.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number());
        self.take(length)
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("UTF-8")
    }

    /// Properties by their number: the numbers as they are, texts as text.
    fn properties(&mut self) -> HashMap<u8, Property> {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut fields = Fields(self.take(length));
        let mut properties = HashMap::new();
        while !fields.0.is_empty() {
            let number = fields.byte();
            let property = match number {
                2 | 17 | 24 | 39 => Property::Number(fields.long()),
                33 | 34 => Property::Number(fields.number().into()),
                1 | 23 | 25 => Property::Number(fields.byte().into()),
                3 | 8 => Property::Text(fields.text()),
                other => panic!("an unexpected property {other}"),
            };
            properties.insert(number, property);
        }
        properties
    }
}

enum Property {
    Number(u32),
    Text(String),
}

impl Property {
    fn number(&self) -> Option<u32> {
        if let Property::Number(number) = self { Some(*number) } else { None }
    }

    fn text(&self) -> Option<String> {
        if let Property::Text(text) = self { Some(text.clone()) } else { None }
    }
}

fn filters(body: &[u8], version: u8) -> usize {
    let mut fields = Fields(&body[2..]);
    if version == 5 {
        fields.properties();
    }
    let mut filters = 0;
    while !fields.0.is_empty() {
        fields.text();
        fields.byte();
        filters += 1;
    }
    filters
}

impl Connect {
    fn read(body: &[u8]) -> Connect {
        let mut fields = Fields(body);
        assert_eq!(fields.text(), "MQTT");
        let (version, flags, keep_alive_s) = (fields.byte(), fields.byte(), fields.number());
        let mut properties = HashMap::new();
        if version == 5 {
            properties = fields.properties();
        }
        let client_id = fields.text();
        let mut of_will = HashMap::new();
        let will = (flags & 4 != 0).then(|| {
            if version == 5 {
                of_will = fields.properties();
            }
            let topic = fields.text();
            assert_eq!(flags >> 3 & 3, 1, "the will's quality of service");
            Message { topic, payload: fields.bytes().to_vec(), retained: flags & 0x20 != 0 }
        });
        Connect {
            version,
            clean: flags & 2 != 0,
            keep_alive_s,
            client_id,
            session_s: properties.get(&17).and_then(Property::number),
            will_delay_s: of_will.get(&24).and_then(Property::number),
            will_content_type: of_will.get(&3).and_then(Property::text),
            will,
        }
    }
}

impl Publish {
    fn read(head: u8, body: &[u8], version: u8) -> Publish {
        assert_eq!(head >> 1 & 3, 1, "the quality of service");
        let mut fields = Fields(body);
        let (topic, id) = (fields.text(), fields.number());
        let properties = if version == 5 { fields.properties() } else { HashMap::new() };
        Publish {
            message: Message { topic, payload: fields.0.to_vec(), retained: head & 1 != 0 },
            id,
            content_type: properties.get(&3).and_then(Property::text),
            expiry_s: properties.get(&2).and_then(Property::number),
            answer: Answer::Wait,
        }
    }
}
