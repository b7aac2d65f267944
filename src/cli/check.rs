//! `auscult check`: configuration, bundle, sources and broker, a line each; changes nothing.

use std::path::{Path, PathBuf};

use super::link::Link;
use super::{EXIT_CONFIG, EXIT_DATA, Failure};
use crate::agent::station::{LoadError, Loaded};
use crate::audio::device;
use crate::audio::wav::WavReader;
use crate::config::{Config, SourceConfig};

/// Checks configuration, bundle, sources and broker, with a line each; changes nothing
///
/// Ends with 78 for the configuration, 65 for the bundle, 1 for a source or the broker.
///
/// Example: auscult check --config /etc/auscult/agent.toml
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file (TOML); AUSCULT__SECTION__KEY environment variables go on top
    #[arg(long, value_name = "FILE", default_value = "/etc/auscult/agent.toml")]
    config: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints the lines and remembers the first failure's exit code.
struct Findings {
    json: bool,
    code: Option<u8>,
}

impl Findings {
    fn tell(&mut self, what: &str, result: Result<String, String>, code: u8) {
        let ok = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        if self.json {
            println!("{}", serde_json::json!({ "check": what, "ok": ok, "detail": detail }));
        } else {
            println!("{}  {what:<24}  {detail}", if ok { "ok  " } else { "FAIL" });
        }
        if !ok {
            self.code = self.code.or(Some(code));
        }
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    let mut findings = Findings { json: args.json, code: None };
    match Config::load(&args.config) {
        Ok(config) => {
            let machines = config.machine.len();
            let said = format!("agent {}, {machines} machines, {}", config.agent.id, args.config.display());
            findings.tell("configuration", Ok(said), EXIT_CONFIG);
            check(&config, &mut findings)?;
        }
        Err(error) => findings.tell("configuration", Err(error.to_string()), EXIT_CONFIG),
    }
    findings.code.map_or(Ok(()), |code| Err(Failure::said(code)))
}

fn check(config: &Config, findings: &mut Findings) -> Result<(), Failure> {
    match Loaded::open(&config.bundle.path, config) {
        Ok(loaded) => findings.tell("bundle", Ok(format!("{}, engine {}", loaded.label(), loaded.engine())), EXIT_DATA),
        Err(LoadError::Bundle(error)) => findings.tell("bundle", Err(error.to_string()), EXIT_DATA),
        Err(error) => findings.tell("bundle", Err(error.to_string()), EXIT_CONFIG),
    }
    for machine in &config.machine {
        findings.tell(&format!("machine {}", machine.id), source(&machine.source), 1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = runtime.block_on(async {
        let link = Link::connect(&config.mqtt).await?;
        link.close().await;
        anyhow::Ok(())
    });
    let urls: Vec<_> = config.mqtt.url.all().iter().map(ToString::to_string).collect();
    let said = broker.map(|()| urls.join(", ")).map_err(|error| format!("{error:#}"));
    findings.tell("broker", said, 1);
    Ok(())
}

/// What a machine listens to.
fn source(source: &SourceConfig) -> Result<String, String> {
    if let Some(name) = &source.device {
        let selector: device::identity::Selector = name.parse()?;
        let target = selector.resolve(&device::identity::cards(Path::new("/sys")))?;
        let offer = device::offer_of(&target).map_err(|problem| format!("{name}: {problem}"))?;
        return Ok(format!("{name}: {} channels, {} Hz", offer.channels_text(), offer.rates_text()));
    }
    if let Some(path) = &source.wav {
        if path.is_dir() {
            return Ok(format!("files in {}", path.display()));
        }
        let format = WavReader::open(path).map_err(|error| error.to_string())?.format();
        return Ok(format!("{}: {} channels, {} Hz", path.display(), format.channels, format.rate_hz));
    }
    Ok(format!("simulated {}", source.synth.as_deref().unwrap_or_default()))
}
