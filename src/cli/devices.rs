//! `auscult devices`: what can be listened to, and how to configure it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets};
use crossterm::{cursor, execute, terminal};
use serde_json::json;

use super::Failure;
use super::terminal::{hang, width};
use crate::audio::device::identity::Selector;
use crate::audio::device::list::{Listed, list};
use crate::audio::device::offer::Wish;
use crate::audio::device::{self, DeviceRequest};
use crate::audio::{Read, Source};
use crate::window::{LEVEL_FLOOR_DBFS, level_dbfs};

const SYSFS: &str = "/sys";

/// List capture devices, with the line to configure each
///
/// Cards are named by the USB port that they are plugged into, which stays the same across reboots.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  auscult devices\n  auscult devices --watch --device usb-path:1-1.3 --channels 4")]
pub struct Args {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Show the level of each channel until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Only this device, as it would be configured
    #[arg(long, value_name = "DEVICE")]
    device: Option<Selector>,
    /// With --watch: channels to open each device with; PulseAudio and plughw devices show their mix without it
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u16).range(1..=32))]
    channels: Option<u16>,
    /// ALSA's plugins too
    #[arg(long)]
    all: bool,
    /// With --watch: end after so many seconds
    #[arg(long, value_name = "S", requires = "watch")]
    seconds: Option<u64>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut devices = list(Path::new(SYSFS), args.all);
    if let Some(wanted) = &args.device {
        devices.retain(|device| device.selector == *wanted || device.others.contains(wanted));
        if devices.is_empty() {
            return Err(anyhow::anyhow!("{wanted}: no such capture device; `auscult devices` lists them").into());
        }
    }
    // Those that are there now are watched: where none is, nothing would ever be shown.
    if args.watch && !devices.is_empty() {
        return watch(&devices, &args);
    }
    for device in devices.iter().filter(|_| args.json) {
        let (offer, problem) = (device.offer.as_ref().ok(), device.offer.as_ref().err());
        writeln!(
            io::stdout().lock(),
            "{}",
            json!({
                "device": device.selector.to_string(),
                "line": device.line(),
                "name": device.name,
                "alsa": device.alsa,
                "also": device.others.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "channels": offer.map(|offer| &offer.channels),
                "rates_hz": offer.map(|offer| &offer.rates_hz),
                "formats": offer.map(|offer| &offer.formats),
                "converts": offer.map(|offer| offer.converts),
                "problem": problem,
            })
        )?;
    }
    if !args.json {
        print_table(&devices)?;
    }
    Ok(())
}

fn print_table(devices: &[Listed]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if devices.is_empty() {
        return write!(out, "{}", hang("", &format!("No capture device. {}", why_none()), width()));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["DEVICE", "NAME", "CHANNELS", "RATES HZ", "FORMATS"]);
    for device in devices {
        let (selector, name) = (device.selector.to_string(), device.name.clone());
        match &device.offer {
            Ok(offer) => {
                table.add_row([selector, name, offer.channels_text(), offer.rates_text(), offer.formats_text()])
            }
            Err(_) => table.add_row([selector, name, "cannot be opened, see below".into()]),
        };
    }
    writeln!(out, "{table}")?;
    // Below the table, where there is room for what to do about it.
    for device in devices {
        if let Err(problem) = &device.offer {
            writeln!(out, "{}: {problem}", device.selector)?;
        }
    }
    writeln!(out, "\nFor the configuration, one of these under [[machine]]:")?;
    for device in devices {
        writeln!(out, "  {}", device.line())?;
    }
    Ok(())
}

fn why_none() -> &'static str {
    match std::fs::read_dir("/dev/snd") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "There is no /dev/snd: is a card plugged in? In a container, pass /dev/snd in."
        }
        _ => "Is a microphone plugged in, and the user in the group audio (`sudo usermod -aG audio USER`)?",
    }
}

/// What one device's thread measures.
#[derive(Clone, Default)]
struct Meter {
    /// Level of each channel, dB of full scale.
    levels: Vec<f64>,
    problem: Option<String>,
}

