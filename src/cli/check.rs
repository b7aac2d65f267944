//! `auscult check`: would the agent run? Configuration, state directory, bundle, sources, brokers, the page and those who are
//! told of alarms, a line each.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::json;

use super::{EXIT_CONFIG, EXIT_DATA, Failure, stored, terminal};
use crate::agent::inputs;
#[cfg(feature = "web")]
use crate::agent::page_options;
use crate::audio::capture::{self, Capture, CaptureState, MachineStats};
use crate::audio::{Format, SourceError};
use crate::causes::with_causes;
use crate::config::{self, Config, MachineConfig, MqttConfig, PACKAGED};
use crate::fs::not_a_directory;
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::model::{ActiveBundle, LoadError};
use crate::mqtt::payload::{AgentState, SchemaVersion, Status, encode};
use crate::mqtt::tls::{Ending, TlsFiles};
use crate::mqtt::topics;
use crate::mqtt::trial::{self, Rights};
use crate::notify;
use crate::numbers::counted;
#[cfg(feature = "web")]
use crate::web;

/// A source that works delivers within this time; a device that is opened at its second attempt too.
const LISTEN: Duration = Duration::from_secs(5);

/// Check configuration, machines, bundle, devices, broker, page and [[notify]], with a line for each; changes nothing
///
/// Listens to each source for a moment; connects to each broker, under another client id than the agent's, and tries what the
/// agent may do there: it publishes the agent's status as the broker has it, not retained, and empty commands, which agents
/// pass over; connects to the server of each [[notify]], without sending a message. Exit codes: 0 all is well, 78 the configuration is wrong, 65 the
/// bundle is, 1 a source or a server cannot be reached.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  auscult check --config /etc/auscult/agent.toml")]
pub struct Args {
    /// Configuration file (TOML); AUSCULT__SECTION__KEY environment variables override it [default: /etc/auscult/agent.toml
    /// where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut report = Report { json: args.json, worst: None };
    let mut config = match Config::load_any(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            report.fail("configuration", EXIT_CONFIG, error)?;
            return report.verdict();
        }
    };
    let file = args.config.as_deref().unwrap_or(Path::new(PACKAGED));
    let file = if file.exists() { file.display().to_string() } else { "no file".into() };
    let (agent, machines) = (&config.agent.id, config.machine.len());
    report.ok("configuration", format!("{file}: agent {agent}, {}", counted(machines, "machine")))?;
    for variable in config::misspelt_variables() {
        report.warn("configuration", variable)?;
    }
    if let Err(problem) = config.use_chosen_broker() {
        report.fail("state", 1, problem)?;
    }
    state(&mut report, &config)?;
    added_machines(&mut report, &mut config)?;
    let loaded = bundle(&mut report, &config)?;
    sources(&mut report, &config, loaded.as_ref())?;
    drop(loaded);
    brokers(&mut report, &config)?;
    #[cfg(feature = "web")]
    page(&mut report, &config)?;
    notify_targets(&mut report, &config)?;
    report.verdict()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

/// The lines as they come, and the exit code that they make.
struct Report {
    json: bool,
    worst: Option<u8>,
}

impl Report {
    fn ok(&mut self, part: &str, message: impl std::fmt::Display) -> std::io::Result<()> {
        self.report(part, Outcome::Ok, &message.to_string())
    }

    /// What works and will not do what was meant.
    fn warn(&mut self, part: &str, message: impl std::fmt::Display) -> std::io::Result<()> {
        self.report(part, Outcome::Warning, &message.to_string())
    }

    /// `code`: what the exit code is if nothing worse comes.
    fn fail(&mut self, part: &str, code: u8, message: impl std::fmt::Display) -> std::io::Result<()> {
        self.worst = self.worst.max(Some(code));
        self.report(part, Outcome::Failed, &message.to_string())
    }

    fn report(&self, part: &str, outcome: Outcome, message: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            let (ok, warning) = (outcome != Outcome::Failed, outcome == Outcome::Warning);
            return writeln!(out, "{}", json!({ "check": part, "ok": ok, "warning": warning, "message": message }));
        }
        let word = match outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warning => "WARN",
            Outcome::Failed => "FAIL",
        };
        write!(out, "{}", terminal::hang(&format!("{word}  {part:<13}  "), message, terminal::width()))
    }

    fn verdict(&self) -> Result<(), Failure> {
        self.worst.map_or(Ok(()), |code| Err(Failure::reported(code)))
    }
}

