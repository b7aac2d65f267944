//! `auscult simulate`: a fleet's load on a broker, and how the broker bears it.

mod agent;
mod figures;
mod machines;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use self::figures::Figures;
use self::machines::Machines;
use super::Failure;
use super::broker::BrokerArgs;
use crate::mqtt::tls::{self, TlsFiles};

/// Seconds from verdict to verdict of one machine at its real pace.
const HOP_S: f64 = 5.0;
/// Open files that the process needs besides the connections.
const OTHER_FILES: u64 = 40;
/// Time for the last acknowledgements and goodbyes.
const GOODBYE: Duration = Duration::from_secs(30);

/// Put a fleet's load on a broker: N agents with M machines each, and measure how it copes
///
/// Connects, subscribes and publishes as agents do, QoS 1, retained, at each machine's pace of a verdict every 5 s or faster.
/// No sound is made and no model runs, unless --bundle asks for it: distances are drawn as they were recorded of healthy
/// machines. Agents are called sim-0001 and so on; what the broker keeps of them is taken back at the end.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  auscult simulate --broker mqtt://localhost:1883 --agents 50 --machines 4\n  \
                        auscult simulate --agents 1000 --machines 4 --rate 5 --seconds 120 --json")]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Agents, each with its own connection
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    agents: u32,
    /// Machines of each agent
    #[arg(long, value_name = "M", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    machines: u32,
    /// Times the real pace of a verdict every 5 s from each machine
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Length of the run, from the first attempt to connect
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    seconds: u64,
    /// New connections a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connects: u32,
    /// Run the model of this bundle on simulated sound; a few hundred windows a second are what a core can do
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// The figures as one JSON object
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("expected a number, found {text:?}"))?;
    if (0.01..=1000.0).contains(&value) { Ok(value) } else { Err(format!("expected 0.01 to 1000, found {value}")) }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    check_open_files(u64::from(args.agents))?;
    let mqtt = args.broker.mqtt()?;
    let files = TlsFiles { ca: mqtt.ca_file.clone(), cert: mqtt.cert_file.clone(), key: mqtt.key_file.clone() };
    let url = mqtt.url.all().first().cloned();
    let url = url.ok_or_else(|| Failure::usage(anyhow::anyhow!("no broker is configured")))?;
    let plan = agent::Plan {
        tls: url.tls.then(|| tls::client_config(&files)).transpose().map_err(Failure::config)?,
        url,
        machines: args.machines,
        hop: Duration::from_secs_f64(HOP_S / args.rate),
        source: match &args.bundle {
            Some(dir) => Machines::with_bundle(dir)?,
            None => Machines::drawn(),
        },
        mqtt,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = Arc::new(Figures::default());
    runtime.block_on(fleet(&args, Arc::new(plan), figures.clone()))?;
    let result = figures.result(args.agents, args.machines);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", result.json())?;
    } else {
        write!(out, "{}", result.table())?;
    }
    if result.is_good() { Ok(()) } else { Err(Failure::reported(1)) }
}

async fn fleet(args: &Args, plan: Arc<agent::Plan>, figures: Arc<Figures>) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    let bar = progress(args);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds);
    let mut agents = tokio::task::JoinSet::new();
    let user = super::run::stop_signal();
    tokio::pin!(user);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            () = &mut user => break,
            _ = tick.tick() => {
                let due = (begun.elapsed().as_secs_f64() * f64::from(args.connects)) as u32 + 1;
                for number in agents.len() as u32..due.min(args.agents) {
                    agents.spawn(agent::run(number + 1, plan.clone(), figures.clone(), stopped.clone()));
                }
                bar.set_position(begun.elapsed().as_secs());
                bar.set_message(figures.line());
                if Instant::now() >= end {
                    break;
                }
            }
        }
    }
    figures.end(begun.elapsed());
    stop.send_replace(true);
    bar.set_message("taking back what the broker keeps");
    let goodbye = async { while agents.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        agents.abort_all();
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:20} {pos}/{len} s  {msg}").expect("a valid template");
    ProgressBar::new(args.seconds).with_style(style)
}

/// Each connection is an open file, and shells allow 1024 by default.
fn check_open_files(agents: u64) -> Result<(), Failure> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    // "unlimited" is no number.
    let Some(allowed) = soft.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()) else {
        return Ok(());
    };
    let needed = agents + OTHER_FILES;
    if needed <= allowed {
        return Ok(());
    }
    Err(anyhow::anyhow!(
        "{agents} agents need {needed} open files, this shell allows {allowed}: `ulimit -n {needed}` first"
    )
    .into())
}
