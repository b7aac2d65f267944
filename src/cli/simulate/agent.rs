//! One simulated agent: connects, subscribes and publishes as the real one does, without disk, sound or model.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::rustls::ClientConfig;

use super::figures::{Figures, count};
use super::machines::Machines;
use crate::backoff::Backoff;
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::config::MqttConfig;
use crate::mqtt::address::BrokerUrl;
use crate::mqtt::connection::{self, Connection, ConnectionEvent, Identity, MAX_CONTROL_BYTES, Will};
use crate::mqtt::diagnose;
use crate::mqtt::payload::{AgentState, Info, SchemaVersion, Status, VerdictMsg, encode};
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart};

/// Messages without acknowledgement at once, as of the real agent.
const IN_FLIGHT: usize = 20;
/// Shortest and longest pause before the next attempt to connect.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What all agents have in common.
pub struct Plan {
    pub url: BrokerUrl,
    pub tls: Option<Arc<ClientConfig>>,
    pub mqtt: MqttConfig,
    pub machines: u32,
    pub hop: Duration,
    pub source: Machines,
}

struct Agent {
    name: String,
    topics: AgentTopics,
    plan: Arc<Plan>,
    figures: Arc<Figures>,
    clock: Clock,
    boot: String,
    seq: u64,
}

/// Messages on their way.
#[derive(Default)]
struct InFlight {
    /// Handed over, in order; their packet ids follow.
    handed: VecDeque<Instant>,
    sent: HashMap<u16, Instant>,
}

impl InFlight {
    fn len(&self) -> usize {
        self.handed.len() + self.sent.len()
    }
}

/// Runs agent number `number` until it is stopped.
pub async fn run(number: u32, plan: Arc<Plan>, figures: Arc<Figures>, mut stopped: watch::Receiver<bool>) {
    let name = format!("sim-{number:04}");
    let topics = AgentTopics::new(&plan.mqtt.root, &name);
    let boot = format!("{:016x}", rand::random::<u64>());
    let mut agent = Agent { name, topics, plan, figures, clock: Clock::new(true), boot, seq: 0 };
    let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
    // Machines do not all start at the same moment.
    let mut due = Instant::now() + agent.step().mul_f64(rand::random());
    while !*stopped.borrow() {
        let begun = Instant::now();
        let mut in_flight = InFlight::default();
        let outcome = agent.connection(&mut stopped, &mut due, &mut in_flight).await;
        agent.figures.lost.fetch_add(in_flight.len() as u64, Ordering::Relaxed);
        let Err(error) = outcome else { return };
        agent.figures.error(error);
        backoff.connection_ended(begun.elapsed());
        tokio::select! {
            () = sleep(backoff.next_spread(rand::random())) => {}
            () = until(&mut stopped) => {}
        }
    }
}

impl Agent {
    /// Time from one verdict to the next of whichever machine.
    fn step(&self) -> Duration {
        self.plan.hop / self.plan.machines
    }

    /// One connection, from the attempt to its end; an error is what broke it.
    async fn connection(
        &mut self,
        stopped: &mut watch::Receiver<bool>,
        due: &mut Instant,
        in_flight: &mut InFlight,
    ) -> Result<(), String> {
        let plan = self.plan.clone();
        let mqtt = &plan.mqtt;
        let login = connection::login(mqtt.username.as_deref(), mqtt.password.as_ref(), mqtt.password_file.as_deref());
        let login = login.map_err(|error| with_causes(&error))?;
        let identity = Identity {
            client_id: format!("{}-{}", mqtt.root.replace('/', "-"), self.name),
            login,
            will: Some(Will {
                topic: self.topics.of_agent(AgentPart::Status),
                payload: self.status(AgentState::Offline),
                delay: Duration::from_secs(mqtt.will_delay_s),
            }),
            keep_alive: Duration::from_secs(mqtt.keep_alive_s),
            keep_session: None,
            largest_message: MAX_CONTROL_BYTES,
        };
        let begun = Instant::now();
        // Room for the farewell, which takes back one message of each machine.
        let room = IN_FLIGHT + 2 + plan.machines as usize;
        let mut version = mqtt.version.first(&plan.url);
        let mut connection = Connection::open(&plan.url, version, plan.tls.clone(), &identity, room);
        let mut connected = false;
        let outcome = loop {
            tokio::select! {
                event = connection.next_event() => match event {
                    ConnectionEvent::Connected(_) => {
                        connected = true;
                        mqtt.version.accepted(&plan.url, version);
                        self.figures.connected_after(begun.elapsed());
                        self.birth(&connection, in_flight)?;
                    }
                    ConnectionEvent::Lost(error) => {
                        let known = connected || mqtt.version.is_known(&plan.url);
                        let other =
                            mqtt.version.second(version).filter(|_| !connected && error.may_be_the_version(known));
                        let Some(other) = other else { break Err(diagnose::describe(&error)) };
                        version = other;
                        connection = Connection::open(&plan.url, version, plan.tls.clone(), &identity, room);
                    }
                    other => self.note(&other, in_flight),
                },
                () = sleep_until(*due) => {
                    *due = (*due + self.step()).max(Instant::now() - self.plan.hop);
                    self.verdict(connected.then_some(&connection), in_flight).await?;
                }
                () = until(stopped) => break Ok(()),
            }
        };
        if connected {
            self.figures.connected.fetch_sub(1, Ordering::Relaxed);
        }
        if outcome.is_err() {
            count(if connected { &self.figures.lost_connections } else { &self.figures.failed_connects });
            return outcome;
        }
        if connected { self.farewell(&mut connection, in_flight).await } else { Ok(()) }
    }