/// Shows the level of each channel of `devices`, four times a second on a terminal, else a line for each once a second.
fn watch(devices: &[Listed], args: &Args) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let meters: Vec<_> = devices.iter().map(|_| Arc::new(Mutex::new(Meter::default()))).collect();
    for (device, meter) in devices.iter().zip(&meters) {
        let wish = Wish { all_channels: true, channels: args.channels, ..Wish::default() };
        let request = DeviceRequest { device: device.selector.clone(), wish, sysfs: SYSFS.into() };
        let (meter, stop) = (meter.clone(), stop.clone());
        // Not waited for: a sound server that hangs must not keep us.
        std::thread::Builder::new().name("meter".into()).spawn(move || listen(&request, &meter, &stop))?;
    }
    let live = std::io::stdout().is_terminal() && !args.json;
    let begun = Instant::now();
    let mut drawn = 0;
    while args.seconds.is_none_or(|seconds| begun.elapsed() < Duration::from_secs(seconds)) {
        std::thread::sleep(Duration::from_millis(if live { 250 } else { 1000 }));
        let lines = lines(devices, &meters, args.json, live);
        let mut out = std::io::stdout().lock();
        if live {
            if drawn > 0 {
                execute!(out, cursor::MoveToPreviousLine(drawn))?;
            }
            execute!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
            drawn = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        }
        for line in lines {
            // The reader has gone: so do we.
            if writeln!(out, "{line}").is_err() {
                return Ok(());
            }
        }
        out.flush()?;
    }
    stop.store(true, Ordering::Relaxed);
    Ok(())
}

fn lines(devices: &[Listed], meters: &[Arc<Mutex<Meter>>], json: bool, live: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (device, meter) in devices.iter().zip(meters) {
        let meter = meter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = device.selector.to_string();
        if let Some(problem) = meter.problem {
            lines.push(if json { json!({"device": name, "problem": problem}).to_string() } else { problem });
        }
        for (channel, level) in meter.levels.iter().enumerate() {
            lines.push(if json {
                let level = (level * 10.0).round() / 10.0;
                json!({"device": name, "channel": channel, "level_dbfs": level}).to_string()
            } else if live {
                format!("{name:<24} channel {channel:<2} {level:>7.1} dBFS  {}", bar(*level))
            } else {
                format!("{name} channel {channel} {level:.1} dBFS")
            });
        }
    }
    lines
}

/// -80 to 0 dBFS as 40 places.
fn bar(level_dbfs: f64) -> String {
    let filled = ((level_dbfs + 80.0) / 2.0).clamp(0.0, 40.0) as usize;
    format!("|{}{}|", "█".repeat(filled), " ".repeat(40 - filled))
}

/// Measures until it is stopped; opens the device again when it is lost.
fn listen(request: &DeviceRequest, meter: &Mutex<Meter>, stop: &AtomicBool) {
    let send = |levels: Vec<f64>, problem: Option<String>| {
        *meter.lock().unwrap_or_else(PoisonError::into_inner) = Meter { levels, problem };
    };
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = device::open(request).and_then(|mut source| {
            let mut last_frame_at = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let mut frames = Vec::new();
                match source.read(&mut frames)? {
                    Read::Frames { .. } => {
                        last_frame_at = Instant::now();
                        let channels = source.format().channels.max(1);
                        let channel = |n: usize| frames.iter().skip(n).step_by(channels).copied().collect::<Vec<f32>>();
                        send((0..channels).map(|n| level_dbfs(&channel(n))).collect(), None);
                    }
                    _ if last_frame_at.elapsed() > Duration::from_secs(2) => {
                        let channels = source.format().channels;
                        let problem = format!("{}: no sound has come for 2 s", request.device);
                        send(vec![LEVEL_FLOOR_DBFS; channels], Some(problem));
                    }
                    _ => {}
                }
            }
            Ok(())
        }) {
            send(Vec::new(), Some(error.to_string()));
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
