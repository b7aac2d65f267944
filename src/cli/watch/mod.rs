//! `auscult watch`: the fleet in the terminal.

mod app;
mod fleet;
mod past;
mod standing;
mod view;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use chrono::Utc;
use crossterm::event::{Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use self::app::{Action, App};
use self::fleet::Heard;
use self::past::Past;
use super::broker::{BrokerArgs, converse, who};
use super::{Failure, terminal};
use crate::causes::with_causes;
use crate::config::MqttConfig;
use crate::mqtt::simple_client::{Message, SimpleClient, SimpleClientError};
use crate::mqtt::topics::{AgentPart, AgentTopics, MachinePart, Topic};

/// At most so many pictures a second.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Ages go on also when nothing comes.
const TICK_EVERY: Duration = Duration::from_secs(1);
const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The fleet in the terminal: machines, alarms, distances, and keys to acknowledge and to set a threshold
///
/// Example: auscult watch --broker mqtt://broker:1883
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Who acknowledges and sets thresholds, for the record; default: the user who is logged in
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Prints every message as one JSON object a line instead: {"topic", "payload"}
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let mqtt = args.broker.mqtt()?;
    if args.json {
        return converse(print(&mqtt));
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage(anyhow::anyhow!("watch needs a terminal; --json prints messages instead")));
    }
    if terminal::is_dumb() {
        let problem =
            "watch draws a picture, which a terminal with TERM=dumb cannot show; --json prints messages instead";
        return Err(Failure::usage(anyhow::anyhow!(problem)));
    }
    let app = App::new(who(args.by), Utc::now());
    let screen = ratatui::try_init()?;
    let outcome = converse(show(screen, app, &mqtt));
    ratatui::restore();
    outcome
}

/// Everything of the fleet that is worth a picture.
fn filters(root: &str) -> Vec<String> {
    let topics = AgentTopics::new(root, "+");
    let agents = [AgentPart::Status, AgentPart::Info, AgentPart::Reply].map(|part| topics.of_agent(part));
    let machines = [MachinePart::Verdict, MachinePart::Alarm, MachinePart::Settings, MachinePart::Event]
        .map(|part| topics.of_machine("+", part));
    agents.into_iter().chain(machines).collect()
}

async fn connect(mqtt: &MqttConfig) -> Result<SimpleClient, SimpleClientError> {
    let mut client = SimpleClient::connect(mqtt, "watch").await?;
    client.subscribe(&filters(&mqtt.root)).await?;
    Ok(client)
}

async fn connect_at(mqtt: &MqttConfig, at: Instant) -> Result<SimpleClient, SimpleClientError> {
    sleep_until(at).await;
    connect(mqtt).await
}

async fn print(mqtt: &MqttConfig) -> Result<(), Failure> {
    let mut client = connect(mqtt).await?;
    loop {
        let Message { topic, payload, .. } = client.next().await?;
        // What is no JSON is shown as the text that it is.
        let payload = serde_json::from_slice(&payload)
            .unwrap_or_else(|_| serde_json::Value::from(String::from_utf8_lossy(&payload)));
        let line = serde_json::json!({ "topic": topic.below(&mqtt.root), "payload": payload });
        writeln!(std::io::stdout().lock(), "{line}")?;
    }
}

async fn show(mut terminal: ratatui::DefaultTerminal, mut app: App, mqtt: &MqttConfig) -> Result<(), Failure> {
    let mut keys = keyboard()?;
    let mut client: Option<SimpleClient> = None;
    let mut past = Past::default();
    let mut connecting = Box::pin(connect_at(mqtt, Instant::now()));
    let mut draw_at = Instant::now();
    let mut dirty = true;
    let mut tick = tokio::time::interval(TICK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        app.now = Utc::now();
        if dirty && draw_at <= Instant::now() {
            terminal.draw(|frame| view::draw(frame, &mut app))?;
            dirty = false;
            draw_at = Instant::now() + DRAW_EVERY;
        }
        ask_for_the_past(&mut client, &mut past, &app, mqtt).await;
        tokio::select! {
            // Keys go first: a flood of messages does not hold the person up.
            biased;
            input = keys.recv() => match input {
                None => return Ok(()),
                Some(Input::Resized) => { draw_at = Instant::now(); dirty = true; }
                Some(Input::Key(key)) => {
                    draw_at = Instant::now();
                    dirty = true;
                    match app.key(key) {
                        Action::None => {}
                        Action::Quit => return Ok(()),
                        Action::Send { agent, command } => {
                            let topic = AgentTopics::new(&mqtt.root, &agent).of_agent(AgentPart::Control);
                            let sent = match &mut client {
                                Some(client) => client.publish(&topic, false, command.to_string().into()).await,
                                None => { app.unsent(); continue }
                            };
                            if let Err(problem) = sent {
                                app.disconnected(with_causes(&problem));
                                client = None;
                                connecting = Box::pin(connect_at(mqtt, Instant::now() + CONNECT_AGAIN_AFTER));
                            }
                        }
                    }
                }
            },
            () = sleep_until(draw_at), if dirty => {}
            _ = tick.tick() => dirty = true,
            // What the fleet says.
            message = next(&mut client) => {
                match message {
                    Ok(message) => take(&mut app, &mut past, &message),
                    Err(problem) => {
                        app.disconnected(with_causes(&problem));
                        client = None;
                        connecting = Box::pin(connect_at(mqtt, Instant::now() + CONNECT_AGAIN_AFTER));
                    }
                }
                dirty = true;
            }
            // The broker, for the first time or again.
            connected = &mut connecting, if client.is_none() => {
                match connected {
                    Ok(connected) => {
                        app.connection = Ok(connected.url().to_owned());
                        client = Some(connected);
                    }
                    Err(problem) => {
                        app.disconnected(with_causes(&problem));
                        connecting = Box::pin(connect_at(mqtt, Instant::now() + CONNECT_AGAIN_AFTER));
                    }
                }
                dirty = true;
            }
        }
    }
}

/// A connection that breaks here is noticed when the next message is waited for.
async fn ask_for_the_past(client: &mut Option<SimpleClient>, past: &mut Past, app: &App, mqtt: &MqttConfig) {
    let Some(client) = client else { return };
    if let Some((agent, command)) = past.question(&app.fleet, app.now) {
        let topic = AgentTopics::new(&mqtt.root, &agent).of_agent(AgentPart::Control);
        let _ = client.publish(&topic, false, command.to_string().into()).await;
    }
}

fn take(app: &mut App, past: &mut Past, message: &Message) {
    if let Topic::Agent { part: AgentPart::Reply, .. } = message.topic {
        if let Ok(reply) = serde_json::from_slice(&message.payload) {
            past.take(&reply, &mut app.fleet);
            app.reply(&reply);
        }
        return;
    }
    let heard = Heard { at: app.now, retained: message.retained };
    app.fleet.take(&message.topic, &message.payload, heard);
}

async fn next(client: &mut Option<SimpleClient>) -> Result<Message, SimpleClientError> {
    match client {
        Some(client) => client.next().await,
        None => std::future::pending().await,
    }
}

enum Input {
    Key(KeyEvent),
    Resized,
}

/// Keys as they come; its thread ends with the process.
fn keyboard() -> std::io::Result<mpsc::UnboundedReceiver<Input>> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("keyboard".into()).spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            let input = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => Input::Key(key),
                Event::Resize(..) => Input::Resized,
                _ => continue,
            };
            if sender.send(input).is_err() {
                break;
            }
        }
    })?;
    Ok(keys)
}
