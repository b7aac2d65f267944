//! `auscult ctl`: one control command to one agent, to a tag or to the fleet, and the replies.

mod clip;
mod export;
mod extras;
mod fleet;
mod journal;
mod lines;
mod pieces;
mod rights;
mod stats;
mod table;
mod trend;
mod upload;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use self::extras::Extras;
use self::fleet::{Addressee, Answer, Answers, FleetClient};
use self::upload::{Kind, Upload};
use super::Failure;
use super::broker::{BrokerArgs, converse, who};
use crate::clock::Timestamp;
use crate::control::commands::{BundleInstall, Command, EvidenceGet, StateExport, StateImport};
use crate::control::envelope::Envelope;
use crate::control::request::Request;
use crate::control::values::ShortText;
use crate::mqtt::payload::{Reply, ReplyStatus};
use crate::mqtt::simple_client::SimpleClient;

/// Send one control command and print the replies
///
/// The exit code is 0 when every agent that was asked has answered ok, and 1 otherwise.
#[derive(clap::Args)]
#[command(
    subcommand_value_name = "COMMAND",
    subcommand_help_heading = "Commands",
    override_usage = "auscult ctl (--agent ID | --fleet [--tag T]) COMMAND [--key value...]",
    after_help = "Examples:\n  auscult ctl --agent pi-7 ping\n  \
        auscult ctl --agent pi-7 threshold.set --machine blower-1 --threshold 0.31\n  \
        auscult ctl --fleet --tag north threshold.reset --machine '*'"
)]
#[group(id = "who", required = false)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The agent that is addressed
    #[arg(long, value_name = "ID", global = true, conflicts_with_all = ["fleet", "tag"])]
    agent: Option<ShortText<64>>,
    /// All agents that are online
    #[arg(long, global = true)]
    fleet: bool,
    /// Only those agents of the fleet that have this tag
    #[arg(long, value_name = "TAG", global = true)]
    tag: Option<ShortText<64>>,
    /// Who asks; settings, alarms and events show it [default: the login name]
    #[arg(long, value_name = "NAME", global = true)]
    by: Option<ShortText<64>>,
    /// Why it is done; settings, alarms and events show it
    #[arg(long, value_name = "TEXT", global = true)]
    reason: Option<ShortText<200>>,
    /// From this time on (RFC 3339, or +90s, +5m, +2h) agents refuse the command: for those that are away now
    #[arg(long, value_name = "TIME", global = true)]
    expires: Option<Timestamp>,
    /// The command's id [default: a random one]; the same id again is answered again and done once
    #[arg(long, value_name = "ID", global = true)]
    id: Option<ShortText<128>>,
    /// Longest wait for replies, seconds [default: 10; 300 for bundle commands, 60 for state.*]
    #[arg(long, value_name = "S", global = true)]
    timeout: Option<f64>,
    /// Print each reply as it came, one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), Failure> {
    let addressee = match (&args.agent, args.fleet) {
        (Some(agent), _) if agent.as_str().is_empty() || agent.as_str().contains(['/', '+', '#']) => {
            let agent = agent.as_str();
            return Err(Failure::usage(anyhow::anyhow!("--agent: expected an agent's id, found {agent:?}")));
        }
        (Some(agent), _) => Addressee::Agent(agent.as_str().to_owned()),
        (None, true) if is_for_one(&args.command) => {
            let name = args.command.name();
            return Err(Failure::usage(anyhow::anyhow!(
                "{name}: expected --agent ID, one agent at a time, found --fleet"
            )));
        }
        (None, true) => Addressee::Fleet { tag: args.tag.clone().map(String::from) },
        (None, false) => return Err(Failure::usage(anyhow::anyhow!("expected --agent ID or --fleet, found neither"))),
    };
    if let Command::EvidenceGet(EvidenceGet { output: Some(output), .. }) = &args.command {
        clip::Content::of(output)?;
    }
    let timeout = match args.timeout {
        None if args.command.name().starts_with("bundle.") => Duration::from_secs(300),
        None if args.command.name().starts_with("state.") => Duration::from_secs(60),
        None => Duration::from_secs(10),
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| Failure::usage(anyhow::anyhow!("--timeout: expected seconds, found {seconds}")))?,
    };
    converse(talk(args, addressee, timeout))
}

/// It makes no sense for several agents at once.
fn is_for_one(command: &Command) -> bool {
    match command {
        Command::StateExport(_) | Command::StateImport(_) => true,
        Command::EvidenceGet(evidence) => evidence.alarm.is_some() || evidence.output.is_some(),
        _ => false,
    }
}

