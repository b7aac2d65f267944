//! `auscult demo`: the whole thing on one machine, with nothing to install or configure. A broker inside the process,
//! two real agents, eight simulated machines of which one falls ill, and a live table of what comes through the broker.

mod board;
mod broker;
mod fleet;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::signal::unix::SignalKind;
use tokio::time::MissedTickBehavior;

use self::board::{Board, Note};
use self::fleet::{DemoFleet, FAULT, ILL, Pace};
use self::screen::{Places, Screen};
use super::{Failure, logging, terminal};
use crate::config::{LogConfig, MqttConfig};
use crate::mqtt::address::BrokerUrl;
use crate::mqtt::simple_client::{Message, SimpleClient};
use crate::mqtt::topics::Topic;
use crate::numbers::counted;

const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Plain lines come this often.
const LINE_EVERY_S: f64 = 5.0;
/// Where the page is, unless that port is taken.
#[cfg(feature = "web")]
const PAGE_PORT: u16 = 8477;
/// The broker inside answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Show the whole thing: agents, broker, eight simulated machines, one of which falls ill
///
/// Needs nothing installed or configured, and leaves nothing behind. The broker listens on this computer only. Exit code 0
/// only if verdicts of all machines came through the broker, and an alarm of the ill machine and of no other.
#[derive(clap::Args)]
#[command(
    after_help = "Keys: q or Ctrl-C ends it.\n\nExamples:\n  auscult demo\n  auscult demo --seconds 60 --json\n  \
                        auscult demo --port 1884 --speed 1"
)]
pub struct Args {
    /// End after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: Option<u64>,
    /// End as soon as the ill machine's alarm has come; with --seconds, then at the latest
    #[arg(long)]
    until_alarm: bool,
    /// Port of the broker [default: 1883, or any free one where that is taken]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Times real time
    #[arg(long, value_name = "X", default_value_t = 10.0, value_parser = speed)]
    speed: f64,
    /// Seconds until the fault begins [default: 20, or a third of --seconds]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    fault_after: Option<u64>,
    /// Which recording of the machines: the same machines at another time
    #[arg(long, default_value_t = 0)]
    take: u64,
    /// One JSON object for each verdict and alarm on stdout, {"topic","payload"}; then {"summary"}
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("expected a number, found {text:?}"))?;
    if (0.1..=50.0).contains(&value) { Ok(value) } else { Err(format!("expected 0.1 to 50, found {value}")) }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let live = !args.json && io::stdout().is_terminal() && !terminal::is_dumb();
    // A log line would tear the table.
    let level = if live { "off" } else { "warn,rumqttd=off" };
    logging::start(&LogConfig { level: level.into(), ..LogConfig::default() })?;
    let port = broker::port(args.port)?;
    let url = BrokerUrl { tls: false, host: "127.0.0.1".into(), port };
    broker::start(port)?;
    let dir = tempfile::Builder::new().prefix("auscult-demo-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let board = runtime.block_on(watch(&args, &url, dir.path(), live))?;
    dir.close()?;
    if args.json {
        writeln!(io::stdout().lock(), "{}", json!({ "summary": summary(&board) }))?;
    } else {
        writeln!(io::stdout().lock(), "{}", board.outcome())?;
    }
    if board.is_good() { Ok(()) } else { Err(Failure::reported(1)) }
}

/// From the first subscription to the last goodbye.
async fn watch(args: &Args, url: &BrokerUrl, dir: &std::path::Path, live: bool) -> Result<Board, Failure> {
    let fault_s = match (args.fault_after, args.seconds) {
        (Some(after), _) => after as f64,
        (None, Some(seconds)) => (seconds as f64 / 3.0).min(20.0),
        (None, None) => 20.0,
    };
    let mut board = Board::new(fault_s);
    let mut client = connect(url).await?;
    client.subscribe(&[format!("{}/#", client.root())]).await?;
    let pace = Pace { speed: args.speed, fault_after_s: fault_s, take: args.take };
    let fleet = DemoFleet::start(dir, url, pace)?;
    let begun = Instant::now();
    let (page, _page) = serve_page(url)?;
    let mut out = Display::start(args, Places { broker: url.clone(), page }, live)?;
    let mut tick = tokio::time::interval(DRAW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let stop = super::run::stop_signal();
    tokio::pin!(stop);
    let mut hangup = tokio::signal::unix::signal(SignalKind::hangup())?;
    let outcome = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            // The terminal was closed: there is still something to tidy up.
            _ = hangup.recv() => break Ok(()),
            message = client.next() => match message {
                Ok(message) => {
                    let note = board.note(&message, begun.elapsed().as_secs_f64());
                    out.print_message(&message, &note)?;
                }
                Err(error) => break Err(error.into()),
            },
            _ = tick.tick() => {
                let now_s = begun.elapsed().as_secs_f64();
                board.tick(now_s, FAULT.name());
                let found = args.until_alarm && board.found_s().is_some();
                let ended = found || args.seconds.is_some_and(|seconds| now_s >= seconds as f64);
                if out.show(&board, now_s)? || ended {
                    break Ok(());
                }
                if fleet.has_failed() {
                    break Err(anyhow::anyhow!("an agent has ended by itself"));
                }
            }
        }
    };
    drop(out);
    // The agent's own error says more than that it has ended.
    tokio::task::spawn_blocking(move || fleet.stop()).await??;
    outcome?;
    Ok(board)
}