/// Whether the outbox and settings can be kept; the directory itself is made at the agent's first start.
fn state(report: &mut Report, config: &Config) -> std::io::Result<()> {
    let dir = &config.agent.state_dir;
    // Relative paths have "" as their last ancestor.
    let there = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let there = there.into_iter().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if let Some(file) = not_a_directory(dir) {
        let (dir, file) = (dir.display(), file.display());
        return report.fail("state", EXIT_CONFIG, format!("{dir}: expected a directory, {file} is a file"));
    }
    // A file without a name, gone with this line: rights alone do not show read-only and odd file systems.
    let writable = tempfile::tempfile_in(there).is_ok();
    match (writable, there == dir) {
        (true, true) => report.ok("state", format!("{}: can be written", dir.display())),
        (true, false) => report.ok("state", format!("{}: will be made at the first start", dir.display())),
        (false, _) => {
            let (dir, there) = (dir.display(), there.display());
            report.fail("state", 1, format!("{dir}: {there} cannot be written by this user: nothing would be kept"))
        }
    }
}

/// The machines that commands have added are looked at as the file's are.
fn added_machines(report: &mut Report, config: &mut Config) -> std::io::Result<()> {
    let roster = match stored::roster(config) {
        Ok(roster) => roster,
        Err(problem) => return report.fail("machines", 1, problem),
    };
    let added = roster.machines.into_iter().skip(config.machine.len()).map(|(machine, _)| machine);
    let added: Vec<_> = added.collect();
    if !added.is_empty() {
        let ids: Vec<_> = added.iter().map(|machine| machine.id.as_str()).collect();
        report.ok("machines", format!("{} added while the agent ran: {}", ids.len(), ids.join(", ")))?;
    }
    for (id, why) in &roster.ignored {
        report.fail("machines", 1, format!("{id} was added remotely and will not be there: {why}"))?;
    }
    config.machine.extend(added);
    Ok(())
}

fn bundle(report: &mut Report, config: &Config) -> std::io::Result<Option<ActiveBundle>> {
    let baselines = BaselineStore::read_only(&config.agent.state_dir);
    match ActiveBundle::open(&config.bundle.path, config, &config.machine, &baselines) {
        Ok(loaded) => {
            let (dir, label, engine) = (config.bundle.path.display(), loaded.label(), loaded.engine());
            let machines = counted(loaded.bundle.machines.len(), "machine");
            report.ok("bundle", format!("{dir}: {label}, {machines}, engine {engine}"))?;
            for (number, machine) in config.machine.iter().enumerate() {
                if let Some(warning) = loaded.foreign_bank(number, machine) {
                    report.warn("bundle", warning)?;
                }
            }
            Ok(Some(loaded))
        }
        Err(error @ LoadError::Machine { .. }) => report.fail("bundle", EXIT_CONFIG, error).map(|()| None),
        Err(LoadError::Bundle(error)) => report.fail("bundle", EXIT_DATA, error).map(|()| None),
    }
}

/// Listens as the agent would, to all sources at once, until each has delivered.
fn sources(report: &mut Report, config: &Config, loaded: Option<&ActiveBundle>) -> std::io::Result<()> {
    let capture = match capture::start(inputs(config, loaded)) {
        Ok(capture) => capture,
        Err(error) => {
            let code = if matches!(error, SourceError::Lost(_)) { 1 } else { EXIT_CONFIG };
            return report.fail("source", code, with_causes(&error));
        }
    };
    let heard = listen(&capture, config);
    for (number, (machine, stats)) in config.machine.iter().zip(heard).enumerate() {
        let (source, id) = (describe(machine), &machine.id);
        match (stats.state, stats.format) {
            (CaptureState::Live | CaptureState::Ended, Some(Format { rate_hz, channels })) => {
                // What a file delivers is brought to the bundle's rate and one channel by then.
                let opened = format!(": {rate_hz} Hz, {}", counted(channels, "channel"));
                let opened = if machine.source.device.is_some() { opened } else { String::new() };
                let level = stats.level_dbfs.map_or(String::new(), |level| format!(", {level:.1} dBFS"));
                let line = format!("{id}: {source}{opened}{level}");
                match is_silent(config, number, &stats) {
                    true => {
                        report.fail("source", 1, format!("{line}: silent; is it muted, or is nothing plugged in?"))?
                    }
                    false => report.ok("source", line)?,
                }
            }
            _ => {
                let why = stats.why.unwrap_or_else(|| format!("{source}: no sound within {} s", LISTEN.as_secs()));
                report.fail("source", 1, format!("{id}: {why}"))?;
            }
        }
    }
    capture.stop();
    Ok(())
}

/// The state of each machine's source, when it delivered or should have.
///
/// A microphone that is silent is listened to for as long as one that does not deliver: the first blocks of some are zeros.
fn listen(capture: &Capture, config: &Config) -> Vec<MachineStats> {
    let begun = Instant::now();
    loop {
        let stats = capture.stats();
        let delivers = |stats: &MachineStats| {
            matches!(stats.state, CaptureState::Live | CaptureState::Ended) && stats.format.is_some()
        };
        let silent = |(number, stats): (usize, &MachineStats)| is_silent(config, number, stats);
        if stats.iter().all(delivers) && !stats.iter().enumerate().any(silent) || begun.elapsed() > LISTEN {
            return stats;
        }
        // What is captured is taken, so that a source that is faster than real time goes on.
        capture.next(Duration::from_millis(50));
    }
}