async fn talk(args: &Args, addressee: Addressee, timeout: Duration) -> Result<(), Failure> {
    let upload = archive_of(&args.command)?;
    let command = upload.as_ref().map_or_else(|| args.command.clone(), Upload::command);
    let envelope = envelope(args);
    let id = envelope.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
    let mut extras = Extras::of(&command, &id);
    let mqtt = args.broker.mqtt()?;
    let mut client = SimpleClient::connect(&mqtt, "ctl").await?;
    extras.subscribe(&mut client, args.agent.as_ref().map_or("+", |agent| agent.as_str())).await?;
    let mut fleet = FleetClient::find(&mut client, mqtt, addressee).await?;
    let request = Request { envelope, command };
    let mut replies = match &upload {
        Some(archive) => archive.send(&mut client, &mut fleet, &request.envelope, timeout).await?,
        None => BTreeMap::new(),
    };
    // Those who have given their last answer about the archive are not asked again.
    fleet.leave_out(replies.keys());
    let print = |answer: &Answer| -> Result<(), Failure> {
        if args.json {
            std::io::stdout().write_all(&[&answer.payload, &b"\n"[..]].concat())?;
        }
        Ok(())
    };
    replies.values().try_for_each(print)?;
    let bar = progress(fleet.asked().len(), args.json);
    let came = |answer: &Answer| {
        bar.inc(1);
        print(answer)
    };
    let begin = Instant::now();
    let asked = request.to_json();
    let asking = fleet.ask(&mut client, &asked, timeout, came, |message| extras.take(message));
    let Answers { replies: last, silent } = asking.await?;
    let took = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let promised = extras.promised(&last.iter().map(|answer| answer.reply.clone()).collect::<Vec<_>>());
    extras.wait(&mut client, &promised, tokio::time::Instant::now() + timeout).await?;
    if let (Command::StateExport(StateExport { out, .. }), [Answer { reply, .. }]) = (&args.command, &last[..])
        && reply.status == ReplyStatus::Ok
    {
        export::fetch(&mut client, &mut fleet, &request.envelope, reply, out, timeout).await?;
    }
    let mut written = Vec::new();
    if let (Command::EvidenceGet(asked @ EvidenceGet { alarm: Some(_), .. }), [Answer { reply, .. }]) =
        (&args.command, &last[..])
        && reply.status == ReplyStatus::Ok
    {
        written = clip::fetch(&mut client, &mut fleet, &request.envelope, reply, asked, timeout).await?;
    }
    // The replies are there; whatever a farewell says changes nothing.
    let _ = client.close().await;
    replies.extend(last.into_iter().map(|answer| (answer.reply.agent.clone(), answer)));
    let replies: Vec<_> = replies.into_values().map(|answer| answer.reply).collect();
    if !args.json {
        show(&replies, &extras)?;
    }
    written.extend(extras.save(&promised)?);
    for line in written {
        eprintln!("wrote {line}");
    }
    if args.fleet && silent.is_empty() {
        match replies.len() {
            1 => eprintln!("the one agent has answered within {took:.2} s"),
            agents => eprintln!("all {agents} agents have answered within {took:.2} s"),
        }
    }
    for (agent, state) in fleet.away() {
        eprintln!("{agent} is {state}: it gets the command when it is back, unless --expires has passed");
    }
    if !silent.is_empty() {
        let seconds = timeout.as_secs_f64();
        let silent = silent.join(", ");
        let later = format!(
            "who gets it later does it still, unless --expires has passed; with --id {id} it can be asked for again"
        );
        return Err(anyhow::anyhow!("no reply within {seconds} s from {silent}: {later}").into());
    }
    all_done(&replies, &asked, upload.is_some())
}

/// The file that a command sends along.
fn archive_of(command: &Command) -> Result<Option<Upload>, Failure> {
    Ok(match command {
        Command::BundleInstall(BundleInstall { file: Some(file), .. }) => Some(Upload::read(Kind::Bundle, file)?),
        Command::StateImport(StateImport { file, .. }) => Some(Upload::read(Kind::State, file)?),
        _ => None,
    })
}

/// Whether every agent has done what was asked of it.
fn all_done(replies: &[Reply], asked: &serde_json::Value, with_archive: bool) -> Result<(), Failure> {
    // An agent that still misses a part of the archive says so, and that is no success.
    let is_done = |reply: &Reply| {
        let misses = reply.data.as_ref().and_then(|data| data.get("missing")).is_some_and(|missing| !missing.is_null());
        reply.status == ReplyStatus::Ok && !(with_archive && misses)
    };
    // An id that was used before is answered with what it did then.
    if let Some(reply) =
        replies.iter().find(|reply| reply.command.as_ref().is_some_and(|done| asked["command"] != **done))
    {
        let (agent, done) = (&reply.agent, reply.command.as_deref().unwrap_or_default());
        return Err(anyhow::anyhow!("not done: {agent} has had this id before, for {done}; take another one").into());
    }
    let ok = replies.iter().all(is_done);
    if ok { Ok(()) } else { Err(Failure::reported(1)) }
}

/// The replies for a person; where the answer came beside them, that.
fn show(replies: &[Reply], extras: &Extras) -> std::io::Result<()> {
    let (mut out, width) = (std::io::stdout().lock(), table::width());
    if let Extras::Health(all) = extras
        && replies.iter().all(|reply| all.contains_key(&reply.agent))
    {
        return all.values().try_for_each(|health| write!(out, "{}", extras::describe_health(health, width)));
    }
    let text = clip::of(replies, width)
        .or_else(|| trend::of(replies))
        .or_else(|| journal::of(replies, width))
        .or_else(|| stats::of(replies, width))
        .or_else(|| lines::of(replies));
    write!(out, "{}", text.unwrap_or_else(|| table::of(replies, width)))
}

fn envelope(args: &Args) -> Envelope {
    let random = || format!("{:016x}", rand::random::<u64>()).parse().expect("hex digits are a line");
    Envelope {
        id: Some(args.id.clone().unwrap_or_else(random)),
        tag: args.tag.clone(),
        expires: args.expires,
        by: args.by.clone().or_else(|| who(None).parse().ok()),
        reason: args.reason.clone(),
    }
}

/// How many have answered, on a terminal.
fn progress(agents: usize, json: bool) -> ProgressBar {
    if json || agents < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} agents have answered").expect("a valid template");
    ProgressBar::new(agents as u64).with_style(style)
}