/// The page of both agents, on its usual port or any that is free; its address, and what ends it when dropped.
#[cfg(feature = "web")]
fn serve_page(url: &BrokerUrl) -> Result<(Option<String>, impl Sized), Failure> {
    use super::console;
    let config = MqttConfig { url: url.clone().into(), ..MqttConfig::default() };
    let console = console::Console::new(&config);
    let page = console::serve_open(&console, PAGE_PORT).or_else(|_| console::serve_open(&console, 0))?;
    let address = page.url.clone();
    tokio::spawn(async move { console.run(&config).await });
    Ok((Some(address), page))
}

#[cfg(not(feature = "web"))]
fn serve_page(_: &BrokerUrl) -> Result<(Option<String>, impl Sized), Failure> {
    Ok((None, ()))
}

/// The broker's thread may still be opening its port.
async fn connect(url: &BrokerUrl) -> Result<SimpleClient, Failure> {
    let config = MqttConfig { url: url.clone().into(), ..MqttConfig::default() };
    let begun = Instant::now();
    loop {
        match SimpleClient::connect(&config, "demo").await {
            Ok(client) => return Ok(client),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Where it is shown.
enum Display {
    Live(Screen),
    Lines { shown: usize, line_s: f64 },
    Json,
}

impl Display {
    fn start(args: &Args, places: Places, live: bool) -> Result<Display, Failure> {
        if args.json {
            return Ok(Display::Json);
        }
        if live {
            return Ok(Display::Live(Screen::open(places, args.speed)?));
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "Two agents, eight simulated machines, {} times real time. Broker: {}",
            args.speed, places.broker
        )?;
        writeln!(out, "{}", screen::hints(&places).join("\n"))?;
        writeln!(
            out,
            "The lines below tell each machine's distance in percent of its threshold: above 100 %, a window is anomalous."
        )?;
        Ok(Display::Lines { shown: 0, line_s: LINE_EVERY_S })
    }

    fn print_message(&mut self, message: &Message, note: &Note) -> Result<(), Failure> {
        if let (Display::Json, Note::Verdict | Note::Alarm, Topic::Machine { .. }) = (&self, note, &message.topic) {
            let payload: serde_json::Value = serde_json::from_slice(&message.payload)?;
            let topic = message.topic.below(&MqttConfig::default().root);
            writeln!(io::stdout().lock(), "{}", json!({ "topic": topic, "payload": payload }))?;
        }
        Ok(())
    }

    /// True when the user has had enough.
    fn show(&mut self, board: &Board, now_s: f64) -> Result<bool, Failure> {
        match self {
            Display::Live(screen) => return Ok(screen.draw(board, now_s)?),
            Display::Json => {}
            Display::Lines { shown, line_s } => {
                let mut out = io::stdout().lock();
                for (news_s, news) in &board.news[*shown..] {
                    writeln!(out, "{news_s:6.1} s  {news}")?;
                }
                *shown = board.news.len();
                if now_s >= *line_s {
                    *line_s = now_s + LINE_EVERY_S;
                    writeln!(out, "{now_s:6.1} s  {}", line(board))?;
                }
            }
        }
        Ok(false)
    }
}

/// The table as one line: each machine's distance as a percentage of its threshold.
fn line(board: &Board) -> String {
    let machines = board.rows.iter().map(|row| {
        let ratio = row.ratios.back().copied().flatten();
        format!("{} {}", row.machine, ratio.map_or("-".into(), |ratio| format!("{:.0} %", 100.0 * ratio)))
    });
    format!("{}: {}", counted(board.verdicts(), "verdict"), machines.collect::<Vec<_>>().join(", "))
}

fn summary(board: &Board) -> serde_json::Value {
    let verdicts: serde_json::Map<_, _> =
        board.rows.iter().map(|row| (row.machine.to_owned(), row.verdicts.into())).collect();
    json!({
        "good": board.is_good(), "verdicts": verdicts, "ill": ILL, "fault": FAULT.name(), "fault_s": board.fault_s,
        "alarm_s": board.found_s(), "false_alarms": board.false_alarms(),
    })
}