/// A microphone delivers less than what the agent calls silence, by the rule that its windows are judged with.
fn is_silent(config: &Config, number: usize, stats: &MachineStats) -> bool {
    let machine = &config.machine[number];
    let Ok(gate) = machine.gate(&config.gate) else { return false };
    // Of noise, the mean is 2 dB below the root mean square.
    let limit_dbfs = 20.0 * gate.silent_below.log10() + 2.0;
    machine.source.device.is_some() && stats.level_dbfs.is_some_and(|level| level < limit_dbfs)
}

fn describe(machine: &MachineConfig) -> String {
    let source = &machine.source;
    let file = source.wav.as_ref().map(|path| path.display().to_string());
    let synth = source.synth.as_ref().map(|kind| format!("simulated {kind}"));
    source.device.clone().or(file).or(synth).unwrap_or_default()
}

/// Connects to each with the agent's login and certificates, under another client id, tries what the agent needs, and leaves
/// again.
fn brokers(report: &mut Report, config: &Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if config.mqtt.url.all().is_empty() {
        report.ok("broker", "none: the agent has its page alone")?;
        return Ok(());
    }
    let agent = &config.agent.id;
    if let Some(warning) = topics::awkward(&config.mqtt.root, agent) {
        report.warn("broker", warning)?;
    }
    let files = TlsFiles::from_config(&config.mqtt);
    if config.mqtt.url.all().iter().any(|url| url.tls)
        && let Some(ending) = Ending::first(&files)
        && let Some(warning) = ending.warning(Utc::now())
    {
        report.warn("broker", warning)?;
    }
    if (files.ca.is_some() || files.cert.is_some())
        && let Some(plain) = config.mqtt.url.all().iter().find(|url| !url.tls)
    {
        let unused = "certificates are configured and not used there, where nothing is encrypted; mqtts:// was meant?";
        report.warn("broker", format!("{plain}: {unused}"))?;
    }
    if config.mqtt.username.is_none() && (config.mqtt.password.is_some() || config.mqtt.password_file.is_some()) {
        report.warn("broker", "a password and no username: the agent logs in without either")?;
    }
    for url in config.mqtt.url.all() {
        let mqtt = MqttConfig { url: url.clone().into(), ..config.mqtt.clone() };
        match runtime.block_on(trial::try_rights(&mqtt, agent, unknown_status())) {
            Ok(Rights { version, silent }) => {
                let line = format!("{url}: connection accepted ({version}), the agent may write and read");
                report.ok("broker", line)?;
                if !silent.is_empty() {
                    let topics = silent.join(" and ");
                    report.warn(
                        "broker",
                        format!(
                            "{url}: what is published to {topics} does not come back: either commands to this agent do not \
                             arrive, or it may not send any itself, which it need not"
                        ),
                    )?;
                }
            }
            Err(problem) => report.fail("broker", 1, with_causes(&problem))?,
        }
    }
    // A name that does not resolve leaves its thread behind.
    runtime.shutdown_background();
    Ok(())
}

/// Whether the page could be served, with its passwords and its certificate.
#[cfg(feature = "web")]
fn page(report: &mut Report, config: &Config) -> std::io::Result<()> {
    let Some(listen) = config.web.listen.0 else { return report.ok("page", "none") };
    match web::check(&page_options(config, listen)) {
        Ok(true) => report.ok("page", format!("can be served at {listen}")),
        Ok(false) => {
            report.ok("page", format!("{listen} is taken: by the agent that runs, or the page cannot be served"))
        }
        Err(error) => report.fail("page", 1, with_causes(&error)),
    }
}

/// What is published as the agent's status, not retained, where the broker knows none.
fn unknown_status() -> Vec<u8> {
    let (state, boot, ts) = (AgentState::Stopped, format!("check-{:08x}", rand::random::<u32>()), Utc::now().into());
    encode(&Status { schema: SchemaVersion, state, boot, ts, clock: None })
}

/// Whether the servers of `[[notify]]` can be reached, with its files and logins; no message is sent.
fn notify_targets(report: &mut Report, config: &Config) -> std::io::Result<()> {
    for target in &config.notify {
        let (name, kind) = (target.name(), target.kind);
        match notify::check(target) {
            Ok(()) => report.ok("notify", format!("{name}: the server of this {kind} is there"))?,
            Err(error) => report.fail("notify", 1, format!("{name}: {}", error.problem))?,
        }
        for id in target.machines.iter().filter(|id| config.machine.iter().all(|machine| machine.id != **id)) {
            report.warn("notify", format!("{name}: machines: {id:?} is none of this agent's machines"))?;
        }
    }
    Ok(())
}