    fn note(&self, event: &ConnectionEvent, in_flight: &mut InFlight) {
        match event {
            ConnectionEvent::Sent(id) => {
                if let Some(handed) = in_flight.handed.pop_front() {
                    in_flight.sent.insert(*id, handed);
                }
            }
            ConnectionEvent::Acknowledged(id, _) => {
                if let Some(handed) = in_flight.sent.remove(id) {
                    self.figures.acknowledged_after(handed.elapsed());
                }
            }
            _ => {}
        }
    }

    fn publish(
        &self,
        connection: &Connection,
        in_flight: &mut InFlight,
        topic: &str,
        payload: Vec<u8>,
    ) -> Result<(), String> {
        connection.publish(topic, true, payload, None).map_err(|error| error.to_string())?;
        in_flight.handed.push_back(Instant::now());
        count(&self.figures.sent);
        Ok(())
    }

    /// What an agent says first.
    fn birth(&self, connection: &Connection, in_flight: &mut InFlight) -> Result<(), String> {
        connection.subscribe(&self.topics.subscriptions()).map_err(|error| error.to_string())?;
        self.publish(connection, in_flight, &self.topics.of_agent(AgentPart::Status), self.status(AgentState::Online))?;
        let info = Info {
            schema: SchemaVersion,
            ts: self.clock.now(),
            agent: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.boot.clone(),
            bundle: Some(self.plan.source.bundle().to_owned()),
            demo_bundle: false,
            machines: (0..self.plan.machines).map(machine).collect(),
            names: Default::default(),
            tags: vec!["simulated".into()],
            commands: Vec::new(),
            clock: None,
        };
        self.publish(connection, in_flight, &self.topics.of_agent(AgentPart::Info), encode(&info))
    }

    /// The verdict of the machine whose turn it is.
    async fn verdict(&mut self, connection: Option<&Connection>, in_flight: &mut InFlight) -> Result<(), String> {
        let machines = u64::from(self.plan.machines);
        let (number, seq) = ((self.seq % machines) as u32, self.seq / machines);
        self.seq += 1;
        let ready = connection.filter(|_| in_flight.len() < IN_FLIGHT);
        let Some(connection) = ready else {
            // Before the first connection there is nothing to hold back: a real agent's outbox would have kept it.
            if connection.is_some() || seq > 0 {
                count(&self.figures.held_back);
            }
            return Ok(());
        };
        let id = machine(number);
        let assessment = self.plan.source.assess(&self.name, number).await?;
        let bundle = self.plan.source.bundle();
        let mut message = VerdictMsg::new(&self.name, &id, self.clock.now(), &assessment, Some(bundle), None);
        message.seq = seq;
        self.publish(connection, in_flight, &self.topics.of_machine(&id, MachinePart::Verdict), encode(&message))
    }

    /// Waits for the last acknowledgements, takes back what the broker keeps, and says goodbye.
    async fn farewell(&self, connection: &mut Connection, in_flight: &mut InFlight) -> Result<(), String> {
        let lost = |error| diagnose::describe(&error);
        while in_flight.len() > 0 {
            match connection.next_event().await {
                ConnectionEvent::Lost(error) => return Err(lost(error)),
                other => self.note(&other, in_flight),
            }
        }
        let verdicts = (0..self.plan.machines).map(|n| self.topics.of_machine(&machine(n), MachinePart::Verdict));
        let states = [AgentPart::Status, AgentPart::Info].map(|part| self.topics.of_agent(part));
        let mut left = 0;
        for topic in verdicts.chain(states) {
            connection.publish(&topic, true, Vec::new(), None).map_err(|error| error.to_string())?;
            left += 1;
        }
        while left > 0 {
            match connection.next_event().await {
                ConnectionEvent::Acknowledged(..) => left -= 1,
                ConnectionEvent::Lost(error) => return Err(lost(error)),
                _ => {}
            }
        }
        connection.disconnect().map_err(|error| error.to_string())?;
        while !matches!(connection.next_event().await, ConnectionEvent::Disconnected | ConnectionEvent::Lost(_)) {}
        Ok(())
    }

    fn status(&self, state: AgentState) -> Vec<u8> {
        let (boot, ts) = (self.boot.clone(), self.clock.now());
        encode(&Status { schema: SchemaVersion, state, boot, ts, clock: None })
    }
}

/// Resolves at the stop.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    drop(stopped.wait_for(|stop| *stop).await);
}

fn machine(number: u32) -> String {
    format!("machine-{}", number + 1)
}
