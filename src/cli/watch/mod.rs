//! `auscult watch`: the fleet in the terminal.

mod answer;
mod app;
mod fleet;
mod link;
mod past;
mod prompt;
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
use self::link::{Link, News, connect};
use self::past::Past;
use super::announce::Asking;
use super::broker::{BrokerArgs, converse, who};
use super::{Failure, terminal};
use crate::causes::with_causes;
use crate::config::MqttConfig;
use crate::mqtt::simple_client::Message;
use crate::mqtt::topics::{AgentPart, Topic};

/// At most so many pictures a second.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Ages go on also when nothing comes.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// Watch the fleet in the terminal: machines, alarms, distances, and keys to acknowledge and to set a threshold
///
/// Keys: arrows choose, Enter shows the machine, a acknowledges, c says what an alarm was (fault, normal, disturbance),
/// t sets the threshold, s sorts, / filters, q quits.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult watch --broker mqtt://broker:1883")]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Who acknowledges and sets thresholds, for the record; default: the user who is logged in
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print every message as one JSON object a line instead: {"topic", "payload"}
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

async fn print(mqtt: &MqttConfig) -> Result<(), Failure> {
    let mut client = connect(mqtt).await?;
    let mut asking = Asking::default();
    asking.connected();
    loop {
        let message = tokio::select! {
            message = client.next() => message?,
            () = asking.due() => {
                asking.ask(&mut client).await?;
                continue;
            }
        };
        asking.received(&message);
        let Message { topic, payload, .. } = message;
        // What is no JSON is shown as the text that it is.
        let payload = serde_json::from_slice(&payload)
            .unwrap_or_else(|_| serde_json::Value::from(String::from_utf8_lossy(&payload)));
        let line = serde_json::json!({ "topic": topic.below(&mqtt.root), "payload": payload });
        writeln!(std::io::stdout().lock(), "{line}")?;
    }
}

async fn show(mut terminal: ratatui::DefaultTerminal, mut app: App, mqtt: &MqttConfig) -> Result<(), Failure> {
    let mut keys = keyboard()?;
    let mut link = Link::new(mqtt);
    let mut past = Past::default();
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
        if let Some((agent, command)) = past.question(&app.fleet, app.now).filter(|_| app.connection.is_ok()) {
            // A connection that breaks here is noticed when the next message is waited for.
            let _ = link.send(&agent, &command).await;
        }
        let problem = tokio::select! {
            // Keys go first: a flood of messages does not hold the person up.
            biased;
            input = keys.recv() => {
                let Some(input) = input else { return Ok(()) };
                draw_at = Instant::now();
                dirty = true;
                let Input::Key(key) = input else { continue };
                match app.key(key) {
                    Action::None => continue,
                    Action::Quit => return Ok(()),
                    Action::Send { agent, command } => match link.send(&agent, &command).await {
                        Ok(true) => continue,
                        Ok(false) => { app.unsent(); continue }
                        Err(problem) => problem,
                    }
                }
            },
            () = sleep_until(draw_at), if dirty => continue,
            _ = tick.tick() => {
                dirty = true;
                continue;
            }
            // What the fleet says; and the broker, for the first time or again.
            news = link.next() => {
                dirty = true;
                match news {
                    Ok(News::Message(message)) => { take(&mut app, &mut past, &message); continue }
                    Ok(News::Connected(url)) => { app.connected(url); continue }
                    Ok(News::Asked) => { app.asked = Some(app.now); continue }
                    Ok(News::Refused(problem)) => { app.refused(problem); continue }
                    Err(problem) => problem,
                }
            }
        };
        app.disconnected(with_causes(&problem));
        link.lost();
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
